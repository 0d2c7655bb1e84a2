"""Traces and metrics of the chassis, on the RPC path and on the log path.

The sampling decision comes first: what is not sampled carries its context on and does no
other work. Nothing is exported unless the `OTEL_*` variables ask for it; without an exporter
a caller's trace is still handed on, in facts and in calls. Names and attributes are those of
the semantic conventions 1.44.0 for RPC and messaging, set here for all languages alike.
"""

import logging
import os
import threading
from collections.abc import Iterable, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Literal, Optional

from factfold.v1.fact_pb2 import FactMeta
from opentelemetry import metrics as otel_metrics
from opentelemetry import trace as otel_trace
from opentelemetry.context import Context, attach
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    get_current_span,
    set_span_in_context,
)

from factfold_chassis.errors import SettingsError
from factfold_chassis.telemetry.context import Metadata, from_fact, from_metadata
from factfold_chassis.telemetry.metrics import Attributes, Lag, Metrics
from factfold_chassis.telemetry.spans import (
    ClientCall,
    Process,
    Replay,
    Send,
    ServerCall,
    fact_id,
)

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import MetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.sdk.trace.sampling import Sampler

    from factfold_chassis.telemetry.export import Spans

__all__ = ["ClientCall", "Process", "Replay", "Send", "ServerCall", "Telemetry"]

SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"
MAX_LINKS = 128

log = logging.getLogger("factfold.telemetry")
_active: ContextVar[Optional["Telemetry"]] = ContextVar("factfold_telemetry", default=None)
_NOWHERE = Context()


