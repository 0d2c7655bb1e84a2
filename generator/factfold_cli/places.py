"""What is written at a line and a column of a contract."""

from dataclasses import dataclass
from typing import Any

from factfold_cli.own_contract import OwnContract

# Numbers of fields in google/protobuf/descriptor.proto, of which a place in a file consists.
_FILE_MESSAGE, _FILE_ENUM = 4, 5
_MESSAGE_FIELD, _MESSAGE_MESSAGE, _MESSAGE_ENUM = 2, 3, 4
_ENUM_VALUE = 2


@dataclass(frozen=True)
class Place:
    """The innermost message or enum there, and its field or value; all are descriptors."""

    message: Any = None
    field: Any = None
    enum: Any = None
    value: Any = None

    @property
    def name(self) -> str:
        """How the file itself calls the message or the enum."""
        return _in_package(self.enum or self.message)


def place(contract: OwnContract, path: str, line: int, column: int) -> Place | None:
    """What begins at `line` and `column`, from 1, of the file `path`; None if it is another."""
    for location in contract.locations(path):
        if (location.span[0] + 1, location.span[1] + 1) == (line, column):
            return _followed(contract.pool.FindFileByName(path), list(location.path))
    return None


def _followed(file: Any, path: list[int]) -> Place | None:
    steps = list(zip(path[::2], path[1::2], strict=False))
    if not steps or steps[0][0] not in (_FILE_MESSAGE, _FILE_ENUM):
        return None
    (kind, index), *rest = steps
    if kind == _FILE_ENUM:
        return _in_enum(list(file.enum_types_by_name.values())[index], rest)
    message = list(file.message_types_by_name.values())[index]
    for kind, index in rest:
        if kind == _MESSAGE_MESSAGE:
            message = message.nested_types[index]
        elif kind == _MESSAGE_ENUM:
            return _in_enum(message.enum_types[index], rest[rest.index((kind, index)) + 1 :])
        elif kind == _MESSAGE_FIELD:
            return Place(message, message.fields[index])
        else:
            break
    return Place(message)


def _in_enum(enum: Any, rest: list[tuple[int, int]]) -> Place:
    if rest and rest[0][0] == _ENUM_VALUE:
        return Place(enum=enum, value=enum.values[rest[0][1]])
    return Place(enum=enum)


def declared(field: Any) -> str:
    """The field as a .proto file declares it, such as `repeated string tags = 4`."""
    text = f"{_type(field)} {field.name} = {field.number}"
    oneof = field.containing_oneof
    if oneof is not None and not oneof.name.startswith("_"):
        return f"{text} in oneof {oneof.name}"
    if field.is_repeated:
        return text if text.startswith("map<") else f"repeated {text}"
    if field.is_required:
        return f"required {text}"
    return f"optional {text}" if oneof is not None else text


def _type(field: Any) -> str:
    message = field.message_type
    if message is not None and message.GetOptions().map_entry:
        key, value = (message.fields_by_name[name] for name in ("key", "value"))
        return f"map<{_type(key)}, {_type(value)}>"
    named = message or field.enum_type
    if named is not None:
        same = named.file.package == field.file.package
        return _in_package(named) if same else str(named.full_name)
    kinds = {
        getattr(field, name): name.removeprefix("TYPE_").lower()
        for name in dir(field)
        if name.startswith("TYPE_")
    }
    return kinds[field.type]


def _in_package(named: Any) -> str:
    return str(named.full_name).removeprefix(f"{named.file.package}.")
