"""One server among several."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from factfold_cli.redis_server import PortInUse, RedisServer, ServerError, free_port

S = TypeVar("S", bound=RedisServer)
BUS = 10_000  # a cluster's nodes speak to each other on their port and so much
_TOP = 22_000  # above, a bus would be among the ports of outgoing connections
_SECONDS = 30.0  # the machine may be busy


class Node(RedisServer):
    """A server of a topology.

    id         its name in a cluster, 40 hex digits
    bus        the port at which the other nodes of a cluster find it
    tls_port   0 if it has none
    away       whether the others do not reach it, though it runs

    `user` and `password` are what it and the tests log in with at the others.
    """

    def __init__(
        self,
        binary: Path,
        port: int,
        options: Sequence[str] = (),
        *,
        fsync: str = "always",
        user: str = "",
        password: str = "",
    ) -> None:
        self.id = ""
        self.bus = self.tls_port = 0
        self.away = False
        self._login = {"username": user, "password": password} if user else {}
        own = ["--repl-diskless-sync-delay", "0"]  # seconds that a replica would wait for others
        if user:
            own += ["--masteruser", user, "--masterauth", password]
        super().__init__(binary, None, fsync, port, [*own, *options])

    def __repr__(self) -> str:
        return f"{type(self).__name__} {self.port}"

    @property
    def nodes(self) -> list[Node]:
        return [self]

    @property
    def ports(self) -> list[int]:
        """All that a client may be sent to."""
        return [self.port]

    def through(self, doors: Mapping[int, int]) -> str:
        """Its URL for clients who find each of its ports at another one."""
        return f"redis://127.0.0.1:{doors[self.port]}/0"

    def client(self, **how: Any) -> redis.Redis[Any]:
        """Speaks to this server alone, follows no redirection, tries nothing twice."""
        how = {"protocol": 2, "socket_timeout": 10, "retry": Retry(NoBackoff(), 0), **how}
        return redis.Redis(port=self.port, **self._login, **how)

    def ask(self, *words: str | int) -> Any:
        """A command's reply, text decoded."""
        with self.client(decode_responses=True) as client:
            return client.execute_command(*words)

    def pause(self) -> None:
        """SIGSTOP: it answers nobody, and no connection to it ends."""
        os.kill(self.pid, signal.SIGSTOP)
        self.away = True

    def go_on(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)
        self.away = False

    @property
    def nodes_port(self) -> int:
        """At which replicas, and slots that move, come in."""
        return self.tls_port or self.port

    @property
    def auth2(self) -> tuple[str, ...]:
        """What MIGRATE to it needs."""
        return ("AUTH2", *self._login.values()) if self._login else ()

    @property
    def linked(self) -> bool:
        """Whether it is a replica that is in step with its master."""
        return bool(self.ask("INFO", "replication").get("master_link_status") == "up")

    def hold_back(self) -> None:
        """A replica gets nothing that is written from now on, until `catch_up`."""
        # Its master refuses it, and nobody else.
        self._log_in_as("nobody", "nothing")
        self.ask("CLIENT", "KILL", "TYPE", "master")
        until(lambda: not self.linked, f"{self} is cut off from its master")

    def catch_up(self) -> None:
        """The end of `hold_back`; it is not linked yet."""
        self._log_in_as(self._login.get("username", ""), self._login.get("password", ""))

    def _log_in_as(self, user: str, password: str) -> None:
        self.ask("CONFIG", "SET", "masteruser", user)
        self.ask("CONFIG", "SET", "masterauth", password)

    def end(self) -> None:
        """At once, also if it is paused, and its folder with it."""
        self.kill()
        self.stop()


def begin(make: Callable[[int], S], port: Callable[[], int] = free_port) -> S:
    """A server that runs, on a port that nobody has taken meanwhile."""
    for _ in range(20):
        server = make(port())
        with contextlib.suppress(PortInUse):
            server.start_again()
            return server
    raise PortInUse("No free port was found on 127.0.0.1")


def port_with_bus() -> int:
    """A free port whose bus port is free too."""
    while True:
        port = free_port()
        with socket.socket() as probe, contextlib.suppress(OSError):
            if port < _TOP:
                probe.bind(("127.0.0.1", port + BUS))
                return port


def until(check: Callable[[], Any], what: str, seconds: float = _SECONDS) -> Any:
    """The first true result of `check()`; a server that does not answer yet is asked again.

    Raises AssertionError with `what` was waited for.
    """
    end = time.monotonic() + seconds
    error: Exception | None = None
    while time.monotonic() < end:
        try:
            if result := check():
                return result
        except (redis.RedisError, OSError, ServerError) as last:
            error = last
        time.sleep(0.02)
    raise AssertionError(f"Not within {seconds:g} s: {what}") from error
