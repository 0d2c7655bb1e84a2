"""Generated services, checked by the tools of this environment, which has what their locks have."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

import factfold_cli

ROOT = Path(__file__).resolve().parents[2]
SERVICE = ROOT / "template/python/{{cookiecutter.service_slug}}"
GENERATOR = Path(factfold_cli.__file__).parents[1]
MYPY_CACHE = "MYPY_CACHE_DIR"


@dataclass(frozen=True)
class Generated:
    """A generated repository with its stubs."""

    root: Path
    mypy_cache: Path

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs `python ARGUMENTS` there, with the service and its chassis joined by path."""
        parts = [str(self.root / part) for part in ("src", "gen", "chassis/src")]
        # A service knows no FACTFOLD_REQUIRE, which is for tests.
        plain = {k: v for k, v in os.environ.items() if not k.startswith("FACTFOLD_")}
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.root,
            env=plain | {"PYTHONPATH": os.pathsep.join(parts), MYPY_CACHE: str(self.mypy_cache)},
            capture_output=True,
            text=True,
        )


def factfold(here: Path, *arguments: str) -> str:
    """What `factfold ARGUMENTS` prints, run in the folder `here`."""
    done = tried(here, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def tried(here: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "factfold_cli", *arguments],
        cwd=here,
        env=os.environ | {"PYTHONPATH": str(GENERATOR)},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="session")
def mypy_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mypy")


def made(folder: Path, mypy_cache: Path, name: str, *arguments: str) -> Generated:
    """`factfold new NAME …` in Python below `folder`, then its stubs."""
    before = set(folder.iterdir())
    factfold(folder, "new", name, "--language", "python", "--no-input", *arguments)
    (root,) = set(folder.iterdir()) - before
    service = Generated(root, mypy_cache)
    done = service.python("hatch_build.py")
    assert done.returncode == 0, done.stderr
    return service


@pytest.fixture
def generate(tmp_path: Path, mypy_cache: Path) -> Callable[..., Generated]:
    """`generate(NAME, …)` is `factfold new NAME …`, then the stubs."""
    return partial(made, tmp_path, mypy_cache)
