"""Copies what is the same in every language to where it is committed.

    python scripts/copy_common.py

With `--check` it copies nothing, names what differs and ends with 1.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMMON = ROOT / "template" / "common"
CHASSIS = ROOT / "template" / "python" / "{{cookiecutter.service_slug}}" / "chassis"


def copies() -> Iterator[tuple[Path, Path]]:
    """Pairs of master and copy; for a copy without a master, the master's path does not exist."""
    server = COMMON / "redis_server.py"
    yield server, ROOT / "generator" / "factfold_cli" / server.name
    yield server, CHASSIS / "src" / "factfold_chassis" / "testing" / server.name
    for page in ("protocol.md", "wire-format.md"):
        yield ROOT / "docs" / page, CHASSIS / "docs" / page
    for masters, folder, pattern in (
        (COMMON / "lua", CHASSIS / "src" / "factfold_chassis" / "lua", "*.lua"),
        (ROOT / "protos" / "factfold" / "v1", CHASSIS / "protos" / "factfold" / "v1", "*.proto"),
    ):
        for name in sorted({path.name for at in (masters, folder) for path in at.glob(pattern)}):
            yield masters / name, folder / name


def differing() -> list[tuple[Path, Path]]:
    return [pair for pair in copies() if _bytes(pair[0]) != _bytes(pair[1])]


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def main(arguments: list[str]) -> int:
    found = differing()
    for master, copy in found:
        print(copy.relative_to(ROOT))
        if arguments == ["--check"]:
            continue
        if master.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(master, copy)
        else:
            copy.unlink()
    return 1 if found and arguments == ["--check"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
