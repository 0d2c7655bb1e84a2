"""The move of a slot from one master to another, under whoever uses it."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from topologies.cluster import Cluster
    from topologies.node import Node


class Migration:
    """Key by key, so that in between the source answers ASK and the target TRYAGAIN.

    `begin`, then `step` while `keys`, then `end`; one may stop anywhere and go on later.
    """

    def __init__(self, cluster: Cluster, slot: int, target: Node) -> None:
        self.slot = slot
        self.target = target
        self._cluster = cluster
        self.source = cluster.master_of(slot)
        assert self.source is not target, f"slot {slot} is on {target} already"

    @property
    def keys(self) -> list[bytes]:
        """Those that are still at the source."""
        with self.source.client() as client:
            found: list[bytes] = client.execute_command(
                "CLUSTER", "GETKEYSINSLOT", self.slot, 1_000
            )
            return found

    def begin(self) -> None:
        self.target.ask("CLUSTER", "SETSLOT", self.slot, "IMPORTING", self.source.id)
        self.source.ask("CLUSTER", "SETSLOT", self.slot, "MIGRATING", self.target.id)

    def step(self, key: bytes | None = None) -> None:
        """Moves one key: the first one that is there, or `key`."""
        key = self.keys[0] if key is None else key
        to = "127.0.0.1", self.target.nodes_port
        with self.source.client() as client:
            client.execute_command("MIGRATE", *to, "", 0, 10_000, *self.target.auth2, "KEYS", key)

    def end(self) -> None:
        """The slot is the target's, and all nodes know it."""
        # The target first: a client that the source sends on must not be sent back.
        others = [node for node in self._cluster.masters if node is not self.source]
        others.sort(key=lambda node: node is not self.target)
        for node in [*others[:1], self.source, *others[1:]]:
            node.ask("CLUSTER", "SETSLOT", self.slot, "NODE", self.target.id)
        self._cluster.settle()

    def run(self, pause: float = 0, dice: random.Random | None = None) -> None:
        """All of it, with so many seconds before each key and before the end.

        `dice`: the keys go in any order.
        """
        self.begin()
        while True:
            time.sleep(pause)
            if not (left := self.keys):
                return self.end()
            self.step(dice.choice(left) if dice else None)
