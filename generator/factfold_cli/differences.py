"""What is different between two versions of a contract, in words."""

from collections.abc import Iterable
from typing import Any

from factfold_cli.declared import Declared, rpcs

_REPEATED, _MESSAGE = 3, 11  # of FieldDescriptorProto
_KINDS = {"command": "a command", "query": "a query", "watch": "a watch", None: "not supported"}
_PASSED_OVER = "; facts of it that are in the log are passed over, with a warning"

# What an element is and what it is like, by its owner and its own name or number.
Elements = dict[tuple[str, str | int], tuple[str, str]]


def differences(
    before: Declared, after: Declared, old: Iterable[str], new: Iterable[str]
) -> list[str]:
    """One line on each element that differs between the files `old` and the files `new`.

    Of a message or an enum that is new or gone, nothing is said of what it consists of.
    """
    was, now = _elements(before, old), _elements(after, new)
    lines = []
    for key in sorted(was.keys() | now.keys(), key=lambda key: (key[0], str(key[1]).zfill(10))):
        owner, own = key
        if own != "" and ((owner, "") in was) != ((owner, "") in now):
            continue
        if key not in was:
            lines.append(f"new: {_said(*now[key])}")
            continue
        head, body = was[key]
        # Of a whole message, event, enum or RPC that goes, what it was like says nothing more.
        said = head if own == "" else _said(head, body)
        if key not in now:
            lines.append(f"gone: {said}{_lost(head)}")
        elif now[key][0] != head:
            lines.append(f"changed: {said} is now {now[key][0]}{_lost(head)}")
        elif now[key] != was[key]:
            lines.append(f"changed: {_said(head, body)} is now {now[key][1]}")
    return lines


def _said(head: str, body: str) -> str:
    return f"{head}: {body}" if body else head


def _lost(head: str) -> str:
    return _PASSED_OVER if head.startswith("event ") else ""


def _elements(known: Declared, paths: Iterable[str]) -> Elements:
    found: Elements = {}
    for path in paths:
        file = known.files[path]
        if stream := known.streams.get(path):
            versioned = ", versioned" if stream.versioned else ""
            partitions = f"{stream.partitions} partitions{versioned}"
            found["", stream.name] = f"stream {stream.name}", partitions
        for rpc in rpcs(file):
            form = f"({rpc.request}) returns ({rpc.response}), {_KINDS[rpc.kind]}"
            found[rpc.full_name, ""] = f"rpc {rpc.full_name}", form
        for each in file.enum_type:
            _add_enum(found, file.package, each)
    for name, (path, message) in known.messages.items():
        if path not in paths or message.options.map_entry:
            continue
        key = next((s.events[name] for s in known.streams.values() if name in s.events), None)
        found[name, ""] = (
            (f"message {name}", "") if key is None else (f"event {name}", f"its key is {key}")
        )
        for field in message.field:
            found[name, field.number] = f"field of {name}", _field(known, message, field)
        for each in message.enum_type:
            _add_enum(found, name, each)
    return found


def _add_enum(found: Elements, prefix: str, enum: Any) -> None:
    name = f"{prefix}.{enum.name}".strip(".")
    found[name, ""] = f"enum {name}", ""
    for value in enum.value:
        found[name, value.number] = f"value of {name}", f"{value.name} = {value.number}"


def _field(known: Declared, message: Any, field: Any) -> str:
    kind = _type(known, field)
    if field.label == _REPEATED and not kind.startswith("map<"):
        kind = f"repeated {kind}"
    within = ""
    if field.proto3_optional:
        kind = f"optional {kind}"
    elif field.HasField("oneof_index"):
        within = f" in oneof {message.oneof_decl[field.oneof_index].name}"
    return f"{kind} {field.name} = {field.number}{within}"


def _type(known: Declared, field: Any) -> str:
    name = field.type_name.strip(".")
    if field.type == _MESSAGE and name in known.messages:
        entry = known.messages[name][1]
        if entry.options.map_entry:
            return f"map<{', '.join(_type(known, each) for each in entry.field)}>"
    return name or str(type(field).Type.Name(field.type)).removeprefix("TYPE_").lower()
