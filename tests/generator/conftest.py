"""Runs the generator as a user does: a process of its own, an empty home, a folder to work in."""

import os
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import factfold_cli
from factfold_cli import manifest as manifests
from factfold_cli.declared import copies, declared
from factfold_cli.documents import documents
from factfold_cli.placing import place, with_entries

ROOT = Path(__file__).resolve().parents[2]
CACHES = shutil.ignore_patterns("__pycache__", ".*_cache", ".tox", ".venv", "*.egg-info")

# What a repository without an environment of its own needs first; it makes the stubs, too.
INSTALL = (
    "python3 -m venv .venv && .venv/bin/pip install -qr requirements/dev.txt && "
    ".venv/bin/pip install -q --no-deps --no-build-isolation -e chassis -e ."
)


@dataclass(frozen=True)
class User:
    """A user with nothing in `home`, nothing in `temporary`, and a shell in `here`."""

    here: Path
    home: Path
    temporary: Path

    def environment(self, generator: Path | None = None) -> dict[str, str]:
        return {
            "HOME": str(self.home),
            "TMPDIR": str(self.temporary),
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(generator or Path(factfold_cli.__file__).parents[1]),
        }

    def factfold(
        self,
        *arguments: str | Path,
        answers: str = "",
        at: Path | None = None,
        clone: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "factfold_cli", *arguments],
            cwd=at or self.here,
            env=self.environment(clone and clone / "generator"),
            input=answers,
            capture_output=True,
            text=True,
        )

    def cookiecutter(
        self,
        *arguments: str,
        at: Path | None = None,
        clone: Path = ROOT,
        language: str = "python",
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                *(sys.executable, "-m", "cookiecutter", clone),
                *("--no-input", "--directory", f"template/{language}", *arguments),
            ],
            cwd=at or self.here,
            env=self.environment(),
            capture_output=True,
            text=True,
        )


@pytest.fixture
def user(tmp_path: Path) -> User:
    for name in ("here", "home", "temporary"):
        (tmp_path / name).mkdir()
    return User(tmp_path / "here", tmp_path / "home", tmp_path / "temporary")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A copy of what the generator needs of this repository, to be changed by a test."""
    target = tmp_path / "clone"
    for name in ("generator", "protos", "template"):
        shutil.copytree(ROOT / name, target / name, ignore=CACHES)
    shutil.copy(ROOT / "cookiecutter.json", target)
    return target


def document(root: Path) -> None:
    """Brings the documents of the repository `root` in step with its contract, and nothing else."""
    manifest = manifests.read(root)
    made = documents(manifest, declared(root / "protos", copies(manifest)))
    place(root, made, with_entries(manifest, {**made}, {*made}))


def tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Mode and content of everything below `folder`; a folder has no content."""
    return {
        path.relative_to(folder).as_posix(): (
            stat.S_IMODE(path.stat().st_mode),
            path.read_bytes() if path.is_file() else b"",
        )
        for path in folder.rglob("*")
    }
