"""What things cost, counted and not timed: a slow path cannot come back unnoticed.

Redis counts commands; the interpreter counts calls, its own functions' and those of C. Where a
figure here has to be raised, `tox -e bench` says what that costs.
"""

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import redis.asyncio
from test_append import appending, fact
from test_core import Shop, eventually, place, running
from test_server import GET, bench

import factfold_chassis
from factfold.v1.fact_pb2 import FactMeta
from factfold_chassis.contract import Contract
from factfold_chassis.core import Core
from factfold_chassis.facts import Entry, new_meta, partition_of
from factfold_chassis.log.lane import MAX_BATCH_FACTS
from factfold_chassis.log.read import Reader
from factfold_chassis.log.redis import Redis
from factfold_chassis.log.streams import Head, read_head
from factfold_chassis.reactions.declare import Append, reaction
from factfold_chassis.settings import Settings
from factfold_chassis.telemetry import Telemetry
from factfold_chassis.views.engine import ViewEngine
from factfold_chassis.views.journal import Journal
from factfold_chassis.views.place import Place

CHASSIS = str(Path(factfold_chassis.__file__).parent)
# At most; of facts that the tests below make.
PER_FOLDED_FACT, PER_REMEMBERED_FACT, PER_APPENDED_FACT = 14.5, 0.3, 34.0
PER_ANSWERED_FACT, PER_QUERY = 185.0, 38.0
# Of the append script: the head is read and written, the producer as well; now and then some others
# are looked at.
PER_BATCH = {"evalsha": 1, "hmget": 1, "hget": 1, "time": 1, "hset": 2}


@asynccontextmanager
async def commands(client: redis.asyncio.Redis) -> AsyncIterator[Counter[str]]:
    """What Redis is asked for meanwhile; filled at the end."""
    found: Counter[str] = Counter()
    await client.config_resetstat()
    yield found
    for name, stats in (await client.info("commandstats")).items():
        found[name.removeprefix("cmdstat_")] = stats["calls"]
    for name in (
        "info",
        "config|resetstat",
        "config",
        "hello",
        "client",
        "client|setinfo",
        "select",
        "hrandfield",  # one call in 16 looks at idle producers, by the clock
    ):
        del found[name]


@contextmanager
def calls() -> Iterator[Counter[str]]:
    """Calls of the chassis' functions, and of what is built in by them; by name."""
    found: Counter[str] = Counter()

    def count(frame: FrameType, event: str, of: Any) -> None:
        if frame.f_code.co_filename.startswith(CHASSIS):
            if event == "call":
                found[frame.f_code.co_qualname] += 1
            elif event == "c_call":
                found[of.__qualname__] += 1

    sys.setprofile(count)
    try:
        yield found
    finally:
        sys.setprofile(None)


async def test_an_append_is_one_call_of_the_script(server, client):
    async with appending(server.url) as appender:
        await appender.append([fact("k")])  # connected
        async with commands(client) as found:
            for _ in range(16):
                await appender.append([fact("k")])
    assert found == Counter({name: 16 * count for name, count in PER_BATCH.items()}) + Counter(
        xadd=16
    )


async def test_a_version_costs_one_read_and_one_write_a_batch(server, client):
    async with appending(server.url) as appender:
        await appender.append([fact("k", 0)])
        async with commands(client) as found:
            await appender.append([fact("k", n) for n in range(1, 101)])
    assert found == Counter(PER_BATCH) + Counter(xadd=100, hmget=1, hset=1)


async def test_appends_that_wait_go_together(server, client):
    async with appending(server.url) as appender:
        await appender.append([fact("k")])
        async with commands(client) as found:
            await asyncio.gather(
                *(appender.append([fact("k")]) for _ in range(4 * MAX_BATCH_FACTS))
            )
    assert found["xadd"] == 4 * MAX_BATCH_FACTS
    assert found["evalsha"] == 4
    assert found.total() == 4 * sum(PER_BATCH.values()) + found["xadd"]


async def test_a_rebuild_reads_a_thousand_facts_at_a_time(server, client):
    async with appending(server.url) as appender:
        for _ in range(10):
            await asyncio.gather(*(appender.append([fact("k")]) for _ in range(1000)))
    partition = partition_of("k", 4)
    log = Redis(server.url)
    async with log.link() as link:
        head = await read_head(link, "orders", partition)
    assert head is not None
    async with commands(client) as found:
        reader = Reader(log, "orders", partition, head.epoch)
        async with aclosing(reader.batches()) as batches:
            async for batch in batches:
                if batch.anchor.n == head.n:
                    break
    # The first read is a small one; the last one may be under way already.
    assert found["xrange"] <= 14
    assert found["hmget"] <= found["xrange"] + 2
    assert set(found) <= {"xrange", "hmget", "xread"}


