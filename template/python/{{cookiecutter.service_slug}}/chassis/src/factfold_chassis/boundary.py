"""Where a call enters and leaves: its span, its metric, and the one place that maps errors."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from functools import partial
from inspect import isawaitable
from typing import Any

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from factfold_chassis.errors import ChassisError, InvalidRequest
from factfold_chassis.facts import AT_LEAST, POSITION
from factfold_chassis.tasks import cancelled
from factfold_chassis.telemetry import ServerCall, Telemetry

log = logging.getLogger("factfold.rpc")

# In bytes. Beyond 8 KiB of trailers, in base64 and percent signs, a client sees another error.
_MAX_MESSAGE, _MAX_VIOLATION, _MAX_VIOLATIONS = 512, 192, 8
_HEALTH, _REFLECTION = "/grpc.health.v1.Health/", "/grpc.reflection."
_CODES = {code.value[0]: code for code in grpc.StatusCode}

Context = grpc.aio.ServicerContext[Any, Any]
Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Any]]
Handlers = Mapping[str, "grpc.RpcMethodHandler[Any, Any]"]

# What the call that is being answered has in `factfold-at-least`.
at_least: ContextVar[str] = ContextVar("factfold_at_least", default="")


class Boundary(grpc.GenericRpcHandler, grpc.aio.ServerInterceptor):
    """What gRPC asks for the handler of a call: the one generic handler that it knows.

    If the team has interceptors, it is also the one interceptor that gRPC knows, around theirs.
    So what these refuse is traced, measured and mapped like everything else. Without any it is
    none: gRPC's way through interceptors takes its time.

    Args:
        handlers: the service's, by path ("/package.Service/Method").
        others: gRPC's own, for health and reflection.
        interceptors: the team's, the first one outermost.
    """

    def __init__(
        self,
        telemetry: Telemetry,
        handlers: Handlers,
        others: Handlers,
        interceptors: Sequence[grpc.aio.ServerInterceptor],
    ) -> None:
        self._telemetry = telemetry
        self._handlers = handlers
        self._others = others
        self._interceptors = interceptors
        self._running: set[asyncio.Task[Any]] = set()
        self._came = 0

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        method = handler_call_details.method
        handler = self._handlers.get(method) or self._others.get(method)
        if self._interceptors:
            return handler
        if method.startswith((_HEALTH, _REFLECTION)):
            return _readable(handler)
        return _bounded(handler, method, self._begin(handler_call_details))

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        method = handler_call_details.method
        if method.startswith(_HEALTH):  # a probe brings no credentials
            return _readable(await continuation(handler_call_details))
        for interceptor in reversed(self._interceptors):
            continuation = partial(interceptor.intercept_service, continuation)
        if method.startswith(_REFLECTION):
            return _readable(await continuation(handler_call_details))
        call = self._begin(handler_call_details)
        try:
            handler = await continuation(handler_call_details)
        except Exception as error:
            handler = grpc.unary_unary_rpc_method_handler(partial(_raise, error))
        return _bounded(handler, method, call)

    def _begin(self, details: grpc.HandlerCallDetails) -> ServerCall:
        """Before the request is here: `idle` waits for it, and its caller may go away."""
        method, metadata = details.method, details.invocation_metadata
        asked = [str(value) for name, value in metadata if name == AT_LEAST]
        if asked:
            at_least.set(",".join(asked))
        call = self._telemetry.server_call(method, metadata, known=method in self._handlers)
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        self._came += 1
        task.add_done_callback(partial(self._done, call))
        return call

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


def add_trailer(context: Context, name: str, value: str | bytes) -> None:
    """Add to what is sent after the answer, unless `name` is there already."""
    present: Any = context.trailing_metadata() or ()
    if value and all(key != name for key, _ in present):
        context.set_trailing_metadata((*present, (name, value)))


class _Gone(Exception):
    """The caller has left, and gRPC has not cancelled the call yet."""


async def send(context: Context, message: Any) -> None:
    """Send one more answer of a stream."""
    try:
        await context.write(message)
    except grpc.aio.InternalError:
        raise _Gone from None


class _Bounded:
    """In the place of `handler`: its span ends, its errors are mapped, its coders' included."""

    __slots__ = ("_call", "_handler", "_method", "response_serializer", "response_streaming")

    request_streaming = False
    request_deserializer = None

    def __init__(self, handler: Any, method: str, call: ServerCall) -> None:
        self._handler = handler
        self._method = method
        self._call = call
        self.response_streaming = handler.response_streaming
        self.response_serializer = (
            handler.response_serializer if handler.response_streaming else None
        )

    async def unary_unary(self, data: bytes, context: Context) -> Any:
        handler = self._handler
        try:
            result = handler.unary_unary(_parsed(handler.request_deserializer, data), context)
            if not isinstance(result, Message) and isawaitable(result):
                result = await result
            if handler.response_serializer:
                result = handler.response_serializer(result)
        except BaseException as error:
            await _fail(error, self._method, self._call, context)
            raise
        self._call.end(_code(context))
        return result

    async def unary_stream(self, data: bytes, context: Context) -> None:
        handler = self._handler
        try:
            result = handler.unary_stream(_parsed(handler.request_deserializer, data), context)
            if hasattr(result, "__aiter__"):
                async with contextlib.aclosing(result):
                    async for item in result:
                        await send(context, item)
            elif isawaitable(result):
                await result
        except BaseException as error:
            await _fail(error, self._method, self._call, context)
            raise
        self._call.end(_code(context))


