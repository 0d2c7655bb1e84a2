"""A service: put together from its packages, and run."""

import asyncio
import faulthandler
import importlib
import inspect
import logging
import os
import pkgutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import ModuleType
from typing import Any, Self

import grpc
import uvloop
from google.protobuf.descriptor import FileDescriptor

from factfold_chassis import collector, logs
from factfold_chassis.calls import Handler
from factfold_chassis.contract import Contract, MethodSpec
from factfold_chassis.core import Core
from factfold_chassis.errors import StartError, WiringError
from factfold_chassis.processes import Member, supervise
from factfold_chassis.reactions.declare import Reaction
from factfold_chassis.server import Server
from factfold_chassis.settings import Settings
from factfold_chassis.tasks import within
from factfold_chassis.telemetry import Telemetry
from factfold_chassis.tls import Files
from factfold_chassis.views.declare import Fold

log = logging.getLogger("factfold.service")

_CALLS, _LOG, _SPANS = 0.7, 0.2, 0.1  # shares of the drain timeout
_GRACE = 1.0  # seconds behind it, then the process is ended by force


@dataclass(frozen=True, kw_only=True)
class Service:
    """What a service consists of.

    Args:
        name: of the service, as in a fact's source and in traces.
        contract: descriptors of its own contract's files.
        subscriptions: descriptors of other services' contracts.
        parts: packages; every handler, fold and reaction found in their modules is wired.
        interceptors: see every call but health checks, the first one outermost.
    """

    name: str
    contract: Sequence[FileDescriptor]
    subscriptions: Sequence[FileDescriptor] = ()
    parts: Sequence[ModuleType] = ()
    interceptors: Sequence[grpc.aio.ServerInterceptor] = ()

    def wire(self) -> "Wired":
        """Import the parts and fit them to the contract.

        Raises:
            WiringError: an RPC without handler, a handler without RPC, or one of another kind.
        """
        wired = Wired(Contract(self.contract, self.subscriptions))
        handlers: dict[str, Handler] = {}
        for part in _found(self.parts):
            if isinstance(part, Fold):
                wired.folds.append(part)
            elif isinstance(part, Reaction):
                wired.reactions.append(_fitting_reaction(part, wired.reactions))
            elif handlers.setdefault(_plain(part.name), part) is not part:
                raise WiringError(f"two handlers are named {part.name}: remove one")
        for method in wired.contract.methods:
            handler = handlers.pop(_plain(method.name), None)
            wired.methods.append((method, _fitting(method, handler)))
        for handler in handlers.values():
            raise WiringError(
                f"the handler {handler.name} answers no RPC: name it after one of the contract's, "
                "or if protos/ has it, make the stubs anew: `python hatch_build.py`"
            )
        return wired


@dataclass(frozen=True)
class Wired:
    """A service's parts, found and checked against its contract."""

    contract: Contract
    folds: list[Fold[Any, Any]] = field(default_factory=list)
    reactions: list[Reaction] = field(default_factory=list)
    methods: list[tuple[MethodSpec, Handler]] = field(default_factory=list)


