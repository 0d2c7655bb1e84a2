"""One object per traced operation. Each ends once, records its duration, and never raises."""

from __future__ import annotations

from contextvars import Token
from time import perf_counter
from types import TracebackType
from typing import Self
from uuid import UUID

import grpc
from factfold.v1.fact_pb2 import FactMeta
from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanContext, StatusCode, set_span_in_context

from factfold_chassis.errors import ChassisError
from factfold_chassis.telemetry import names
from factfold_chassis.telemetry.context import to_fact, to_metadata
from factfold_chassis.telemetry.metrics import Attributes, Metrics

# On the server the caller's own mistakes are no errors (semantic conventions for gRPC).
SERVER_FAULTS = frozenset(
    {
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)


class Operation:
    """What the operations share. `context` is the span's, valid also when it is not sampled."""

    __slots__ = ("_attributes", "_duration", "_metrics", "_span", "_started", "context")

    def __init__(
        self, span: Span, metrics: Metrics | None, duration: str, attributes: Attributes
    ) -> None:
        self._span: Span | None = span
        self._metrics = metrics
        self._duration = duration
        self._attributes = attributes
        self._started = perf_counter() if metrics else 0.0
        self.context: SpanContext = span.get_span_context()
        if span.is_recording():
            span.set_attributes(attributes)

    def _add(self, attributes: Attributes) -> None:
        if self._metrics:
            self._attributes = {**self._attributes, **attributes}
        if self._span is not None and self._span.is_recording():
            self._span.set_attributes(attributes)

    def _describe(self, name: str, value: str | int) -> None:
        """For the span alone: a metric by this value would be without bounds."""
        if self._span is not None and self._span.is_recording():
            self._span.set_attribute(name, value)

    def _end(self, error_type: str = "", error: BaseException | None = None) -> None:
        span, self._span = self._span, None
        if span is None:
            return
        if error_type:
            self._attributes = {**self._attributes, names.ERROR_TYPE: error_type}
        if span.is_recording():
            if error_type:
                span.set_attribute(names.ERROR_TYPE, error_type)
                span.set_status(StatusCode.ERROR, str(error) if error else None)
                if error is not None and not isinstance(error, ChassisError):
                    span.record_exception(error)
            span.end()
        if self._metrics:
            self._metrics.duration(self._duration, perf_counter() - self._started, self._attributes)


class ServerCall(Operation):
    """A call that is being answered; the current span of its task from the start on."""

    __slots__ = ()

    def end(self, code: grpc.StatusCode, error: BaseException | None = None) -> None:
        self._add({names.RPC_STATUS: code.name})
        self._end(code.name if code in SERVER_FAULTS else "", error)


class ClientCall(Operation):
    """A call to another service; `metadata` carries the trace there."""

    __slots__ = ()

    @property
    def metadata(self) -> list[tuple[str, str]]:
        return to_metadata(self.context)

    def end(self, code: grpc.StatusCode) -> None:
        self._add({names.RPC_STATUS: code.name})
        self._end(code.name if code is not grpc.StatusCode.OK else "")


class _Block(Operation):
    """Ends with its `with` block, failed if an exception leaves it."""

    __slots__ = ()

    def end(self, error: BaseException | None = None) -> None:
        self._end(type(error).__qualname__ if error else "", error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end(error)


class Send(_Block):
    """One append, from its call to the answer of the log.

    It is not made the current span, so it may also be kept open and closed by `end`.
    """

    __slots__ = ("_facts",)

    def __init__(
        self, span: Span, metrics: Metrics | None, duration: str, attributes: Attributes
    ) -> None:
        super().__init__(span, metrics, duration, attributes)
        self._facts = 0

    def fill(self, meta: FactMeta) -> None:
        """Write the trace into `meta`, whose `id` is set already."""
        to_fact(self.context, meta)
        self._facts += 1
        if self._facts == 1:
            self._describe(names.MESSAGING_MESSAGE_ID, _uuid(meta.id))
        else:
            self._describe(names.MESSAGING_BATCH_COUNT, self._facts)

    def placed(self, partition: int, position: str) -> None:
        self._add({names.MESSAGING_PARTITION: str(partition)})
        self._describe(names.FACT_POSITION, position)


class _Current(_Block):
    """The current span inside its `with` block."""

    __slots__ = ("_token",)

    def __enter__(self) -> Self:
        span = self._span
        assert span is not None
        self._token: Token[Context] = otel_context.attach(set_span_in_context(span))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        otel_context.detach(self._token)
        self.end(error)


class Process(_Current):
    """A reaction's run on one fact."""

    __slots__ = ()

    def describe(self, meta: FactMeta, key: str) -> None:
        self._describe(names.MESSAGING_MESSAGE_ID, _uuid(meta.id))
        self._describe(names.FACT_KEY, key)

    def failed(self, error: BaseException) -> None:
        """For an error that the caller turns into an outcome instead of raising it."""
        self.end(error)


class Replay(_Current):
    """A batch of facts of the past: the root of its own trace, linked to theirs."""

    __slots__ = ()

    def describe(self, facts: int) -> None:
        self._describe(names.MESSAGING_BATCH_COUNT, facts)


def _uuid(value: bytes) -> str:
    return str(UUID(bytes=value)) if len(value) == 16 else value.hex()
