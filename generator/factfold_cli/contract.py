"""Reads contracts by compiling them: streams, messages and fields, as the service will see them."""

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from factfold_cli.errors import Failed
from factfold_cli.templates import PROTOS


@dataclass(frozen=True)
class Contract:
    """One .proto file that declares a stream.

    `path` is relative to `protos/`, `partitions` 0 if it names no number, `messages` maps a
    message's name to the names of its string fields, `imports` are the paths of the other files
    below `protos/` that it needs.
    """

    path: str
    package: str
    stream: str
    partitions: int
    messages: Mapping[str, frozenset[str]]
    imports: tuple[str, ...]


def contracts(root: Path) -> list[Contract]:
    """All contracts below `root`/protos, by path; raises Failed if they do not compile."""
    protos = root / "protos"
    paths = sources(protos)
    files = compiled(protos, paths)
    own = {file.name: file for file in files if file.name in paths}
    return [_read(path, stream, own) for path, stream in _streams(files).items() if path in own]


def sources(protos: Path) -> list[str]:
    """The .proto files below the folder `protos`, relative to it."""
    return sorted(path.relative_to(protos).as_posix() for path in protos.rglob("*.proto"))


def _read(path: str, stream: Any, own: Mapping[str, Any]) -> Contract:
    file = own[path]
    messages = {
        message.name: frozenset(
            field.name for field in message.field if field.type == field.TYPE_STRING
        )
        for message in file.message_type
    }
    needed: list[str] = []
    waiting = list(file.dependency)
    while waiting:
        name = waiting.pop()
        if name in own and name not in needed:
            needed.append(name)
            waiting.extend(own[name].dependency)
    return Contract(
        path, file.package, stream.name, stream.partitions, messages, tuple(sorted(needed))
    )


def compiled(protos: Path, paths: list[str]) -> list[Any]:
    """The FileDescriptorProtos of `paths` below `protos`, behind those that they import.

    Raises Failed if they do not compile.
    """
    from google.protobuf.descriptor_pb2 import FileDescriptorSet

    if not paths:
        return []
    with tempfile.NamedTemporaryFile(suffix=".pb") as made:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "grpc_tools.protoc", "--include_imports"),
                *(f"--proto_path={protos}", f"--proto_path={PROTOS}"),
                *(f"--descriptor_set_out={made.name}", *paths),
            ],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            first = (done.stderr.strip() or "protoc failed").splitlines()[0]
            raise Failed(f"the contract in {str(protos.parent)!r} does not compile: {first}")
        return list(FileDescriptorSet.FromString(made.read()).file)


def _streams(files: list[Any]) -> dict[str, Any]:
    """The factfold.v1.Stream of each file that declares one, by the file's path."""
    from google.protobuf.descriptor_pool import DescriptorPool
    from google.protobuf.message_factory import GetMessageClass

    pool = DescriptorPool()
    for file in files:
        pool.Add(file)
    try:
        extension = pool.FindExtensionByName("factfold.v1.stream")
    except KeyError:
        return {}
    # Options are read with classes of this pool, the only ones that know the extension.
    options: Any = GetMessageClass(pool.FindMessageTypeByName("google.protobuf.FileOptions"))
    read = {file.name: options.FromString(file.options.SerializeToString()) for file in files}
    return {
        path: each.Extensions[extension]
        for path, each in read.items()
        if each.HasExtension(extension)
    }
