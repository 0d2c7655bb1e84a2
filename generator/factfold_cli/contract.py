"""Reads contracts by compiling them: streams, messages and fields, as the service will see them."""

import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from factfold_cli.errors import Failed
from factfold_cli.templates import PROTOS

STREAM_NAME = r"[a-z0-9.-]{1,64}"
DEFAULT_PARTITIONS = 4  # factfold/v1/options.proto: of a stream that names no number


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


def stubs(path: str) -> str:
    """The module that protoc makes of the messages of the file at `path` below `protos/`."""
    return path.removesuffix(".proto").replace("-", "_").replace("/", ".") + "_pb2"


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


def compiled(protos: Path, paths: list[str], *, source_info: bool = False) -> list[Any]:
    """The FileDescriptorProtos of `paths` below `protos`, behind those that they import.

    With `source_info` they say where each part of them is written, and the comments beside it.
    Raises Failed if they do not compile.
    """
    from google.protobuf.descriptor_pb2 import FileDescriptorSet

    if not paths:
        return []
    for path in paths:
        if path.startswith(("-", "@")):
            # protoc would take it for an option, such as where to write, or for a file of options.
            raise Failed(f"{f'protos/{path}'!r} is no name of a contract's file; rename it")
    with tempfile.NamedTemporaryFile(suffix=".pb") as made:
        done = subprocess.run(
            [
                # -P: not with a module of such a name in the folder that this runs in.
                *(sys.executable, "-P", "-m", "grpc_tools.protoc", "--include_imports"),
                *(f"--proto_path={protos}", f"--proto_path={PROTOS}"),
                *(f"--descriptor_set_out={made.name}", *paths),
                *["--include_source_info"] * source_info,
            ],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            lines = (done.stderr.strip() or "protoc failed").splitlines()
            # What protoc logs of itself comes first.
            first = next((line for line in lines if ".proto:" in line), lines[0])
            first = first.removeprefix(f"{protos.parent}/")
            raise Failed(f"the contract in {str(protos.parent)!r} does not compile: {first}")
        return list(FileDescriptorSet.FromString(made.read()).file)


def _streams(files: list[Any]) -> dict[str, Any]:
    """The factfold.v1.Stream of each file that declares one, by the file's path."""
    annotations = Annotations(files)
    streams = {file.name: annotations.stream(file) for file in files}
    return {path: stream for path, stream in streams.items() if stream is not None}


class Annotations:
    """Reads the options of factfold/v1/options.proto in `files`, which `compiled` has made.

    Attributes:
        pool: has all that the files declare.
    """

    def __init__(self, files: list[Any]) -> None:
        from google.protobuf.descriptor_pool import DescriptorPool

        self.pool = DescriptorPool()
        for file in files:
            self.pool.Add(file)

    def stream(self, file: Any) -> Any:
        """The factfold.v1.Stream that a file (its proto) declares, None if it declares none.

        Raises Failed if no log can have a stream of its name, which becomes part of code.
        """
        stream = self.of(file, "stream")
        if stream is not None and not re.fullmatch(STREAM_NAME, stream.name):
            raise Failed(
                f"protos/{file.name}: the stream name {stream.name!r} must be 1 to 64 characters"
                " of a-z, 0-9, '-' and '.'"
            )
        return stream

    def of(self, proto: Any, name: str) -> Any:
        """The option `name` of a file, message or field (their protos), None if it is not set."""
        from google.protobuf.message_factory import GetMessageClass

        try:
            extension = self.pool.FindExtensionByName(f"factfold.v1.{name}")
        except KeyError:
            return None
        # Options are read with classes of this pool, the only ones that know the extension.
        kind = self.pool.FindMessageTypeByName(proto.options.DESCRIPTOR.full_name)
        options: Any = GetMessageClass(kind).FromString(proto.options.SerializeToString())
        return options.Extensions[extension] if options.HasExtension(extension) else None
