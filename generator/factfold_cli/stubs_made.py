"""Whether `gen/` is what protoc makes of the contract now.

Not by time: git sets that of a checkout. Each stub holds the descriptor of its file, which is
compared with the one that the contract compiles to.
"""

import ast
from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto
from google.protobuf.message import DecodeError

from factfold_cli.contract import compiled, sources

# What makes the stubs anew, in the folder of the repository; and the environment, with the stubs.
MAKE = ".venv/bin/python hatch_build.py"
INSTALL = (
    "python3 -m venv .venv && .venv/bin/pip install -qr requirements/dev.txt && "
    ".venv/bin/pip install -q --no-deps --no-build-isolation -e chassis -e ."
)


def outdated(root: Path) -> list[str]:
    """The contract's files of which the stub in `gen/` is of another contract, or not there.

    Raises Failed if the contract does not compile.
    """
    protos = root / "protos"
    paths = sources(protos)
    now = {file.name: file for file in compiled(protos, paths) if file.name in paths}
    return [path for path in paths if _stub(root, path) != _as_in_a_stub(now[path])]


def _stub(root: Path, path: str) -> bytes | None:
    """The descriptor in the stub of a file; None if there is none."""
    name = path.removesuffix(".proto").replace("-", "_") + "_pb2.py"
    try:
        tree = ast.parse((root / "gen" / name).read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "AddSerializedFile":
            raw = getattr(node.args[0], "value", b"") if node.args else b""
            try:
                file = FileDescriptorProto.FromString(raw)
            except (DecodeError, TypeError):
                return None
            return file.SerializeToString(deterministic=True)
    return None


def _as_in_a_stub(file: Any) -> bytes:
    """A stub leaves the JSON names out."""
    plain = FileDescriptorProto.FromString(file.SerializeToString())
    for field in plain.extension:
        field.ClearField("json_name")
    for message in plain.message_type:
        _strip(message)
    return plain.SerializeToString(deterministic=True)


def _strip(message: DescriptorProto) -> None:
    for field in [*message.field, *message.extension]:
        field.ClearField("json_name")
    for nested in message.nested_type:
        _strip(nested)
