"""A master with replicas, and the sentinels that promote one of them."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import redis

from factfold_cli.redis_server import find
from topologies.node import Node, begin, until

# Seconds of silence after which a server counts as down. Sentinels ask once a second, and the
# machine may be busy: with less they fail over from one that is well.
DOWN_AFTER = 2.5
FAILOVER = 3.0  # seconds that a failover may take; the next one of the same master after twice that


class Sentinel(Node):
    """`redis-server … --sentinel`; `lines` are of its configuration."""

    def __init__(self, binary: Path, port: int, lines: Sequence[str]) -> None:
        super().__init__(binary, port)
        self.id = secrets.token_hex(20)
        self._file = self.data_dir / "sentinel.conf"  # which it writes, too
        own = [f"port {port}", "bind 127.0.0.1", f"dir {self.data_dir}", f"sentinel myid {self.id}"]
        self._file.write_text("\n".join([*own, *lines, ""]))
        self._command = [str(binary), str(self._file), "--sentinel"]


class Sentinels:
    """`with Sentinels() as sentinels:` all know each other, all replicas are in step.

    Args:
        options: further ones of each server, not of the sentinels.
        user, password: with what the servers, the sentinels and this class log in at the servers.
        down_after: seconds of silence after which a server counts as down.

    `nodes` are the servers, the first master first; `sentinels` those who watch them.
    """

    def __init__(
        self,
        replicas: int = 2,
        *,
        name: str = "facts",
        sentinels: int = 3,
        options: Sequence[str] = (),
        user: str = "",
        password: str = "",
        fsync: str = "always",
        binary: Path | None = None,
        down_after: float = DOWN_AFTER,
    ) -> None:
        self.name = name
        self.nodes: list[Node] = []
        self.sentinels: list[Sentinel] = []
        self._replicas, self._watchers = replicas, sentinels
        self._options = options
        self._user, self._password, self._fsync = user, password, fsync
        self._binary = binary or find()
        self._down_after = down_after
        self._ends = ExitStack()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def start(self) -> None:
        with ExitStack() as ends:
            for _ in range(1 + self._replicas):
                self.nodes.append(begin(self._node))
                ends.callback(self.nodes[-1].end)
            for _ in range(self._watchers):
                self.sentinels.append(begin(self._sentinel))
                ends.callback(self.sentinels[-1].end)
            self.settle()
            self._ends = ends.pop_all()

    def stop(self) -> None:
        """Ends all processes, and removes their folders."""
        self._ends.close()

    def _node(self, port: int) -> Node:
        options = list(self._options)
        if self.nodes:
            options += ["--replicaof", "127.0.0.1", str(self.nodes[0].port)]
        return Node(
            self._binary,
            port,
            options,
            user=self._user,
            password=self._password,
            fsync=self._fsync,
        )

    def _sentinel(self, port: int) -> Sentinel:
        name, quorum = self.name, self._watchers // 2 + 1
        lines = [
            f"sentinel monitor {name} 127.0.0.1 {self.nodes[0].port} {quorum}",
            f"sentinel down-after-milliseconds {name} {round(self._down_after * 1000)}",
            f"sentinel failover-timeout {name} {round(FAILOVER * 1000)}",
            f"sentinel parallel-syncs {name} {len(self.nodes)}",
        ]
        if self._user:
            lines.append(f"sentinel auth-user {name} {self._user}")
            lines.append(f"sentinel auth-pass {name} {self._password}")
        return Sentinel(self._binary, port, lines)

    # What it is.

    @property
    def url(self) -> str:
        return self.through({each.port: each.port for each in self.sentinels})

    @property
    def ports(self) -> list[int]:
        """All that a client may be sent to."""
        return [each.port for each in (*self.sentinels, *self.nodes)]

    def through(self, doors: Mapping[int, int]) -> str:
        """The URL for clients who find each port at another one."""
        at = ",".join(f"127.0.0.1:{doors[each.port]}" for each in self.sentinels)
        return f"redis+sentinel://{at}/{self.name}"

    def client(self) -> redis.Redis[Any]:
        """Of the present master."""
        return self.master().client()

    def master(self) -> Node:
        """The one that all sentinels name."""
        found: list[Node] = []

        def named() -> bool:
            ports = {int(self._master_at(sentinel)) for sentinel in self._watching}
            found[:] = [node for node in self.nodes if node.port in ports]
            return len(ports) == 1

        until(named, "the sentinels name one master")
        return found[0]

    def replicas(self) -> list[Node]:
        """Those that run."""
        master = self.master()
        return [node for node in self.nodes if node is not master and node.running]

    def _master_at(self, sentinel: Sentinel) -> str:
        return str(sentinel.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.name)[1])

    @property
    def _watching(self) -> list[Sentinel]:
        return [each for each in self.sentinels if each.running and not each.away]

    # What befalls it.

    def settle(self) -> None:
        """Wait until the sentinels know all servers, and these are in step."""

        def agreed() -> bool:
            master = self.master()
            there = [node for node in self.nodes if node.running and not node.away]
            followers = [node for node in there if node is not master]
            known = {node.port for node in followers}
            return (
                master in there
                and master.ask("ROLE")[0] == "master"
                and all(node.linked for node in followers)
                and all(self._knows(sentinel, known) for sentinel in self._watching)
            )

        until(agreed, "the sentinels know all servers", 60)

    def _knows(self, sentinel: Sentinel, replicas: set[int]) -> bool:
        others = sentinel.ask("SENTINEL", "SENTINELS", self.name)
        found = [_fields(each) for each in sentinel.ask("SENTINEL", "REPLICAS", self.name)]
        well = {int(each["port"]) for each in found if each["flags"] == "slave"}
        return len(others) == len(self.sentinels) - 1 and replicas <= well

    def fail_over(self) -> Node:
        """Kills the master; returns the replica that took its place."""
        successor = self.successor()
        self.master().kill()
        return successor()

    def fail_over_gently(self) -> Node:
        """By order; returns the replica that is promoted.

        The master goes on for some seconds, and what it is given then is lost: `settle` waits until
        it follows the new one.
        """
        before = self.master()

        def ordered() -> bool:
            # Given up by itself if another sentinel still takes the replica for a lost master.
            with contextlib.suppress(redis.ResponseError):  # under way
                self._watching[0].ask("SENTINEL", "FAILOVER", self.name)
            end = time.monotonic() + 2 * FAILOVER
            while time.monotonic() < end:
                if self.master() is not before:
                    return True
                time.sleep(0.02)
            return False

        until(ordered, f"{before} has a successor", 60)
        return self._promoted()

    def successor(self) -> Callable[[], Node]:
        """To be asked for before the master falls; waits for another one, and returns that."""
        before = self.master()

        def found() -> Node:
            until(lambda: self.master() is not before, f"{before} has a successor")
            return self._promoted()

        return found

    def _promoted(self) -> Node:
        """The one that the sentinels name, once it knows."""
        after = self.master()
        until(lambda: after.ask("ROLE")[0] == "master", f"{after} is a master")
        return after

    def start_again(self, node: Node) -> None:
        """Starts one that was killed, with its data; returns when it follows the master."""
        # For some seconds it may believe that it is the master still.
        node.start_again()
        self.settle()


def _fields(flat: list[str]) -> dict[str, str]:
    return dict(zip(flat[::2], flat[1::2], strict=True))
