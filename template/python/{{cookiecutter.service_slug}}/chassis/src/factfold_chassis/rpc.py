"""From the contract's RPCs to the team's handlers: what happens around each kind of call."""

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import aclosing
from contextvars import ContextVar
from functools import partial
from typing import Any

import grpc

from factfold_chassis.boundary import Context, Handlers, add_trailer, at_least, send
from factfold_chassis.calls import Handler
from factfold_chassis.contract import MethodSpec
from factfold_chassis.core import Core
from factfold_chassis.errors import DeadlineExceeded, NotReady
from factfold_chassis.facts import POSITION

# Of the time a caller left, so that it gets the error in time to see it.
_SHARE = 0.8

_deadline: ContextVar[float | None] = ContextVar("factfold_deadline", default=None)


def time_left() -> float | None:
    """Seconds until the deadline of the call that is being answered; None: there is none."""
    deadline = _deadline.get()
    return None if deadline is None else max(0.0, deadline - time.monotonic())


def handlers(core: Core, wired: Iterable[tuple[MethodSpec, Handler]]) -> Handlers:
    """What answers each RPC, by its path."""
    around = {"command": _command, "query": _query, "watch": _watch}
    found: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
    for method, handler in wired:
        make = (
            grpc.unary_stream_rpc_method_handler
            if method.server_streaming
            else grpc.unary_unary_rpc_method_handler
        )
        found[method.path] = make(
            partial(around[handler.kind], core, handler.function),
            method.request.FromString,
            method.response.SerializeToString,
        )
    return found


async def _command(core: Core, function: Callable[..., Any], request: Any, context: Context) -> Any:
    await _admit(core, context)
    left = context.time_remaining()
    own = core.settings.default_deadline if left is None else None
    _deadline.set(time.monotonic() + (own or left or 0.0))
    call = core.command(request)
    try:
        if own is None:
            return await function(request, call)
        async with asyncio.timeout(own) as limit:
            return await function(request, call)
    except TimeoutError:
        if own is None or not limit.expired():
            raise
        raise DeadlineExceeded(own) from None
    finally:
        add_trailer(context, POSITION, call.positions)


def _query(core: Core, function: Callable[..., Any], request: Any, context: Context) -> Any:
    """The answer, or if it takes time what to await for it."""
    if at_least.get():
        return _query_at_least(core, function, request, context)
    _admit_now(core)
    return function(request, core.query())


async def _query_at_least(
    core: Core, function: Callable[..., Any], request: Any, context: Context
) -> Any:
    await _admit(core, context)
    return function(request, core.query())


async def _watch(core: Core, function: Callable[..., Any], request: Any, context: Context) -> None:
    await _admit(core, context)
    left = context.time_remaining()
    _deadline.set(None if left is None else time.monotonic() + left)
    call = core.watch()
    try:
        async with aclosing(function(request, call)) as changes:
            async for change in changes:
                await send(context, change)
    finally:
        add_trailer(context, POSITION, call.last_position)


def _admit_now(core: Core) -> None:
    """Let a call pass if the service is ready."""
    if core.draining.is_set():
        raise NotReady("the service is shutting down")
    if not core.ready:
        raise NotReady(core.status)


async def _admit(core: Core, context: Context) -> None:
    """Let a call pass if the service is ready and the view is where the caller has been."""
    _admit_now(core)
    asked = at_least.get()
    if asked:
        left = context.time_remaining()
        left = core.settings.default_deadline if left is None else left
        await core.at_least(asked, min(core.settings.read_timeout, _SHARE * left))
        if not core.ready:  # a view that was there has begun anew since
            raise NotReady(core.status)
