"""Whether the `.venv` of a repository is what its locks say."""

import os
import re
from pathlib import Path

from factfold_cli.findings import MISSING, OK, WRONG, Finding
from factfold_cli.installed import said
from factfold_cli.stubs_made import INSTALL

_PIN = re.compile(r"^([A-Za-z0-9][\w.-]*)==([^\s;\\]+)\s*(;)?", re.MULTILINE)
_MEND = INSTALL.replace("venv .venv", "venv --clear .venv")
_MOST_NAMED = 3


def environment(root: Path) -> Finding:
    """By the names of what is installed alone: nothing of it is run but its Python."""
    folder = root / ".venv"
    if not folder.is_dir():
        found = "there is no .venv; for running and testing the service here"
        return Finding("repository", ".venv", MISSING, found, INSTALL)
    if wrong := _of_another_python(folder) or _other_pins(root, folder):
        return Finding("repository", ".venv", WRONG, wrong, _MEND)
    return Finding(
        "repository", ".venv", OK, f"has what requirements/ says, Python {_python(folder)}"
    )


def _python(folder: Path) -> str:
    return said(
        str(folder / "bin" / "python"), "-c", "import platform; print(platform.python_version())"
    )


def _of_another_python(folder: Path) -> str:
    version = _python(folder)
    if not version:
        return "its Python does not run: the one that it was made from is gone"
    numbers = tuple(int(number) for number in version.split(".")[:2] if number.isdigit())
    if numbers < (3, 11):
        return f"it was made from Python {version}, and 3.11 is the oldest that serves"
    made = sorted(path.name for path in (folder / "lib").glob("python3.*"))
    if f"python{numbers[0]}.{numbers[1]}" not in made:
        return f"its Python is {version} now, and it was made from {', '.join(made) or 'none'}"
    try:
        first = (folder / "bin" / "pip").read_bytes().partition(b"\n")[0]
    except OSError:
        return ""
    of = Path(os.fsdecode(first.removeprefix(b"#!").strip()))
    if first.startswith(b"#!/") and of.name.startswith("python") and not _beside(of, folder):
        return f"it was moved here: its scripts start {of}"
    return ""


def _beside(python: Path, folder: Path) -> bool:
    try:
        return os.path.samefile(python.parent, folder / "bin")
    except OSError:
        return False


def _other_pins(root: Path, folder: Path) -> str:
    present: dict[str, str] = {}
    for path in folder.glob("lib/python3.*/site-packages/*.dist-info"):
        name, _, version = path.name.removesuffix(".dist-info").rpartition("-")
        present[_normal(name)] = version
    locks = {}
    for lock in ("run.txt", "dev.txt"):
        try:
            text = (root / "requirements" / lock).read_text(encoding="utf-8")
        except OSError:
            return f"requirements/{lock} cannot be read, so it is not known what it should have"
        locks[lock] = {_normal(name): (pin, bool(mark)) for name, pin, mark in _PIN.findall(text)}
    other = [
        f"{name} {present[name]} instead of {pin}"
        for name, (pin, _) in locks["dev.txt"].items()
        if present.get(name, pin) != pin
    ]
    # A pin with a marker may be for other systems; who only runs the service needs run.txt alone.
    lacking = [
        f"no {name}"
        for name, (_, marked) in locks["run.txt"].items()
        if not marked and name not in present
    ]
    found = other + lacking
    more = len(found) - _MOST_NAMED
    return ", ".join(found[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
