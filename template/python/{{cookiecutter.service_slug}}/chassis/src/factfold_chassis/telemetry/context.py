"""W3C trace context, read from and written to gRPC metadata and facts."""

import re
from collections.abc import Iterable

from factfold.v1.fact_pb2 import FactMeta
from opentelemetry.trace import SpanContext, TraceFlags, TraceState

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")

Metadata = Iterable[tuple[str, str | bytes]]


def from_metadata(metadata: Metadata) -> SpanContext | None:
    """The caller's span, or None if `metadata` names none that is valid."""
    parent, states = "", []
    for name, value in metadata:
        if name == "traceparent":
            parent = str(value)
        elif name == "tracestate":
            states.append(str(value))
    found = _TRACEPARENT.fullmatch(parent) if parent else None
    if found is None or found[1] == "ff" or (found[1] == "00" and found[5]):
        return None
    return _context(int(found[2], 16), int(found[3], 16), int(found[4], 16), states)


def to_metadata(context: SpanContext) -> list[tuple[str, str]]:
    """Nothing for an invalid context."""
    if not context.is_valid:
        return []
    ids = f"{context.trace_id:032x}-{context.span_id:016x}"
    state = context.trace_state.to_header()
    parent = ("traceparent", f"00-{ids}-{int(context.trace_flags):02x}")
    return [parent, ("tracestate", state)] if state else [parent]


def from_fact(meta: FactMeta) -> SpanContext | None:
    """The span that sent the fact, or None if it was sent without one."""
    if len(meta.trace_id) != 16 or len(meta.span_id) != 8:
        return None
    trace_id, span_id = int.from_bytes(meta.trace_id), int.from_bytes(meta.span_id)
    states = [meta.trace_state] if meta.trace_state else []
    return _context(trace_id, span_id, meta.trace_flags & 0xFF, states)


def to_fact(context: SpanContext, meta: FactMeta) -> None:
    """Leaves `meta` alone for an invalid context."""
    if context.is_valid:
        meta.trace_id = context.trace_id.to_bytes(16)
        meta.span_id = context.span_id.to_bytes(8)
        meta.trace_flags = int(context.trace_flags)
        if context.trace_state:
            meta.trace_state = context.trace_state.to_header()


def _context(trace_id: int, span_id: int, flags: int, states: list[str]) -> SpanContext | None:
    state = TraceState.from_header(states) if states else None
    context = SpanContext(trace_id, span_id, True, TraceFlags(flags), state)
    return context if context.is_valid else None
