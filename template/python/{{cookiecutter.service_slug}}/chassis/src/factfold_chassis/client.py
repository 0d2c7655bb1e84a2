"""Calls to other services: traced, and within the time that the caller left."""

import asyncio
from collections.abc import Sequence
from typing import Any

import grpc

from factfold_chassis.rpc import time_left
from factfold_chassis.telemetry import ClientCall, Telemetry
from factfold_chassis.tls import Files

DEFAULT_DEADLINE = 10.0  # seconds, of unary calls outside of any call that is being answered


def channel(
    target: str,
    *,
    credentials: grpc.ChannelCredentials | None = None,
    interceptors: Sequence[grpc.aio.ClientInterceptor] = (),
) -> grpc.aio.Channel:
    """A channel whose unary and server-streaming calls are traced.

    With `credentials`, else with those of the service whose code runs now (`FACTFOLD_TLS_…`), else
    without TLS. They are of the moment: a channel that is kept longer than a certificate is valid
    cannot connect again.

    A call gets what is left of the time of the call being answered, unless it brings a shorter
    timeout of its own. Use it as `async with channel("127.0.0.1:50052") as shipments:`.
    """
    chain: list[Any] = [_Unary(target), _Stream(target), *interceptors]
    if credentials is None and (files := Files.active()):
        credentials = files.channel_credentials()
    if credentials is None:
        return grpc.aio.insecure_channel(target, interceptors=chain)
    return grpc.aio.secure_channel(target, credentials, interceptors=chain)


class _Traced:
    def __init__(self, target: str):
        host, _, port = target.rpartition("/")[2].rpartition(":")
        self._place = (host, int(port)) if port.isdecimal() else (target, 0)
        self._ending: set[asyncio.Task[None]] = set()

    async def _call(
        self, continuation: Any, details: Any, request: Any, default: float | None
    ) -> Any:
        span = Telemetry.active().client_call(details.method.decode(), *self._place)
        metadata = grpc.aio.Metadata(*(details.metadata or ()), *span.metadata)
        limits = [limit for limit in (details.timeout, time_left()) if limit is not None]
        details = details._replace(timeout=min(limits, default=default), metadata=metadata)
        try:
            call = await continuation(details, request)
        except BaseException:
            span.end(grpc.StatusCode.UNKNOWN)
            raise
        ending = asyncio.create_task(_end(call, span))
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)
        return call


class _Unary(_Traced, grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(
        self, continuation: Any, client_call_details: grpc.aio.ClientCallDetails, request: Any
    ) -> Any:
        return await self._call(continuation, client_call_details, request, DEFAULT_DEADLINE)


class _Stream(_Traced, grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(
        self, continuation: Any, client_call_details: grpc.aio.ClientCallDetails, request: Any
    ) -> Any:
        return await self._call(continuation, client_call_details, request, None)


async def _end(call: Any, span: ClientCall) -> None:
    span.end(await call.code())
