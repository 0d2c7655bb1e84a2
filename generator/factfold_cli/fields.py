"""The fields of a new message as they are given on the command line: `name:type`."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

from factfold_cli.errors import Refused
from factfold_cli.part_names import field_problem

SCALARS = (
    *("double", "float", "int32", "int64", "uint32", "uint64", "sint32", "sint64"),
    *("fixed32", "fixed64", "sfixed32", "sfixed64", "bool", "string", "bytes"),
)
_MAP_KEYS = frozenset(SCALARS) - {"double", "float", "bytes"}
_WELL_KNOWN = ("any", "duration", "empty", "field_mask", "struct", "timestamp", "wrappers")
_HOW = "use a scalar such as string, or a message or enum of the contract or of google.protobuf"


@dataclass(frozen=True)
class Field:
    """One field of a message to be written.

    `label` is "", "repeated" or "optional"; `type` as it stands in the file, such as
    `map<string, int32>`; `imports` the files that it needs; `comment` the line above it.
    """

    name: str
    type: str
    label: str = ""
    imports: frozenset[str] = frozenset()
    comment: str = ""


@dataclass(frozen=True)
class Types:
    """What a field of a contract may be of: as it may be given → as it is written, and its file."""

    known: Mapping[str, tuple[str, str]]

    def field(self, given: str) -> Field:
        """Reads `name:type`; raises Refused."""
        name, colon, type_ = (part.strip() for part in given.partition(":"))
        if not colon or not name or not type_:
            raise Refused(f"the field {given!r} is no name:type, such as quantity:int32")
        if wrong := field_problem(name):
            raise Refused(wrong)
        if words := re.fullmatch(r"map\s*<([^,<>]*),([^,<>]*)>", type_):
            key, value = (word.strip() for word in words.groups())
            if key not in _MAP_KEYS:
                raise Refused(
                    f"the field {given!r} has keys of {key!r}; the keys of a map are a whole"
                    " number, bool or string"
                )
            value, imports = self._written(given, value)
            return Field(name, f"map<{key}, {value}>", imports=imports)
        first, *rest = type_.split()
        label = first if first in ("repeated", "optional") and rest else ""
        base, imports = self._written(given, " ".join(rest) if label else type_)
        return Field(name, base, label, imports)

    def _written(self, given: str, type_: str) -> tuple[str, frozenset[str]]:
        if type_ in SCALARS:
            return type_, frozenset()
        if type_ not in self.known:
            raise Refused(f"the field {given!r} is of an unknown type {type_!r}; {_HOW}")
        written, file = self.known[type_]
        return written, frozenset([file])


def types(files: Iterable[Any], package: str) -> Types:
    """Types for a field in `package`: those of `files` (FileDescriptorProtos), and Google's."""
    known = dict(_well_known())
    for file in files:
        for name in _names([*file.message_type, *file.enum_type]):
            full = f"{file.package}.{name}".lstrip(".")
            known[full] = (name if file.package == package else full, file.name)
            if file.package == package:
                known[name] = known[full]
    return Types(known)


def plain_fields(message: Any) -> list[Field]:
    """Those of a DescriptorProto that are neither repeated nor of a message, an enum or a oneof."""
    return [
        Field(each.name, word)
        for each in message.field
        if each.label != each.LABEL_REPEATED
        and (each.proto3_optional or not each.HasField("oneof_index"))
        and field_problem(each.name) is None
        and (word := _scalar(each)) is not None
    ]


def all_named(fields: Iterable[Field]) -> list[Field]:
    """`fields`; raises Refused if two have one name."""
    found: dict[str, Field] = {}
    for each in fields:
        if each.name in found:
            raise Refused(f"the field {each.name!r} is there twice; give each another name")
        found[each.name] = each
    return list(found.values())


def _scalar(field: Any) -> str | None:
    """The scalar that a FieldDescriptorProto is of, as it is written."""
    word = str(field.Type.Name(field.type)).removeprefix("TYPE_").lower()
    return word if word in SCALARS else None


def _names(declared: Iterable[Any]) -> Iterable[str]:
    """The names of messages and enums, nested ones behind their message's and a dot."""
    for each in declared:
        yield each.name
        for inner in _names([*getattr(each, "nested_type", ()), *getattr(each, "enum_type", ())]):
            yield f"{each.name}.{inner}"


@cache
def _well_known() -> Mapping[str, tuple[str, str]]:
    found = {}
    for word in _WELL_KNOWN:
        file = import_module(f"google.protobuf.{word}_pb2").DESCRIPTOR
        for name in (*file.message_types_by_name, *file.enum_types_by_name):
            full = f"google.protobuf.{name}"
            found[name] = found[full] = (full, file.name)
    return found
