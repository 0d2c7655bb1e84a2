"""The OpenTelemetry SDK, set up as the standard `OTEL_*` variables ask.

Imported only if an exporter was asked for: the SDK takes longer to import than the server.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
import uuid
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    ConsoleMetricExporter,
    MetricReader,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    ConsoleSpanExporter,
    SpanExporter,
    SpanExportResult,
)

from factfold_chassis.errors import SettingsError

log = logging.getLogger("factfold.telemetry")


class CountingProcessor(BatchSpanProcessor):
    """A bounded queue that refuses what does not fit and knows how much was lost."""

    def __init__(self, exporter: SpanExporter, on_drop: Callable[[int], None]) -> None:
        self._capacity = _number("OTEL_BSP_MAX_QUEUE_SIZE", 2048)
        self._on_drop = on_drop
        self._waiting = 0
        self._lock = Lock()
        batch = min(_number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512), self._capacity)
        super().__init__(
            _CountingExporter(exporter, self), self._capacity, max_export_batch_size=batch
        )

    def on_end(self, span: ReadableSpan) -> None:
        if not (span.context and span.context.trace_flags.sampled):
            return
        with self._lock:
            fits = self._waiting < self._capacity
            self._waiting += fits
        if fits:
            super().on_end(span)
        else:
            self._on_drop(1)

    def exported(self, spans: int, lost: bool) -> None:
        with self._lock:
            self._waiting -= spans
        if lost:
            self._on_drop(spans)

    def abandon(self) -> None:
        """Count what is still waiting as lost."""
        with self._lock:
            waiting, self._waiting = self._waiting, 0
        if waiting > 0:
            self._on_drop(waiting)


class _CountingExporter(SpanExporter):
    def __init__(self, exporter: SpanExporter, processor: CountingProcessor) -> None:
        self._exporter = exporter
        self._processor = processor

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE
        try:
            result = self._exporter.export(spans)
        finally:
            self._processor.exported(len(spans), result is not SpanExportResult.SUCCESS)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()


def tracer_provider(
    resource: Resource, exporters: list[str], on_drop: Callable[[int], None]
) -> tuple[TracerProvider, list[CountingProcessor]]:
    """The sampler is the SDK's, from `OTEL_TRACES_SAMPLER`."""
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    processors = []
    for name in exporters:
        exporter = _otlp("TRACES") if name == "otlp" else ConsoleSpanExporter(out=sys.stderr)
        processors.append(CountingProcessor(exporter, on_drop))
        provider.add_span_processor(processors[-1])
    return provider, processors


def meter_provider(resource: Resource, exporters: list[str]) -> MeterProvider:
    readers: list[MetricReader] = []
    for name in exporters:
        exporter = _otlp("METRICS") if name == "otlp" else ConsoleMetricExporter(out=sys.stderr)
        readers.append(PeriodicExportingMetricReader(exporter))
    return MeterProvider(readers, resource, shutdown_on_exit=False)


def resource(service_name: str) -> Resource:
    """`OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` win over the service's own name."""
    own = {"service.name": service_name, "service.instance.id": str(uuid.uuid4())}
    given = Resource.create().attributes
    named = os.environ.get("OTEL_SERVICE_NAME") or "service.name=" in os.environ.get(
        "OTEL_RESOURCE_ATTRIBUTES", ""
    )
    return Resource(own).merge(
        Resource({k: v for k, v in given.items() if named or k != "service.name"})
    )


def _otlp(signal: str) -> Any:
    variable = f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL"
    protocol = os.environ.get(variable) or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL") or "grpc"
    package = {"grpc": "grpc", "http/protobuf": "http"}.get(protocol)
    if package is None:
        raise SettingsError(
            f"the OTLP protocol {protocol!r} is unknown: write grpc or http/protobuf"
        )
    module, kind = ("trace", "Span") if signal == "TRACES" else ("metric", "Metric")
    try:
        found = importlib.import_module(
            f"opentelemetry.exporter.otlp.proto.{package}.{module}_exporter"
        )
    except ImportError:
        raise SettingsError(
            f"the OTLP protocol {protocol} needs a package that is not installed: "
            f"install opentelemetry-exporter-otlp-proto-{package}"
        ) from None
    return getattr(found, f"OTLP{kind}Exporter")()


def _number(variable: str, default: int) -> int:
    try:
        return max(1, int(os.environ.get(variable) or default))
    except ValueError:
        log.warning("a number is expected, the default is used", extra={"variable": variable})
        return default
