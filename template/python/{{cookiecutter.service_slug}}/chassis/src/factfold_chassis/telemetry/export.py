"""The OpenTelemetry SDK, set up as the standard `OTEL_*` variables ask.

Imported only if an exporter was asked for: the SDK takes longer to import than the server.
"""

import importlib
import os
import sys
import uuid
from collections.abc import Sequence
from threading import Lock
from typing import Any, Literal

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    ConsoleSpanExporter,
    SpanExporter,
    SpanExportResult,
)

from factfold_chassis.errors import SettingsError

Signal = Literal["TRACES", "METRICS"]


class Spans(BatchSpanProcessor):
    """A bounded queue of spans; refuses what does not fit, and knows how many were lost."""

    def __init__(self, exporter: SpanExporter):
        self._capacity = int(os.environ.get("OTEL_BSP_MAX_QUEUE_SIZE") or 2048)
        self._lock = Lock()
        self._ended = self._waiting = self._delivered = 0
        super().__init__(_Counted(exporter, self), self._capacity)

    @property
    def lost(self) -> int:
        return self._ended - self._waiting - self._delivered

    def on_end(self, span: ReadableSpan) -> None:
        with self._lock:
            fits = self._waiting < self._capacity
            self._ended += 1
            self._waiting += fits
        if fits:
            super().on_end(span)

    def exported(self, spans: int, delivered: bool) -> None:
        with self._lock:
            self._waiting -= spans
            self._delivered += spans if delivered else 0

    def abandon(self) -> None:
        """No more will be exported: what waits is lost."""
        with self._lock:
            self._waiting = 0


class _Counted(SpanExporter):
    def __init__(self, exporter: SpanExporter, spans: Spans):
        self._exporter = exporter
        self._spans = spans

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE
        try:
            result = self._exporter.export(spans)
        finally:
            self._spans.exported(len(spans), result is SpanExportResult.SUCCESS)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()


def traces(service_name: str, exporters: list[str]) -> tuple[TracerProvider, list[Spans]]:
    """The sampler is the SDK's, from `OTEL_TRACES_SAMPLER`."""
    provider = TracerProvider(resource=_resource(service_name), shutdown_on_exit=False)
    console = ConsoleSpanExporter(out=sys.stderr)
    try:
        queues = [Spans(_otlp("TRACES") if n == "otlp" else console) for n in exporters]
    except ValueError as error:
        raise SettingsError(f"an OTEL_BSP_… variable cannot be used: {error}") from None
    for queue in queues:
        provider.add_span_processor(queue)
    return provider, queues


def metrics(service_name: str, exporters: list[str]) -> MeterProvider:
    console = ConsoleMetricExporter(out=sys.stderr)
    readers = [
        PeriodicExportingMetricReader(_otlp("METRICS") if name == "otlp" else console)
        for name in exporters
    ]
    return MeterProvider(readers, _resource(service_name), shutdown_on_exit=False)


def _resource(service_name: str) -> Resource:
    """`OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` win over the service's own name."""
    given = Resource.create({"service.instance.id": str(uuid.uuid4())})
    if str(given.attributes["service.name"]).startswith("unknown_service"):
        return given.merge(Resource({"service.name": service_name}))
    return given


def _otlp(signal: Signal) -> Any:
    variable = f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL"
    protocol = os.environ.get(variable) or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL") or "grpc"
    package = {"grpc": "grpc", "http/protobuf": "http"}.get(protocol)
    if package is None:
        raise SettingsError(
            f"the OTLP protocol {protocol!r} is unknown: write grpc or http/protobuf"
        )
    name = f"opentelemetry.exporter.otlp.proto.{package}"
    try:
        if signal == "TRACES":
            return importlib.import_module(f"{name}.trace_exporter").OTLPSpanExporter()
        return importlib.import_module(f"{name}.metric_exporter").OTLPMetricExporter()
    except ImportError:
        raise SettingsError(
            f"the OTLP protocol {protocol} needs a package that is not installed: "
            f"install opentelemetry-exporter-otlp-proto-{package}"
        ) from None
