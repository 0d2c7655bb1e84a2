"""gRPC calls to services that this program has no stubs of, each under a CLIENT span."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import SpanKind, StatusCode, format_span_id, format_trace_id
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from factfold_cli.errors import Failed
from factfold_cli.services import CHANNEL_OPTIONS
from factfold_cli.traces import Span, TraceStore

SERVICE = "factfold-demo"
_SECONDS = 10.0


@dataclass(frozen=True)
class Answer:
    """`fields` as in protobuf JSON, with the names of the contract; `method` is pkg.Svc/Name."""

    method: str
    fields: Mapping[str, Any]
    position: str
    trace_id: str


class Client:
    """Knows one service by server reflection. Blocking; for threads."""

    def __init__(self, address: str, traces: TraceStore) -> None:
        self._address = address
        self._channel = grpc.insecure_channel(address, options=CHANNEL_OPTIONS)
        database = ProtoReflectionDescriptorDatabase(self._channel)
        pool = DescriptorPool(database)
        self._methods: dict[str, MethodDescriptor] = {}
        for name in database.get_services():
            if not name.startswith("grpc."):
                self._methods |= pool.FindServiceByName(name).methods_by_name
        provider = TracerProvider(
            sampler=ALWAYS_ON, resource=Resource({"service.name": SERVICE}), shutdown_on_exit=False
        )
        provider.add_span_processor(SimpleSpanProcessor(_ToStore(traces)))
        self._tracer = provider.get_tracer("factfold")

    def close(self) -> None:
        self._channel.close()

    def call(self, method: str, fields: Mapping[str, Any], at_least: str = "") -> Answer:
        """One traced call, which sees what was written up to the position `at_least`.

        Raises Failed.
        """
        path = self._path(method)
        host, _, port = self._address.rpartition(":")
        attributes: dict[str, str | int] = {
            "rpc.system.name": "grpc",
            "rpc.method": path,
            "server.address": host,
            "server.port": int(port),
        }
        with self._tracer.start_as_current_span(path, None, SpanKind.CLIENT, attributes) as span:
            metadata: dict[str, str] = {"factfold-at-least": at_least} if at_least else {}
            TraceContextTextMapPropagator().inject(metadata)
            answer, trailers = self._send(method, fields, metadata)
            span.set_attribute("rpc.response.status_code", "OK")
            trace_id = format_trace_id(span.get_span_context().trace_id)
        return Answer(path, answer, trailers.get("factfold-position", ""), trace_id)

    def peek(self, method: str, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        """A call that leaves no trace: its caller has decided that it is not sampled."""
        context = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-00"
        return self._send(method, fields, {"traceparent": context})[0]

    def _path(self, method: str) -> str:
        return f"{self._methods[method].containing_service.full_name}/{method}"

    def _send(
        self, method: str, fields: Mapping[str, Any], metadata: Mapping[str, str]
    ) -> tuple[Mapping[str, Any], dict[str, str]]:
        described = self._methods[method]
        send: grpc.UnaryUnaryMultiCallable[Message, Message] = self._channel.unary_unary(
            f"/{self._path(method)}",
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=GetMessageClass(described.output_type).FromString,
        )
        request = ParseDict(dict(fields), GetMessageClass(described.input_type)())
        try:
            message, call = send.with_call(
                request, timeout=_SECONDS, metadata=tuple(metadata.items())
            )
        except grpc.RpcError as error:
            raise Failed(f"{method} of {self._address}: {_reason(error)}") from None
        trailers = {key: str(value) for key, value in call.trailing_metadata() or ()}
        return MessageToDict(message, preserving_proto_field_name=True), trailers


def _reason(error: grpc.RpcError) -> str:
    if isinstance(error, grpc.Call):
        return f"{error.code().name}, {error.details()}"
    return str(error)


class _ToStore(SpanExporter):
    """What the demo itself traces goes straight to where the services' spans arrive."""

    def __init__(self, traces: TraceStore) -> None:
        self._traces = traces

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self._traces.add(map(_span, spans))
        return SpanExportResult.SUCCESS


def _span(span: ReadableSpan) -> Span:
    context = span.get_span_context()
    assert context is not None
    return Span(
        trace_id=format_trace_id(context.trace_id),
        span_id=format_span_id(context.span_id),
        parent_span_id=format_span_id(span.parent.span_id) if span.parent else "",
        service=SERVICE,
        name=span.name,
        kind=span.kind.name,
        links=(),
        attributes=dict(span.attributes or {}),
        start=span.start_time or 0,
        end=span.end_time or 0,
        failed=span.status.status_code is StatusCode.ERROR,
    )
