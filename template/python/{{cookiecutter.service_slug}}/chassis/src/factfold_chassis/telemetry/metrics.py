"""The chassis' metrics. Exists only if an exporter was asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

from opentelemetry.metrics import CallbackOptions, Counter, Histogram, Meter, Observation

from factfold_chassis.telemetry import names

Lag = Callable[[], Iterable[tuple[str, int, int]]]
LagKind = Literal["view", "reaction"]
Attributes = dict[str, str | int | bool | float]

_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]


class Metrics:
    """Instruments by name, made when first used. Durations are in seconds."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._counters: dict[str, Counter] = {}
        self._histograms: dict[str, Histogram] = {}
        self._lags: dict[str, list[tuple[str, Lag]]] = {}

    def duration(self, name: str, seconds: float, attributes: Attributes) -> None:
        histogram = self._histograms.get(name)
        if histogram is None:
            histogram = self._meter.create_histogram(
                name, unit="s", explicit_bucket_boundaries_advisory=_SECONDS
            )
            self._histograms[name] = histogram
        histogram.record(seconds, attributes)

    def count(self, name: str, amount: int, attributes: Attributes) -> None:
        counter = self._counters.get(name)
        if counter is None:
            counter = self._counters[name] = self._meter.create_counter(name, unit="1")
        counter.add(amount, attributes)

    def lag(self, kind: LagKind, name: str, read: Lag) -> None:
        sources = self._lags.get(kind)
        if sources is None:
            sources = self._lags[kind] = []

            def observe(_: CallbackOptions) -> Iterable[Observation]:
                for source, facts in self._lags[kind]:
                    for stream, partition, behind in facts():
                        yield Observation(
                            behind,
                            {
                                f"factfold.{kind}.name": source,
                                names.MESSAGING_DESTINATION: stream,
                                names.MESSAGING_PARTITION: str(partition),
                            },
                        )

            self._meter.create_observable_gauge(
                f"factfold.{kind}.lag", callbacks=[observe], unit="{fact}"
            )
        sources.append((name, read))
