"""A contract's file as its documents need it: descriptors, and the comments beside them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from factfold_cli.declared import Declared, Rpc, Stream, rpcs


@dataclass(frozen=True)
class Described:
    """One .proto file: Descriptors of protobuf, the nested ones behind those around them.

    `services` maps full names to RPCs. `comments` has those of messages, fields, enums, their
    values, services and RPCs, by full name.
    """

    path: str
    package: str
    stream: Stream | None
    services: Mapping[str, list[Rpc]]
    messages: Mapping[str, Any]  # by full name
    enums: list[Any]
    comments: Mapping[str, str]


def described(known: Declared, path: str) -> Described:
    """The file at `path` below protos/."""
    proto = known.files[path]
    file = known.annotations.pool.FindFileByName(path)
    messages = [each for one in file.message_types_by_name.values() for each in _nested(one)]
    services: dict[str, list[Rpc]] = {name.full_name: [] for name in file.services_by_name.values()}
    for rpc in rpcs(proto):
        services[rpc.full_name.rpartition(".")[0]].append(rpc)
    return Described(
        path=path,
        package=proto.package,
        stream=known.streams.get(path),
        services=services,
        messages={message.full_name: message for message in messages},
        enums=[
            *file.enum_types_by_name.values(),
            *(enum for message in messages for enum in message.enum_types),
        ],
        comments=_comments(proto),
    )


def _nested(message: Any) -> Iterator[Any]:
    if not message.GetOptions().map_entry:
        yield message
        for each in message.nested_types:
            yield from _nested(each)


def _comments(file: Any) -> dict[str, str]:
    """By full name, each as one paragraph."""
    names = dict(_paths(file, (), file.package))
    return {
        names[path]: " ".join(location.leading_comments.split())
        for location in file.source_code_info.location
        if (path := tuple(location.path)) in names and location.leading_comments.strip()
    }


def _paths(proto: Any, at: tuple[int, ...], name: str) -> Iterator[tuple[tuple[int, ...], str]]:
    """The path of each element below `proto` in its file's source_code_info, with its full name."""
    for field in proto.DESCRIPTOR.fields:
        named = field.message_type and "name" in field.message_type.fields_by_name
        if not (named and field.is_repeated):
            continue
        for index, each in enumerate(getattr(proto, field.name)):
            here, full_name = (*at, field.number, index), f"{name}.{each.name}".lstrip(".")
            yield here, full_name
            yield from _paths(each, here, full_name)
