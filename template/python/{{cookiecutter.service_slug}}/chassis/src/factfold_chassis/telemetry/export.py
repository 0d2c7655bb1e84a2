"""Spans on their way to a collector, as the standard `OTEL_*` variables ask."""

import os
from collections.abc import Sequence
from threading import Lock

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult

from factfold_chassis.errors import SettingsError
from factfold_chassis.telemetry.encode import encode


class Spans(BatchSpanProcessor):
    """A bounded queue of spans on their way out; `dropped` counts those that never arrive."""

    def __init__(self) -> None:
        self.dropped = 0
        self._waiting = 0
        self._capacity = int(os.environ.get("OTEL_BSP_MAX_QUEUE_SIZE") or 2048)
        self._lock = Lock()
        super().__init__(_Exporter(self), self._capacity)

    def on_end(self, span: ReadableSpan) -> None:
        with self._lock:
            fits = self._waiting < self._capacity
            self._waiting += fits
            self.dropped += not fits
        if fits:
            super().on_end(span)

    def left(self, spans: int, *, delivered: bool) -> None:
        with self._lock:
            spans = min(spans, self._waiting)  # none any more once they were abandoned
            self._waiting -= spans
            self.dropped += 0 if delivered else spans

    def abandon(self) -> None:
        """The process ends: what waits is lost."""
        self.left(self._waiting, delivered=False)


class _Exporter(OTLPSpanExporter):
    def __init__(self, queue: Spans):
        super().__init__()
        self._queue = queue

    def _translate_data(self, data: Sequence[ReadableSpan]) -> ExportTraceServiceRequest:
        return encode(data)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE
        try:
            result = super().export(spans)
        finally:
            self._queue.left(len(spans), delivered=result is SpanExportResult.SUCCESS)
        return result


def traces(resource: Resource) -> tuple[TracerProvider, Spans]:
    """The sampler is the SDK's, from `OTEL_TRACES_SAMPLER`."""
    try:
        spans = Spans()
    except ValueError as error:
        raise SettingsError(f"an OTEL_BSP_… variable cannot be used: {error}") from None
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(spans)
    return provider, spans
