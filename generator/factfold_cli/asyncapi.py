"""The AsyncAPI 3 document of a service: its stream, and the streams that it reads."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf.descriptor import FieldDescriptor as F

from factfold_cli.declared import Stream
from factfold_cli.described import Described

# As protobuf's JSON form writes them.
_SCALARS: dict[int, dict[str, Any]] = {
    F.CPPTYPE_BOOL: {"type": "boolean"},
    F.CPPTYPE_DOUBLE: {"type": "number"},
    F.CPPTYPE_FLOAT: {"type": "number"},
    F.CPPTYPE_INT32: {"type": "integer"},
    F.CPPTYPE_UINT32: {"type": "integer", "minimum": 0},
    F.CPPTYPE_INT64: {"type": "string", "format": "int64"},
    F.CPPTYPE_UINT64: {"type": "string", "format": "uint64"},
    F.CPPTYPE_STRING: {"type": "string"},
}
_BYTES = {"type": "string", "contentEncoding": "base64"}
_WELL_KNOWN: dict[str, dict[str, Any]] = {
    "google.protobuf.Duration": {"type": "string"},
    "google.protobuf.Empty": {"type": "object"},
    "google.protobuf.FieldMask": {"type": "string"},
    "google.protobuf.ListValue": {"type": "array"},
    "google.protobuf.Struct": {"type": "object"},
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
}


def asyncapi(service: str, own: Sequence[Described], read: Mapping[str, Described]) -> str:
    """The document of `service`, JSON.

    What it sends are the events of its `own` streams, what it receives those of the files `read`,
    by the name of their service.
    """
    sent = [file for file in own if file.stream]
    received = [read[name] for name in sorted(read)]
    schemas: dict[str, Any] = {}
    messages = {
        event: _message(file, event, key, schemas)
        for file in (*sent, *received)
        for event, key in _stream(file).events.items()
    }
    document = {
        "asyncapi": "3.0.0",
        "info": {"title": service, "version": own[0].package.rpartition(".")[2]},
        "defaultContentType": "application/protobuf",
        "channels": {_stream(file).name: _channel(_stream(file)) for file in (*sent, *received)},
        "operations": {
            f"{verb}-{_stream(file).name}": _operation(_stream(file), action)
            for verb, action, files in (("append", "send", sent), ("read", "receive", received))
            for file in files
        },
        "components": {"messages": messages, "schemas": dict(sorted(schemas.items()))},
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _stream(file: Described) -> Stream:
    assert file.stream is not None
    return file.stream


def _channel(stream: Stream) -> dict[str, Any]:
    last = stream.partitions - 1
    return {
        "address": stream.name,
        "description": (
            f"A Redis stream for each partition p from 0 to {last}: {{{stream.name}/p}}:log. "
            "Facts of one key stay in order."
        ),
        "messages": {event: {"$ref": f"#/components/messages/{event}"} for event in stream.events},
        "x-partitions": stream.partitions,
        "x-versioned": stream.versioned,
    }


def _operation(stream: Stream, action: str) -> dict[str, Any]:
    channel = f"#/channels/{stream.name}"
    return {
        "action": action,
        "channel": {"$ref": channel},
        "messages": [{"$ref": f"{channel}/messages/{event}"} for event in stream.events],
    }


def _message(file: Described, event: str, key: str, schemas: dict[str, Any]) -> dict[str, Any]:
    descriptor = file.messages[event]
    return {
        "name": event,
        "title": descriptor.name,
        **_commented(file, event),
        "payload": _reference(descriptor, file, schemas),
        "x-key": key,
        "x-proto-file": file.path,
    }


def _reference(descriptor: Any, file: Described, schemas: dict[str, Any]) -> dict[str, Any]:
    """Where the schema of a message or an enum is; puts it there."""
    name = descriptor.full_name
    if name.startswith("google.protobuf."):
        return _WELL_KNOWN.get(name, {})
    if name not in schemas:
        schemas[name] = {}  # it may contain itself
        schemas[name] = (
            {
                "type": "object",
                **_commented(file, name),
                "properties": {
                    field.json_name: _property(field, file, schemas) for field in descriptor.fields
                },
            }
            if hasattr(descriptor, "fields")
            else {
                "type": "string",
                **_commented(file, name),
                "enum": [value.name for value in descriptor.values],
            }
        )
    return {"$ref": f"#/components/schemas/{name}"}


def _property(field: Any, file: Described, schemas: dict[str, Any]) -> dict[str, Any]:
    described = _commented(file, field.full_name)
    kind = field.message_type or field.enum_type
    if field.message_type and field.message_type.GetOptions().map_entry:
        value = _property(field.message_type.fields_by_name["value"], file, schemas)
        return {"type": "object", **described, "additionalProperties": value}
    if kind:
        one = _reference(kind, file, schemas)
    else:
        one = _BYTES if field.type == F.TYPE_BYTES else _SCALARS[field.cpp_type]
    if field.is_repeated:
        return {"type": "array", **described, "items": one}
    # Beside a $ref nothing else counts.
    return {**described, "allOf": [one]} if described and "$ref" in one else {**one, **described}


def _commented(file: Described, name: str) -> dict[str, str]:
    return {"description": file.comments[name]} if name in file.comments else {}
