"""One object per traced operation. Each ends once, records its duration, and never raises."""

from contextvars import Token
from time import perf_counter
from typing import ClassVar, Self
from uuid import UUID

import grpc
from opentelemetry.context import Context, attach, detach
from opentelemetry.metrics import Histogram
from opentelemetry.trace import Span, StatusCode, set_span_in_context

from factfold.v1.fact_pb2 import FactMeta
from factfold_chassis.errors import ChassisError
from factfold_chassis.telemetry.context import to_fact, to_metadata

SCOPE = "factfold"  # what the chassis' own spans and instruments are under

Attributes = dict[str, str | int]
Code = grpc.StatusCode


class Operation:
    """`context` is the span's; without a span of its own, of the one around it."""

    __slots__ = ("_attributes", "_duration", "_ended", "_span", "_started", "context", "recorded")

    def __init__(self, span: Span, duration: Histogram | None, attributes: Attributes):
        self._span = span
        self._duration = duration
        self._attributes = attributes
        self._started = perf_counter()
        self.context = span.get_span_context()
        self.recorded = duration is not None or span.is_recording()
        self._ended = not self.recorded  # then nobody looks

    def _add(self, name: str, value: str) -> None:
        """To the span and to the metric: the values must be few."""
        self._attributes[name] = value

    def _end(self, error_type: str, error: BaseException | None) -> None:
        if self._ended:
            return
        self._ended = True
        if error_type:
            self._add("error.type", error_type)
        self._span.set_attributes(self._attributes)  # at once: each time has its price
        if error_type:
            self._span.set_status(StatusCode.ERROR, str(error) if error else None)
            if error and not isinstance(error, ChassisError):
                self._span.record_exception(error)
        self._span.end()
        if self._duration:
            self._duration.record(perf_counter() - self._started, self._attributes)


class ServerCall(Operation):
    """A call that is being answered; the current span of its task from the start on."""

    __slots__ = ()

    # A server is not to blame for its callers' mistakes (semantic conventions for gRPC).
    faults: ClassVar[frozenset[Code]] = frozenset(
        {Code.UNKNOWN, Code.DEADLINE_EXCEEDED, Code.UNIMPLEMENTED, Code.INTERNAL}
        | {Code.UNAVAILABLE, Code.DATA_LOSS}
    )

    def end(self, code: Code, error: BaseException | None = None) -> None:
        if not self._ended:
            self._add("rpc.response.status_code", code.name)
            self._end(code.name if code in self.faults else "", error)


class ClientCall(ServerCall):
    """A call to another service; `metadata` carries the trace there."""

    __slots__ = ()

    faults = frozenset(Code) - {Code.OK}

    @property
    def metadata(self) -> list[tuple[str, str]]:
        return to_metadata(self.context)


class _Block(Operation):
    """Ends with its `with` block, failed if an exception leaves it; or by `end`."""

    __slots__ = ()

    def end(self, error: BaseException | None = None) -> None:
        self._end(type(error).__qualname__ if error else "", error)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self.end(error)


class Send(_Block):
    """One append, from its call to the answer of the log. It is not the current span."""

    __slots__ = ()

    def fill(self, meta: FactMeta) -> None:
        """Write the trace into `meta`, whose id is set already."""
        to_fact(self.context, meta)
        if self._span.is_recording():
            self._span.set_attribute("messaging.message.id", fact_id(meta))

    def placed(self, partition: int, position: str) -> None:
        if not self.recorded:
            return
        self._add("messaging.destination.partition.id", str(partition))
        self._span.set_attribute("factfold.position", position)


class Process(_Block):
    """A run on one fact, or on a batch of the past; the current span in its `with` block."""

    __slots__ = ("_token",)

    def __enter__(self) -> Self:
        self._token: Token[Context] = attach(set_span_in_context(self._span))
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        detach(self._token)
        self.end(error)


class NotTraced(Process):
    """Of no trace and without a metric: nothing to do, however often and wherever it runs."""

    __slots__ = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        pass


def fact_id(meta: FactMeta) -> str:
    """As text; of a foreign fact it may be anything."""
    return str(UUID(bytes=meta.id)) if len(meta.id) == 16 else meta.id.hex()
