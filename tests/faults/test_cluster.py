"""Slots that move and masters that fall, under load."""

import asyncio
import time
from collections.abc import Callable

import pytest
from topologies import Cluster, Node
from topologies.node import until

from .log import PARTITIONS, STREAMS, Log, Sent, eventually
from .proxy import Command, Hook, Link, Verdict
from .reacting import Instance
from .row import Row
from .shards import KEYS, REACTIONS, Redirections, Traffic
from .test_failover import OF, Replies
from .test_ownership import REPLY_TIMEOUT
from .test_redis_dies import Repeating

pytestmark = pytest.mark.topology("cluster")
CONFIRMED = pytest.mark.parametrize("confirmed", [False, True], ids=["alone", "confirmed"])


def label(confirmed: bool) -> str:
    return "a replica confirms each fact" if confirmed else "no replica confirms"


def place(row: Row, stream: str) -> str:
    """Of one of its partitions."""
    return f"{{{stream}/{row.random.randrange(PARTITIONS)}}}"


def moving(row: Row, cluster: Cluster, where: str) -> Callable[[], None]:
    """Moves the slot to another master, key by key, in any order."""
    others = [node for node in cluster.masters if node is not cluster.master_of(where)]
    migration = cluster.migration(where, row.random.choice(others))
    pause = row.random.uniform(0.02, 0.3)
    return lambda: migration.run(pause, row.random)


@pytest.mark.at_least(5)
@pytest.mark.parametrize("stream", ["inputs", "moves", "outputs"])
async def test_slot_moves(row: Row, stream: str) -> None:
    """move a slot key by key to another master, under load"""
    row.label = {
        "inputs": "with what a reaction reads",
        "moves": "with versions that commands expect",
        "outputs": "with what a reaction appends",
    }[stream]
    traffic = await Traffic.begin(row)
    redirections, moved = Redirections(), Sent("moves")
    traffic.proxy.hooks.append(redirections)
    repeating = [Repeating(traffic.writer, moved, key) for key in KEYS[:16]]
    commands = [asyncio.create_task(each.run()) for each in repeating]
    async with traffic.load() as load:
        # A slot with few keys may have moved before all of these were met.
        while row.more or not redirections.all_seen:
            await traffic.during(load, moving(row, traffic.server, place(row, stream)))
            row.injected()
        for each in repeating:
            each.stopping = True
        await asyncio.gather(*commands)
    assert not moved.unknown
    assert not await traffic.accounted_for(moved)
    traffic.nothing_is_lost()


@pytest.mark.at_least(10)
async def test_failed_over_gently(row: Row) -> None:
    """a replica takes over when it has all, under load"""
    traffic = await Traffic.begin(row, replicas=1)
    cluster = traffic.server
    async with traffic.load() as load:
        while row.more:
            master = row.random.choice(cluster.masters)
            await traffic.during(load, lambda m=master: cluster.fail_over_gently(m))
            row.injected()
    assert not await traffic.accounted_for()
    traffic.nothing_is_lost()


@pytest.mark.at_least(10)
@CONFIRMED
async def test_master_is_killed(row: Row, confirmed: bool) -> None:
    """SIGKILL a master, its replica is promoted, under load"""
    row.label = label(confirmed)
    traffic = await Traffic.begin(row, replicas=1, confirmed=confirmed)
    cluster = traffic.server
    async with traffic.load() as load:
        while row.more:
            master = cluster.master_of(place(row, row.random.choice(["inputs", "outputs"])))
            await traffic.during(load, lambda m=master: cluster.fail_over(m))
            row.injected()
            await asyncio.to_thread(cluster.start_again)
    await traffic.accounted_for()


class RollBack:
    """A stream has a shard of its own, whose replica is promoted and lacks the last facts."""

    def __init__(self, traffic: Traffic, stream: str):
        self._traffic = traffic
        self._cluster: Cluster = traffic.server
        self._where = f"{{{stream}/0}}"
        own, *others = self._cluster.masters
        for each in STREAMS:
            for partition in range(PARTITIONS):
                at = own if each == stream else others[partition % len(others)]
                where = f"{{{each}/{partition}}}"
                if self._cluster.master_of(where) is not at:
                    self._cluster.move(where, at)

    async def run(self) -> None:
        traffic, cluster, dice = self._traffic, self._cluster, self._traffic.row.random
        master = cluster.master_of(self._where)
        (replica,) = cluster.replicas_of(master)
        await traffic.append(dice.sample(KEYS, 100))
        await traffic.log.reacted(*REACTIONS)
        await asyncio.to_thread(until, lambda: in_step(master, replica), "the replica has all")
        await asyncio.to_thread(replica.hold_back)
        await traffic.append(dice.sample(KEYS, dice.randint(10, 60)))
        await traffic.log.reacted(*REACTIONS)
        await traffic.read()  # so they know what will be lost
        if dice.random() < 0.5:
            await asyncio.to_thread(cluster.take_over, replica)
        else:
            await asyncio.to_thread(cluster.fail_over, master)
            await asyncio.to_thread(cluster.start_again)
            replica.catch_up()
        traffic.row.injected()
        await asyncio.gather(*(probe.ready() for probe in traffic.probes))
        await traffic.append(dice.sample(KEYS, 100))


