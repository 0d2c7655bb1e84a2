"""The append path with five batches of one partition in flight, when something breaks."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import grpc
import pytest

from .log import Log, Sent, eventually, keys, partition_of
from .probe import Probe
from .proxy import Command, Hook, Link, Proxy, Trap, Verdict
from .row import Row

KEYS = keys(500)
OF = [[key for key in KEYS if partition_of(key) == partition] for partition in range(4)]
IN_FLIGHT = 5
# What one call appends is one batch here, also of a service that runs on several threads.
ONE_THREAD = {"GOMAXPROCS": "1"}


class InFlight(Hook):
    """Keeps replies back until five batches of one partition have been sent.

    `bad` is the one that something happens to, from 0.
    """

    def __init__(self, proxy: Proxy, partition: int, bad: int):
        self.partition = partition
        self.bad = bad
        self.sent = 0
        self.happened = False
        self.proxy = proxy
        self._full = asyncio.Event()
        self._bad: Command | None = None
        self._replies = 0

    def _matches(self, command: Command) -> bool:
        return command.name == "append" and command.place == ("inputs", self.partition)

    async def command(self, link: Link, command: Command) -> Verdict:
        if not self._matches(command):
            return Verdict.PASS
        self.sent += 1
        if self.sent == self.bad + 1:
            self._bad = command
            await self.before()
        elif self.sent == self.bad + 2:
            assert self._bad is not None
            await self._bad.executed.wait()
            await self.after()
        if self.sent == IN_FLIGHT:
            self._full.set()
        return Verdict.PASS

    async def reply(self, link: Link, command: Command, reply: bytes) -> Verdict:
        if not self._matches(command):
            return Verdict.PASS
        self._replies += 1
        if self._replies <= IN_FLIGHT:
            await self._full.wait()
        if self._replies == self.bad + 1:
            return await self.bad_reply(link)
        return Verdict.PASS

    async def before(self) -> None:
        """The bad batch is about to be sent."""

    async def after(self) -> None:
        """The bad batch has been executed, its follower is about to be sent."""

    async def bad_reply(self, link: Link) -> Verdict:
        """The reply to the bad batch is about to be handed on; five have been sent."""
        self.happened = True
        return Verdict.PASS

    async def inject(self, row: Row, probe: Probe, sent: Sent) -> None:
        """Five batches, one after the other; returns when all are answered."""
        self.proxy.hooks = [self]
        waves: list[asyncio.Task[Any]] = []
        for at in range(IN_FLIGHT):
            units = [sent.unit(key) for key in row.random.sample(OF[self.partition], 20)]
            if at == self.bad:
                units = self.spoil(row, sent, units)
            # Another partition's batches share the connection.
            units += [sent.unit(key) for key in row.random.sample(OF[self.partition - 1], 5)]
            waves.append(asyncio.create_task(self._wave(probe, sent, units)))
            await eventually(lambda at=at: self.sent > at)
        await asyncio.gather(*waves)
        self.proxy.hooks = []
        assert self.happened
        row.injected()

    def spoil(self, row: Row, sent: Sent, units: list[Any]) -> list[Any]:
        """The units of the bad batch."""
        return units

    async def _wave(self, probe: Probe, sent: Sent, units: list[Any]) -> None:
        sent.answered(units, await probe.append_many(units))


class Cut(InFlight):
    """The connection ends, for both or at first for the client alone; Redis has executed all."""

    def __init__(self, proxy: Proxy, partition: int, bad: int, how: str):
        super().__init__(proxy, partition, bad)
        self._how = how

    async def bad_reply(self, link: Link) -> Verdict:
        self.happened = True
        if self._how == "half-closed":
            link.end_for_client()
            await asyncio.sleep(0.05)
        return Verdict.CUT


@pytest.mark.at_least(200)
async def test_cut_between_execution_and_reply(row: Row) -> None:
    """cut the connection between execution and reply, 5 batches in flight"""
    server = row.redis()
    proxy = await row.proxy(server)
    probe = await row.probe(proxy, **ONE_THREAD).ready()
    log, sent = Log(server), Sent()
    while row.more:
        how = row.random.choice(["cut", "half-closed"])
        cut = Cut(proxy, row.random.randrange(4), row.random.randrange(IN_FLIGHT), how)
        await cut.inject(row, probe, sent)
    assert not sent.unknown
    assert not sent.refused
    row.appended(log, sent)
    await row.view_is_rebuild(log, probe, at=server)


class Flush(InFlight):
    """The bad batch finds no script; the one behind it may find it again."""

    def __init__(self, proxy: Proxy, partition: int, bad: int, log: Log, script: bytes | None):
        super().__init__(proxy, partition, bad)
        self._log = log
        self._script = script

    async def before(self) -> None:
        self._log.everywhere("SCRIPT", "FLUSH")

    async def after(self) -> None:
        if self._script is not None:
            with self._log.redis() as client:
                client.script_load(self._script)


@pytest.mark.at_least(200)
async def test_script_flush(row: Row) -> None:
    """SCRIPT FLUSH in one of 5 batches in flight"""
    server = row.redis()
    proxy = await row.proxy(server)
    probe = await row.probe(proxy, **ONE_THREAD).ready()
    log, sent = Log(server), Sent()
    script = (row.made.scripts / "append.lua").read_bytes()
    while row.more:
        again = row.random.choice([script, None])
        at = row.random.randrange(4), row.random.randrange(IN_FLIGHT)
        await Flush(proxy, *at, log, again).inject(row, probe, sent)
    assert not sent.unknown
    assert not sent.refused
    row.appended(log, sent)
    await row.view_is_rebuild(log, probe, at=server)


class OutOfMemory(InFlight):
    """The bad batch finds Redis full; the one behind it does not."""

    def __init__(self, proxy: Proxy, partition: int, bad: int, log: Log):
        super().__init__(proxy, partition, bad)
        self._log = log

    async def before(self) -> None:
        self._log.everywhere("CONFIG", "SET", "maxmemory", 1)

    async def after(self) -> None:
        self._log.everywhere("CONFIG", "SET", "maxmemory", 0)

    async def bad_reply(self, link: Link) -> Verdict:
        await self.after()  # there is no batch behind the fifth
        return await super().bad_reply(link)


@pytest.mark.at_least(200)
async def test_out_of_memory(row: Row) -> None:
    """out of memory in one of 5 batches in flight"""
    server = row.redis()
    proxy = await row.proxy(server)
    probe = await row.probe(proxy, **ONE_THREAD).ready()
    log, sent = Log(server), Sent()
    while row.more:
        refused, acknowledged = len(sent.refused), len(sent.acknowledged)
        at = row.random.randrange(4), row.random.randrange(IN_FLIGHT)
        await OutOfMemory(proxy, *at, log).inject(row, probe, sent)
        assert len(sent.refused) >= refused + 20
        # Writing resumes by itself.
        units = [sent.unit(key) for key in row.random.sample(KEYS, 20)]
        sent.answered(units, await probe.append_many(units))
        assert len(sent.acknowledged) >= acknowledged + 20
    assert not sent.unknown
    assert all("is out of memory" in message for message in sent.refused.values())
    row.appended(log, sent)
    await row.view_is_rebuild(log, probe, at=server)


# Redis refuses to add an entry to what is no stream: fact 1, 2 or 3 of a key fails1-…, fails2-…
# (its number is field 2 of the event).
XADD = "'XADD', log, "
FAILS = "ARGV[arg + 3]:find('\\16' .. string.char(ARGV[arg + 1]:match('^fails(%d)') or 0), 1, true)"
FAILING_XADD = f"'XADD', {FAILS} and head or log, "


class Fails(InFlight):
    """The script fails at some fact of the bad batch; the reply may be lost."""

    def __init__(self, proxy: Proxy, partition: int, bad: int, fails: Any, cut: bool):
        super().__init__(proxy, partition, bad)
        self._fails = fails
        self._cut = cut

    def spoil(self, row: Row, sent: Sent, units: list[Any]) -> list[Any]:
        units.insert(row.random.randrange(len(units) + 1), self._fails)
        return units

    async def bad_reply(self, link: Link) -> Verdict:
        self.happened = True
        return Verdict.CUT if self._cut else Verdict.PASS


@pytest.mark.at_least(200)
async def test_error_after_some_facts(row: Row) -> None:
    """error after k XADDs in one of 5 batches in flight"""
    server = row.redis()
    made = row.patched("append", XADD, FAILING_XADD)
    proxy = await row.proxy(server, made)
    probe = await row.probe(proxy, made=made, **ONE_THREAD).ready()
    log, sent = Log(server), Sent()
    bad = row.random.sample([key for at in (1, 2, 3) for key in keys(500, f"fails{at}")], 1500)
    while row.more:
        acknowledged = len(sent.acknowledged)
        key = bad.pop()
        fails = sent.unit(key, facts=3)
        at = partition_of(key), row.random.randrange(IN_FLIGHT)
        cut = row.random.random() < 0.5
        await Fails(proxy, *at, fails, cut).inject(row, probe, sent)
        assert len(sent.acknowledged) > acknowledged
    facts = log.facts("inputs")
    there = Counter(fact.key for fact in facts if fact.key.startswith("fails"))
    for key, number in there.items():
        # The first ones of a unit, of which its caller has been told.
        assert number < int(key[5])
        assert f"only {number} of its 3 facts are in the log" in sent.unknown[key, 1]
    told = [message for message in sent.unknown.values() if "of its 3 facts" in message]
    assert len(told) == 3 * len(there)
    row.appended(log, sent)
    await row.view_is_rebuild(log, probe, at=server)


@pytest.mark.at_least(100)
async def test_one_stale_version(row: Row) -> None:
    """one stale version among 100, reply cut"""
    server = row.redis()
    proxy = await row.proxy(server)
    probe = await row.probe(proxy, **ONE_THREAD).ready()
    log, sent = Log(server), Sent("moves")
    version = dict.fromkeys(KEYS, 0)
    while row.more:
        partition = row.random.randrange(4)
        some = row.random.sample(OF[partition], 100)
        stale = row.random.choice(some)
        wrong = version[stale] + row.random.choice([-1, 1]) if version[stale] else 1
        units = [
            sent.unit(key, expected_version=wrong if key == stale else version[key]) for key in some
        ]
        lost = Trap(lambda command, at=("moves", partition): command.place == at
                    and command.name == "append")  # fmt: skip
        cutting = asyncio.create_task(proxy.spring(lost))
        await asyncio.sleep(0)
        outcomes = await probe.append_many(units)
        await cutting
        assert lost.caught is not None
        assert len(lost.caught.arguments) == 7 + 4 * 100, "not one batch"
        row.injected()
        sent.answered(units, outcomes)
        refused = [unit for unit, outcome in zip(units, outcomes, strict=True) if outcome.code]
        assert [unit.key for unit in refused] == [stale]
        assert outcomes[some.index(stale)].code == grpc.StatusCode.ABORTED.value[0]
        for key in some:
            version[key] += key != stale
        (again,) = refused
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await probe.stub.Append(again, timeout=5)
        assert refusal.value.code() is grpc.StatusCode.ABORTED
        said = f"'{stale}' of stream moves is at version {version[stale]}, not {wrong};"
        assert (refusal.value.details() or "").startswith(said)
    assert not sent.unknown
    row.appended(log, sent)
    rows = {fact.key: fact.meta.version for fact in log.facts("moves")}
    assert rows == {key: number for key, number in version.items() if number}
    await row.view_is_rebuild(log, probe, at=server)
