"""Example values of messages, as Python code: what scaffolded tests start from."""

from collections.abc import Mapping
from keyword import iskeyword
from types import MappingProxyType
from typing import Any

# The types of FieldDescriptorProto by their numbers there.
_FLOATS, _BOOL, _STRING, _BYTES = {1, 2}, 8, 9, 12
_INTEGERS = {3, 4, 5, 6, 7, 13, 15, 16, 17, 18}
_REPEATED = 3


def sample(
    message: Any,
    texts: Mapping[str, str] = MappingProxyType({}),
    numbers: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, str]:
    """Code of a value for each plain field of a DescriptorProto, by name.

    `texts` and `numbers` have that of strings and integers of certain names. Of a oneof only the
    first is set. Messages, enums and repeated fields are left to the team.
    """
    values: dict[str, str] = {}
    chosen: set[int] = set()
    for field in message.field:
        if (value := _value(field)) is None or iskeyword(field.name) or field.name == "self":
            continue
        if field.HasField("oneof_index") and not field.proto3_optional:
            if field.oneof_index in chosen:
                continue
            chosen.add(field.oneof_index)
        if field.type == _STRING:
            value = texts.get(field.name, value)
        elif field.type in _INTEGERS:
            value = numbers.get(field.name, value)
        values[field.name] = value
    return values


def shared(message: Any, *others: Any) -> dict[str, str]:
    """The same of those fields alone that one of `others` has too, of the same name and type."""
    types = {(field.name, field.type) for other in others for field in other.field}
    same = {field.name for field in message.field if (field.name, field.type) in types}
    return {name: value for name, value in sample(message).items() if name in same}


def arguments(values: Mapping[str, str], indent: int) -> str:
    """The inside of a call's brackets: each argument on a line of its own, nothing if none."""
    if not values:
        return ""
    rows = "".join(f"{' ' * (indent + 4)}{name}={value},\n" for name, value in values.items())
    return f"\n{rows}{' ' * indent}"


def _value(field: Any) -> str | None:
    if field.label == _REPEATED:
        return None
    if field.type in _INTEGERS:
        return "1"
    if field.type in _FLOATS:
        return "1.0"
    return {_BOOL: "True", _STRING: '"1"', _BYTES: 'b"1"'}.get(field.type)
