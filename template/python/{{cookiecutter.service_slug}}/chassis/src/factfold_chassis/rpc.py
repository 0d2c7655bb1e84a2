"""From the contract's RPCs to the team's handlers: what happens around each kind of call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import grpc

from factfold_chassis.boundary import Context, add_trailer
from factfold_chassis.calls import Handler
from factfold_chassis.contract import MethodSpec
from factfold_chassis.errors import ChassisError, NotReady
from factfold_chassis.facts import AT_LEAST, POSITION
from factfold_chassis.settings import Settings

if TYPE_CHECKING:
    from factfold_chassis.core import Core

Answer = Callable[[Any, Context], Awaitable[Any]]

# Of the time a caller left, so that it gets the error in time to see it.
_SHARE = 0.8

_deadline: ContextVar[float | None] = ContextVar("factfold_deadline", default=None)


class DeadlineExceeded(ChassisError):
    """A call that brought no deadline ran out of the default one."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED


def time_left() -> float | None:
    """Seconds until the deadline of the call that is being answered; None: there is none."""
    deadline = _deadline.get()
    return None if deadline is None else max(0.0, deadline - time.monotonic())


def generic_handlers(
    core: Core, settings: Settings, wired: Iterable[tuple[MethodSpec, Handler]]
) -> list[grpc.GenericRpcHandler]:
    """One generic handler per gRPC service, with every RPC that it answers."""
    services: dict[str, dict[str, grpc.RpcMethodHandler[Any, Any]]] = {}
    for method, handler in wired:
        make = (
            grpc.unary_stream_rpc_method_handler
            if method.server_streaming
            else grpc.unary_unary_rpc_method_handler
        )
        services.setdefault(method.service, {})[method.name] = make(
            _answer(core, settings, handler),
            method.request.FromString,
            method.response.SerializeToString,
        )
    return [
        grpc.method_handlers_generic_handler(service, methods)
        for service, methods in services.items()
    ]


def _answer(core: Core, settings: Settings, handler: Handler) -> Answer:
    kinds: Mapping[str, Callable[..., Answer]] = {
        "command": _command,
        "query": _query,
        "watch": _watch,
    }
    return kinds[handler.kind](core, settings, handler.function)


def _command(core: Core, settings: Settings, function: Callable[..., Awaitable[Any]]) -> Answer:
    async def command(request: Any, context: Context) -> Any:
        await _admit(core, settings, context)
        left = context.time_remaining()
        own = settings.default_deadline if left is None else None
        _deadline.set(time.monotonic() + (own or left or 0.0))
        call = core.command(request)
        try:
            async with asyncio.timeout(own) as limit:
                return await function(request, call)
        except TimeoutError:
            if not limit.expired():
                raise
            raise DeadlineExceeded(
                f"no answer within {own:g} s, the default deadline; what was appended is unknown: "
                "repeat the command with the same request_id, or send a deadline"
            ) from None
        finally:
            add_trailer(context, POSITION, call.positions)

    return command


def _query(core: Core, settings: Settings, function: Callable[..., Any]) -> Answer:
    async def query(request: Any, context: Context) -> Any:
        await _admit(core, settings, context)
        return function(request, core.query())

    return query


def _watch(core: Core, settings: Settings, function: Callable[..., Any]) -> Answer:
    async def watch(request: Any, context: Context) -> None:
        await _admit(core, settings, context)
        left = context.time_remaining()
        _deadline.set(None if left is None else time.monotonic() + left)
        call = core.watch()
        try:
            async with aclosing(function(request, call)) as changes:
                async for change in changes:
                    await context.write(change)
        finally:
            add_trailer(context, POSITION, call.last_position)

    return watch


async def _admit(core: Core, settings: Settings, context: Context) -> None:
    """Let a call pass if the service is ready and the view is where the caller has been."""
    if core.draining.is_set():
        raise NotReady("the service is shutting down")
    if not core.ready:
        raise NotReady(core.status)
    asked = [str(value) for name, value in context.invocation_metadata() or () if name == AT_LEAST]
    if asked:
        left = context.time_remaining()
        left = settings.default_deadline if left is None else left
        await core.at_least(",".join(asked), min(settings.read_timeout, _SHARE * left))
