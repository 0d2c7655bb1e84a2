"""The gRPC server: health, reflection, one list of interceptors, and an orderly end."""

import asyncio
import contextlib
import logging
import re
from collections.abc import Sequence
from typing import Any

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from factfold_chassis.boundary import Boundary, Handlers
from factfold_chassis.calls import Handler
from factfold_chassis.contract import MethodSpec
from factfold_chassis.core import Core
from factfold_chassis.errors import AddressRefused
from factfold_chassis.rpc import handlers
from factfold_chassis.tls import Files

log = logging.getLogger("factfold.server")

_LOOK_EVERY = 0.5  # seconds: how often a service that waits looks what it waits for
_SAY_EVERY = 5.0  # seconds: how often it says how far it has come
_FIGURE = re.compile(r"\d+")
_QUIET, _LONGEST_REFUSAL = 0.05, 0.5  # seconds
_WAITING = 100_000  # calls
# A name to ask health for: SERVING as long as the process answers, ready or not. To restart one
# that waits for its log, or rebuilds, would only make it begin again.
ALIVE = "alive"
_ENDLESS = 24 * 3600.0  # seconds: no drain takes so long


class Server:
    """Serves from `start` on; health follows `core.ready`, but that of `ALIVE` does not.

    One of several processes listens only once the core is ready: before that, whoever connects
    is to meet one of the others.

    Attributes:
        address: host:port, once it listens.
        health_address: of `FACTFOLD_HEALTH_LISTEN`, once that listens; empty without one.
        following: does the work after `start`; ends only by failing, as `start` does.
    """

    def __init__(
        self,
        core: Core,
        wired: Sequence[tuple[MethodSpec, Handler]],
        interceptors: Sequence[grpc.aio.ServerInterceptor],
        tls: Files | None = None,
    ) -> None:
        self.address = core.settings.listen
        self.health_address = core.settings.health_listen
        self._core = core
        self._tls = tls
        self._shared = core.settings.processes > 1
        self._services = sorted({method.service for method, _ in wired})
        self._health = health.aio.HealthServicer()
        others: Any = _Registry()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, others)
        names = [*self._services, health.SERVICE_NAME, reflection.SERVICE_NAME]
        reflected = reflection.aio.ReflectionServicer(names, pool=_Pool())
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(  # type: ignore[no-untyped-call]
            reflected, others
        )
        self._boundary = Boundary(
            core.telemetry, handlers(core, wired), others.handlers, interceptors
        )
        self._news = asyncio.Event()
        self.following: asyncio.Task[None] | None = None
        # Others on this port would share its calls without anybody noticing.
        reuse = ("grpc.so_reuseport", int(self._shared))
        self._probes = grpc.aio.server(options=[reuse]) if self.health_address else None
        if self._probes:
            health_pb2_grpc.add_HealthServicer_to_server(self._health, self._probes)
        self._server = grpc.aio.server(
            interceptors=[self._boundary] if interceptors else None,
            options=[
                reuse,
                # gRPC ends calls beyond these as CANCELLED, at random from 1,000 on that wait to
                # be accepted, and callers do not repeat what was cancelled.
                ("grpc.server.max_pending_requests", _WAITING),
                ("grpc.server.max_pending_requests_hard_limit", _WAITING),
            ],
        )
        self._server.add_generic_rpc_handlers((self._boundary,))

    async def start(self) -> None:
        """Raises AddressRefused."""
        await self._health.set(ALIVE, health_pb2.HealthCheckResponse.SERVING)
        await self._set_health(serving=False)
        if not self._shared:
            await self._listen()
        self._core.on_ready_change.append(lambda _: self._news.set())
        self.following = asyncio.create_task(self._follow())

    async def _listen(self) -> None:
        settings = self._core.settings
        credentials = self._tls.server_credentials() if self._tls else None
        self.address = _bound(self._server, settings.listen, "FACTFOLD_LISTEN", credentials)
        await self._server.start()
        if self._probes:
            listen = settings.health_listen
            self.health_address = _bound(self._probes, listen, "FACTFOLD_HEALTH_LISTEN")
            await self._probes.start()

    async def drain(self, timeout: float) -> None:
        """Take no more calls and let those under way finish, `timeout` seconds at most.

        Watches end at once, with the position to resume from.
        """
        end = asyncio.get_running_loop().time() + timeout
        if self.following is not None:
            self.following.cancel()
        # A health watcher that does not read must not hold up the end.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._health.enter_graceful_shutdown(), min(1.0, timeout))
        self._core.drain()
        # gRPC ends calls that wait to be accepted when it stops as CANCELLED, which callers do
        # not repeat. So they are accepted and refused until hardly any can be left.
        await self._boundary.quiet(_QUIET, min(_LONGEST_REFUSAL, timeout))
        left = max(0.0, end - asyncio.get_running_loop().time())
        # Two stops whose time is up at once crash gRPC, and so does one that is cancelled.
        stopping = asyncio.create_task(self._server.stop(_ENDLESS))
        await self._boundary.idle(left)
        # What is left are health watches and reflection, which never end by themselves, and calls
        # whose time is up.
        await asyncio.shield(self._server.stop(None))
        await asyncio.shield(stopping)
        if self._probes:
            await asyncio.shield(self._probes.stop(None))

    async def _follow(self) -> None:
        loop = asyncio.get_running_loop()
        serving, listening, said, at = False, not self._shared, "", 0.0
        while True:
            self._news.clear()
            ready = self._core.ready
            if ready != serving:
                serving, said = ready, ""
                await self._set_health(serving=ready)
                if not listening:
                    await self._listen()
                    listening = True
                if ready:
                    probed = {"health": self.health_address} if self._probes else {}
                    log.info("serving", extra={"address": self.address, **probed})
                else:
                    log.error("not serving", extra={"reason": self._core.status})
            elif (
                not ready
                and (status := self._core.status) != said
                # That only its figures have changed is said now and then.
                and (
                    _FIGURE.sub("", status) != _FIGURE.sub("", said)
                    or loop.time() > at + _SAY_EVERY
                )
            ):
                said, at = status, loop.time()
                log.info("waiting", extra={"reason": said, "address": self.address})
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), None if ready else _LOOK_EVERY)

    async def _set_health(self, *, serving: bool) -> None:
        statuses = health_pb2.HealthCheckResponse
        status = statuses.SERVING if serving else statuses.NOT_SERVING
        for name in ("", *self._services):
            await self._health.set(name, status)


def _bound(
    server: grpc.aio.Server,
    listen: str,
    setting: str,
    credentials: grpc.ServerCredentials | None = None,
) -> str:
    """The address that it has now; plaintext without `credentials`."""
    try:
        if credentials is None:
            port = server.add_insecure_port(listen)
        else:
            port = server.add_secure_port(listen, credentials)
    except RuntimeError:
        raise AddressRefused(listen, setting) from None
    return f"{listen.rpartition(':')[0]}:{port}"


class _Registry:
    """A server to which gRPC's own services are added, for the boundary to go around them."""

    def __init__(self) -> None:
        self.handlers: Handlers = {}

    def add_registered_method_handlers(self, service: str, handlers: Handlers) -> None:
        paths = {f"/{service}/{name}": handler for name, handler in handlers.items()}
        self.handlers = {**self.handlers, **paths}

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """The same once more."""


class _Pool:
    """protobuf's pool, which finds the files of services, but not those of their methods."""

    def __init__(self) -> None:
        self._pool = descriptor_pool.Default()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            return self._pool.FindMethodByName(symbol).containing_service.file
