"""Spans as OTLP has them. A call's costs the SDK's encoder a third of the whole call."""

from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1 import trace_pb2
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, SpanKind, StatusCode

from factfold_chassis.telemetry.spans import SCOPE

# By name, code, and whether there is a parent, which is elsewhere: few, as methods are.
_templates: dict[tuple[str, object, bool | None], trace_pb2.Span] = {}


def encode(spans: Sequence[ReadableSpan]) -> ExportTraceServiceRequest:
    """The same as the SDK's encoder does; those of answered calls are made from templates."""
    calls = {at: span for at, span in enumerate(spans) if _is_plain_call(span)}
    request = encode_spans([span for at, span in enumerate(spans) if at not in calls])
    if calls:
        whole = encode_spans([next(iter(calls.values()))])
        encoded = whole.resource_spans[0].scope_spans[0].spans
        del encoded[:]
        for span in calls.values():
            _copy(span, encoded.add())
        request.MergeFrom(whole)
    return request


def _is_plain_call(span: ReadableSpan) -> bool:
    """Whether it is the chassis' own, of a call that has not failed, with nothing added."""
    if span.kind is not SpanKind.SERVER or len(span.attributes or ()) != 3:
        return False
    scope, context = span.instrumentation_scope, span.context
    return bool(
        scope
        and scope.name == SCOPE
        and context
        and not context.trace_state
        and not (span.events or span.links or span.dropped_attributes)
        and span.status.status_code is StatusCode.UNSET
    )


def _copy(span: ReadableSpan, encoded: trace_pb2.Span) -> None:
    context, parent, attributes = span.context, span.parent, span.attributes
    assert isinstance(context, SpanContext)
    assert attributes
    key = span.name, attributes["rpc.response.status_code"], parent and parent.is_remote
    template = _templates.get(key)
    if template is None:
        whole = encode_spans([span])
        template = _templates[key] = whole.resource_spans[0].scope_spans[0].spans[0]
    encoded.CopyFrom(template)
    encoded.trace_id = context.trace_id.to_bytes(16)
    encoded.span_id = context.span_id.to_bytes(8)
    if parent:
        encoded.parent_span_id = parent.span_id.to_bytes(8)
    encoded.start_time_unix_nano = span.start_time or 0
    encoded.end_time_unix_nano = span.end_time or 0
