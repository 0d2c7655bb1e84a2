"""Calls to other services: traced, and within the time that the caller left.

async with channel("127.0.0.1:50052") as shipments:
    await ShipmentServiceStub(shipments).GetShipment(request)
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from factfold_chassis.rpc import time_left
from factfold_chassis.telemetry import ClientCall, Telemetry

DEFAULT_DEADLINE = 10.0  # seconds, of unary calls outside of any call that is being answered

Continuation = Callable[[grpc.aio.ClientCallDetails, Any], Awaitable[Any]]


def channel(
    target: str,
    *,
    credentials: grpc.ChannelCredentials | None = None,
    interceptors: tuple[grpc.aio.ClientInterceptor, ...] = (),
    options: tuple[tuple[str, Any], ...] = (),
) -> grpc.aio.Channel:
    """A channel whose unary-unary and unary-stream calls are traced; without credentials plain.

    A call gets the rest of the time that the call being answered has, if it brings no shorter
    timeout of its own.
    """
    traced = _Traced(target)
    chain: list[Any] = [_Unary(traced), _Stream(traced), *interceptors]
    if credentials is None:
        return grpc.aio.insecure_channel(target, options, interceptors=chain)
    return grpc.aio.secure_channel(target, credentials, options, interceptors=chain)


class _Traced:
    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition("/")[2].rpartition(":")
        self._host, self._port = (host, int(port)) if port.isdecimal() else (target, 0)
        self._ending: set[asyncio.Task[None]] = set()

    async def start(
        self,
        continuation: Continuation,
        details: grpc.aio.ClientCallDetails,
        request: Any,
        default: float | None,
    ) -> Any:
        method = details.method
        path = method.decode() if isinstance(method, bytes) else method
        span = Telemetry.active().client_call(path, self._host, self._port)
        limits = [limit for limit in (details.timeout, time_left()) if limit is not None]
        changed = grpc.aio.ClientCallDetails(
            method,
            min(limits, default=default),
            grpc.aio.Metadata(*(details.metadata or ()), *span.metadata),
            details.credentials,
            details.wait_for_ready,
        )
        try:
            call = await continuation(changed, request)
        except BaseException:
            span.end(grpc.StatusCode.UNKNOWN)
            raise
        ending = asyncio.create_task(_end(call, span))
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)
        return call


class _Unary(grpc.aio.UnaryUnaryClientInterceptor):
    def __init__(self, traced: _Traced) -> None:
        self._traced = traced

    async def intercept_unary_unary(
        self, continuation: Any, client_call_details: grpc.aio.ClientCallDetails, request: Any
    ) -> Any:
        return await self._traced.start(
            continuation, client_call_details, request, DEFAULT_DEADLINE
        )


class _Stream(grpc.aio.UnaryStreamClientInterceptor):
    def __init__(self, traced: _Traced) -> None:
        self._traced = traced

    async def intercept_unary_stream(
        self, continuation: Any, client_call_details: grpc.aio.ClientCallDetails, request: Any
    ) -> Any:
        return await self._traced.start(continuation, client_call_details, request, None)


async def _end(call: Any, span: ClientCall) -> None:
    span.end(await call.code())
