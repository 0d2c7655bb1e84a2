"""Whether a Go repository's `gen/` is what its `go generate ./...` makes of the contract now.

Not by time: git sets that of a checkout. Each stub holds the descriptor of its file, which is
compared with the one that the contract compiles to.
"""

import re
from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.message import DecodeError

from factfold_cli.contract import compiled, sources

MAKE = "go generate ./..."

_DESCRIPTOR = re.compile(r'^const \w+_rawDesc = ((?:"(?:[^"\\\n]|\\.)*"(?: \+\s*)?)+)$', re.M)
_STRING = re.compile(r'"((?:[^"\\\n]|\\.)*)"')
_CHARACTERS = re.compile(r"\\x(..)|\\u(.{4})|\\U(.{8})|\\(.)|([^\\]+)")
_ESCAPES = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 92, '"': 34}


def outdated(root: Path) -> list[str]:
    """The contract's files of which the stubs in `gen/` are of another contract, or not there.

    Raises Failed if the contract does not compile.
    """
    protos = root / "protos"
    paths = sources(protos)
    now = {file.name: file for file in compiled(protos, paths) if file.name in paths}
    return [path for path in paths if not _made_of(now[path], root / "gen")]


def _made_of(file: Any, gen: Path) -> bool:
    stub = gen / f"{file.name.removesuffix('.proto')}.pb.go"
    if file.service and not stub.with_name(stub.name.replace(".pb.go", "_grpc.pb.go")).is_file():
        return False
    return _descriptor(stub) == _plain(file)


def _descriptor(stub: Path) -> bytes | None:
    """The one that a stub has; None if it cannot be read."""
    try:
        found = _DESCRIPTOR.search(stub.read_text(encoding="utf-8"))
        return found and _plain(FileDescriptorProto.FromString(_bytes(found[1])))
    except (OSError, ValueError, LookupError, DecodeError):
        return None


def _bytes(constant: str) -> bytes:
    """What Go's string literals, with + between them, are."""
    return b"".join(
        bytes([int(byte, 16)])
        if byte
        else chr(int(short or long, 16)).encode()
        if short or long
        else bytes([_ESCAPES[escaped]])
        if escaped
        else text.encode()
        for literal in _STRING.findall(constant)
        for byte, short, long, escaped, text in _CHARACTERS.findall(literal)
    )


def _plain(file: Any) -> bytes:
    """Only one of the two compilers gives extensions names in JSON."""
    copied = FileDescriptorProto.FromString(file.SerializeToString())
    for each in (copied, *_all(copied.message_type)):
        for extension in each.extension:
            extension.ClearField("json_name")
    return copied.SerializeToString(deterministic=True)


def _all(messages: Any) -> list[Any]:
    return [found for each in messages for found in (each, *_all(each.nested_type))]
