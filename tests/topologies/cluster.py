"""Redis Cluster: masters with replicas, slots that move, nodes that fail and come back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import redis
from redis.cluster import ClusterNode
from redis.crc import key_slot

from factfold_cli.redis_server import find
from topologies.bus import Bus
from topologies.migration import Migration
from topologies.node import BUS, Node, begin, port_with_bus, until

SLOTS = 16_384
TIMEOUT = 1.5  # seconds of silence after which a node counts as failed


@dataclass(frozen=True)
class Known:
    """What one node knows of one: `master` is the id of its master, empty if it is one itself."""

    master: str
    failed: bool
    slots: tuple[range, ...]


class Cluster:
    """`with Cluster() as cluster:` all slots are covered, all replicas in step.

    Args:
        masters, replicas: how many; `replicas` of each master.
        options: further ones of each server, such as `("--maxmemory", "64mb")`.
        tls: options of a TLS port that each server gets too, such as `("--tls-cert-file", …)`;
            the nodes speak TLS to each other. Not every server program can.
        user, password: with what the nodes log in at each other, and this class at them.
        node_timeout: seconds of silence after which a node counts as failed.
        partitions: whether `isolate` is to work; not with `tls`.

    `nodes` are all, those that began as masters first.
    """

    def __init__(
        self,
        masters: int = 3,
        replicas: int = 1,
        *,
        options: Sequence[str] = (),
        tls: Sequence[str] = (),
        user: str = "",
        password: str = "",
        fsync: str = "always",
        binary: Path | None = None,
        node_timeout: float = TIMEOUT,
        partitions: bool = False,
    ) -> None:
        self.nodes: list[Node] = []
        self._masters, self._replicas = masters, replicas
        self._options = [
            *("--cluster-enabled", "yes"),
            *("--cluster-node-timeout", str(round(node_timeout * 1000))),
            # A replica may be promoted however old its data are.
            *("--cluster-replica-validity-factor", "0"),
            *options,
        ]
        self._tls = tls
        self._user, self._password, self._fsync = user, password, fsync
        self._binary = binary or find()
        self._bus = Bus() if partitions else None
        self._ends = ExitStack()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def start(self) -> None:
        with ExitStack() as ends:
            if self._bus is not None:
                ends.enter_context(self._bus)
            for _ in range(self._masters * (1 + self._replicas)):
                node = begin(self._node, port_with_bus)
                ends.callback(node.end)
                node.id = node.ask("CLUSTER", "MYID")
                if self._bus is not None:
                    self._bus.is_of(node.bus, node.id)
                self.nodes.append(node)
            self._join()
            self._ends = ends.pop_all()

    def stop(self) -> None:
        """Ends all servers, and removes their folders."""
        self._ends.close()

    def _node(self, port: int) -> Node:
        tls_port = port_with_bus() if self._tls else 0
        options, bus = list(self._options), (tls_port or port) + BUS
        if self._bus is not None:
            bus = self._bus.forward(bus)
            options += ["--cluster-announce-bus-port", str(bus)]
        if tls_port:
            options += ["--tls-port", str(tls_port), "--tls-cluster", "yes", *self._tls]
            options += ["--tls-replication", "yes"]
        node = Node(
            self._binary,
            port,
            options,
            user=self._user,
            password=self._password,
            fsync=self._fsync,
        )
        node.tls_port, node.bus = tls_port, bus
        return node

    def _join(self) -> None:
        masters, replicas = self.nodes[: self._masters], self.nodes[self._masters :]
        for at, node in enumerate(self.nodes):
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", at + 1)
            for other in self.nodes[:at]:  # at once; gossip would take seconds
                node.ask("CLUSTER", "MEET", "127.0.0.1", other.nodes_port, other.bus)
        for at, node in enumerate(masters):
            share = range(SLOTS * at // len(masters), SLOTS * (at + 1) // len(masters))
            node.ask("CLUSTER", "ADDSLOTS", *share)
        ids = {node.id for node in self.nodes}
        until(lambda: all(self._known(node).keys() == ids for node in self.nodes), "all have met")
        for at, node in enumerate(replicas):
            node.ask("CLUSTER", "REPLICATE", masters[at % len(masters)].id)
        self.settle()

    # What it is.

    @property
    def url(self) -> str:
        return self.through({node.port: node.port for node in self.nodes})

    @property
    def ports(self) -> list[int]:
        """All that a client may be sent to."""
        return [node.port for node in self.nodes]

    def through(self, doors: Mapping[int, int]) -> str:
        """The URL for clients who find each port at another one."""
        at = ",".join(f"127.0.0.1:{doors[node.port]}" for node in self.nodes)
        return f"redis+cluster://{at}"

    def client(self) -> redis.RedisCluster[Any]:
        """Finds the master of each key, also while slots move."""
        nodes = [ClusterNode("127.0.0.1", node.port) for node in self._there]
        login = {"username": self._user, "password": self._password} if self._user else {}
        return redis.RedisCluster(startup_nodes=nodes, protocol=2, **login)

    @property
    def tls_url(self) -> str:
        return f"rediss+cluster://{','.join(f'127.0.0.1:{node.tls_port}' for node in self.nodes)}"

    @property
    def masters(self) -> list[Node]:
        return [self._by_id(id) for id, known in self._seen().items() if known.slots]

    def master_of(self, where: str | bytes | int) -> Node:
        """Of a slot, or of a key's."""
        slot = _slot(where)
        for id, known in self._seen().items():
            if any(slot in some for some in known.slots):
                return self._by_id(id)
        raise AssertionError(f"slot {slot} has no master")

    def replicas_of(self, node: Node) -> list[Node]:
        """Those that do not count as failed."""
        seen = self._seen()
        return [
            self._by_id(id)
            for id, known in seen.items()
            if known.master == node.id and not known.failed
        ]

    def master_by(self, replica: Node) -> Node:
        """Whom it follows."""
        return self._by_id(self._seen()[replica.id].master)

    def _by_id(self, id: str) -> Node:
        return next(node for node in self.nodes if node.id == id)

    def _known(self, node: Node) -> dict[str, Known]:
        """What a node knows of all, by their ids."""
        found = {}
        for line in node.ask("CLUSTER", "NODES").splitlines():
            id, _, flags, master, _, _, _, _, *slots = line.split()
            spans = [each.partition("-") for each in slots if not each.startswith("[")]
            found[id] = Known(
                master.strip("-"),
                "fail" in flags.split(","),
                tuple(range(int(first), int(last or first) + 1) for first, _, last in spans),
            )
        return found

    def _seen(self) -> dict[str, Known]:
        """What the nodes know that are there, and not cut off."""
        return self._known(self._there[0])

    @property
    def _there(self) -> list[Node]:
        return [node for node in self.nodes if node.running and not node.away]

    # What befalls it.

    def settle(self) -> None:
        """Wait until those that are there agree on all nodes, and every slot is covered."""

        def agreed() -> bool:
            nodes = self._there
            views = [self._known(node) for node in nodes]
            return (
                all(view == views[0] for view in views)
                and not any(view[node.id].failed for view in views for node in nodes)
                and all("cluster_state:ok" in node.ask("CLUSTER", "INFO") for node in nodes)
                and all(node.linked for node in nodes if views[0][node.id].master)
            )

        until(agreed, "the nodes agree")

    def move(self, where: str | bytes | int, target: Node, *, pause: float = 0) -> None:
        """Moves a slot, or a key's, with so many seconds before each key and before the end."""
        self.migration(where, target).run(pause)

    def migration(self, where: str | bytes | int, target: Node) -> Migration:
        """A move to be made step by step."""
        return Migration(self, _slot(where), target)

    def fail_over(self, master: Node) -> Node:
        """Kills it; returns the replica that took its place."""
        successor = self.successor_of(master)
        master.kill()
        return successor()

    def fail_over_gently(self, master: Node) -> Node:
        """A replica takes over once it has all, and the master becomes one; returns the former."""
        successor = self.successor_of(master)
        self.replicas_of(master)[0].ask("CLUSTER", "FAILOVER")
        return successor()

    def take_over(self, replica: Node) -> None:
        """At once: what it has not got is lost; its master becomes a replica of it."""
        successor = self.successor_of(self.master_by(replica))
        replica.ask("CLUSTER", "FAILOVER", "TAKEOVER")
        replica.catch_up()
        successor()

    def successor_of(self, master: Node) -> Callable[[], Node]:
        """To be asked for before it falls; waits until another has its slots, and returns that."""
        slot = next(slots[0] for slots in self._seen()[master.id].slots)

        def successor() -> Node:
            until(lambda: self.master_of(slot) is not master, f"{master} has a successor")
            self.settle()
            return self.master_of(slot)

        return successor

    def kill(self) -> None:
        """SIGKILL to all of them."""
        for node in self.nodes:
            node.kill()

    def start_again(self, *nodes: Node) -> None:
        """Starts those, or all, that were killed, with their data; returns when all agree."""
        for node in nodes or self.nodes:
            if not node.running:
                node.start_again()
        self.settle()

    def pause(self) -> None:
        """SIGSTOP to all of them."""
        for node in self.nodes:
            node.pause()

    def go_on(self) -> None:
        """SIGCONT."""
        for node in self.nodes:
            node.go_on()

    def isolate(self, node: Node) -> None:
        """No other node hears it, and it hears none; clients reach it still."""
        assert self._bus is not None, "Cluster(partitions=True) can isolate nodes"
        node.away = True
        self._bus.cut(node.id)
        for replica in self.replicas_of(node):
            replica.hold_back()
        if self._seen()[node.id].master:
            node.hold_back()

    def rejoin(self, node: Node) -> None:
        """The end of `isolate`; returns when all agree again."""
        assert self._bus is not None
        self._bus.mend(node.id)
        for each in self.nodes:
            if each.running:
                each.catch_up()
        node.away = False
        self.settle()


def _slot(where: str | bytes | int) -> int:
    if isinstance(where, int):
        return where
    return key_slot(where.encode() if isinstance(where, str) else where)
