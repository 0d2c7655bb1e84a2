"""An OTLP trace receiver in this process, and the traces it has got."""

import threading
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2

MOST_SPANS = 20_000
_SERVICE = "opentelemetry.proto.collector.trace.v1.TraceService"
_LARGEST_MESSAGE = 64 * 2**20


@dataclass(frozen=True)
class Span:
    """Ids are lower-case hex, `parent_span_id` empty at a root; times are Unix nanoseconds."""

    trace_id: str
    span_id: str
    parent_span_id: str
    service: str
    name: str
    kind: str
    links: tuple[tuple[str, str], ...]
    attributes: dict[str, Any]
    start: int
    end: int
    failed: bool

    def document(self) -> dict[str, Any]:
        links = [{"trace_id": trace_id, "span_id": span_id} for trace_id, span_id in self.links]
        return {
            "service": self.service,
            "name": self.name,
            "kind": self.kind,
            "span_id": self.span_id,
            "parent_span_id": self.parent_span_id,
            "links": links,
            "attributes": self.attributes,
            "start_unix_nano": self.start,
            "end_unix_nano": self.end,
        }


@dataclass
class Trace:
    """The spans of one trace, whichever services they came from."""

    trace_id: str
    spans: dict[str, Span] = field(default_factory=dict)

    def in_order(self) -> list[Span]:
        return sorted(self.spans.values(), key=lambda span: (span.start, span.end))

    def orphans(self) -> list[Span]:
        """Spans whose parent has not been received."""
        return [
            span
            for span in self.in_order()
            if span.parent_span_id and span.parent_span_id not in self.spans
        ]

    def document(self) -> dict[str, Any]:
        return {
            "trace_id": self.trace_id,
            "spans": [span.document() for span in self.in_order()],
        }


class TraceStore:
    """Holds at most `most` spans; the traces that began first go first. Safe in threads."""

    def __init__(self, most: int = MOST_SPANS) -> None:
        self._most = most
        self._count = 0
        self._traces: dict[str, Trace] = {}
        self._lock = threading.Lock()

    def add(self, spans: Iterable[Span]) -> None:
        with self._lock:
            for span in spans:
                trace = self._traces.setdefault(span.trace_id, Trace(span.trace_id))
                self._count += span.span_id not in trace.spans
                trace.spans[span.span_id] = span
            while self._count > self._most:
                oldest = self._traces.pop(next(iter(self._traces)))
                self._count -= len(oldest.spans)

    def get(self, trace_id: str) -> Trace:
        """What has come of the trace so far: a copy."""
        with self._lock:
            found = self._traces.get(trace_id)
            return Trace(trace_id, dict(found.spans) if found else {})

    def trace_ids(self) -> list[str]:
        with self._lock:
            return list(self._traces)


class TraceReceiver(AbstractAsyncContextManager["TraceReceiver"]):
    """Serves OTLP over gRPC at `endpoint`, on a free port of loopback, into `store`."""

    def __init__(self) -> None:
        self.store = TraceStore()
        self.endpoint = ""

    async def __aenter__(self) -> "TraceReceiver":
        self._server = grpc.aio.server(
            options=[("grpc.max_receive_message_length", _LARGEST_MESSAGE)]
        )
        export = grpc.unary_unary_rpc_method_handler(
            self._export,
            request_deserializer=ExportTraceServiceRequest.FromString,
            response_serializer=ExportTraceServiceResponse.SerializeToString,
        )
        handler = grpc.method_handlers_generic_handler(_SERVICE, {"Export": export})
        self._server.add_generic_rpc_handlers((handler,))
        self.endpoint = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        await self._server.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._server.stop(grace=0.5)

    async def _export(
        self, request: ExportTraceServiceRequest, context: object
    ) -> ExportTraceServiceResponse:
        self.store.add(_spans(request))
        return ExportTraceServiceResponse()


def _spans(request: ExportTraceServiceRequest) -> Iterable[Span]:
    for resource in request.resource_spans:
        service = str(_attributes(resource.resource.attributes).get("service.name", "unknown"))
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Span(
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_span_id=span.parent_span_id.hex(),
                    service=service,
                    name=span.name,
                    kind=trace_pb2.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
                    links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
                    attributes=_attributes(span.attributes),
                    start=span.start_time_unix_nano,
                    end=span.end_time_unix_nano,
                    failed=span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
                )


def _attributes(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return _attributes(value.kvlist_value.values)
    if kind == "bytes_value":
        return value.bytes_value.hex()
    return getattr(value, kind)