class Telemetry:
    """Made once per service. Idle unless made by `from_environment` or `for_tests`."""

    def __init__(
        self,
        tracer_provider: "TracerProvider | None" = None,
        meter_provider: "MeterProvider | None" = None,
        queues: "Sequence[Spans]" = (),
    ):
        self._tracer_provider = tracer_provider
        self._meter_provider = meter_provider
        self._queues = queues
        self._metrics: Metrics | None = None
        self._tracer = self._follows_parent = None
        if tracer_provider is not None:
            from opentelemetry.sdk.trace.sampling import ParentBased

            self._tracer = tracer_provider.get_tracer("factfold", schema_url=SCHEMA_URL)
            self._follows_parent = isinstance(tracer_provider.sampler, ParentBased)
        if meter_provider is not None:
            meter = meter_provider.get_meter("factfold", schema_url=SCHEMA_URL)
            self._metrics = Metrics(meter)
            meter.create_observable_counter("factfold.trace.dropped", [self._observe_dropped])

    @classmethod
    def from_environment(cls, service_name: str) -> "Telemetry":
        """As `OTEL_TRACES_EXPORTER`, `OTEL_METRICS_EXPORTER` or an OTLP endpoint ask.

        Raises:
            SettingsError: an exporter that is unknown or not installed.
        """
        traces, metrics = _asked("TRACES"), _asked("METRICS")
        if not traces and not metrics:
            return cls()
        from factfold_chassis.telemetry import export

        meter_provider = export.metrics(service_name, metrics) if metrics else None
        if not traces:
            return cls(None, meter_provider)
        tracer_provider, queues = export.traces(service_name, traces)
        return cls(tracer_provider, meter_provider, queues)

    @classmethod
    def for_tests(
        cls,
        exporter: "SpanExporter",
        sampler: "Sampler | None" = None,
        metric_reader: "MetricReader | None" = None,
    ) -> "Telemetry":
        """Every span that ends is in `exporter` at once; the environment is not read."""
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.sampling import DEFAULT_ON

        tracer_provider = TracerProvider(sampler=sampler or DEFAULT_ON, shutdown_on_exit=False)
        tracer_provider.add_span_processor(SimpleSpanProcessor(exporter))
        if metric_reader is None:
            return cls(tracer_provider)
        return cls(tracer_provider, MeterProvider([metric_reader], shutdown_on_exit=False))

    @staticmethod
    def active() -> "Telemetry":
        """The telemetry of the service whose code runs now; an idle one outside of any."""
        return _active.get() or _IDLE

    def activate(self) -> None:
        """Make this the `active` one of the present task and of those it starts."""
        _active.set(self)

    def install(self) -> None:
        """Let the team's own spans and instruments, made through OpenTelemetry's API, join."""
        if self._tracer_provider is not None:
            otel_trace.set_tracer_provider(self._tracer_provider)
        if self._meter_provider is not None:
            otel_metrics.set_meter_provider(self._meter_provider)

    def server_call(self, method: str, metadata: Metadata, *, known: bool = True) -> ServerCall:
        """A call of `method` ("/package.Service/Method") has come in.

        Its span is current from now to the end of the present task.
        """
        name = method.removeprefix("/") if known else "_OTHER"
        span = self._start(name, SpanKind.SERVER, from_metadata(metadata))
        attach(set_span_in_context(span))
        attributes: Attributes = {"rpc.system.name": "grpc", "rpc.method": name}
        return ServerCall(span, self._metrics, "rpc.server.call.duration", attributes)

    def client_call(self, method: str, host: str = "", port: int = 0) -> ClientCall:
        """A call of `method` to another service goes out."""
        name = method.removeprefix("/")
        span = self._start(name, SpanKind.CLIENT, _current())
        attributes: Attributes = {"rpc.system.name": "grpc", "rpc.method": name}
        attributes |= {"server.address": host} if host else {}
        attributes |= {"server.port": port} if port else {}
        return ClientCall(span, self._metrics, "rpc.client.call.duration", attributes)

    def send(self, stream: str) -> Send:
        """One append to `stream` begins."""
        span = self._start(f"send {stream}", SpanKind.PRODUCER, _current())
        attributes = _messaging("send", stream)
        return Send(span, self._metrics, "messaging.client.operation.duration", attributes)

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
        span = self._start(f"process {stream}", SpanKind.CONSUMER, parent, [sent] if sent else [])
        if span.is_recording():
            span.set_attributes({"messaging.message.id": fact_id(meta), "factfold.key": key})
        attributes = _messaging("process", stream, partition, group)
        return Process(span, self._metrics, "messaging.process.duration", attributes)

    def replay(self, stream: str, partition: int, group: str, metas: Sequence[FactMeta]) -> Replay:
        """A batch of facts of the past is processed: a new root, linked to the first 128."""
        found = map(from_fact, metas[:MAX_LINKS] if self._tracer else ())
        links = [sent for sent in found if sent]
        span = self._start(f"process {stream}", SpanKind.CONSUMER, None, links)
        span.set_attribute("messaging.batch.message_count", len(metas))
        return Replay(span, None, "", _messaging("process", stream, partition, group))

    def lag(self, kind: Literal["view", "reaction"], name: str, read: Lag) -> None:
        """Report what `read()` returns as factfold.<kind>.lag."""
        if self._metrics:
            self._metrics.lag(kind, name, read)

    def count(self, name: str, amount: int = 1, **attributes: str | int | bool | float) -> None:
        """Add to the counter `name`."""
        if self._metrics:
            self._metrics.count(name, amount, attributes)

    @property
    def dropped(self) -> int:
        """Sampled spans that were never delivered."""
        return sum(queue.lost for queue in self._queues)

    def shutdown(self, timeout: float) -> None:
        """Send what is left, for at most `timeout` seconds."""
        providers = [self._tracer_provider, self._meter_provider]
        # The SDK's own shutdown waits for half a minute for a collector that is away.
        thread = threading.Thread(
            target=lambda: [provider.shutdown() for provider in providers if provider],
            daemon=True,
        )
        thread.start()
        thread.join(timeout)
        for queue in self._queues:
            queue.abandon()
        if self.dropped:
            log.warning("spans were dropped", extra={"spans": self.dropped})

    def _observe_dropped(self, _: CallbackOptions) -> Iterable[Observation]:
        yield Observation(self.dropped)

    def _start(
        self,
        name: str,
        kind: SpanKind,
        parent: SpanContext | None,
        links: Sequence[SpanContext] = (),
    ) -> Span:
        handed_on = parent and self._follows_parent and not parent.trace_flags.sampled
        if self._tracer is None or handed_on:
            return NonRecordingSpan(parent) if parent else INVALID_SPAN
        around = set_span_in_context(NonRecordingSpan(parent), _NOWHERE) if parent else _NOWHERE
        return self._tracer.start_span(name, around, kind, links=[Link(sent) for sent in links])


_IDLE = Telemetry()


def _asked(signal: Literal["TRACES", "METRICS"]) -> list[str]:
    """The exporters asked for by `OTEL_<signal>_EXPORTER`, or by an OTLP endpoint."""
    environment = os.environ
    variable = f"OTEL_{signal}_EXPORTER"
    endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
    default = "otlp" if any(environment.get(name) for name in endpoints) else "none"
    text = environment.get(variable) or default
    chosen = [name.strip() for name in text.split(",")]
    if not {"otlp", "console", "none"}.issuperset(chosen):
        raise SettingsError(f"{variable} is {text!r}: write otlp, console or none")
    disabled = environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
    return [] if disabled else [name for name in chosen if name != "none"]


def _current() -> SpanContext | None:
    context = get_current_span().get_span_context()
    return context if context.is_valid else None


def _messaging(
    operation: str, stream: str, partition: int | None = None, group: str = ""
) -> Attributes:
    attributes: Attributes = {
        # The conventions name no value for Redis Streams and allow others.
        "messaging.system": "redis",
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": stream,
    }
    if partition is not None:
        attributes["messaging.destination.partition.id"] = str(partition)
        attributes["messaging.consumer.group.name"] = group
    return attributes
