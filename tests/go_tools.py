"""Programs that are Go modules: those of PATH, else installed once into the user's cache."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NoReturn

import pytest

from factfold_cli.environments import cache


def go() -> str:
    """The path of `go`. Skips the test without it; with FACTFOLD_REQUIRE=go it fails."""
    return shutil.which("go") or _missing("go is not on PATH")


def go_tool(name: str, package: str, version: str) -> str:
    """The path of the program `name` that `package` makes.

    Skips the test without Go; with FACTFOLD_REQUIRE=go it fails.
    """
    if (on_path := shutil.which(name)) is not None:
        return on_path
    kept = cache() / f"{name}-{version}"
    if not kept.exists():
        go = shutil.which("go") or _missing(
            f"{name} is not on PATH, and neither is go to install it with"
        )
        cache().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache()) as folder:
            done = subprocess.run(
                [go, "install", f"{package}@{version}"],
                cwd=folder,
                env=os.environ | {"GOBIN": folder},
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, done.stderr
            Path(folder, name).replace(kept)
    return str(kept)


def _missing(reason: str) -> NoReturn:
    if "go" in os.environ.get("FACTFOLD_REQUIRE", "").split(","):
        pytest.fail(reason)
    pytest.skip(reason)
