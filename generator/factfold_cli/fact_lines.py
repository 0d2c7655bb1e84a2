"""How a fact looks: as a line for people, as a JSON document, as a CloudEvent."""

import base64
import json
import re
from typing import Any

from rich.text import Text

from factfold_cli.decoding import Events, NotDecoded, text
from factfold_cli.facts import NAMES, Fact, instant, known_meta
from factfold_cli.printable import printable

_HEX_BYTES = 64
_ATTRIBUTE = re.compile(r"[a-z0-9]{1,20}")
_PROTOBUF, _JSON = "application/protobuf", "application/json"


def columns(fact: Fact, events: Events) -> list[tuple[str, str]]:
    """Time, position, type, key and event, each fit to be printed, and its colour."""
    if fact.flaw:
        rest = {name: value for name, value in fact.fields.items() if name not in NAMES[:2]}
        fields = ", ".join(f"{text(name)}={_hex(value)}" for name, value in rest.items())
        said = (f"no fact: {fact.flaw}" + f"; {fields}" * bool(fields), "red")
    else:
        said = _event(fact, events)
    found = [
        (milliseconds(fact.ms), "dim"),
        (fact.short_position, "cyan"),
        (fact.type.rpartition(".")[2], "bold"),
        (fact.key, "yellow"),
        said,
    ]
    return [(printable(column), colour) for column, colour in found]


def _event(fact: Fact, events: Events) -> tuple[str, str]:
    try:
        event, unknown = events.decode(fact.type, fact.fields[b"data"])
    except NotDecoded as reason:
        # One that holds for all facts is said once, not with each.
        why = "" if events.problem else f", {reason}"
        return f"not decoded{why}: {_hex(fact.fields[b'data'])}", "red"
    more = f"  and unknown fields: {', '.join(map(str, unknown))}" if unknown else ""
    return _compact(event) + more, ""


def line(fact: Fact, events: Events) -> str:
    """For programs that read lines: with tabs between the columns."""
    return "\t".join(column for column, _ in columns(fact, events))


def coloured(fact: Fact, events: Events) -> Text:
    """For a screen."""
    return Text("  ").join(Text(column, colour) for column, colour in columns(fact, events))


def document(fact: Fact, events: Events) -> dict[str, Any]:
    """All that is known of it, as JSON values; `data_hex` has what is not decoded whole."""
    raw = fact.fields.get(b"data", b"")
    shown: dict[str, Any] = {
        "position": fact.position,
        "appended_at": milliseconds(fact.ms) or None,
        "type": fact.type,
        "key": fact.key,
        "meta": _meta(fact),
        "data": None,
        "data_hex": None,
        "not_decoded": fact.flaw or None,
        "unknown_fields": [],
        "other_fields": {
            text(name): text(value) for name, value in fact.fields.items() if name not in NAMES
        },
    }
    if not fact.flaw:
        try:
            shown["data"], shown["unknown_fields"] = events.decode(fact.type, raw)
        except NotDecoded as reason:
            shown["not_decoded"] = str(reason)
    if shown["not_decoded"] or shown["unknown_fields"]:
        shown["data_hex"] = raw.hex()
    return shown


def _meta(fact: Fact) -> dict[str, Any]:
    if fact.meta is not None:
        return known_meta(fact.meta)
    return {"hex": fact.fields[b"meta"].hex()} if b"meta" in fact.fields else {}


def cloud_event(fact: Fact, events: Events) -> dict[str, Any] | None:
    """The fact as docs/wire-format.md maps it; None for what is no fact, or has no source.

    Its data is JSON if the contract knows all of it, else the bytes as they are.
    """
    if fact.flaw or not fact.meta.source or not fact.type:
        return None
    meta = known_meta(fact.meta)
    shown = {
        "specversion": "1.0",
        "id": meta["id"],
        "source": meta["source"],
        "type": fact.type,
        "subject": fact.key,
        "partitionkey": fact.key,
        "time": meta.get("time"),
        "sequence": str(fact.n),
        "traceparent": _traceparent(fact.meta),
        "tracestate": meta.get("trace_state"),
        "causationid": meta.get("causation_id"),
    }
    for name, value in meta.get("extensions", {}).items():
        # An extension takes the place of no attribute of the specification's or of ours.
        if _ATTRIBUTE.fullmatch(name) and name not in {*shown, "datacontenttype", "data"}:
            shown[name] = value
    raw = fact.fields[b"data"]
    shown |= {"datacontenttype": _PROTOBUF, "data_base64": base64.b64encode(raw).decode()}
    try:
        event, unknown = events.decode(fact.type, raw)
    except NotDecoded:
        unknown = [0]
    if not unknown:
        del shown["data_base64"]
        shown |= {"datacontenttype": _JSON, "data": event}
    return {name: value for name, value in shown.items() if value is not None}


def _traceparent(meta: Any) -> str | None:
    if len(meta.trace_id) != 16 or len(meta.span_id) != 8:
        return None
    return f"00-{meta.trace_id.hex()}-{meta.span_id.hex()}-{meta.trace_flags & 0xFF:02x}"


def milliseconds(ms: int) -> str:
    """UTC, always with milliseconds, so that a column of them is straight."""
    if not (at := instant(ms * 1_000_000)):
        return ""
    return f"{at.rstrip('Z').partition('.')[0]}.{ms % 1000:03d}Z"


def _compact(event: Any) -> str:
    return json.dumps(event, ensure_ascii=False, separators=(",", ":"))


def _hex(raw: bytes) -> str:
    more = len(raw) - _HEX_BYTES
    return raw[:_HEX_BYTES].hex() + (f"… and {more} bytes more" if more > 0 else "")
