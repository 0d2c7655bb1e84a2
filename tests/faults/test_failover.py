"""A replica is promoted that lacks the last claim to a partition."""

import asyncio

import pytest
from topologies import Node

from .log import PARTITIONS, Log, Sent, eventually, keys, partition_of
from .proxy import Command, Hook, Link, Verdict
from .reacting import Instance, first_at
from .row import Row

KEYS = keys(500)
OF = [[key for key in KEYS if partition_of(key) == partition] for partition in range(PARTITIONS)]
STEPS = ("settle", "append", "commit")


async def follower(row: Row, primary: Node) -> Node:
    """A replica that has all that the primary had when this was called."""
    replica = row.redis("--replicaof", "127.0.0.1", str(primary.port))
    with Log(primary).redis() as client:
        offset = client.info("replication")["master_repl_offset"]
    with Log(replica).redis() as client:

        def caught_up() -> bool:
            state = client.info("replication")
            return state["master_link_status"] == "up" and state["slave_repl_offset"] >= offset

        await eventually(caught_up)
    return replica


class Replies(Hook):
    """Which tokens the fence of settle and commit lets through."""

    def __init__(self) -> None:
        self.accepted: set[str] = set()
        self.refused: set[str] = set()

    async def reply(self, link: Link, command: Command, reply: bytes) -> Verdict:
        if command.name in ("settle", "commit"):
            # Anything else, GAP and MOVED too, comes from behind the fence.
            which = self.refused if b"\r\nFENCED\r\n" in reply[:32] else self.accepted
            which.add(command.arguments[0].decode())
        return Verdict.PASS

    async def heard(self, token: str) -> None:
        await eventually(
            lambda: token in self.accepted | self.refused, 20, lambda: f"nothing came with {token}"
        )


@pytest.mark.alone("test_cluster.py has the failovers of a cluster")
@pytest.mark.at_least(21)
async def test_claim_is_lost(row: Row) -> None:
    """failover that loses ownership and token"""
    primary = row.redis()
    through = await row.proxy(primary)
    writer = await row.probe(through).ready()
    sent = Sent()
    steps: list[str] = []
    while row.more:
        steps = steps or row.random.sample(STEPS, len(STEPS))
        partition = row.random.randrange(PARTITIONS)
        units = [sent.unit(key) for key in row.random.sample(OF[partition], 60)]
        sent.answered(units, await writer.append_many(units))
        promoted = await follower(row, primary)
        with Log(promoted).redis() as client:
            client.replicaof("NO", "ONE")
        await through.move(promoted)

        # Each server now has an owner, and each of them is about to do something.
        late = await Instance.begin(row, primary, "answer")
        owner = await Instance.begin(row, promoted, "answer")
        held = Held(late, steps.pop()), Held(owner, row.random.choice(STEPS))
        await asyncio.gather(*(each.comes() for each in held))
        lost, claimed = (
            Log(server).group("inputs", partition, "answer")["token"]
            for server in (primary, promoted)
        )
        assert lost.split(":")[0] == claimed.split(":")[0]

        # The one that has not heard of it goes on with its token on the server that lacks it.
        replies = Replies()
        for each in (late, owner):
            each.proxy.hooks.append(replies)
        await late.proxy.move(promoted)
        held[0].go_on.set()
        await replies.heard(lost)
        held[1].go_on.set()
        log = Log(promoted)
        await asyncio.gather(replies.heard(claimed), log.reacted("answer"))
        assert lost in replies.refused - replies.accepted
        assert claimed in replies.accepted - replies.refused
        await asyncio.to_thread(primary.stop)
        row.injected()

        # Both go on as members of one group.
        await asyncio.gather(late.ready(), owner.ready())
        units = [sent.unit(key) for key in KEYS]
        sent.answered(units, await writer.append_many(units))
        await log.reacted("answer")
        if not row.more:
            await row.view_is_rebuild(log, writer, late.probe, owner.probe, at=promoted)
        for each in (late, owner):
            each.probe.kill()
        primary = promoted
    row.appended(log, sent)
    row.answered(log, "answer")


class Held:
    """An owner's step on its way to Redis, until it is let go on."""

    def __init__(self, instance: Instance, step: str):
        self.go_on = asyncio.Event()
        self._instance = instance
        self._step = step

    async def comes(self) -> None:
        """Returns when it is on its way."""
        await first_at([self._instance], (self._step, False), self._hold, then=Verdict.PASS)

    async def _hold(self, instance: Instance) -> None:
        await self.go_on.wait()
