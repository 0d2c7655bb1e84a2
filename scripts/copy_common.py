"""Copies what is the same in every language to where it is committed, and makes the chassis' stubs.

    python scripts/copy_common.py

With `--check` it copies nothing, names what differs and ends with 1.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
COMMON = ROOT / "template" / "common"
CHASSIS = ROOT / "template" / "python" / "{{cookiecutter.service_slug}}" / "chassis"
GO_CHASSIS = ROOT / "template" / "go" / "{{cookiecutter.service_slug}}" / "chassis"
PROTOS = ROOT / "protos" / "factfold" / "v1"
# Of tests only: no service carries it.
NOT_SHIPPED = {"conformance.proto"}


def stubs(made: Path) -> Iterator[tuple[Path, Path]]:
    """Pairs of a stub made now, in the folder `made`, and the committed one."""
    google = Path(protoc.__file__).parent / "_proto"
    masters = sorted(path for path in PROTOS.glob("*.proto") if path.name not in NOT_SHIPPED)
    arguments = ["", f"-I{ROOT / 'protos'}", f"-I{google}", *map(str, masters)]
    if protoc.main([*arguments, f"--python_out={made}", f"--pyi_out={made}"]):
        sys.exit("the protos do not compile: see above")
    committed = CHASSIS / "src" / "factfold" / "v1"
    found = {path.name for at in (made / "factfold/v1", committed) for path in at.glob("*_pb2.py*")}
    for name in sorted(found):
        yield made / "factfold" / "v1" / name, committed / name


def copies() -> Iterator[tuple[Path, Path]]:
    """Pairs of master and copy; for a copy without a master, the master's path does not exist."""
    server = COMMON / "redis_server.py"
    yield server, ROOT / "generator" / "factfold_cli" / server.name
    yield server, CHASSIS / "src" / "factfold_chassis" / "testing" / server.name
    url = COMMON / "log_url.py"
    yield url, ROOT / "generator" / "factfold_cli" / url.name
    yield url, CHASSIS / "src" / "factfold_chassis" / "log" / "url.py"
    tls = COMMON / "redis_tls.py"
    yield tls, ROOT / "generator" / "factfold_cli" / tls.name
    yield tls, CHASSIS / "src" / "factfold_chassis" / "log" / tls.name
    for name in ("pre_gen_project.py", "post_gen_project.py"):
        hook = Path("hooks", name)
        yield ROOT / "template" / "python" / hook, ROOT / "template" / "go" / hook
    for chassis in (CHASSIS, GO_CHASSIS):
        for page in ("protocol.md", "wire-format.md"):
            yield ROOT / "docs" / page, chassis / "docs" / page
    for masters, folder, pattern in (
        (COMMON / "lua", CHASSIS / "src" / "factfold_chassis" / "lua", "*.lua"),
        (COMMON / "lua", GO_CHASSIS / "internal" / "redislog" / "lua", "*.lua"),
        (PROTOS, CHASSIS / "protos" / "factfold" / "v1", "*.proto"),
        (PROTOS, GO_CHASSIS / "protos" / "factfold" / "v1", "*.proto"),
    ):
        names = {path.name for at in (masters, folder) for path in at.glob(pattern)}
        for name in sorted(names - NOT_SHIPPED):
            yield masters / name, folder / name


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def main(arguments: list[str]) -> int:
    with tempfile.TemporaryDirectory() as made:
        pairs = [*copies(), *stubs(Path(made))]
        found = [pair for pair in pairs if _bytes(pair[0]) != _bytes(pair[1])]
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