def _bounded(handler: Any, method: str, call: ServerCall) -> _Bounded | None:
    if handler is None:
        call.end(grpc.StatusCode.UNIMPLEMENTED)
        return None
    return _Bounded(handler, method, call)


def _readable(handler: Any) -> Any:
    """A `handler` of gRPC's own, as it is but for bytes that do not parse.

    gRPC would answer those with UNKNOWN, and log a traceback for each.
    """
    if handler is None or handler.request_deserializer is None:
        return handler
    read, write = handler.request_deserializer, handler.response_serializer
    function = handler.unary_unary or handler.unary_stream

    async def answer(data: bytes, context: Context) -> Any:
        try:
            request = _parsed(read, data)
        except InvalidRequest as error:
            await _refuse(error, context)
        return await function(request, context)

    async def answers(messages: AsyncIterator[bytes], context: Context) -> AsyncIterator[Any]:
        requests = (_parsed(read, data) async for data in messages)
        try:
            async for each in handler.stream_stream(requests, context):
                yield each
        except InvalidRequest as error:
            await _refuse(error, context)

    if handler.unary_unary:
        return grpc.unary_unary_rpc_method_handler(answer, None, write)
    if handler.unary_stream:
        return grpc.unary_stream_rpc_method_handler(answer, None, write)
    return grpc.stream_stream_rpc_method_handler(answers, None, write)


def _parsed(read: Callable[[bytes], Any] | None, data: bytes) -> Any:
    try:
        return read(data) if read else data
    except Exception:
        raise InvalidRequest("request", "does not parse: use the service's contract") from None


async def _fail(error: BaseException, method: str, call: ServerCall, context: Context) -> None:
    """End the span, and the call with the status for `error` if it has none yet."""
    if isinstance(error, grpc.aio.AbortError):
        call.end(_code(context))
    elif isinstance(error, ChassisError):
        call.end(error.code, error)
        await _refuse(error, context)
    elif not isinstance(error, _Gone) and (isinstance(error, Exception) or not cancelled()):
        log.error("a handler failed", exc_info=error, extra={"method": method})
        call.end(grpc.StatusCode.INTERNAL, error)
        trace = f"; trace {call.context.trace_id:032x}" if call.context.is_valid else ""
        await context.abort(
            grpc.StatusCode.INTERNAL,
            f"internal error in {method.removeprefix('/')}: see the service's log{trace}",
        )
    else:
        late = context.time_remaining() == 0
        call.end(grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED)
        if isinstance(error, _Gone):
            raise asyncio.CancelledError from None  # of anything else gRPC would log a traceback


async def _refuse(error: ChassisError, context: Context) -> None:
    if isinstance(error, InvalidRequest):
        add_trailer(context, "grpc-status-details-bin", _details(error))
    add_trailer(context, POSITION, error.position)
    await context.abort(error.code, _cut(error.message, _MAX_MESSAGE))


def _details(error: InvalidRequest) -> bytes:
    request = error_details_pb2.BadRequest()
    for texts in error.violations[:_MAX_VIOLATIONS]:
        field, description = (_cut(text, _MAX_VIOLATION) for text in texts)
        request.field_violations.add(field=field, description=description)
    status = status_pb2.Status(code=error.code.value[0], message=_cut(error.message, _MAX_MESSAGE))
    status.details.add().Pack(request)
    return bytes(status.SerializeToString())


def _cut(text: str, size: int) -> str:
    data = text.encode()
    return text if len(data) <= size else data[: size - 3].decode(errors="ignore") + "…"


def _code(context: Context) -> grpc.StatusCode:
    """None, a number or a code, by what has set it."""
    code: Any = context.code()
    return code if isinstance(code, grpc.StatusCode) else _CODES.get(code, grpc.StatusCode.OK)


def _raise(error: Exception, request: Any, context: Context) -> None:
    raise error
