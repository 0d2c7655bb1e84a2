"""Where a call enters and leaves: its span, its metric, and the one place that maps errors."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from functools import partial
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2

from factfold_chassis.errors import ChassisError, InvalidRequest
from factfold_chassis.facts import POSITION
from factfold_chassis.tasks import cancelled
from factfold_chassis.telemetry import ServerCall, Telemetry

log = logging.getLogger("factfold.rpc")

# In bytes. Beyond 8 KiB of trailers, in base64 and percent signs, a client sees another error.
_MAX_MESSAGE, _MAX_VIOLATION, _MAX_VIOLATIONS = 512, 192, 8
_CODES = {code.value[0]: code for code in grpc.StatusCode}

Context = grpc.aio.ServicerContext[Any, Any]
Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Any]]


class Boundary(grpc.aio.ServerInterceptor):
    """The one interceptor that gRPC knows: it goes around the team's.

    So what these refuse is traced, measured and mapped like everything else.

    Args:
        methods: paths ("/package.Service/Method") that the service answers.
        interceptors: the team's, the first one outermost.
    """

    def __init__(
        self,
        telemetry: Telemetry,
        methods: Collection[str],
        interceptors: Sequence[grpc.aio.ServerInterceptor],
    ) -> None:
        self._telemetry = telemetry
        self._methods = frozenset(methods)
        self._interceptors = interceptors
        self._running: set[asyncio.Task[Any]] = set()
        self._came = 0

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        method = handler_call_details.method
        if method.startswith("/grpc.health.v1.Health/"):  # a probe brings no credentials
            return _readable(await continuation(handler_call_details))
        for interceptor in reversed(self._interceptors):
            continuation = partial(interceptor.intercept_service, continuation)
        if method.startswith("/grpc.reflection."):
            return _readable(await continuation(handler_call_details))
        call = self._telemetry.server_call(
            method, handler_call_details.invocation_metadata, known=method in self._methods
        )
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        self._came += 1
        task.add_done_callback(partial(self._done, call))
        try:
            handler = await continuation(handler_call_details)
        except Exception as error:
            handler = grpc.unary_unary_rpc_method_handler(partial(_raise, error))
        if handler is None:
            call.end(grpc.StatusCode.UNIMPLEMENTED)
            return None
        return _bounded(handler, method, call)

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


def _bounded(handler: Any, method: str, call: ServerCall) -> Any:
    """`handler` with its span ended and its errors mapped, those of its coders included."""
    streams = handler.response_streaming
    function = handler.unary_stream if streams else handler.unary_unary
    read, write = handler.request_deserializer, handler.response_serializer

    async def answer(data: bytes, context: Context) -> Any:
        try:
            result = function(_parsed(read, data), context)
            if hasattr(result, "__aiter__"):
                async with contextlib.aclosing(result):
                    async for item in result:
                        await send(context, item)
                result = None
            elif hasattr(result, "__await__"):
                result = await result
            if write and not streams:
                result = write(result)
        except BaseException as error:
            await _fail(error, method, call, context)
            raise
        call.end(_code(context))
        return result

    if streams:
        return grpc.unary_stream_rpc_method_handler(answer, None, write)
    return grpc.unary_unary_rpc_method_handler(answer)


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
