"""Measures factfold beside its peers and the floor; see README.md."""

import sys
from pathlib import Path

# In no environment: each service carries its own.
_CHASSIS = "template/python/{{cookiecutter.service_slug}}/chassis/src"
sys.path.insert(0, str(Path(__file__).parents[1] / _CHASSIS))
