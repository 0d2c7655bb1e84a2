"""The reference of a service's contract, for people: Markdown."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from google.protobuf.descriptor import FieldDescriptor as F

from factfold_cli.declared import Rpc, Stream
from factfold_cli.described import Described

_SCALARS = {
    getattr(F, f"TYPE_{name.upper()}"): name
    for name in (
        *("double", "float", "int64", "uint64", "int32", "fixed64", "fixed32", "bool"),
        *("string", "bytes", "uint32", "sfixed32", "sfixed64", "sint32", "sint64"),
    )
}
_KINDS = {
    "command": "Command: may append facts",
    "query": "Query: no side effects",
    "watch": "Watch: a stream of changes",
}


def reference(service: str, own: Sequence[Described], read: Mapping[str, Described]) -> str:
    """RPCs, facts and other messages of `service`, and what it reads of others, by their names."""
    lines = [
        f"# API of {service}",
        "",
        "Made from the contract by `factfold sync`; comments there are what is said here.",
    ]
    for file in own:
        lines += _file(file)
    if read:
        lines += ["", "## What it reads", "", "| service | stream | events |", "|---|---|---|"]
    for name, file in sorted(read.items()):
        assert file.stream
        events = ", ".join(f"`{event}`" for event in file.stream.events)
        lines.append(_row(f"`{name}`", f"`{file.stream.name}`", events))
    return "\n".join(lines) + "\n"


def _file(file: Described) -> Iterator[str]:
    yield from ("", f"In [`{file.path}`](../protos/{file.path}), package `{file.package}`.")
    shown: set[str] = set()
    for name, calls in file.services.items():
        yield from ("", f"## {_short(name, file)}", *_said(file, name))
        for rpc in calls:
            yield from _rpc(file, rpc, shown)
    if file.stream and file.stream.events:
        yield from ("", f"## Facts of stream `{file.stream.name}`", "", _stream(file.stream))
        for name in file.stream.events:
            shown.add(name)
            yield from _message(file, file.messages[name], "###")
    others = [message for name, message in file.messages.items() if name not in shown]
    if others or file.enums:
        yield from ("", "## Other types")
    for message in others:
        yield from _message(file, message, "###")
    for enum in file.enums:
        yield from ("", f"### {_short(enum.full_name, file)}", *_said(file, enum.full_name))
        yield from ("", "| value | |", "|---|---|")
        for value in enum.values:
            said = file.comments.get(f"{enum.full_name}.{value.name}", "")
            yield _row(f"`{value.name}` = {value.number}", said)


def _rpc(file: Described, rpc: Rpc, shown: set[str]) -> Iterator[str]:
    kind = _KINDS.get(rpc.kind or "", "Not answered: the caller streams")
    yield from ("", f"### {rpc.name}", *_said(file, rpc.full_name))
    yield from ("", f"{kind}. `{'/'.join(rpc.full_name.rsplit('.', 1))}`")
    for name in (rpc.request, rpc.response):
        if name in file.messages and name not in shown:
            shown.add(name)
            yield from _message(file, file.messages[name], "####")
        else:
            yield from ("", f"`{_short(name, file)}`: see there.")


def _stream(stream: Stream) -> str:
    versioned = "; each append expects a version of its key" if stream.versioned else ""
    return f"{stream.partitions} partitions{versioned}. Facts of one key stay in order."


def _message(file: Described, message: Any, heading: str) -> Iterator[str]:
    name = message.full_name
    yield from ("", f"{heading} {_short(name, file)}", *_said(file, name), "")
    if not message.fields:
        yield "No fields."
        return
    yield from ("| field | type | |", "|---|---|---|")
    for field in message.fields:
        notes = [file.comments.get(field.full_name, "")]
        if file.stream and field.name == file.stream.events.get(name):
            notes.insert(0, "The key.")
        if field.containing_oneof and not _optional(field):
            notes.insert(0, f"One of `{field.containing_oneof.name}`.")
        yield _row(f"`{field.name}`", f"`{_type(field, file)}`", " ".join(filter(None, notes)))


def _optional(field: Any) -> bool:
    """A field `optional T` is in a oneof of its own, which no contract has written."""
    group = field.containing_oneof
    return bool(group) and len(group.fields) == 1 and group.name == f"_{field.name}"


def _type(field: Any, file: Described) -> str:
    kind = field.message_type or field.enum_type
    if field.message_type and field.message_type.GetOptions().map_entry:
        key, value = (field.message_type.fields_by_name[name] for name in ("key", "value"))
        return f"map<{_type(key, file)}, {_type(value, file)}>"
    name = _short(kind.full_name, file) if kind else _SCALARS[field.type]
    if field.is_repeated:
        return f"repeated {name}"
    return f"optional {name}" if _optional(field) else name


def _short(full_name: str, file: Described) -> str:
    return full_name.removeprefix(f"{file.package}.")


def _said(file: Described, name: str) -> list[str]:
    return ["", file.comments[name]] if name in file.comments else []


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