def in_step(master: Node, replica: Node) -> bool:
    offsets = (node.ask("INFO", "replication") for node in (master, replica))
    return next(offsets)["master_repl_offset"] == next(offsets)["slave_repl_offset"]


@pytest.mark.at_least(10)
async def test_outputs_roll_back(row: Row) -> None:
    """promote a replica that lacks facts: the shard of what a reaction appends, alone"""
    await rolled_back(row, "outputs")


@pytest.mark.at_least(10)
async def test_inputs_roll_back(row: Row) -> None:
    """promote a replica that lacks facts: the shard of what a reaction reads, alone"""
    await rolled_back(row, "inputs")


async def rolled_back(row: Row, stream: str) -> None:
    traffic = await Traffic.begin(row, replicas=1)
    roll_back = await asyncio.to_thread(RollBack, traffic, stream)
    while row.more:
        await roll_back.run()
    assert await traffic.accounted_for(), "no fact was lost"


@pytest.mark.at_least(5)
@CONFIRMED
async def test_cut_off(row: Row, confirmed: bool) -> None:
    """cut a master off from the other nodes, and back, its clients still reach it, under load"""
    row.label = label(confirmed)
    traffic = await Traffic.begin(row, replicas=1, partitions=True, confirmed=confirmed)
    cluster = traffic.server
    async with traffic.load() as load:
        while row.more:
            master = cluster.master_of(place(row, row.random.choice(["inputs", "outputs"])))
            successor = cluster.successor_of(master)
            await load.acknowledged(100)
            await asyncio.to_thread(cluster.isolate, master)
            await traffic.during(load, successor)
            await traffic.during(load, lambda m=master: cluster.rejoin(m))
            row.injected()
    await traffic.accounted_for()


class Holding(Hook):
    """Holds up the first command of one name for a partition of inputs, until it may go on."""

    def __init__(self, name: str, partition: int):
        self.came, self.go_on = asyncio.Event(), asyncio.Event()
        self.link: Link | None = None
        self._what = name, ("inputs", partition)

    async def command(self, link: Link, command: Command) -> Verdict:
        if self.link is None and (command.name, command.place) == self._what:
            self.link = link
            self.came.set()
            await self.go_on.wait()
        return Verdict.PASS


@pytest.mark.at_least(10)
async def test_claim_is_lost(row: Row) -> None:
    """failover of a shard that loses ownership and token"""
    cluster = await asyncio.to_thread(row.redis, replicas=1)
    log, sent = Log(cluster), Sent()
    writer = await row.probe(await row.proxy(cluster)).ready()
    while row.more:
        partition = row.random.randrange(PARTITIONS)
        units = [sent.unit(key) for key in row.random.sample(OF[partition], 60)]
        sent.answered(units, await writer.append_many(units))
        master = cluster.master_of(f"{{inputs/{partition}}}")
        (replica,) = cluster.replicas_of(master)
        await asyncio.to_thread(until, lambda a=master, b=replica: in_step(a, b), "in step")
        await asyncio.to_thread(replica.hold_back)

        # A command of its owner is on its way when the shard loses all that it knew of it.
        owner = await Instance.begin(row, cluster, "answer")
        owner.proxy.refusing = True
        late = await Instance.begin(row, cluster, "answer")
        holding, replies = Holding(row.random.choice(["settle", "commit"]), partition), Replies()
        late.proxy.hooks.append(holding)
        owner.proxy.hooks.append(replies)
        await asyncio.wait_for(holding.came.wait(), 20)
        since = time.monotonic()
        late.proxy.refusing = True
        lost = log.group("inputs", partition, "answer")["token"]
        for link in late.proxy.links - {holding.link}:
            link.cut()
        await late.proxy.divert(master, replica)
        await asyncio.to_thread(cluster.take_over, replica)
        assert log.group("inputs", partition, "answer").get("token") != lost
        owner.proxy.refusing = False
        await eventually(lambda p=partition: log.group("inputs", p, "answer").get("owner"))
        claimed = log.group("inputs", partition, "answer")["token"]
        assert claimed != lost

        # Who has waited for a reply for too long gives the connection up instead.
        heard = time.monotonic() - since < REPLY_TIMEOUT - 1
        late.proxy.hooks.append(replies)
        holding.go_on.set()
        if heard:
            await replies.heard(lost)
        late.proxy.refusing = False
        await asyncio.gather(late.ready(), owner.ready())
        units = [sent.unit(key) for key in KEYS]
        sent.answered(units, await writer.append_many(units))
        await log.reacted("answer")
        assert lost not in replies.accepted
        assert claimed not in replies.refused
        row.injected(heard)
        if not row.more:
            await row.view_is_rebuild(log, writer, late.probe, owner.probe, at=cluster)
        for each in (late, owner):
            each.probe.kill()
    row.appended(log, sent)
    row.answered(log, "answer")
