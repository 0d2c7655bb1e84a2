"""The environment that a service runs in: one for each lock content, in the user's cache."""

import asyncio
import fcntl
import hashlib
import os
import platform
import re
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from factfold_cli.discovery import ServiceFolder
from factfold_cli.errors import Failed
from factfold_cli.launching import Launch, Say
from factfold_cli.processes import run

LOCKS = ("requirements/run.txt", "requirements/build.txt")
_SOURCES = ("src", "gen", "chassis/src")
# What a service runs from; tests and documents restart nothing.
_WATCHED = ("src", "protos", "chassis", "requirements")


def cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "factfold")


class PythonLauncher:
    def __init__(self, service: ServiceFolder) -> None:
        self._service = service
        self._made_from = ""

    async def prepare(self, say: Say) -> Launch:
        python = await environment(self._service, say)
        if (contract := _contract(self._service.path)) != self._made_from:
            say(f"{self._service.name}: making its stubs")
            await stubs(self._service, python)
            self._made_from = contract
        paths = [str(self._service.path / name) for name in _SOURCES]
        return Launch(
            (str(python), "-m", "service"),
            {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"},
        )

    def watched(self) -> list[Path]:
        return [path for name in _WATCHED if (path := self._service.path / name).exists()]

    def runs_from(self, path: Path) -> bool:
        return True


def _contract(path: Path) -> str:
    """What the stubs are made from, as a digest."""
    digest = hashlib.sha256()
    for file in sorted(path.glob("**/protos/**/*.proto")):
        digest.update(str(file).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


async def environment(service: ServiceFolder, say: Say) -> Path:
    """The Python that has what the service's locks name; made if there is none yet.

    `say` is told how far it is. Raises Failed.
    """
    try:
        locks = b"".join((service.path / name).read_bytes() for name in LOCKS)
    except OSError as error:
        raise Failed(f"{service.name}: {error.filename} cannot be read: restore it") from None
    kind = f"{sys.implementation.cache_tag}-{sys.platform}-{platform.machine()}"
    key = hashlib.sha256(kind.encode() + b"\0" + locks).hexdigest()[:20]
    # Made in place, because the scripts of an environment name its folder; a file says that it is
    # complete, and what has none was interrupted.
    folder = cache() / "environments" / key
    python, complete = folder / "bin" / "python", folder / "complete"
    async with _locked(folder.with_suffix(".lock")):
        if complete.exists() and python.exists():
            return python
        shutil.rmtree(folder, ignore_errors=True)
        say(f"{service.name}: making its environment, once for this lock")
        make = [sys.executable, "-m", "venv", str(folder)]
        await run(make, service.path, f"{service.name}: no environment was made")
        await _install(service, python, locks, say)
        complete.touch()
    return python


async def stubs(service: ServiceFolder, python: Path) -> None:
    """Makes the stubs of the service's contract. Raises Failed."""
    make = [str(python), "hatch_build.py"]
    await run(make, service.path, f"{service.name}: no stubs were made")


async def _install(service: ServiceFolder, python: Path, locks: bytes, say: Say) -> None:
    total = len(set(re.findall(rb"^[A-Za-z0-9][^\s;]*==[^\s;]*", locks, re.MULTILINE)))
    seen = 0

    def heard(line: str) -> None:
        nonlocal seen
        if line.startswith("Collecting "):
            seen += 1
            say(f"{service.name}: fetching package {min(seen, total)} of {total}")
        elif line.startswith("Installing "):
            say(f"{service.name}: installing {total} packages")

    pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    what = [word for name in LOCKS for word in ("-r", name)]
    command = [*pip, "--progress-bar", "off", "--require-hashes", *what]
    failure = f"{service.name}: its packages were not installed"
    await run(command, service.path, failure, heard=heard)


@asynccontextmanager
async def _locked(path: Path) -> AsyncIterator[None]:
    """One process, and one task of it, at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(0.1)
        yield
