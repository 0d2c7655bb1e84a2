"""Replicas that must confirm an append, and what a failover takes away that none had confirmed."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import ModuleType

import pytest
from faults.proxy import Command, Hook, Link, Proxy, Trap, Verdict
from test_append import SCRIPTS, Alarms, fact
from test_core import Shop, eventually, place, running
from test_dead_letters import HERE, A, Desk
from topologies import Node
from topologies.node import begin, until

from factfold_chassis.contract import StreamSpec
from factfold_chassis.errors import OutcomeUnknown
from factfold_chassis.facts import Position, new_meta
from factfold_chassis.log.append import Appender
from factfold_chassis.log.lost import Memory
from factfold_chassis.log.redis import Redis
from factfold_chassis.log.replicas import Replicas
from factfold_chassis.log.streams import create_stream
from factfold_chassis.reactions.outbox import Unit
from factfold_chassis.reactions.ownership import OURS
from factfold_chassis.reactions.tenure import Group, Tenure
from factfold_chassis.testing import redis_server as servers

BOTH = ("payments", "orders")
TIMEOUT = 1.0  # seconds that an append may take
KEY = "key"


def of(name: str) -> StreamSpec:
    return StreamSpec(name, 4, versioned=False, own=True)


class Pair:
    """A master and its replica."""

    def __init__(self) -> None:
        program = servers.find()
        self.master = begin(lambda port: Node(program, port))
        follow = ("--replicaof", "127.0.0.1", str(self.master.port))
        self.replica = begin(lambda port: Node(program, port, follow))
        until(lambda: self.replica.linked, "the replica is in step")

    def end(self) -> None:
        self.replica.end()
        self.master.end()


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    pair.end()


@asynccontextmanager
async def confirmed(
    url: str, replicas: int = 1, alarms: Alarms | None = None
) -> AsyncIterator[Appender]:
    redis = Redis(url)
    appender = Appender(
        redis, "orders", await create_stream(redis, of("orders")), timeout=TIMEOUT, limit=10_000,
        max_fact_bytes=1 << 20, alarm=alarms if alarms is not None else Alarms(),
        replicas=Replicas.within(replicas, TIMEOUT),
    )  # fmt: skip
    work = asyncio.create_task(appender.run())
    try:
        async with asyncio.timeout(30):
            yield appender
        assert not work.done(), work
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


def through(proxy: Proxy) -> str:
    return f"redis://127.0.0.1:{proxy.port}/0"


def has(node: Node, position: Position) -> bool:
    entry_id = f"{position.ms}-{position.n}"
    with node.client() as client:
        return bool(client.xrange(f"{{orders/{position.partition}}}:log", entry_id, entry_id))


async def test_an_append_that_is_answered_is_on_the_replica(pair: Pair) -> None:
    async with confirmed(pair.master.url) as appender:
        for _ in range(20):
            assert has(pair.replica, await appender.append([fact(KEY)]))


async def test_without_its_replica_an_append_ends_as_unknown_in_time(pair: Pair) -> None:
    loop = asyncio.get_running_loop()
    async with confirmed(pair.master.url) as appender:
        first = await appender.append([fact(KEY)])
        pair.replica.pause()
        began = loop.time()
        waiting = [appender.append([fact(KEY)]) for _ in range(3)]
        for result in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(result, OutcomeUnknown)
            assert "it is in the log, but 0 of 1 replicas have confirmed it" in result.message
        assert 0.8 * TIMEOUT <= loop.time() - began < 2 * TIMEOUT
        pair.replica.go_on()
        # Later ones are not taken for those that nobody knows of.
        assert (await appender.append([fact(KEY)])).n == first.n + 4


class Seen(Hook):
    """The names of the commands of each connection that a reply came to."""

    def __init__(self) -> None:
        self.of: dict[Link, list[str]] = {}

    async def reply(self, link: Link, command: Command, reply: bytes) -> Verdict:
        self.of.setdefault(link, []).append(command.name)
        return Verdict.PASS


async def test_a_batch_that_is_sent_again_is_confirmed_anew(pair: Pair) -> None:
    """It is known, so nothing is written, which some servers confirm at once, and others do not:
    so what is sent is looked at.
    """
    async with Proxy([pair.master.port], SCRIPTS) as proxy, confirmed(through(proxy)) as appender:
        await appender.append([fact(KEY)])
        pair.replica.pause()
        cut = asyncio.create_task(proxy.spring(Trap(lambda sent: sent.name == "append")))
        await asyncio.sleep(0)
        seen = Seen()
        proxy.hooks.append(seen)
        with pytest.raises(OutcomeUnknown):
            await appender.append([fact(KEY)])
        await cut
        again = list(seen.of.values())[-1]
        assert again[again.index("append") :] == ["append", "HSET", "WAIT"]
        pair.replica.go_on()
        assert (await appender.append([fact(KEY)])).n == 3


async def test_what_a_failover_takes_away_is_named_once_and_nothing_else(pair: Pair) -> None:
    alarms = Alarms()
    async with (
        Proxy([pair.master.port], SCRIPTS) as proxy,
        confirmed(through(proxy), replicas=0, alarms=alarms) as appender,
    ):
        kept = [await appender.append([fact(KEY)]) for _ in range(3)]
        await eventually(lambda: has(pair.replica, kept[-1]))
        pair.replica.hold_back()
        lost = [await appender.append([fact(KEY)]) for _ in range(3)]
        pair.replica.ask("REPLICAOF", "NO", "ONE")
        proxy.target = pair.replica.port
        proxy.cut()
        await eventually(lambda: alarms)
        assert (await appender.append([fact(KEY)])).n == kept[-1].n + 1
    (line,) = [alarm for alarm in alarms if "that were acknowledged" in alarm]
    assert all(str(position) in line for position in lost)
    assert not any(str(position) in line for position in kept)


async def test_what_a_failover_takes_away_of_a_reactions_facts_is_named(pair: Pair) -> None:
    """By its owner itself: a view may not have read them."""
    alarms = Alarms()
    epochs = {name: await create_stream(Redis(pair.master.url), of(name)) for name in BOTH}
    group = Group("desk.book", "payments", 0, epochs["payments"][0], True)
    memories = {"orders": [Memory("orders", *each) for each in enumerate(epochs["orders"])]}

    async def append(server: Node, *ns: int) -> None:
        redis = Redis(server.url)
        async with Tenure.of(redis, group, memories, "me", "nonce", OURS, alarm=alarms) as tenure:
            for n in ns:
                unit = Unit(n, ("orders", 0))
                unit.add(("key", None, "Placed", new_meta("desk").SerializeToString(), b""))
                await tenure.append([unit])

    def there(server: Node) -> list[str]:
        with server.client() as client:
            return [each.decode() for each, _ in client.xrange("{orders/0}:log")]

    await append(pair.master, 1, 2)
    await eventually(lambda: there(pair.replica) == there(pair.master))
    kept = there(pair.master)
    pair.replica.hold_back()
    await append(pair.master, 3, 4)
    lost = there(pair.master)[2:]
    assert len(lost) == 2
    pair.replica.ask("REPLICAOF", "NO", "ONE")
    assert not alarms
    await append(pair.replica, 2)
    (line,) = alarms
    named = [f"orders/0@{epochs['orders'][0]}:{each}" for each in lost]
    assert f"of the facts that were acknowledged, 2 are lost: {', '.join(named)};" in line
    assert there(pair.replica) == kept
    await append(pair.replica, 2)
    assert len(alarms) == 1, "once is enough"


async def test_what_others_append_behind_it_does_not_hide_what_was_lost(pair: Pair) -> None:
    """One connection goes on with the old server, while another one has its successor."""
    alarms = Alarms()
    epochs = {name: await create_stream(Redis(pair.master.url), of(name)) for name in BOTH}
    group = Group("desk.book", "payments", 0, epochs["payments"][0], True)
    memories = {"orders": [Memory("orders", *each) for each in enumerate(epochs["orders"])]}

    def tenure(server: Node) -> AbstractAsyncContextManager[Tenure]:
        redis = Redis(server.url)
        return Tenure.of(redis, group, memories, "me", "nonce", OURS, alarm=alarms)

    async def append(its: Tenure, n: int) -> None:
        unit = Unit(n, ("orders", 0))
        unit.add(("key", None, "Placed", new_meta("desk").SerializeToString(), b""))
        await its.append([unit])

    async with tenure(pair.master) as old:
        await append(old, 1)
        await eventually(lambda: pair.replica.ask("XLEN", "{orders/0}:log") == 1)
        pair.replica.hold_back()
        pair.replica.ask("REPLICAOF", "NO", "ONE")
        async with tenure(pair.replica) as new:
            await append(new, 2)
            await append(new, 3)
        await append(old, 4)
        with pair.master.client() as client:
            ((lost, _),) = client.xrevrange("{orders/0}:log", count=1)
    assert not alarms
    async with tenure(pair.replica) as new:
        await append(new, 5)
    (line,) = alarms
    assert f"1 are lost: orders/0@{epochs['orders'][0]}:{lost.decode()};" in line


async def test_a_reaction_does_not_go_on_from_what_no_replica_has(
    pair: Pair, shop: ModuleType, bank: ModuleType
) -> None:
    async with Proxy([pair.master.port], SCRIPTS) as proxy:
        desk = Desk(pair.master.url, shop, bank)
        desk.url = through(proxy)
        desk.answer = lambda event, call: desk.order(HERE, str(event.amount), event.amount - 1)
        try:
            async with desk.running(append_timeout=TIMEOUT, wait_replicas=1) as core:
                await desk.pay(core, A, 1)
                await eventually(lambda: desk.position() == 1)
                of_reaction = Trap(
                    lambda it: it.name == "append" and it.arguments[2] == b"units",
                    pair.replica.pause, executed=False, then=Verdict.PASS,
                )  # fmt: skip
                proxy.hooks.append(of_reaction)
                await desk.pay(core, A, 2)
                await eventually(lambda: len(desk.orders()) == 2)
                await asyncio.sleep(TIMEOUT)
                assert desk.position() == 1
                pair.replica.go_on()
                await eventually(lambda: desk.position() == 2)
            assert [name for _, name in desk.orders()] == ["1", "2"]
        finally:
            desk.log.close()


async def test_nothing_comes_of_what_a_reaction_decided_and_no_replica_has(
    pair: Pair, shop: ModuleType, bank: ModuleType
) -> None:
    desk = Desk(pair.master.url, shop, bank)
    desk.answer = lambda event, call: desk.order(HERE, str(event.amount), event.amount - 1)
    try:
        async with desk.running(append_timeout=TIMEOUT, wait_replicas=1) as core:
            await desk.pay(core, A, 1)
            await eventually(lambda: desk.position() == 1)
            pair.replica.pause()
            with pytest.raises(OutcomeUnknown):
                await desk.pay(core, A, 2)
            await asyncio.sleep(2 * TIMEOUT)
            assert len(desk.orders()) == desk.position() == 1
            pair.replica.go_on()
            await eventually(lambda: desk.position() == 2)
            await desk.pay(core, A, 3)
            await eventually(lambda: desk.position() == 3)
        assert [name for _, name in desk.orders()] == ["1", "2", "3"]
    finally:
        desk.log.close()


async def test_a_repeated_command_is_answered_once_its_fact_is_confirmed(
    pair: Pair, shop: ModuleType, bank: ModuleType
) -> None:
    settings = {"append_timeout": TIMEOUT, "wait_replicas": 1}
    async with running(Shop(shop, bank).core(pair.master.url, **settings)) as core:
        pair.replica.pause()
        for _ in range(2):
            with pytest.raises(OutcomeUnknown, match="0 of 1 replicas have confirmed it"):
                await place(core, shop.OrderPlaced(id="k"), 0, "the same")
        pair.replica.go_on()
        done = await place(core, shop.OrderPlaced(id="k"), 0, "the same")
        assert done.position.n == 1
        assert done.repeated
        assert has(pair.replica, done.position)


async def test_a_repeated_command_is_unknown_where_nothing_can_be_written(
    pair: Pair, shop: ModuleType, bank: ModuleType
) -> None:
    settings = {"append_timeout": TIMEOUT, "wait_replicas": 1}
    async with running(Shop(shop, bank).core(pair.master.url, **settings)) as core:
        await place(core, shop.OrderPlaced(id="k"), 0, "the same")
        pair.master.ask("CONFIG", "SET", "min-replicas-to-write", 2)
        with pytest.raises(OutcomeUnknown, match=r"it is in the log, but whether .* NOREPLICAS"):
            await place(core, shop.OrderPlaced(id="k"), 0, "the same")
        pair.master.ask("CONFIG", "SET", "min-replicas-to-write", 0)
        assert (await place(core, shop.OrderPlaced(id="k"), 0, "the same")).repeated
