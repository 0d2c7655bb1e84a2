"""The rows of languages.toml: which languages there are, and what each needs of the machine."""

from __future__ import annotations

import os
import shutil
import tomllib
from functools import cache
from typing import Any

from faults.probe import CONFORMANCE


@cache
def languages() -> dict[str, dict[str, Any]]:
    """All rows, in their order."""
    return tomllib.loads((CONFORMANCE / "languages.toml").read_text(encoding="utf-8"))


def missing(language: str) -> str:
    """Why the language's probe cannot be built on this machine; empty if it can."""
    needs = languages()[language].get("needs", [])
    absent = [program for program in needs if shutil.which(program) is None]
    return f"{language}: {', '.join(absent)} not on PATH" if absent else ""


def required(language: str) -> bool:
    """Whether FACTFOLD_REQUIRE says that it must not be skipped."""
    return language in os.environ.get("FACTFOLD_REQUIRE", "").split(",")
