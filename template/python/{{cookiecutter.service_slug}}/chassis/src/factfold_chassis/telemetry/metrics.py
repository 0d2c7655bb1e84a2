"""The chassis' metrics. They exist only if an exporter was asked for."""

from collections.abc import Callable, Iterable
from typing import Literal

from opentelemetry.metrics import CallbackOptions, Counter, Histogram, Meter, Observation

# Stream, partition, and how many facts behind.
Lag = Callable[[], Iterable[tuple[str, int, int]]]
Attributes = dict[str, str | int | bool | float]

_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]


class Metrics:
    """Instruments by name, made when first used."""

    def __init__(self, meter: Meter):
        self._meter = meter
        self._counters: dict[str, Counter] = {}
        self._histograms: dict[str, Histogram] = {}
        self._lags: dict[str, list[tuple[str, Lag]]] = {}

    def duration(self, name: str, seconds: float, attributes: Attributes) -> None:
        if name not in self._histograms:
            self._histograms[name] = self._meter.create_histogram(
                name, unit="s", explicit_bucket_boundaries_advisory=_SECONDS
            )
        self._histograms[name].record(seconds, attributes)

    def count(self, name: str, amount: int, attributes: Attributes) -> None:
        if name not in self._counters:
            self._counters[name] = self._meter.create_counter(name, unit="1")
        self._counters[name].add(amount, attributes)

    def lag(self, kind: Literal["view", "reaction"], name: str, read: Lag) -> None:
        if kind not in self._lags:
            sources = self._lags[kind] = []

            def observe(_: CallbackOptions) -> Iterable[Observation]:
                for source, facts in sources:
                    for stream, partition, behind in facts():
                        attributes: Attributes = {
                            f"factfold.{kind}.name": source,
                            "messaging.destination.name": stream,
                            "messaging.destination.partition.id": str(partition),
                        }
                        yield Observation(behind, attributes)

            self._meter.create_observable_gauge(f"factfold.{kind}.lag", [observe], unit="{fact}")
        self._lags[kind].append((name, read))
