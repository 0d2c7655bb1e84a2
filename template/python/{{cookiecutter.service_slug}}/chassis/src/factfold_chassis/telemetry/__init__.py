"""Traces and metrics of the chassis, on the RPC path and on the log path.

The sampling decision comes first: what is not sampled carries its context on and does no
other work. Nothing is exported unless the `OTEL_*` variables ask for it; without an exporter
a caller's trace is still handed on, in facts and in calls. Names and attributes are those of
the semantic conventions 1.44.0 for RPC and messaging, set here for all languages alike.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Literal

from opentelemetry import metrics as otel_metrics
from opentelemetry import trace as otel_trace
from opentelemetry.context import attach
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    set_span_in_context,
)

from factfold.v1.fact_pb2 import FactMeta
from factfold_chassis.log.read import Lag
from factfold_chassis.telemetry.asked import asked
from factfold_chassis.telemetry.context import (
    Metadata,
    around,
    current,
    from_fact,
    from_metadata,
)
from factfold_chassis.telemetry.spans import (
    SCOPE,
    Attributes,
    ClientCall,
    NotTraced,
    Process,
    Send,
    ServerCall,
    fact_id,
)

# The SDK and its exporter take as long to import as gRPC: only who asks for them waits for them.
if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

    from factfold_chassis.telemetry.export import Spans

__all__ = ["ClientCall", "Process", "Replay", "Send", "ServerCall", "Telemetry"]

SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"
MAX_LINKS = 128
BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]  # seconds

Replay = Process
Kind = Literal["view", "reaction"]
_LABELS = {
    "view": "factfold.view.name",
    "reaction": "factfold.reaction.name",
    "stream": "messaging.destination.name",
}
ReadLag = Callable[[], Iterable[Lag]]

log = logging.getLogger("factfold.telemetry")


class Telemetry:
    """Made once per service. Idle unless made by `from_environment` or `for_tests`."""

    def __init__(
        self,
        tracer_provider: "TracerProvider | None" = None,
        meter_provider: "MeterProvider | None" = None,
        queue: "Spans | None" = None,
    ):
        self._tracer_provider = tracer_provider
        self._meter_provider = meter_provider
        self._queue = queue
        self._idle = not (tracer_provider or meter_provider)
        self._lags: dict[Kind, list[tuple[str, ReadLag]]] = {"view": [], "reaction": []}
        self._held_back: Mapping[tuple[str, int], int] = {}
        self._tracer = self._meter = None
        self._server_calls = self._client_calls = self._sends = self._processes = None
        if tracer_provider:
            from opentelemetry.sdk.trace import Tracer
            from opentelemetry.sdk.trace.sampling import ParentBased

            from factfold_chassis.telemetry.sample import roots

            self._tracer = tracer_provider.get_tracer(SCOPE, schema_url=SCHEMA_URL)
            self._follows_parent = isinstance(tracer_provider.sampler, ParentBased)
            self._roots = roots(tracer_provider)
            if self._roots and isinstance(self._tracer, Tracer):
                self._tracer.id_generator = self._roots
        if meter_provider:
            self._meter = meter = meter_provider.get_meter(SCOPE, schema_url=SCHEMA_URL)
            seconds = partial(
                meter.create_histogram, unit="s", explicit_bucket_boundaries_advisory=BUCKETS
            )
            self._server_calls = seconds("rpc.server.call.duration")
            self._client_calls = seconds("rpc.client.call.duration")
            self._sends = seconds("messaging.client.operation.duration")
            self._processes = seconds("messaging.process.duration")
            for kind in self._lags:
                lag = partial(self._observe_lag, kind, _facts)
                delay = partial(self._observe_lag, kind, _seconds)
                meter.create_observable_gauge(f"factfold.{kind}.lag", [lag], unit="{fact}")
                meter.create_observable_gauge(f"factfold.{kind}.delay", [delay], unit="s")
            meter.create_observable_gauge(
                "factfold.log.held_back", [self._observe_held_back], unit="{fact}"
            )
            meter.create_observable_counter(
                "factfold.trace.dropped", [lambda _: [Observation(self.dropped)]]
            )

    @classmethod
    def from_environment(cls, service_name: str, process: int | None = None) -> "Telemetry":
        """As `OTEL_TRACES_EXPORTER`, `OTEL_METRICS_EXPORTER` or an OTLP endpoint ask.

        `process`: which one of several it is.

        Raises:
            SettingsError: an exporter or a protocol that is not supported.
        """
        traces, metrics = asked("TRACES"), asked("METRICS")
        if not (traces or metrics):
            return cls()
        from factfold_chassis.telemetry.resource import resource_of

        resource = resource_of(service_name, process)
        meter_provider = tracer_provider = queue = None
        if metrics:
            from factfold_chassis.telemetry import meters

            meter_provider = meters.metrics(metrics, resource, process)
        if traces:
            from factfold_chassis.telemetry import export

            tracer_provider, queue = export.traces(resource)
        return cls(tracer_provider, meter_provider, queue)

    @classmethod
    def for_tests(cls, exporter: "SpanExporter") -> "Telemetry":
        """Every span that ends is in `exporter` at once; the environment is not read."""
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.sampling import DEFAULT_ON

        provider = TracerProvider(sampler=DEFAULT_ON, shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        return cls(provider)

    @staticmethod
    def active() -> "Telemetry":
        """The telemetry of the service whose code runs now; an idle one outside of any."""
        return _active.get(_IDLE)

    def activate(self) -> None:
        """Make this the `active` one of the present task and of those it starts."""
        _active.set(self)

    def install(self) -> None:
        """Let the team's own spans and instruments, made through OpenTelemetry's API, join."""
        if self._tracer_provider:
            otel_trace.set_tracer_provider(self._tracer_provider)
        if self._meter_provider:
            otel_metrics.set_meter_provider(self._meter_provider)

    def server_call(self, method: str, metadata: Metadata, *, known: bool = True) -> ServerCall:
        """A call of `method` ("/package.Service/Method") has come in.

        Its span is current from now to the end of the present task.
        """
        name = method.removeprefix("/") if known else "_OTHER"
        span = self._start(name, SpanKind.SERVER, from_metadata(metadata))
        if span is not INVALID_SPAN:
            attach(set_span_in_context(span))
        return ServerCall(span, self._server_calls, _rpc(name))

    def client_call(self, method: str, host: str = "", port: int = 0) -> ClientCall:
        """A call of `method` to another service goes out."""
        name = method.removeprefix("/")
        span = self._start(name, SpanKind.CLIENT, current())
        attributes = _rpc(name)
        attributes |= {"server.address": host} if host else {}
        attributes |= {"server.port": port} if port else {}
        return ClientCall(span, self._client_calls, attributes)

    def send(self, stream: str) -> Send:
        """One append to `stream` begins."""
        parent = current()
        if self._idle and not parent:
            return _NOT_SENT
        span = self._start(f"send {stream}", SpanKind.PRODUCER, parent)
        return Send(span, self._sends, _messaging("send", stream))

    def process(
        self,
        stream: str,
        partition: int,
        group: str,
        meta: FactMeta,
        key: str,
        replay: Replay | None = None,
    ) -> Process:
        """A reaction of `group` runs on one fact: child of its send span, or of `replay`."""
        sent = from_fact(meta)
        parent = replay.context if replay else sent
        if self._idle and not (parent and parent.is_valid):
            return _NOT_TRACED
        span = self._start(f"process {stream}", SpanKind.CONSUMER, parent, [sent] if sent else [])
        if span.is_recording():
            span.set_attributes({"messaging.message.id": fact_id(meta), "factfold.key": key})
        return Process(span, self._processes, _consuming(stream, partition, group))

    def replay(self, stream: str, partition: int, group: str, metas: Iterable[FactMeta]) -> Replay:
        """A batch of facts of the past is processed: a new root, linked to the first 128."""
        metas = list(metas) if self._tracer else []
        sent = map(from_fact, metas[:MAX_LINKS])
        span = self._start(f"process {stream}", SpanKind.CONSUMER, None, list(filter(None, sent)))
        span.set_attribute("messaging.batch.message_count", len(metas))
        return Replay(span, None, _consuming(stream, partition, group))

    def lag(self, kind: Kind, name: str, read: ReadLag) -> None:
        """Report what `read()` returns as factfold.<kind>.lag and factfold.<kind>.delay."""
        self._lags[kind].append((name, read))

    def held_back(self, facts: Mapping[tuple[str, int], int]) -> None:
        """Report what `facts` has, by stream and partition, as factfold.log.held_back."""
        self._held_back = facts

    def count(self, name: str, amount: int = 1, **attributes: str) -> None:
        """Add to the counter `name`; 0 begins it. `view`, `reaction` and `stream` are names."""
        if self._meter:
            labels = {_LABELS.get(each, each): value for each, value in attributes.items()}
            self._meter.create_counter(name, unit="1").add(amount, labels)

    @property
    def dropped(self) -> int:
        """Sampled spans that were never delivered."""
        return self._queue.dropped if self._queue else 0

    def shutdown(self, timeout: float) -> None:
        """Send what is left, for at most `timeout` seconds."""
        # The SDK waits for half a minute for a collector that is away.
        thread = threading.Thread(target=self._end, daemon=True)
        thread.start()
        thread.join(timeout)
        if self._queue:
            self._queue.abandon()
        if self.dropped:
            log.warning("spans were dropped", extra={"spans": self.dropped})

    def _end(self) -> None:
        if self._tracer_provider:
            self._tracer_provider.shutdown()
        if self._meter_provider:
            self._meter_provider.shutdown()

    def _observe_lag(
        self, kind: Kind, of: Callable[[Lag], float | None], _: CallbackOptions
    ) -> Iterable[Observation]:
        for name, read in self._lags[kind]:
            for lag in read():
                attributes = {f"factfold.{kind}.name": name, **_place(lag.stream, lag.partition)}
                if (value := of(lag)) is not None:
                    yield Observation(value, attributes)

    def _observe_held_back(self, _: CallbackOptions) -> Iterable[Observation]:
        for place, facts in self._held_back.items():
            yield Observation(facts, _place(*place))

    def _start(
        self,
        name: str,
        kind: SpanKind,
        parent: SpanContext | None,
        links: Sequence[SpanContext] = (),
    ) -> Span:
        unsampled = parent and not parent.trace_flags.sampled
        if not self._tracer or (unsampled and self._follows_parent):
            return NonRecordingSpan(parent) if parent else INVALID_SPAN
        if not parent and self._roots and (context := self._roots.unsampled()):
            return NonRecordingSpan(context)
        return self._tracer.start_span(name, around(parent), kind, links=[Link(c) for c in links])


_facts: Callable[[Lag], float | None] = attrgetter("facts")
_seconds: Callable[[Lag], float | None] = attrgetter("seconds")
_NOT_TRACED = NotTraced(INVALID_SPAN, None, {})
_NOT_SENT = Send(INVALID_SPAN, None, {})
_IDLE = Telemetry()
_active: ContextVar[Telemetry] = ContextVar("factfold_telemetry")


def _place(stream: str, partition: int) -> dict[str, str]:
    return {
        "messaging.destination.name": stream,
        "messaging.destination.partition.id": str(partition),
    }


def _rpc(name: str) -> Attributes:
    return {"rpc.system.name": "grpc", "rpc.method": name}


def _messaging(operation: str, stream: str) -> Attributes:
    return {
        # The conventions name no value for Redis Streams and allow others.
        "messaging.system": "redis",
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": stream,
    }


def _consuming(stream: str, partition: int, group: str) -> Attributes:
    return _messaging("process", stream) | {
        "messaging.destination.partition.id": str(partition),
        "messaging.consumer.group.name": group,
    }
