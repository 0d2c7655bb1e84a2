"""Mutants run for long and rarely: that each still finds what it breaks is looked at each time."""

import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
MUTANTS: list[Any] = runpy.run_path(str(ROOT / "tests/mutants/run.py"))["mutants"]()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_what_it_breaks_is_there_once(mutant: Any) -> None:
    for place in mutant.places():
        assert (ROOT / place).read_text(encoding="utf-8").count(mutant.old) == 1
