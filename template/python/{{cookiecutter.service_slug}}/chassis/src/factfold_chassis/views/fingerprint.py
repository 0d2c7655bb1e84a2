"""What makes a view's rows what they are, as one hash: a snapshot with another one is not used.

The contract, as far as the folds see it, and the code of the folds: the modules that declare and
define them, and what these import from their own top-level packages.
"""

import ast
import hashlib
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any

from google.protobuf.descriptor import Descriptor, FileDescriptor
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FileDescriptorProto,
    FileOptions,
)

from factfold_chassis.contract import Contract
from factfold_chassis.views.declare import Fold, View

LANGUAGE = "python"


def fingerprint(
    view: View,
    folds: Sequence[Fold[Any, Any]],
    contract: Contract,
    streams: Sequence[str],
    *,
    journal: bool,
) -> bytes:
    """SHA-256, 32 bytes.

    Joins and aggregates do not count: they are computed from the rows when those are loaded.

    Args:
        streams: all that the view follows.
        journal: the view remembers request ids; a snapshot of one that did not has none.

    Raises:
        LookupError: there is no source of a fold.
    """
    parts: list[object] = [LANGUAGE, view.name, journal]
    types: dict[str, bytes] = {}
    for table in view.folded:
        parts += ["table", table.name, table.row.DESCRIPTOR.full_name]
        _reach(table.row.DESCRIPTOR, types)
    for fold in folds:  # in the order in which they are called
        event = fold.event.DESCRIPTOR
        parts += ["fold", event.full_name, fold.into.name, fold.module, _home(fold)]
        parts.append(getattr(fold.function, "__qualname__", ""))
        _reach(event, types)
    for name in sorted(streams):
        parts += ["stream", name, contract.streams[name].partitions]
    for name in sorted(types):
        parts += ["type", name, types[name]]
    sources = _sources(folds)
    for name in sorted(sources):
        parts += ["module", name, sources[name]]
    digest = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode()
        digest.update(b"%d:" % len(data) + data)
    return digest.digest()


def _reach(message: Descriptor, types: dict[str, bytes]) -> None:
    """`message` and all message and enum types that it can contain."""
    if message.full_name in types:
        return
    types[message.full_name] = _proto(message, DescriptorProto()) + _syntax(message.file)
    for field in message.fields:
        if field.message_type is not None:
            _reach(field.message_type, types)
        if field.enum_type is not None:
            types[field.enum_type.full_name] = _proto(field.enum_type, EnumDescriptorProto())


def _proto(descriptor: Any, proto: DescriptorProto | EnumDescriptorProto) -> bytes:
    """`proto` is of the kind that describes `descriptor`."""
    descriptor.CopyToProto(proto)
    return proto.SerializeToString(deterministic=True)


def _syntax(file: FileDescriptor) -> bytes:
    """What a file says about all its messages."""
    proto = FileDescriptorProto()
    file.CopyToProto(proto)
    options = FileOptions(features=proto.options.features)
    kept = FileDescriptorProto(syntax=proto.syntax, edition=proto.edition, options=options)
    return kept.SerializeToString(deterministic=True)


def _home(fold: Fold[Any, Any]) -> str:
    return str(getattr(fold.function, "__module__", ""))


def _sources(folds: Sequence[Fold[Any, Any]]) -> dict[str, bytes]:
    """Module → its file, of all that folds can reach in the packages that declare them."""
    packages = {fold.module.partition(".")[0] for fold in folds}
    waiting = {name for fold in folds for name in (fold.module, _home(fold))}
    sources: dict[str, bytes] = {}
    while waiting:
        name = waiting.pop()
        if name in sources or name.partition(".")[0] not in packages:
            continue
        spec = _spec(name)
        if spec is None or spec.origin is None:
            if any(name == fold.module for fold in folds):
                raise LookupError(f"module {name} has no source")
            continue  # a namespace, or the name behind `from module import`
        loader: Any = spec.loader
        sources[name] = loader.get_data(spec.origin)
        waiting.update(_imports(sources[name], spec.parent or ""))
    return sources


def _spec(name: str) -> ModuleSpec | None:
    """Where a module is; importing it could do anything."""
    if name in sys.modules:
        return getattr(sys.modules[name], "__spec__", None)
    above = name.rpartition(".")[0]
    package = _spec(above) if above else None
    path = package.submodule_search_locations if package else None
    return PathFinder.find_spec(name, path) if path or not above else None


def _imports(source: bytes, package: str) -> Iterator[str]:
    """Names of modules, and of what may be one, that `source` imports anywhere."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return  # compiled
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                parts = alias.name.split(".")
                yield from (".".join(parts[:end]) for end in range(1, len(parts) + 1))
        elif isinstance(node, ast.ImportFrom):
            above = package.rsplit(".", node.level - 1)[0] if node.level else ""
            base = ".".join(filter(None, [above, node.module]))
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
