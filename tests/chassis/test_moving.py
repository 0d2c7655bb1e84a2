"""The append path and readers on a Redis Cluster and behind Sentinel, while these change."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any

import pytest
from test_append import Alarms, fact
from topologies import Cluster, Sentinels

from factfold_chassis.contract import StreamSpec
from factfold_chassis.errors import OutcomeUnknown
from factfold_chassis.facts import Position, partition_of
from factfold_chassis.log.append import Appender
from factfold_chassis.log.link import LinkLost
from factfold_chassis.log.read import LogRolledBack, Reader
from factfold_chassis.log.redis import Redis
from factfold_chassis.log.replicas import Replicas
from factfold_chassis.log.streams import Keys, create_stream

ORDERS = StreamSpec("orders", 4, versioned=False, own=True)
KEYS = [f"key-{at}" for at in range(40)]


@pytest.fixture(scope="module")
def shared() -> Iterator[Cluster]:
    with Cluster(3, 0) as cluster:
        yield cluster


@pytest.fixture
def cluster(shared: Cluster) -> Cluster:
    for node in shared.nodes:
        node.ask("FLUSHALL")
    return shared


class Traffic:
    """Appends all the time, and a reader of each partition."""

    def __init__(self, url: str, **how: Any):
        self.redis = Redis(url)
        self.alarms = Alarms()
        self.placed: dict[tuple[str, int], Position] = {}
        self.read: dict[int, list[bytes]] = {partition: [] for partition in range(4)}
        self.errors: list[Exception] = []
        self._how = {"timeout": 10.0, "limit": 10_000, "max_fact_bytes": 1 << 20, **how}
        self._tasks: list[asyncio.Task[None]] = []
        self.number = 0

    async def begin(self) -> None:
        self.epochs = await create_stream(self.redis, ORDERS)
        self.appender = Appender(self.redis, "orders", self.epochs, alarm=self.alarms, **self._how)
        for work in (self.appender.run(), *map(self._follow, range(4))):
            self._tasks.append(asyncio.create_task(work))

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        for result in await asyncio.gather(*self._tasks, return_exceptions=True):
            if not isinstance(result, (asyncio.CancelledError, LogRolledBack)):
                raise AssertionError(result)

    async def _follow(self, partition: int) -> None:
        reader = Reader(self.redis, "orders", partition, self.epochs[partition])
        async with aclosing(reader.batches()) as batches:
            async for batch in batches:
                self.read[partition] += [entry[0] for entry in batch.entries]

    async def append(self, key: str) -> None:
        self.number += 1
        number = self.number
        try:
            self.placed[key, number] = await self.appender.append([fact(key)])
        except OutcomeUnknown as error:
            self.errors.append(error)

    async def go_on(self, until: Callable[[], bool]) -> None:
        while not until():
            await asyncio.gather(*map(self.append, KEYS))
            await asyncio.sleep(0.01)

    async def during(self, work: Callable[[], Any]) -> Any:
        """The result of `work`, in a thread, while appends go on."""
        task = asyncio.create_task(asyncio.to_thread(work))
        await self.go_on(task.done)
        await asyncio.gather(*map(self.append, KEYS))
        return task.result()

    async def all_is_read(self) -> None:
        """Each partition's facts, in order, once, to the last that was acknowledged."""
        for partition in range(4):
            placed = [p for p in self.placed.values() if p.partition == partition]
            ends = max(p.n for p in placed)
            async with asyncio.timeout(10):
                while len(self.read[partition]) < ends:
                    await asyncio.sleep(0.02)
            numbers = [int(entry_id.split(b"-")[1]) for entry_id in self.read[partition]]
            assert numbers == list(range(1, ends + 1))
            assert {p.n for p in placed} == set(numbers)
            assert len(placed) == ends, "a fact is there twice, or was not acknowledged"


@asynccontextmanager
async def traffic(url: str, **how: Any) -> AsyncIterator[Traffic]:
    made = Traffic(url, **how)
    async with asyncio.timeout(90):
        await made.begin()
        try:
            yield made
        finally:
            await made.end()


def keys_of(partition: int) -> list[str]:
    return [key for key in KEYS if partition_of(key, 4) == partition]


async def test_partitions_lie_on_different_nodes(cluster: Cluster) -> None:
    async with traffic(cluster.url) as its:
        await asyncio.gather(*map(its.append, KEYS))
        await its.all_is_read()
    assert (
        len({cluster.master_of(f"{{orders/{partition}}}:log").port for partition in range(4)}) > 1
    )


async def test_one_node_of_the_url_is_enough(cluster: Cluster) -> None:
    url = f"redis+cluster://127.0.0.1:1,127.0.0.1:{cluster.nodes[2].port}"
    async with traffic(url) as its:
        await asyncio.gather(*map(its.append, KEYS))
        await its.all_is_read()


