"""Where a call enters and leaves: its span, its metric, and the one place that maps errors.

The outermost interceptor, so that what the team's interceptors refuse is traced, measured and
mapped like everything else.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection
from contextlib import aclosing
from contextvars import ContextVar
from functools import partial
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from grpc_status import rpc_status

from factfold_chassis.errors import ChassisError, InvalidRequest
from factfold_chassis.facts import POSITION
from factfold_chassis.telemetry import ServerCall, Telemetry

log = logging.getLogger("factfold.rpc")

HEALTH = "/grpc.health.v1.Health/"
_UNTRACED = (HEALTH, "/grpc.reflection.")

# In bytes. Beyond 8 KiB of trailers, in base64 and percent signs, a client sees another error.
_MAX_MESSAGE, _MAX_FIELD, _MAX_DESCRIPTION, _MAX_VIOLATIONS = 512, 64, 192, 8

_call: ContextVar[ServerCall] = ContextVar("factfold_server_call")
_CODES = {code.value[0]: code for code in grpc.StatusCode}

Context = grpc.aio.ServicerContext[Any, Any]
Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Any]]


class Boundary(grpc.aio.ServerInterceptor):
    """`methods` are the paths ("/package.Service/Method") that the service answers."""

    def __init__(self, telemetry: Telemetry, methods: Collection[str]) -> None:
        self._telemetry = telemetry
        self._methods = frozenset(methods)
        self._wrapped: dict[str, tuple[Any, Any]] = {}
        self._running: set[asyncio.Task[Any]] = set()
        self._came = 0

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        method = handler_call_details.method
        if method.startswith(_UNTRACED):
            return await continuation(handler_call_details)
        known = method in self._methods
        metadata = handler_call_details.invocation_metadata
        call = self._telemetry.server_call(method, metadata, known=known)
        _call.set(call)
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        self._came += 1
        task.add_done_callback(partial(self._done, call))
        try:
            handler = await continuation(handler_call_details)
        except Exception as error:
            return _wrap(method, grpc.unary_unary_rpc_method_handler(partial(_raise, error)))
        if handler is None:
            call.end(grpc.StatusCode.UNIMPLEMENTED)
            return None
        # A team's interceptor may return another handler each time: then there is nothing to keep.
        seen, wrapped = self._wrapped.get(method, (None, None))
        if seen is not handler:
            wrapped = _wrap(method, handler)
            if known:
                self._wrapped[method] = handler, wrapped
        return wrapped

    async def quiet(self, seconds: float, timeout: float) -> None:
        """Wait until no call has come for `seconds`, `timeout` seconds at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                came = -1
                while came != self._came:
                    came = self._came
                    await asyncio.sleep(seconds)

    async def idle(self, timeout: float) -> None:
        """Wait until no call runs, `timeout` seconds at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while self._running:
                    await asyncio.wait(self._running)

    def _done(self, call: ServerCall, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        # Only for a caller that went away before its request was here: else it has ended.
        call.end(grpc.StatusCode.CANCELLED)


class BehindHealth(grpc.aio.ServerInterceptor):
    """A team's interceptor, kept away from health checks: a probe brings no credentials."""

    def __init__(self, interceptor: grpc.aio.ServerInterceptor) -> None:
        self._interceptor = interceptor

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        if handler_call_details.method.startswith(HEALTH):
            return await continuation(handler_call_details)
        return await self._interceptor.intercept_service(continuation, handler_call_details)


def add_trailer(context: Context, name: str, value: str) -> None:
    """Add to what is sent after the answer, unless `name` is there already."""
    present: Any = context.trailing_metadata() or ()
    if value and all(key != name for key, _ in present):
        context.set_trailing_metadata((*present, (name, value)))


def _wrap(method: str, handler: Any) -> Any:
    """`handler` with its span ended and its errors mapped, those of parsing included."""
    asks = "stream" if handler.request_streaming else "unary"
    answers = "stream" if handler.response_streaming else "unary"
    function = getattr(handler, f"{asks}_{answers}")
    read, write = handler.request_deserializer, handler.response_serializer
    if asks == "unary" and read is not None:
        function, read = _parsing(function, read), None

    async def unary(request: Any, context: Context) -> bytes:
        try:
            answer = function(request, context)
            if hasattr(answer, "__await__"):
                answer = await answer
            data = write(answer) if write else answer
            if not isinstance(data, bytes):
                raise TypeError(f"{method} answered with {type(answer).__name__}")
        except BaseException as error:
            await _fail(method, context, error)
            raise
        _call.get().end(_code(context))
        return data

    async def stream(request: Any, context: Context) -> None:
        try:
            answer = function(request, context)
            if hasattr(answer, "__aiter__"):
                async with aclosing(answer):
                    async for item in answer:
                        await context.write(item)
            else:
                await answer
        except BaseException as error:
            await _fail(method, context, error)
            raise
        _call.get().end(_code(context))

    make = getattr(grpc, f"{asks}_{answers}_rpc_method_handler")
    return make(unary, read) if answers == "unary" else make(stream, read, write)


def _parsing(function: Callable[..., Any], read: Callable[[bytes], Any]) -> Callable[..., Any]:
    def parse(data: bytes, context: Context) -> Any:
        try:
            request = read(data)
        except Exception:
            raise InvalidRequest("request", "does not parse: use the service's contract") from None
        return function(request, context)

    return parse


async def _fail(method: str, context: Context, error: BaseException) -> None:
    """End the span, and the call with the status for `error` if it has none yet."""
    call = _call.get()
    if isinstance(error, grpc.aio.AbortError):
        call.end(_code(context))
    elif isinstance(error, ChassisError):
        call.end(error.code, error)
        if isinstance(error, InvalidRequest):
            add_trailer(context, *_details(error))
        add_trailer(context, POSITION, error.position)
        await context.abort(error.code, _cut(error.message, _MAX_MESSAGE))
    elif isinstance(error, Exception):
        log.error("a handler failed", exc_info=error, extra={"method": method})
        call.end(grpc.StatusCode.INTERNAL, error)
        trace = f"; trace {call.context.trace_id:032x}" if call.context.is_valid else ""
        await context.abort(
            grpc.StatusCode.INTERNAL,
            f"internal error in {method.removeprefix('/')}: see the service's log{trace}",
        )
    else:
        late = context.time_remaining() == 0
        code = grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED
        call.end(code)


def _details(error: InvalidRequest) -> tuple[str, Any]:
    request = error_details_pb2.BadRequest()
    for field, description in error.violations[:_MAX_VIOLATIONS]:
        request.field_violations.add(
            field=_cut(field, _MAX_FIELD), description=_cut(description, _MAX_DESCRIPTION)
        )
    status = status_pb2.Status(code=error.code.value[0], message=_cut(error.message, _MAX_MESSAGE))
    status.details.add().Pack(request)
    (trailer,) = rpc_status.to_status(status).trailing_metadata
    return trailer


def _cut(text: str, size: int) -> str:
    data = text.encode()
    return text if len(data) <= size else data[: size - 3].decode(errors="ignore") + "…"


def _code(context: Context) -> grpc.StatusCode:
    code: Any = context.code()
    return code if isinstance(code, grpc.StatusCode) else _CODES.get(code, grpc.StatusCode.OK)


def _raise(error: Exception, request: Any, context: Context) -> None:
    raise error
