"""The append path against a real server, and one that is killed, stopped or full."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
from faults.proxy import Command, Hook, Link, Proxy, Trap, Verdict

import factfold_chassis
from factfold_chassis.contract import StreamSpec
from factfold_chassis.errors import (
    ChassisError,
    InvalidRequest,
    LogFull,
    LogReplaced,
    LogUnreachable,
    OutcomeUnknown,
    QueueFull,
    Unavailable,
    VersionConflict,
)
from factfold_chassis.facts import Position, new_meta, partition_of
from factfold_chassis.log.append import Appender
from factfold_chassis.log.lane import NewFact
from factfold_chassis.log.link import LinkLost
from factfold_chassis.log.lost import Acknowledged, Memory
from factfold_chassis.log.read import Reader
from factfold_chassis.log.redis import Redis
from factfold_chassis.log.scripts import APPEND
from factfold_chassis.log.sender import AHEAD, ENOUGH
from factfold_chassis.log.streams import Keys, create_stream
from factfold_chassis.testing import redis_server as servers

ORDERS = StreamSpec("orders", 4, versioned=True, own=True)
SCRIPTS = Path(factfold_chassis.__file__).parent / "lua"
LAST_N = 2**53  # numbers in Lua are doubles: the fact behind this one cannot be appended


def fact(key: str, expected: int | None = None, data: bytes = b"x" * 50) -> NewFact:
    meta = new_meta("/orders").SerializeToString()
    return NewFact(key, "shop.v1.OrderPlaced", meta, data, expected)


class Alarms(list[str]):
    def __call__(self, text: str) -> None:
        self.append(text)


@asynccontextmanager
async def appending(
    url: str, *, timeout: float = 2.0, limit: int = 10_000, alarms: Alarms | None = None
) -> AsyncIterator[Appender]:
    redis = Redis(url)
    epochs = await create_stream(redis, ORDERS)
    appender = Appender(
        redis, "orders", epochs, timeout=timeout, limit=limit,
        max_fact_bytes=1 << 20, alarm=alarms if alarms is not None else Alarms(),
    )  # fmt: skip
    work = asyncio.create_task(appender.run())
    try:
        async with asyncio.timeout(30):
            yield appender
        assert not work.done(), work
    finally:
        work.cancel()
        await asyncio.wait_for(asyncio.gather(work, return_exceptions=True), 5)


async def log(client: redis.asyncio.Redis) -> list[tuple[int, str, str]]:
    """(partition, entry id, key) of everything in the log."""
    found = []
    for partition in range(ORDERS.partitions):
        for entry_id, fields in await client.xrange(f"{{orders/{partition}}}:log"):
            found.append((partition, entry_id.decode(), fields[b"key"].decode()))
    return found


async def test_a_position_is_where_the_fact_is(server, client):
    async with appending(server.url) as appender:
        positions = await asyncio.gather(*(appender.append([fact(f"k{i}")]) for i in range(500)))
    entries = await log(client)
    at = {(p, entry_id): key for p, entry_id, key in entries}
    assert len(entries) == 500
    for i, position in enumerate(positions):
        assert position.partition == partition_of(f"k{i}", 4)
        assert at[position.partition, f"{position.ms}-{position.n}"] == f"k{i}"
    for partition in range(4):
        numbers = [int(e.split("-")[1]) for p, e, _ in entries if p == partition]
        assert numbers == list(range(1, len(numbers) + 1))


async def test_an_entry_has_the_four_fields_in_order(server, client):
    async with appending(server.url) as appender:
        position = await appender.append([fact("k", data=b"payload")])
    (entry,) = await client.execute_command(
        "XRANGE", f"{{orders/{position.partition}}}:log", "-", "+"
    )
    names = list(entry[1])
    assert names == [b"type", b"key", b"meta", b"data"]
    assert entry[1][b"data"] == b"payload"


async def test_callers_share_a_call(server, client):
    async with appending(server.url) as appender:
        await appender.append([fact("warm")])
        before = (await client.info("commandstats"))["cmdstat_evalsha"]["calls"]
        await asyncio.gather(*(appender.append([fact("same-key")]) for _ in range(200)))
        after = (await client.info("commandstats"))["cmdstat_evalsha"]["calls"]
    assert after - before <= 5


def facts_of(command: Command) -> int:
    return (len(command.arguments) - 7) // 4


class Counting(Hook):
    """Keeps what is sent, and holds the replies back until `let_go`."""

    def __init__(self) -> None:
        self.appends: list[Command] = []
        self.let_go = asyncio.Event()

    async def command(self, link: Link, command: Command) -> Verdict:
        if command.name == "append":
            self.appends.append(command)
        return Verdict.PASS

    async def reply(self, link: Link, command: Command, reply: bytes) -> Verdict:
        if command.name == "append":
            await self.let_go.wait()
        return Verdict.PASS


async def test_no_more_batches_are_in_flight_than_the_log_remembers(server, client):
    async with Proxy([server.port], SCRIPTS) as proxy, appending(proxy.url) as appender:
        counting = Counting()
        proxy.hooks.append(counting)
        appends = []
        for _ in range(8):
            wave = [asyncio.ensure_future(appender.append([fact("k")])) for _ in range(ENOUGH)]
            appends += wave
            await asyncio.sleep(0.02)
        assert len(counting.appends) == 5
        # All of them have been carried out, and nobody has heard of it.
        await asyncio.gather(*(command.executed.wait() for command in counting.appends))
        proxy.hooks.clear()
        proxy.cut()
        everyone = range(1, 8 * ENOUGH + 1)
        assert [position.n for position in await asyncio.gather(*appends)] == [*everyone]
    assert len(await log(client)) == len(everyone)


async def test_few_appends_wait_for_those_under_way_and_then_go_together(server, client):
    """Also those of partitions that have nothing under way themselves."""
    async with Proxy([server.port], SCRIPTS) as proxy, appending(proxy.url) as appender:
        counting = Counting()
        proxy.hooks.append(counting)
        keys = [next(f"k{n}" for n in range(99) if partition_of(f"k{n}", 4) == p) for p in range(4)]
        appends = []
        for _ in range(4):
            for key in keys:
                appends.append(asyncio.ensure_future(appender.append([fact(key)])))
                await asyncio.sleep(0.01)
        assert len(counting.appends) == AHEAD
        counting.let_go.set()
        await asyncio.gather(*appends)
    assert sorted(map(facts_of, counting.appends)) == [1] * AHEAD + [2, 2, 3, 3]


async def test_batches_are_bounded(server, client):
    async with Proxy([server.port], SCRIPTS) as proxy, appending(proxy.url) as appender:
        counting = Counting()
        counting.let_go.set()
        proxy.hooks.append(counting)
        for facts, size, most in ((600, 50, 256), (10, 300_000, 3)):
            counting.appends.clear()
            data = b"x" * size
            await asyncio.gather(*(appender.append([fact("k", data=data)]) for _ in range(facts)))
            sizes = [facts_of(command) for command in counting.appends]
            assert sum(sizes) == facts
            assert max(sizes) == most


async def test_a_stale_version_alone_is_refused(server, client):
    async with appending(server.url) as appender:
        await asyncio.gather(*(appender.append([fact(f"k{i}", 0)]) for i in range(100)))
        results = await asyncio.gather(
            *(appender.append([fact(f"k{i}", 0 if i == 50 else 1)]) for i in range(100)),
            return_exceptions=True,
        )
    refused = [i for i, result in enumerate(results) if isinstance(result, Exception)]
    assert refused == [50]
    assert str(results[50]) == (
        "'k50' of stream orders is at version 1, not 0; nothing was appended; "
        "read it again and decide anew"
    )
    assert Counter(key for _, _, key in await log(client))["k50"] == 1


async def test_the_facts_of_one_append_are_all_or_nothing(server, client):
    async with appending(server.url) as appender:
        await appender.append([fact("k", 0), fact("k", 1)])
        with pytest.raises(VersionConflict):
            await appender.append([fact("k", 2), fact("k", 2)])
        await appender.append([fact("k", 2)])
    assert len(await log(client)) == 3


async def test_a_batch_that_comes_twice_is_appended_once(server, client):
    """The connection breaks between execution and reply, with batches in flight."""
    async with appending(server.url) as appender:
        for _ in range(20):
            appends = [asyncio.ensure_future(appender.append([fact(f"k{i}")])) for i in range(300)]
            await asyncio.sleep(0.002)
            await client.client_kill_filter(_type="normal", skipme=True)
            await asyncio.gather(*appends)
    entries = await log(client)
    assert len(entries) == 20 * 300
    assert set(Counter(key for _, _, key in entries).values()) == {20}


async def test_a_flushed_script_cache_loses_and_doubles_nothing(server, client):
    async with appending(server.url) as appender:
        for _ in range(8):
            appends = [asyncio.ensure_future(appender.append([fact(f"k{i}")])) for i in range(100)]
            await client.script_flush()
            await asyncio.gather(*appends)
    assert len(await log(client)) == 800


async def test_three_kills_of_redis_lose_and_double_nothing_acknowledged():
    with servers.start(fsync="always") as server:
        acknowledged: dict[str, Position] = {}
        unknown: set[str] = set()
        stop = asyncio.Event()

        async def caller(appender: Appender, name: int) -> None:
            count = 0
            while not stop.is_set():
                count += 1
                key = f"{name}-{count}"
                try:
                    acknowledged[key] = await appender.append([fact(key, 0)])
                except OutcomeUnknown:
                    unknown.add(key)
                except Unavailable:
                    await asyncio.sleep(0.05)

        async with appending(server.url, timeout=0.5) as appender:
            callers = [asyncio.create_task(caller(appender, name)) for name in range(64)]
            for _ in range(3):
                await asyncio.sleep(0.5)
                server.kill()
                await asyncio.sleep(1.0)
                await asyncio.to_thread(server.start_again)
            await asyncio.sleep(1.0)
            stop.set()
            await asyncio.gather(*callers)
        async with redis.asyncio.Redis.from_url(server.url, protocol=2) as client:
            entries = await log(client)
    counted = Counter(key for _, _, key in entries)
    assert len(acknowledged) > 1000
    assert not [key for key, count in counted.items() if count > 1]
    assert not acknowledged.keys() - counted.keys()
    assert not counted.keys() - acknowledged.keys() - unknown
    at = {key: (partition, entry_id) for partition, entry_id, key in entries}
    for key, position in acknowledged.items():
        assert at[key] == (position.partition, f"{position.ms}-{position.n}")


async def test_a_stopped_redis_gives_unknown_outcomes_and_comes_back():
    with servers.start() as server:
        async with appending(server.url, timeout=0.3) as appender:
            await appender.append([fact("before")])
            os.kill(server.pid, signal.SIGSTOP)
            try:
                with pytest.raises(OutcomeUnknown) as unknown:
                    await appender.append([fact("during")])
            finally:
                os.kill(server.pid, signal.SIGCONT)
            assert "repeat the command with the same request_id" in str(unknown.value)
            for attempt in range(50):
                try:
                    await appender.append([fact("after")])
                    break
                except Unavailable:
                    assert attempt < 49
        async with redis.asyncio.Redis.from_url(server.url, protocol=2) as client:
            keys = Counter(key for _, _, key in await log(client))
    assert keys["before"] == 1
    assert keys["during"] <= 1


async def test_a_full_redis_is_an_error_and_writing_resumes():
    with servers.start() as server:
        async with (
            redis.asyncio.Redis.from_url(server.url, protocol=2) as client,
            appending(server.url) as appender,
        ):
            await appender.append([fact("k")])
            await client.config_set("maxmemory", 1)
            results = await asyncio.gather(
                *(appender.append([fact(f"k{i}")]) for i in range(1000)), return_exceptions=True
            )
            assert all(isinstance(result, LogFull) for result in results)
            assert "out of memory; nothing was appended" in str(results[0])
            await client.config_set("maxmemory", 0)
            await appender.append([fact("k")])
            assert len(await log(client)) == 2


async def test_a_full_redis_is_an_error_for_a_stale_version_too():
    with servers.start() as server:
        async with (
            redis.asyncio.Redis.from_url(server.url, protocol=2) as client,
            appending(server.url) as appender,
        ):
            await appender.append([fact("k", 0)])
            await client.config_set("maxmemory", 1)
            with pytest.raises(LogFull):
                await appender.append([fact("k", 0)])
            await client.config_set("maxmemory", 0)
            with pytest.raises(VersionConflict):
                await appender.append([fact("k", 0)])


async def test_facts_before_a_failure_stay_and_each_caller_hears_the_truth(server, client):
    async with appending(server.url) as appender:
        head = Keys("orders", partition_of("k", 4))["head"]
        await client.hset(head, "n", LAST_N - 3)
        whole, cut, later = await asyncio.gather(
            *(appender.append([fact("k")] * count) for count in (2, 3, 1)), return_exceptions=True
        )
    assert isinstance(whole, Position)
    assert whole.n == LAST_N - 1
    assert isinstance(cut, OutcomeUnknown)
    assert "only 1 of its 3 facts are in the log: " in str(cut)
    assert "equal or smaller" in str(cut)
    assert isinstance(later, LogUnreachable)
    assert "nothing was appended" in str(later)
    assert len(await log(client)) == 3


async def append_script(client: redis.asyncio.Redis, *args: Any) -> list[Any]:
    """The reply of append.lua for partition 0, whose epoch is 0000000000000000."""
    keys = Keys("orders", 0).appending
    await client.hset(keys[1], mapping={"epoch": "0" * 16})
    for name in ("n", "ms"):
        await client.hsetnx(keys[1], name, "0")
    reply: list[Any] = await client.eval(APPEND.source, 4, *keys, "0" * 16, *args)
    return reply


Unit = tuple[str, tuple[int, ...]]  # key, expected versions


def batch(*units: Unit) -> list[Any]:
    """Arguments behind the epoch."""
    sizes = ",".join(str(len(expected)) for _, expected in units)
    return ["p" * 32, "batch", 1, 0, sizes, *facts(*units)]


def facts(*units: Unit) -> list[Any]:
    made = [(key, version) for key, expected in units for version in expected]
    versions = ",".join(str(version) for _, version in made)
    return [versions, *(part for key, at in made for part in ("T", key, "", f"{key}{at}"))]


async def test_a_batch_that_was_cut_has_the_same_outcome_for_ever(server, client):
    args = batch(("a", (0, 1)), ("b", (0, 1, 2)), ("c", (7,)))
    head = Keys("orders", 0)["head"]
    await client.hset(head, "n", LAST_N - 3)
    first = await append_script(client, *args)
    assert first[2:5] == [b"9007199254740990", 3, b""]
    assert b"equal or smaller" in first[5]
    await client.hset(head, mapping={"n": 2, "ms": int(first[1]) + 1000})
    assert await append_script(client, *args) == first
    assert await client.xlen(Keys("orders", 0)["log"]) == 3
    versions = await client.hgetall(Keys("orders", 0)["versions"])
    assert versions == {b"a": b"2", b"b": b"1"}


async def test_units_go_on_from_where_they_were_cut(server, client):
    """Also in the middle of a unit, and also if another owner cuts other calls."""
    producer = "s.reaction/orders/0/" + "0" * 16
    settled = {
        3: ("a", (0, 1)),
        5: ("b", (0, 1, 2, 3)),
        7: ("d", (4,)),
        9: ("c", (0,)),
        11: ("e", (0,)),
    }
    keys = Keys("orders", 0)

    async def send(*sequences: int, predecessor: int = 0) -> list[Any]:
        units = [settled[sequence] for sequence in sequences]
        sizes = ",".join(f"{n}:{len(settled[n][1])}" for n in sequences)
        return await append_script(client, producer, "units", 0, predecessor, sizes, *facts(*units))

    async def room(for_facts: int) -> None:
        ms = int(await client.hget(keys["head"], "ms") or 0)
        await client.hset(keys["head"], mapping={"n": LAST_N - for_facts, "ms": ms + 1000})

    await room(3)
    reply = await send(3, 5, 7, 9)
    assert reply[3:5] == [3, b""]
    assert b"equal or smaller" in reply[5]
    assert (await client.hget(keys["producers"], producer)).partition(b"|")[2] == b"3||5:1"
    # Not forgotten by a call of those before it alone: a new owner cuts other calls.
    assert (await send(3))[4:] == [b"", b"", 1]
    assert (await client.hget(keys["producers"], producer)).partition(b"|")[2] == b"3||5:1"
    # What was sent behind it does not overtake it.
    assert await send(11, predecessor=9) == [b"GAP", b"3"]
    # The versions of a unit that is begun are its own.
    assert (await append_script(client, *batch(("b", (1,)))))[4] == b"0:4"

    await room(2)
    assert (await send(5, 7))[3:5] == [3, b""]
    assert (await client.hget(keys["producers"], producer)).partition(b"|")[2] == b"3||5:3"

    await room(100)
    ms, first, count, conflicts, error, skipped = (await send(3, 5, 7, 9))[1:]
    assert (count, conflicts, error, skipped) == (5, b"2:0", b"", 1)
    # Counted as if the unit were in one piece: its last fact is where it is.
    entries = await client.xrange(keys["log"])
    assert entries[-2][0] == b"%b-%d" % (ms, int(first) + 3)
    assert [fields[b"data"].decode() for _, fields in entries] == [
        "a0", "a1", "b0", "b1", "b2", "b3", "c0",
    ]  # fmt: skip
    assert (await send(3, 5, 7, 9))[3:] == [0, b"2:0", b"", 4]
    versions = await client.hgetall(keys["versions"])
    assert versions == {b"a": b"2", b"b": b"4", b"c": b"1"}


@pytest.mark.parametrize(
    ("at", "mode", "text"),
    [
        (2, "batch", "{}"),  # sequence
        (3, "batch", "{}"),  # predecessor
        (4, "batch", "1,{}"),  # facts of a unit
        (4, "units", "1:1,{}:1"),  # its sequence
        (4, "units", "1:{},2:1"),
        (5, "batch", "0,{}"),  # expected version
    ],
)
async def test_malformed_numbers_are_refused_before_anything_is_written(
    server, client, at, mode, text
):
    args = batch(("a", (0,)), ("b", (0,)))
    args[1] = mode
    if mode == "units":
        args[4] = "1:1,2:1"
    for bad in (
        "-1",
        "1.5",
        "1e3",
        "0x10",
        "nan",
        "inf",
        " 1",
        "1\r\n",
        "\0",
        str(2**53),
        "9" * 400,
    ):
        with pytest.raises(redis.exceptions.ResponseError, match=r"append: .* is '"):
            await append_script(client, *args[:at], text.format(bad), *args[at + 1 :])
    assert await client.keys() == [Keys("orders", 0)["head"].encode()]
    assert await client.hgetall(Keys("orders", 0)["head"]) == {
        b"epoch": b"0" * 16, b"n": b"0", b"ms": b"0",
    }  # fmt: skip


ONE = facts(("a", (0,)))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["p", "other", 1, 0, "", *ONE], "there is no such mode"),
        (["p", "batch", 1], "predecessor is absent"),
        (["p", "batch", 1, 0], "5 arguments are not of whole facts"),
        (["p", "batch", 1, 0, "", *ONE, "T"], "12 arguments are not of whole facts"),
        (["p", "batch", 1, 0, "", *ONE, "T", "k", ""], "14 arguments are not of whole facts"),
        (["p", "batch", 1, 0, "2", *ONE], "units of 2 facts, 1 there"),
        (["p", "batch", 1, 0, "1", *ONE, *ONE[1:]], "1 versions, 2 facts there"),
        (["p", "batch", 1, 0, "1", "0,0", *ONE[1:]], "2 versions, 1 facts there"),
        (["p", "batch", 1, 0, "1", "", *ONE[1:], *ONE[1:]], "units of 1 facts, 2 there"),
        (["p", "batch", 1, 0, "1,", *ONE], "number of facts of unit 2 is ''"),
        (["p", "units", 0, 0, "", *ONE], "sequence of unit 1 is absent"),
        (["p", "units", 0, 0, "1", *ONE], "sequence of unit 1 is absent"),
        (["p", "units", 0, 0, "5:1,5:1", *facts(("a", (0, 1)))], "sequences do not rise"),
        (["p", "units", 0, 0, "0:1", *ONE], "sequences do not rise"),
    ],
)
async def test_a_malformed_call_is_refused(server, client, args, message):
    with pytest.raises(redis.exceptions.ResponseError, match=message):
        await append_script(client, *args)
    assert await client.exists(Keys("orders", 0)["log"]) == 0


async def test_a_batch_that_may_have_been_forgotten_is_not_appended_again(server, client):
    """Its producer was dropped as idle while the process, with the batch under way, was asleep."""
    alarms = Alarms()
    producers = Keys("orders", partition_of("k", 4))["producers"]

    async def forget() -> None:
        names = await client.hkeys(producers)
        await client.hdel(producers, *(name for name in names if name != b"_"))

    async with Proxy([server.port], SCRIPTS) as proxy, appending(proxy.url, alarms=alarms) as its:
        await its.append([fact("k")])
        trap = asyncio.create_task(proxy.spring(Trap(lambda sent: sent.name == "append", forget)))
        await asyncio.sleep(0)
        with pytest.raises(OutcomeUnknown):
            await its.append([fact("k")])
        await trap
        assert (await its.append([fact("k")])).n == 3


class LateBatch(Hook):
    """Holds the first append up; the connection ends meanwhile. Redis, full before, gets it late:
    between the first and the second batch of the new connection.
    """

    def __init__(self, client: redis.asyncio.Redis):
        self.client = client
        self.held = asyncio.Event()
        self.let_go = asyncio.Event()
        self.appends: list[Command] = []  # the late one, the same again, the one that follows
        self.old: Link | None = None

    async def command(self, link: Link, command: Command) -> Verdict:
        if command.name == "append":
            self.appends.append(command)
            if len(self.appends) == 1:
                self.old = link
                self.held.set()
                await self.let_go.wait()
            elif len(self.appends) == 3:
                await self.appends[1].executed.wait()
                await self.client.config_set("maxmemory", 0)
                self.let_go.set()
                while not await log(self.client):
                    await asyncio.sleep(0.01)
        return Verdict.PASS

    async def reply(self, link: Link, command: Command, reply: bytes) -> Verdict:
        if command in self.appends[1:2]:
            while len(self.appends) < 3:
                await asyncio.sleep(0.01)
            await self.appends[2].executed.wait()
        return Verdict.PASS


async def test_what_follows_a_refused_batch_may_be_in_the_log_if_that_one_was_sent_before():
    with servers.start() as server:
        async with (
            redis.asyncio.Redis.from_url(server.url, protocol=2) as client,
            Proxy([server.port], SCRIPTS) as proxy,
            appending(proxy.url) as appender,
        ):
            late = LateBatch(client)
            proxy.hooks.append(late)
            await client.config_set("maxmemory", 1)
            first = asyncio.ensure_future(appender.append([fact("k")]))
            await late.held.wait()
            assert late.old is not None
            late.old.end_for_client()
            while len(late.appends) < 2:
                await asyncio.sleep(0.01)
            second = asyncio.ensure_future(appender.append([fact("k")]))
            results = await asyncio.gather(first, second, return_exceptions=True)
            assert [type(result) for result in results] == [OutcomeUnknown] * 2
            assert len(await log(client)) == 2


@pytest.mark.parametrize("recreated", [False, True])
async def test_a_replaced_log_refuses_appends(server, client, recreated):
    alarms = Alarms()
    async with appending(server.url, alarms=alarms) as appender:
        await appender.append([fact("k")])
        await client.flushall()
        if recreated:
            async with appending(server.url):
                pass
        for _ in range(2):
            with pytest.raises(LogReplaced, match="restore it from a backup"):
                await appender.append([fact("k")])
    assert len(alarms) == 1
    assert not await client.keys("*log") or await client.xlen("{orders/0}:log") == 0


async def test_a_rolled_back_log_is_reported_and_takes_new_facts(server, client):
    alarms = Alarms()
    async with appending(server.url, alarms=alarms) as appender:
        await appender.append([fact("k")])
        partition = partition_of("k", 4)
        producers = f"{{orders/{partition}}}:producers"
        for name in await client.hkeys(producers):
            if name != b"_":
                await client.hdel(producers, name)
        position = await appender.append([fact("k")])
    assert position.n == 2
    assert len(alarms) == 1
    assert "was rolled back: batch 1 was acknowledged, the last one there is 0" in alarms[0]


@pytest.mark.parametrize(
    ("gone", "advice"),
    [
        ((2, 3), "look for them in a replica"),
        (
            (1, 2, 3),
            "look for them, and for earlier ones that are remembered no more, in a replica",
        ),
    ],
)
async def test_lost_facts_are_named_as_far_as_they_are_remembered(server, client, gone, advice):
    alarms = Alarms()
    async with appending(server.url, alarms=alarms) as appender:
        positions = [await appender.append([fact("k")]) for _ in range(3)]
        lost = [each for each in positions if each.n in gone]
        log = f"{{orders/{lost[0].partition}}}:log"
        await client.xdel(log, *(f"{each.ms}-{each.n}" for each in lost))
        await client.client_kill_filter(_type="normal", skipme=True)
        await appender.append([fact("k")])
    (alarm,) = alarms
    assert f"{len(gone)} are lost: {', '.join(map(str, lost))}; {advice}" in alarm


@pytest.mark.parametrize(
    ("facts", "apart", "batches"),
    [(2, 1, 5000), (1, 100, 601), (100, 1000, 256)],
    ids=["facts of a minute", "batches of a minute", "batches in any case"],
)
def test_what_is_remembered_is_bounded(facts: int, apart: int, batches: int) -> None:
    memory = Memory("orders", 0, "00c0ffee00c0ffee")
    for i in range(7000):
        memory.remember(Acknowledged(i * apart, i * facts + 1, (i + 1) * facts, b"", 1))
    assert len(memory) == batches * facts


async def test_a_producer_forgotten_because_it_was_idle_is_no_roll_back(
    server, client, monkeypatch
):
    monkeypatch.setattr("factfold_chassis.log.sender.IDLE", 0.0)
    alarms = Alarms()
    async with appending(server.url, alarms=alarms) as appender:
        await appender.append([fact("k")])
        producers = f"{{orders/{partition_of('k', 4)}}}:producers"
        names = [name for name in await client.hkeys(producers) if name != b"_"]
        await client.hdel(producers, *names)
        position = await appender.append([fact("k")])
    assert position.n == 2
    assert not alarms


async def test_a_foreign_entry_stops_the_appender(server, client):
    alarms = Alarms()
    async with appending(server.url, alarms=alarms) as appender:
        position = await appender.append([fact("k")])
        key = f"{{orders/{position.partition}}}:log"
        await client.execute_command("XADD", key, "9999999999999-1", "a", "b")
        with pytest.raises(LogReplaced, match="entries that no appender wrote"):
            await appender.append([fact("k")])
    assert len(alarms) == 1


async def test_large_facts_are_read_in_small_batches(server):
    async with appending(server.url) as appender:
        for _ in range(15):
            data = b"x" * 100_000
            done = [appender.append([fact("k", data=data)]) for _ in range(20)]
            last = (await asyncio.gather(*done))[-1]
    reader = Reader(Redis(server.url), "orders", last.partition, last.epoch)
    sizes: list[int] = []
    async with aclosing(reader.batches()) as batches:
        async for batch in batches:
            sizes.append(len(batch.entries))
            if batch.anchor.n == 300:
                break
    assert sum(sizes) == 300
    assert max(sizes[1:]) <= 42


async def test_what_was_not_handed_on_is_read_again(server, monkeypatch):
    """The connection breaks between a batch and the request for the next one."""
    async with appending(server.url) as appender:
        for _ in range(3):
            last = await appender.append([fact("k")])
    reader = Reader(Redis(server.url), "orders", last.partition, last.epoch, count=1)
    real, asked = Reader._ask, Counter[str]()

    def breaks(self: Reader, link: Any, anchor: Any, blocking: bool) -> None:
        asked[anchor.entry_id] += 1
        if anchor.n and asked[anchor.entry_id] == 1:
            raise LinkLost("it is gone")
        real(self, link, anchor, blocking)

    monkeypatch.setattr(Reader, "_ask", breaks)
    found: list[bytes] = []
    async with aclosing(reader.batches()) as batches, asyncio.timeout(20):
        async for batch in batches:
            found += [entry_id for entry_id, _ in batch.entries]
            if batch.anchor.n == 3:
                break
    assert [int(entry_id.split(b"-")[1]) for entry_id in found] == [1, 2, 3]


async def test_a_log_without_its_head_is_not_taken_over(server, client):
    async with appending(server.url) as appender:
        await appender.append([fact("k")])
    there = await log(client)
    for partition in range(4):
        await client.delete(f"{{orders/{partition}}}:head")
    with pytest.raises(LogReplaced, match="exists without its head"):
        await create_stream(Redis(server.url), ORDERS)
    assert await log(client) == there
    assert not await client.exists("{orders/0}:head")


async def test_refused_before_they_are_sent(server):
    async with appending(server.url, limit=10) as appender:
        with pytest.raises(InvalidRequest, match="a key has 1 to 512 bytes, this one 0"):
            await appender.append([fact("")])
        with pytest.raises(InvalidRequest, match="'_' is no key"):
            await appender.append([fact("_", 0)])
        with pytest.raises(InvalidRequest, match="must share their key"):
            await appender.append([fact("a"), fact("b")])
        with pytest.raises(InvalidRequest, match="a fact has at most 1048576 bytes"):
            await appender.append([fact("a", data=b"x" * (1 << 20))])
        with pytest.raises(InvalidRequest, match="facts of one append have at most 1048576 bytes"):
            await appender.append([fact("a", data=b"x" * (1 << 19))] * 3)
        results = await asyncio.gather(
            *(appender.append([fact("k")]) for _ in range(20)), return_exceptions=True
        )
    assert [type(result) for result in results[10:]] == [QueueFull] * 10
    assert not [result for result in results[:10] if isinstance(result, ChassisError)]


async def test_what_was_answered_makes_room_for_more(server):
    async with appending(server.url, limit=10) as appender:
        for _ in range(3):
            await asyncio.gather(*(appender.append([fact("k")]) for _ in range(10)))


async def test_producers_idle_for_a_week_are_forgotten_and_those_of_reactions_are_not(
    server, client
):
    async with appending(server.url) as appender:
        await appender.append([fact("k")])
        producers = f"{{orders/{partition_of('k', 4)}}}:producers"
        await client.hset(
            producers,
            mapping={
                "old": "1000|1;1;1;1;;",
                "svc.group/orders/0/e": "1000|7||",
                "svc.group/orders/0/e/1-1": "1000|1||",  # of a dead letter
            },
        )
        left = {b"old"}
        for _ in range(1000):  # one call in 16 looks, by the clock
            if b"old" not in left:
                break
            await appender.append([fact("k")])
            left = set(await client.hkeys(producers))
    assert b"old" not in left
    assert b"svc.group/orders/0/e/1-1" not in left
    assert b"svc.group/orders/0/e" in left
