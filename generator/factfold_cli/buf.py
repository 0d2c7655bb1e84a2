"""Runs `buf breaking` on two contracts: no network, and no configuration of the user's."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from factfold_cli.errors import Failed
from factfold_cli.own_contract import OwnContract

# buf ends with this code when it has found something.
_FOUND = 100
_IGNORED = ["google", "factfold"]


@dataclass(frozen=True)
class Finding:
    """What buf says of one place of the newer contract; `line` and `column` count from 1."""

    rule: str
    path: str
    line: int
    column: int
    text: str


def breaking(old: OwnContract, new: OwnContract, level: str, types: Iterable[str]) -> list[Finding]:
    """What `new` breaks of the `types` of `old`, and of all that they contain.

    `level` is a category of buf's rules, `types` are full names of messages and services. Raises
    Failed if buf cannot be run.
    """
    wanted = [word for name in sorted(types) for word in ("--type", name)]
    if not wanted:
        return []
    config = {"version": "v2", "breaking": {"use": [level], "ignore": _IGNORED}}
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        (folder / "old.binpb").write_bytes(old.descriptor_set())
        (folder / "new.binpb").write_bytes(new.descriptor_set(source_info=True))
        plain = ("--config", json.dumps({"version": "v2"}))
        _buf(folder, "build", "old.binpb", *plain, *wanted, "--output", "wanted.binpb")
        said = _buf(
            folder,
            *("breaking", "new.binpb", "--against", "wanted.binpb", "--error-format", "json"),
            *("--config", json.dumps(config)),
        )
    return [_finding(line) for line in said.splitlines()]


def _finding(line: str) -> Finding:
    said = json.loads(line)
    return Finding(
        said["type"],
        said.get("path", ""),
        said.get("start_line", 1),
        said.get("start_column", 1),
        said["message"],
    )


def _buf(folder: Path, *arguments: str) -> str:
    """What buf prints; it is run in `folder`, since it reads more than a path in a path."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BUF_")}
    own = {name: str(folder / "buf") for name in ("HOME", "BUF_CACHE_DIR", "BUF_CONFIG_DIR")}
    done = subprocess.run(
        [_installed(), *arguments], cwd=folder, env=kept | own, capture_output=True, text=True
    )
    if done.returncode not in (0, _FOUND) or (done.returncode and not done.stdout):
        first = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[0]
        raise Failed(f"buf could not compare the contract with a released one: {first}")
    return done.stdout


def executable() -> str | None:
    """The buf of this Python, which need not be on PATH, or else the one on it."""
    beside = str(Path(sys.executable).parent)
    return shutil.which("buf", path=beside) or shutil.which("buf")


def _installed() -> str:
    if (found := executable()) is None:
        raise Failed("buf is not installed: pip install buf-bin")
    return found