class Running:
    """A service that runs in the present event loop, from entering to leaving `async with`.

    Entering does not wait until the service is ready: `core.wait_ready` does.

    Args:
        member: which one of several processes this is.

    Raises:
        StartError: the service cannot run as it is.
    """

    def __init__(
        self,
        service: Service,
        settings: Settings,
        telemetry: Telemetry,
        member: Member | None = None,
    ):
        self.settings = settings
        self.telemetry = telemetry
        wired = service.wire()
        self.core = Core(
            service.name,
            wired.contract,
            wired.folds,
            wired.reactions,
            settings,
            telemetry,
            first=member is None or member.number == 1,
        )
        self._tls = Files.of(settings, self.core.alarm)
        self._server = Server(self.core, wired.methods, service.interceptors, self._tls)

    @property
    def address(self) -> str:
        """host:port of the gRPC server."""
        return self._server.address

    async def until(self, asked: asyncio.Event) -> None:
        """Serve until then. Raises StartError if it turns out that it cannot."""
        following = self._server.following
        assert following is not None
        following.add_done_callback(lambda _: asked.set())
        await asked.wait()
        if following.done():
            following.result()

    async def __aenter__(self) -> Self:
        self.telemetry.activate()
        Files.activate(self._tls)
        log.info("starting", extra={"redis": self.settings.redis_address})
        try:
            await self._server.start()
            await self.core.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Drain and end, within `settings.drain_timeout`."""
        loop = asyncio.get_running_loop()
        total = self.settings.drain_timeout
        end = loop.time() + total
        await within((_CALLS + _LOG / 4) * total, self._server.drain(_CALLS * total))
        await within(end - _SPANS * total - loop.time(), self.core.close(_LOG * total))
        await asyncio.to_thread(self.telemetry.shutdown, max(0.1, end - loop.time()))


def run(service: Service) -> None:
    """Serve until SIGTERM or SIGINT, then drain; a second signal ends the process at once.

    What keeps the service from starting is one line on stderr and exit code 2. With
    `FACTFOLD_PROCESSES` above 1, as many processes serve, and this one starts and ends them.
    """
    with _refusing(service):
        settings = Settings.from_environment(os.environ)
        if settings.processes == 1:
            _run(service, settings)
        else:
            logs.configure(settings)
            if code := supervise(settings, partial(_run, service)):
                raise SystemExit(code)


def _run(service: Service, settings: Settings, member: Member | None = None) -> None:
    number = member.number if member else None
    with _refusing(service):
        logs.configure(settings, process=number)
        telemetry = Telemetry.from_environment(service.name, number)
        telemetry.install()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(service, settings, telemetry, member))


@contextmanager
def _refusing(service: Service) -> Iterator[None]:
    try:
        yield
    except StartError as error:
        print(f"{service.name}: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None


async def _serve(
    service: Service, settings: Settings, telemetry: Telemetry, member: Member | None
) -> None:
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    signals = (signal.SIGTERM, signal.SIGINT)

    def end(number: signal.Signals) -> None:
        log.info("ending", extra={"signal": number.name, "within_s": settings.drain_timeout})
        asked.set()
        if member:
            loop.remove_reader(member.lifeline)
        for each in signals:
            loop.remove_signal_handler(each)
            signal.signal(each, signal.SIG_DFL)
        # A handler that will not be cancelled, or a disk that does not answer, would hold up the
        # process for ever. In a thread, which the event loop cannot hold up, nor the process it.
        watchdog = threading.Timer(settings.drain_timeout + _GRACE, _end_by_force)
        watchdog.daemon = True
        watchdog.start()

    def orphaned() -> None:
        log.error("the parent process is gone")
        end(signal.SIGTERM)

    for each in signals:
        loop.add_signal_handler(each, end, each)
    running = Running(service, settings, telemetry, member)
    collector.spare()
    if member:
        loop.add_reader(member.lifeline, orphaned)
    async with running:
        if member:
            member.begun()
        await running.until(asked)
    log.info("ended")


def _end_by_force() -> None:
    log.error("hangs, and is ended by force; where each thread is:")
    faulthandler.dump_traceback()
    os._exit(1)


def _found(parts: Sequence[ModuleType]) -> Iterator[Handler | Fold[Any, Any] | Reaction]:
    """Each once, also if several modules import it, in an order that does not change."""
    seen: set[int] = set()
    for part in parts:
        for module in _modules(part):
            for value in vars(module).values():
                if isinstance(value, Handler | Fold | Reaction) and id(value) not in seen:
                    seen.add(id(value))
                    yield value


def _modules(part: ModuleType) -> Iterator[ModuleType]:
    yield part
    if hasattr(part, "__path__"):
        for name in sorted(found.name for found in pkgutil.iter_modules(part.__path__)):
            yield from _modules(importlib.import_module(f"{part.__name__}.{name}"))


def _fitting(method: MethodSpec, handler: Handler | None) -> Handler:
    if method.client_streaming:
        raise WiringError(f"{method.path}: streams of requests are not supported: send one request")
    if method.server_streaming:
        kind, why = "watch", "streams its answers"
    elif method.idempotent:
        kind, why = "query", "is marked NO_SIDE_EFFECTS"
    else:
        kind, why = "command", "is not marked idempotency_level = NO_SIDE_EFFECTS"
    wanted = f"@{kind} {_FORMS[kind]}"
    if handler is None:
        name = "".join(f"_{c.lower()}" if c.isupper() else c for c in method.name).strip("_")
        raise WiringError(
            f"{method.path} has no handler: write {name}(request, call) as `{wanted}`"
        )
    found = f"@{handler.kind} {_form(handler.function)}"
    if found != wanted:
        raise WiringError(f"{method.path} {why}: its handler must be `{wanted}`, not `{found}`")
    return handler


def _fitting_reaction(reaction: Reaction, others: Sequence[Reaction]) -> Reaction:
    name = reaction.name
    if any(other.name == name for other in others):
        raise WiringError(
            f"two reactions are named {name}: rename one; its position is kept under that name"
        )
    if _form(reaction.function) != _FORMS["command"]:
        raise WiringError(f"reaction {name} must be `@reaction(…) {_FORMS['command']}`")
    return reaction


_FORMS = {"command": "async def", "query": "def", "watch": "async def with yield"}


def _form(function: Callable[..., Any]) -> str:
    if inspect.isasyncgenfunction(function):
        return _FORMS["watch"]
    return _FORMS["command" if inspect.iscoroutinefunction(function) else "query"]


def _plain(name: str) -> str:
    return name.replace("_", "").lower()
