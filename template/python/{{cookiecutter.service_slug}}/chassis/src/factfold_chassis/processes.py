"""Several processes behind one port, each with its own views; the kernel spreads the connections.

The parent keeps the address, starts the processes, starts those again that end by themselves, and
ends them all. It has no threads, no event loop and no gRPC, as a fork carries none of them over.
"""

import logging
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from multiprocessing.context import ForkProcess
from typing import Any

from factfold_chassis.errors import AddressRefused, SettingsError, StartError
from factfold_chassis.settings import Settings

log = logging.getLogger("factfold.processes")

_BEGUN = signal.SIGUSR1
_ENDS = (signal.SIGTERM, signal.SIGINT)
_HEARD = (*_ENDS, _BEGUN, signal.SIGCHLD)
_SHORTEST, _LONGEST = 0.1, 10.0  # seconds from an end to the next start
_STEADY = 30.0  # seconds: what has run for so long does not end because of how it began
_NOTHING_DUE = 3600.0  # seconds
_TCP = socket.SOCK_STREAM


@dataclass(frozen=True)
class Member:
    """One of several processes.

    Attributes:
        number: from 1 on; one that takes another's place has the same.
        lifeline: a file descriptor, readable once the parent is gone.
    """

    number: int
    lifeline: int
    _parent: int

    def begun(self) -> None:
        """Tell the parent that nothing keeps the service from starting."""
        os.kill(self._parent, _BEGUN)


Serve = Callable[[Settings, Member], None]


def supervise(settings: Settings, serve: Serve) -> int:
    """Run `serve` in `settings.processes` processes until SIGTERM or SIGINT, which drain them.

    A second signal ends all at once. Returns the exit code: 0, or of the first one that failed.

    Raises:
        SettingsError: the address cannot be had.
    """
    if sys.platform != "linux":
        raise SettingsError("FACTFOLD_PROCESSES: only Linux shares a port; set it to 1")
    with ExitStack() as reserved:
        listen = _reserve(settings.listen, "FACTFOLD_LISTEN", reserved)
        health = settings.health_listen
        if health:
            health = _reserve(health, "FACTFOLD_HEALTH_LISTEN", reserved)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # exit codes are lost where it is ignored
        # None is lost between two looks, nor between a fork and the child's own handlers.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)
        settings = replace(settings, listen=listen, health_listen=health)
        return _Parent(settings, serve, reserved, mask).run()


def _reserve(listen: str, setting: str, held: ExitStack) -> str:
    """The address with the port that it has until `held` is closed."""
    host, _, port = listen.rpartition(":")
    with suppress(OSError):
        for family, *_, address in socket.getaddrinfo(host.strip("[]"), port, type=_TCP):
            with suppress(OSError):
                port = held.enter_context(_held(family, address)).getsockname()[1]
                return f"{host}:{port}"
    raise AddressRefused(listen, setting)


def _held(family: int, address: Any) -> socket.socket:
    """Bound, so that only the children may listen there."""
    with socket.socket(family) as probe:
        # As a server has it: what is left of connections that were closed does not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
        held = socket.socket(family)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(probe.getsockname())
    # Nobody listens yet: otherwise another parent could get as far as this one.
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    return held


@dataclass
class _Child:
    number: int
    process: ForkProcess | None = None
    began: float = 0.0
    pause: float = 0.0
    due: float = 0.0


class _Parent:
    def __init__(self, settings: Settings, serve: Serve, reserved: ExitStack, mask: set[int]):
        self._settings = settings
        self._serve = serve
        self._reserved = reserved
        self._mask = mask
        self._lifeline = os.pipe()
        self._children = [_Child(number) for number in range(1, settings.processes + 1)]
        self._begun = False
        self._ending = False
        self._code = 0

    def run(self) -> int:
        log.info(
            "starting processes",
            extra={"processes": len(self._children), "address": self._settings.listen},
        )
        try:
            while not self._ending or self._running():
                self._start()
                heard = signal.sigtimedwait(_HEARD, self._patience())
                if heard is not None:
                    self._hear(signal.Signals(heard.si_signo))
                self._reap()
        finally:
            for end in self._lifeline:
                os.close(end)
        return self._code

    def _running(self) -> list[ForkProcess]:
        return [child.process for child in self._children if child.process is not None]

    def _missing(self) -> list[_Child]:
        """The first one shows alone whether the service can start: it says once why not."""
        wanted = self._children if self._begun else self._children[:1]
        return [child for child in wanted if child.process is None and not self._ending]

    def _start(self) -> None:
        for child in self._missing():
            if child.due <= time.monotonic():
                child.began = time.monotonic()
                child.process = multiprocessing.get_context("fork").Process(
                    target=self._be, args=(child.number, os.getpid())
                )
                child.process.start()

    def _be(self, number: int, parent: int) -> None:
        os.setpgid(0, 0)  # Ctrl-C is for the parent to answer
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # also one that came before that
        lifeline, held = self._lifeline
        os.close(held)
        self._reserved.close()
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        self._serve(self._settings, Member(number, lifeline, parent))

    def _patience(self) -> float:
        due = min((child.due for child in self._missing()), default=float("inf"))
        return min(_NOTHING_DUE, max(0.0, due - time.monotonic()))

    def _hear(self, number: signal.Signals) -> None:
        if number == _BEGUN:
            self._begun = True
        elif number in _ENDS and self._ending:
            self._end_at_once(number)
        elif number in _ENDS:
            log.info("ending processes", extra={"signal": number.name})
            self._end()

    def _end(self) -> None:
        self._ending = True
        for process in self._running():
            process.terminate()

    def _end_at_once(self, number: signal.Signals) -> None:
        for process in self._running():
            process.kill()
        signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDS)
        os.kill(os.getpid(), number)
        raise SystemExit(128 + number)  # the first process of a container outlives a signal

    def _reap(self) -> None:
        for child in self._children:
            process = child.process
            if process is not None and process.exitcode is not None:
                child.process = None
                self._ended(child, process.pid, process.exitcode)

    def _ended(self, child: _Child, pid: int | None, code: int) -> None:
        if self._ending:
            # Without handlers yet, a process ends by the signal itself.
            if code not in (0, -signal.SIGTERM) and not self._code:
                self._code = code if code > 0 else 128 - code
        elif code == StartError.exit_code or (code > 0 and not self._begun):
            self._code = code
            self._end()
        else:
            now = time.monotonic()
            steady = now - child.began > _STEADY
            child.pause = _SHORTEST if steady else min(_LONGEST, max(_SHORTEST, 2 * child.pause))
            child.due = now + child.pause
            log.error(
                "process %d has ended and is started again", child.number,
                extra={
                    "pid": pid,
                    "why": signal.strsignal(-code) if code < 0 else f"exit code {code}",
                    "pause_s": child.pause,
                },
            )  # fmt: skip