async def test_a_query_asks_redis_for_nothing(server, client, shop, bank):
    service = Shop(shop, bank)
    async with running(service.core(server.url, lease=60.0)) as core:
        done = await place(core, shop.OrderPlaced(id="k", name="tea"))
        await core.at_least(str(done.position), 2)
        async with commands(client) as found:
            for _ in range(100):
                assert core.query().rows(service.orders).get("k").name == "tea"
    assert not found


@pytest.fixture
def entries(shop: Any) -> list[Entry]:
    made = []
    for n in range(1, 1001):
        event = shop.OrderPlaced(id=f"k{n % 500}", name="tea", customer="c")
        meta = new_meta("/shop", version=n).SerializeToString()
        fields = [b"type", b"shop.v1.OrderPlaced", b"key", event.id.encode()]
        fields += [b"meta", meta, b"data", event.SerializeToString()]
        made.append((b"1764000000000-%d" % n, fields))
    return made


def engine_of(service: Shop, journal: Journal | None = None) -> ViewEngine:
    def count(name: str, **attributes: str) -> None:
        raise AssertionError(name)

    service.view.derived.clear()
    service.view.tables[1:] = []
    return ViewEngine(
        service.view, service.folds[:2], service.contract, Redis("redis://127.0.0.1:1"),
        journal=journal, count=count,
    )  # fmt: skip


def test_calls_per_folded_fact(shop, bank, entries):
    service = Shop(shop, bank)
    engine = engine_of(service)
    with calls() as found:
        engine.fold(Place("orders", 0, Head("0" * 16, 4, 0, 0)), entries)
    assert found.total() / 1000 <= PER_FOLDED_FACT, found.most_common(30)


@pytest.mark.parametrize(
    "moment", [1_764_000_000_000_000_000, int.from_bytes(b"\x18" + b"\x4a" * 7)]
)
def test_calls_per_remembered_fact(shop, entries, moment):
    """Of what an owner does beside folding, for facts without a request id, at any time of day."""
    for _, fields in entries:
        meta = FactMeta.FromString(fields[5])
        meta.time_unix_nano = moment
        fields[5] = meta.SerializeToString()
    journal = Journal()
    with calls() as found:
        journal.take("orders", 0, entries, 1)
    assert found.total() / 1000 <= PER_REMEMBERED_FACT, found.most_common(30)


async def test_calls_per_appended_fact(server):
    async with appending(server.url) as appender:
        facts = [fact("k") for _ in range(MAX_BATCH_FACTS)]
        await appender.append(facts[:1])
        with calls() as found:
            await asyncio.gather(*(appender.append([each]) for each in facts))
    assert found.total() / MAX_BATCH_FACTS <= PER_APPENDED_FACT, found.most_common(40)


async def test_a_reaction_settles_appends_and_commits_by_the_hundred(server, client, shop, bank):
    settings = Settings(redis_url=server.url)
    owner = Core("bank", Contract([bank.DESCRIPTOR]), [], [], settings, Telemetry())
    async with running(owner):
        facts = [bank.PaymentMade(order_id=f"k{n}", amount=n) for n in range(1000)]
        await asyncio.gather(*(place(owner, each, None) for each in facts))

    @reaction(bank.PaymentMade)
    async def order(event: Any, call: Any) -> Append:
        return Append(shop.OrderPlaced(id=event.order_id), expected_version=0)

    service = Shop(shop, bank, with_bank=True)
    service.reactions.append(order)
    core = service.core(server.url)
    async with commands(client) as found:
        with calls() as called:
            async with running(core):
                (engine,) = core._reactions
                await eventually(lambda: engine.committed == 1000)
    assert found["xadd"] == 1000
    # Four partitions of some 250 facts: in four batches each, with up to six calls a batch.
    assert found["evalsha"] <= 4 * 4 * 6 + 40, found
    assert called.total() / 1000 <= PER_ANSWERED_FACT, called.most_common(60)


async def test_calls_per_query():
    async with bench() as service:
        await service.call(GET, "a")
        with calls() as found:
            for _ in range(100):
                await service.call(GET, "a")
    assert found.total() / 100 <= PER_QUERY, found.most_common(60)
