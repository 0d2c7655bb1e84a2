"""W3C trace context, read from and written to gRPC metadata and facts."""

import logging
from collections.abc import Iterable

from opentelemetry.context import Context
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    TraceState,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from factfold.v1.fact_pb2 import FactMeta

Metadata = Iterable[tuple[str, str | bytes]]

NOWHERE = Context()
_W3C = TraceContextTextMapPropagator()

# OpenTelemetry warns of each header that breaks a rule: a line in the log for whoever sends one.
for _name in ("opentelemetry.trace.span", "opentelemetry.trace.propagation.tracecontext"):
    logging.getLogger(_name).setLevel(logging.ERROR)


def from_metadata(metadata: Metadata) -> SpanContext | None:
    """The caller's span, or None if `metadata` names none that is valid."""
    headers = dict(metadata)
    return current(_W3C.extract(headers, NOWHERE)) if "traceparent" in headers else None


def to_metadata(context: SpanContext) -> list[tuple[str, str]]:
    """Nothing for an invalid context."""
    metadata: dict[str, str] = {}
    _W3C.inject(metadata, around(context))
    return list(metadata.items())


def from_fact(meta: FactMeta) -> SpanContext | None:
    """The span that sent the fact, or None if it was sent without one."""
    if len(meta.trace_id) != 16 or len(meta.span_id) != 8:
        return None
    trace_id, span_id = int.from_bytes(meta.trace_id), int.from_bytes(meta.span_id)
    state = TraceState.from_header([meta.trace_state]) if meta.trace_state else None
    context = SpanContext(trace_id, span_id, True, TraceFlags(meta.trace_flags & 0xFF), state)
    return context if context.is_valid else None


def to_fact(context: SpanContext, meta: FactMeta) -> None:
    """Leaves `meta` alone for an invalid context."""
    if context.is_valid:
        meta.trace_id = context.trace_id.to_bytes(16)
        meta.span_id = context.span_id.to_bytes(8)
        meta.trace_flags = int(context.trace_flags)
        if context.trace_state:
            meta.trace_state = context.trace_state.to_header()


def current(context: Context | None = None) -> SpanContext | None:
    """The current span, here or in `context`; None if there is none."""
    span = get_current_span(context).get_span_context()
    return span if span.is_valid else None


def around(parent: SpanContext | None) -> Context:
    """What a span is started in to become a child of `parent`, or without one a root."""
    return set_span_in_context(NonRecordingSpan(parent), NOWHERE) if parent else NOWHERE
