"""Example values of messages, as Go code: what scaffolded tests start from."""

from collections.abc import Mapping
from typing import Any

from factfold_cli import samples
from factfold_cli.declared import Declared

# Examples of Python that Go writes in another way.
_VALUES = {"True": "true", "1.0": "1", 'b"1"': '[]byte("1")'}


def plain(known: Declared, message: str) -> set[str]:
    """The fields whose value is written as it is: no pointer, no wrapper of a oneof."""
    return {field.name for field in _fields(known, message) if not field.HasField("oneof_index")}


def optional(known: Declared, message: str) -> set[str]:
    """The fields that are written as pointers."""
    return {field.name for field in _fields(known, message) if field.proto3_optional}


def sample(known: Declared, message: str, *values: Mapping[str, str]) -> dict[str, str]:
    return code(samples.sample(known.messages[message][1], *values), plain(known, message))


def shared(known: Declared, message: str, *others: Any) -> dict[str, str]:
    return code(samples.shared(known.messages[message][1], *others), plain(known, message))


def code(values: Mapping[str, str], fields: set[str]) -> dict[str, str]:
    """Those of examples that are of `fields`, in Go."""
    return {name: _VALUES.get(value, value) for name, value in values.items() if name in fields}


def literal(values: Mapping[str, str], names: Mapping[str, str]) -> str:
    """The inside of a struct's literal, on one line: gofmt never breaks one."""
    return ", ".join(f"{names[name]}: {value}" for name, value in values.items())


def _fields(known: Declared, message: str) -> list[Any]:
    path, descriptor = known.messages[message]
    return list(descriptor.field) if known.files[path].syntax == "proto3" else []
