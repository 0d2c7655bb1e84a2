"""Metrics, on their way to a collector or for Prometheus to fetch."""

import os
from typing import Literal

from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource


def metrics(
    exporter: Literal["otlp", "prometheus"], resource: Resource, process: int | None
) -> MeterProvider | None:
    """None if there is nowhere for them to go. `process`: which one of several it is."""
    reader = _pushed() if exporter == "otlp" else _scraped(process)
    if reader is None:
        return None
    # Unless they are asked for: looking for one costs each measurement more than counting it.
    exemplars = (
        None if os.environ.get("OTEL_METRICS_EXEMPLAR_FILTER") else AlwaysOffExemplarFilter()
    )
    return MeterProvider([reader], resource, shutdown_on_exit=False, exemplar_filter=exemplars)


# Each exporter takes its time to import.


def _pushed() -> MetricReader:
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter

    return PeriodicExportingMetricReader(OTLPMetricExporter())


def _scraped(process: int | None) -> MetricReader | None:
    from factfold_chassis.telemetry.scrape import scraped

    return scraped(process)