async def test_a_slot_that_moves_under_appends_loses_and_doubles_nothing(cluster: Cluster) -> None:
    async with traffic(cluster.url) as its:
        await asyncio.gather(*map(its.append, KEYS))
        tag = "{orders/1}"
        for _ in range(2):
            source = cluster.master_of(tag)
            target = next(node for node in cluster.nodes if node is not source)
            await its.during(lambda target=target: cluster.move(tag, target, pause=0.3))
        await its.all_is_read()
        assert not its.errors
        assert not its.alarms


async def test_a_slot_whose_move_never_ends_is_used_where_its_keys_are(cluster: Cluster) -> None:
    async with traffic(cluster.url) as its:
        await asyncio.gather(*map(its.append, KEYS))
        source = cluster.master_of("{orders/1}")
        target = next(node for node in cluster.nodes if node is not source)
        migration = cluster.migration("{orders/1}", target)

        def all_but_the_end() -> None:
            migration.begin()
            while migration.keys:
                migration.step()

        await its.during(all_but_the_end)
        await asyncio.gather(*map(its.append, keys_of(1)))
        await its.all_is_read()
        await its.during(migration.end)
        await its.all_is_read()
        assert not its.errors


@pytest.mark.parametrize("first", ["head", "log"])
async def test_a_partition_on_its_way_is_not_taken_for_an_empty_one(
    cluster: Cluster, first: str
) -> None:
    """Its head is on the one node, its log on the other: a reader waits."""
    async with traffic(cluster.url) as its:
        await asyncio.gather(*map(its.append, KEYS))
        await its.all_is_read()
        source = cluster.master_of("{orders/1}")
        target = next(node for node in cluster.nodes if node is not source)
        migration = cluster.migration("{orders/1}", target)
        migration.begin()
        migration.step(b"{orders/1}:%s" % first.encode())
        late = Reader(its.redis, "orders", 1, its.epochs[1])
        reading = asyncio.create_task(anext(late.batches()))
        await asyncio.sleep(1.5)
        assert not reading.done()
        while migration.keys:
            await asyncio.to_thread(migration.step)
        await asyncio.to_thread(migration.end)
        batch = await asyncio.wait_for(reading, 10)
        assert len(batch.entries) == len(keys_of(1))


async def test_a_key_that_has_not_moved_is_not_written_where_others_are(cluster: Cluster) -> None:
    key, other = "{orders/1}:cursors:a", "{orders/1}:cursors:b"
    source = cluster.master_of(key)
    for each in (key, other):
        source.ask("HSET", each, "_", "1")
    target = next(node for node in cluster.nodes if node is not source)
    migration = cluster.migration(key, target)
    migration.begin()
    migration.step(other.encode())
    redis = Redis(cluster.url)
    for each in (other, key, key):  # the first one is told where it is
        with suppress(LinkLost):
            async with redis.link(each) as link:
                await link.call("HSET", each, "a", "1")
    new = "{orders/1}:cursors:c"
    async with redis.link(new) as link:  # one that is nowhere yet is made where it belongs
        await link.call("HSET", new, "a", "1")
    while migration.keys:
        migration.step()  # which a key that the target has already would end
    migration.end()
    assert target.ask("HGETALL", key) == {"_": "1", "a": "1"}


async def test_a_link_is_lost_while_no_node_answers() -> None:
    with pytest.raises(LinkLost, match="no node of the cluster answers"):
        async with Redis("redis+cluster://127.0.0.1:1").link("{orders/0}:log"):
            pass


async def test_a_master_that_hands_over_loses_nothing() -> None:
    with Cluster(3, 1) as cluster:
        async with traffic(cluster.url) as its:
            await asyncio.gather(*map(its.append, KEYS))
            master = cluster.master_of("{orders/1}")
            await its.during(lambda: cluster.fail_over_gently(master))
            await its.all_is_read()
            assert not its.errors
            assert not its.alarms


@pytest.mark.parametrize("wait", [0, 1])
async def test_a_master_that_falls_loses_what_is_named(wait: int) -> None:
    """With a replica that must confirm, nothing that was acknowledged."""
    with Cluster(3, 1) as cluster:
        async with traffic(cluster.url, replicas=Replicas.within(wait, 10.0)) as its:
            await asyncio.gather(*map(its.append, KEYS))
            master = cluster.master_of("{orders/1}")
            await its.during(lambda: cluster.fail_over(master))
            named = {word for line in its.alarms for word in line.replace(",", "").split()}
            for position in its.placed.values():
                node = cluster.master_of(f"{{orders/{position.partition}}}:log")
                with node.client() as client:
                    entry_id = f"{position.ms}-{position.n}"
                    log = Keys("orders", position.partition)["log"]
                    there = client.xrange(log, entry_id, entry_id)
                assert there or str(position) in named, position
                assert there or not wait


@pytest.mark.parametrize("gently", [True, False])
async def test_sentinels_say_who_takes_appends(gently: bool) -> None:
    with Sentinels() as sentinels:
        async with traffic(sentinels.url) as its:
            await asyncio.gather(*map(its.append, KEYS))
            await its.during(sentinels.fail_over_gently if gently else sentinels.fail_over)
            lost = [p for p in its.placed.values() if str(p) not in " ".join(its.alarms)]
            assert lost
            if gently:
                await its.all_is_read()
                assert not its.errors
