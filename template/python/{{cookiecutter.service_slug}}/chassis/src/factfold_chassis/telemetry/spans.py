"""One object per traced operation. Each ends once, records its duration, and never raises."""

from contextvars import Token
from time import perf_counter
from types import TracebackType
from typing import ClassVar, Self
from uuid import UUID

import grpc
from factfold.v1.fact_pb2 import FactMeta
from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanContext, StatusCode, set_span_in_context

from factfold_chassis.errors import ChassisError
from factfold_chassis.telemetry.context import to_fact, to_metadata
from factfold_chassis.telemetry.metrics import Attributes, Metrics

Code = grpc.StatusCode


class Operation:
    """`context` is the span's; without a span of its own, of the one around it."""

    __slots__ = ("_attributes", "_duration", "_metrics", "_span", "_started", "context")

    def __init__(self, span: Span, metrics: Metrics | None, duration: str, attributes: Attributes):
        self._span: Span | None = span
        self._metrics = metrics
        self._duration = duration
        self._attributes = attributes
        self._started = perf_counter() if metrics else 0.0
        self.context: SpanContext = span.get_span_context()
        if span.is_recording():
            span.set_attributes(attributes)

    def _add(self, name: str, value: str | int, *, metric: bool = True) -> None:
        """`metric`: the values are few enough to be told apart in a metric too."""
        if metric and self._metrics:
            self._attributes = {**self._attributes, name: value}
        if self._span is not None and self._span.is_recording():
            self._span.set_attribute(name, value)

    def _end(self, error_type: str, error: BaseException | None) -> None:
        if self._span is None:
            return
        if error_type:
            self._add("error.type", error_type)
        span, self._span = self._span, None
        if span.is_recording():
            if error_type:
                span.set_status(StatusCode.ERROR, str(error) if error else None)
            if error_type and error and not isinstance(error, ChassisError):
                span.record_exception(error)
            span.end()
        if self._metrics:
            seconds = perf_counter() - self._started
            self._metrics.duration(self._duration, seconds, self._attributes)


class ServerCall(Operation):
    """A call that is being answered; the current span of its task from the start on."""

    __slots__ = ()

    # A server is not to blame for its callers' mistakes (semantic conventions for gRPC).
    faults: ClassVar[frozenset[Code]] = frozenset(
        {Code.UNKNOWN, Code.DEADLINE_EXCEEDED, Code.UNIMPLEMENTED, Code.INTERNAL}
        | {Code.UNAVAILABLE, Code.DATA_LOSS}
    )

    def end(self, code: Code, error: BaseException | None = None) -> None:
        if self._span is not None:
            self._add("rpc.response.status_code", code.name)
            self._end(code.name if code in self.faults else "", error)


class ClientCall(ServerCall):
    """A call to another service."""

    __slots__ = ()

    faults = frozenset(Code) - {Code.OK}

    @property
    def metadata(self) -> list[tuple[str, str]]:
        """What carries the trace there."""
        return to_metadata(self.context)


class _Block(Operation):
    """Ends with its `with` block, failed if an exception leaves it; or by `end`."""

    __slots__ = ()

    def end(self, error: BaseException | None = None) -> None:
        self._end(type(error).__qualname__ if error else "", error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.end(error)


class Send(_Block):
    """One append, from its call to the answer of the log. It is not the current span."""

    __slots__ = ()

    def fill(self, meta: FactMeta) -> None:
        """Write the trace into `meta`, whose id is set already."""
        to_fact(self.context, meta)
        if self._span is not None and self._span.is_recording():
            self._span.set_attribute("messaging.message.id", fact_id(meta))

    def placed(self, partition: int, position: str) -> None:
        self._add("messaging.destination.partition.id", str(partition))
        self._add("factfold.position", position, metric=False)


class Process(_Block):
    """A run on one fact, or on a batch of the past; the current span in its `with` block."""

    __slots__ = ("_token",)

    def __enter__(self) -> Self:
        assert self._span is not None
        self._token: Token[Context] = otel_context.attach(set_span_in_context(self._span))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        otel_context.detach(self._token)
        self.end(error)


Replay = Process


def fact_id(meta: FactMeta) -> str:
    """As text; of a foreign fact it may be anything."""
    return str(UUID(bytes=meta.id)) if len(meta.id) == 16 else meta.id.hex()
