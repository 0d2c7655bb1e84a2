"""Traces and metrics of the chassis, on the RPC path and on the log path.

The sampling decision comes first: what is not sampled carries its context on and does no
other work. Nothing is exported unless the `OTEL_*` variables ask for it; without an exporter
a caller's trace is still handed on, in facts and in calls.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING

from factfold.v1.fact_pb2 import FactMeta
from opentelemetry import metrics as otel_metrics
from opentelemetry import trace as otel_trace
from opentelemetry.context import Context, attach
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Tracer,
    get_current_span,
    set_span_in_context,
)

from factfold_chassis.telemetry import names
from factfold_chassis.telemetry.context import Metadata, from_fact, from_metadata
from factfold_chassis.telemetry.environment import asked
from factfold_chassis.telemetry.metrics import Attributes, Lag, LagKind, Metrics
from factfold_chassis.telemetry.spans import ClientCall, Process, Replay, Send, ServerCall

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import MetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.sdk.trace.sampling import Sampler

    from factfold_chassis.telemetry.export import CountingProcessor

__all__ = ["ClientCall", "Process", "Replay", "Send", "ServerCall", "Telemetry"]

MAX_LINKS = 128

log = logging.getLogger("factfold.telemetry")
_active: ContextVar[Telemetry | None] = ContextVar("factfold_telemetry", default=None)
_NOWHERE = Context()


class Telemetry:
    """Made once per service. Off unless made by `from_environment` or `for_tests`."""

    def __init__(self) -> None:
        self.dropped = 0
        self._tracer: Tracer | None = None
        self._tracer_provider: TracerProvider | None = None
        self._meter_provider: MeterProvider | None = None
        self._processors: list[CountingProcessor] = []
        self._metrics: Metrics | None = None
        self._follows_parent = True

    @classmethod
    def from_environment(cls, service_name: str) -> Telemetry:
        """As `OTEL_TRACES_EXPORTER`, `OTEL_METRICS_EXPORTER` or an OTLP endpoint ask.

        Raises:
            SettingsError: an exporter that is unknown or not installed.
        """
        telemetry = cls()
        traces, meters = asked("TRACES"), asked("METRICS")
        if traces or meters:
            from factfold_chassis.telemetry import export

            resource = export.resource(service_name)
            if meters:
                telemetry._measure(export.meter_provider(resource, meters))
            if traces:
                provider, telemetry._processors = export.tracer_provider(
                    resource, traces, telemetry._drop
                )
                telemetry._trace(provider)
        return telemetry

    @classmethod
    def for_tests(
        cls,
        exporter: SpanExporter,
        sampler: Sampler | None = None,
        metric_reader: MetricReader | None = None,
    ) -> Telemetry:
        """Every span that ends is in `exporter` at once; the environment is not read."""
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.sampling import DEFAULT_ON

        telemetry = cls()
        provider = TracerProvider(sampler=sampler or DEFAULT_ON, shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        telemetry._trace(provider)
        if metric_reader is not None:
            telemetry._measure(MeterProvider([metric_reader], shutdown_on_exit=False))
        return telemetry

    @staticmethod
    def active() -> Telemetry:
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
        name = method.removeprefix("/")
        attributes: Attributes = {names.RPC_SYSTEM: names.GRPC, names.RPC_METHOD: name}
        if not known:
            name = attributes[names.RPC_METHOD] = names.RPC_OTHER
        span = self._start(name, SpanKind.SERVER, from_metadata(metadata))
        attach(set_span_in_context(span))
        return ServerCall(span, self._metrics, names.RPC_SERVER_DURATION, attributes)

    def client_call(self, method: str, host: str = "", port: int = 0) -> ClientCall:
        """A call of `method` to another service goes out."""
        name = method.removeprefix("/")
        attributes: Attributes = {names.RPC_SYSTEM: names.GRPC, names.RPC_METHOD: name}
        if host:
            attributes |= {names.SERVER_ADDRESS: host}
        if port:
            attributes |= {names.SERVER_PORT: port}
        span = self._start(name, SpanKind.CLIENT, _current())
        return ClientCall(span, self._metrics, names.RPC_CLIENT_DURATION, attributes)

    def send(self, stream: str) -> Send:
        """One append to `stream` begins."""
        span = self._start(f"send {stream}", SpanKind.PRODUCER, _current())
        attributes = _messaging("send", stream)
        return Send(span, self._metrics, names.MESSAGING_CLIENT_DURATION, attributes)

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
        attributes = _messaging("process", stream, partition, group)
        process = Process(span, self._metrics, names.MESSAGING_PROCESS_DURATION, attributes)
        process.describe(meta, key)
        return process

    def replay(self, stream: str, partition: int, group: str, metas: Sequence[FactMeta]) -> Replay:
        """A batch of facts of the past is processed: a new root, linked to the first 128."""
        links: list[SpanContext] = []
        if self._tracer is not None:
            links = [sent for meta in metas[:MAX_LINKS] if (sent := from_fact(meta))]
        span = self._start(f"process {stream}", SpanKind.CONSUMER, None, links)
        attributes = _messaging("process", stream, partition, group)
        replay = Replay(span, None, "", attributes)
        replay.describe(len(metas))
        return replay

    def lag(self, kind: LagKind, name: str, read: Lag) -> None:
        """Report `read()`, (stream, partition, facts behind) each, as factfold.<kind>.lag."""
        if self._metrics:
            self._metrics.lag(kind, name, read)

    def count(self, name: str, amount: int = 1, **attributes: str | int | bool | float) -> None:
        """Add to the counter `name`."""
        if self._metrics:
            self._metrics.count(name, amount, attributes)

    def shutdown(self, timeout: float) -> None:
        """Send what is left, for at most `timeout` seconds, and count what stays behind."""
        providers = [self._tracer_provider, self._meter_provider]
        # The SDK's own shutdown waits for half a minute for a collector that is away.
        thread = threading.Thread(
            target=lambda: [provider.shutdown() for provider in providers if provider],
            name="factfold-telemetry-shutdown",
            daemon=True,
        )
        thread.start()
        thread.join(timeout)
        for processor in self._processors:
            processor.abandon()
        if self.dropped:
            log.warning("spans were dropped", extra={"spans": self.dropped})

    def _trace(self, provider: TracerProvider) -> None:
        from opentelemetry.sdk.trace.sampling import ParentBased

        self._tracer_provider = provider
        self._tracer = provider.get_tracer(names.SCOPE, schema_url=names.SCHEMA_URL)
        self._follows_parent = isinstance(provider.sampler, ParentBased)

    def _measure(self, provider: MeterProvider) -> None:
        self._meter_provider = provider
        self._metrics = Metrics(provider.get_meter(names.SCOPE, schema_url=names.SCHEMA_URL))

    def _drop(self, spans: int) -> None:
        self.dropped += spans
        self.count(names.TRACE_DROPPED, spans)

    def _start(
        self,
        name: str,
        kind: SpanKind,
        parent: SpanContext | None,
        links: Sequence[SpanContext] = (),
    ) -> Span:
        if self._tracer is None or (
            self._follows_parent and parent is not None and not parent.trace_flags.sampled
        ):
            return INVALID_SPAN if parent is None else NonRecordingSpan(parent)
        context = _NOWHERE
        if parent is not None:
            context = set_span_in_context(NonRecordingSpan(parent), _NOWHERE)
        return self._tracer.start_span(name, context, kind, links=[Link(sent) for sent in links])


_IDLE = Telemetry()


def _current() -> SpanContext | None:
    context = get_current_span().get_span_context()
    return context if context.is_valid else None


def _messaging(
    operation: str, stream: str, partition: int | None = None, group: str = ""
) -> Attributes:
    attributes: Attributes = {
        names.MESSAGING_SYSTEM: names.REDIS,
        names.MESSAGING_OPERATION: operation,
        names.MESSAGING_OPERATION_TYPE: operation,
        names.MESSAGING_DESTINATION: stream,
    }
    if partition is not None:
        attributes[names.MESSAGING_PARTITION] = str(partition)
    if group:
        attributes[names.MESSAGING_GROUP] = group
    return attributes
