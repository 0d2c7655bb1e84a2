"""The log is flushed, or trimmed, under those who own and read it."""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any

import grpc
import pytest

from .load import Load
from .log import PARTITIONS, STREAMS, Log, Logged, Sent, check_reaction, eventually, keys
from .probe import Probe
from .row import Row

KEYS = keys(500)
REACTIONS = ("answer", "scatter")
NOTICED = 15.0  # seconds: a blocked read lasts two, and the machine is busy
FAST = {"FACTFOLD_LEASE": "1"}


def partition_keys(log: Log) -> list[str]:
    """All that belongs to a partition, but the cursors: a view may not have noticed yet."""
    with log.redis() as client:
        names = sorted(name.decode() for name in client.keys("*") if b"/" in name)
    return [name for name in names if ":cursors:" not in name]


def flush(log: Log) -> None:
    with log.redis() as client:
        client.flushall()


async def refuses(probe: Probe, *words: str) -> None:
    """Health and calls say that it cannot serve; the log line and the call say why."""

    async def says_why() -> bool:
        try:
            await probe.dump()
        except grpc.aio.AioRpcError as error:
            said = f"{error.code().name} {error.details()}"
            return all(word in said for word in ("UNAVAILABLE", *words))
        return False

    end = asyncio.get_running_loop().time() + NOTICED
    while not await says_why():
        assert asyncio.get_running_loop().time() < end, f"no call is refused with {words}"
        await asyncio.sleep(0.1)
    assert not await probe.serving()
    await eventually(lambda: [line for line in probe.lines if all(word in line for word in words)])


async def refusal(appends: Awaitable[Sequence[Any]]) -> str:
    """Why none of it was appended: by the appender, or since the views have noticed too."""
    try:
        outcomes = await appends
    except grpc.aio.AioRpcError as error:
        code, why = error.code(), error.details() or ""
        assert (code, "whose log is gone" in why) == (grpc.StatusCode.UNAVAILABLE, True), why
        return why
    assert {each.code for each in outcomes} == {grpc.StatusCode.FAILED_PRECONDITION.value[0]}
    (stream,) = {each.message.partition(" (")[0] for each in outcomes}
    return stream


async def is_not_created(log: Log, seconds: float = 3) -> None:
    """Whoever would recreate the log has had time to."""
    await asyncio.sleep(seconds)
    assert partition_keys(log) == []


@pytest.mark.at_least(1)
async def test_flushed_with_the_owner_running(row: Row) -> None:
    """FLUSHALL with the owner running"""
    server = row.redis()
    log, sent = Log(server), Sent()
    kept = {"FACTFOLD_SNAPSHOT_DIR": "snapshots", "FACTFOLD_SNAPSHOT_INTERVAL": "0.5"}
    owner = row.probe(server, folder=row.folder / "owner", PROBE_OWNS="inputs,moves", **kept)
    reacting = row.probe(server, reactions=",".join(REACTIONS), PROBE_OWNS="outputs", **FAST)
    await owner.ready()
    await reacting.ready()
    async with Load(row, owner, sent, KEYS) as load:
        await load.acknowledged(1000)
        await eventually(lambda: log.committed("answer") > 500)
        # It is what says, after a restart, that there was a log.
        await eventually(lambda: list((owner.folder / "snapshots").glob("*.snapshot")))
        flush(log)
        row.injected()
        # Appends hear of it, unless a view does before and all calls are refused.
        await eventually(lambda: owner.said("was lost or replaced") or owner.said("its epoch was"))
    units = [sent.unit(key) for key in KEYS]
    assert "inputs" in await refusal(owner.append_many(units))
    await refuses(owner, "waits for stream")
    await refuses(reacting, "reaction answer has stopped", "stream inputs")
    # A reaction may stop because its output stream is gone, before any view reads again.
    for probe in (owner, reacting):
        await eventually(lambda probe=probe: probe.said("its epoch was"))
    await is_not_created(log)

    # Neither does it when it comes back, as long as it knows that there was a log.
    for probe in (owner, reacting):
        probe.terminate()
        assert await probe.ends() == 0
    assert partition_keys(log) == []
    again = row.probe(server, folder=owner.folder, PROBE_OWNS="inputs,moves", **kept)
    await refuses(again, "was lost or replaced", "is a snapshot of it")
    told = row.probe(server, FACTFOLD_EXPECT_LOG="true")
    await refuses(told, "was lost or replaced", "FACTFOLD_EXPECT_LOG is set")
    await is_not_created(log)


@pytest.mark.at_least(1)
async def test_flushed_with_only_readers(row: Row) -> None:
    """FLUSHALL with only readers"""
    server = row.redis()
    log, sent = Log(server), Sent()
    owner = await row.probe(server).ready()
    units = [sent.unit(key) for key in KEYS]
    sent.answered(units, await owner.append_many(units))
    readers = [row.probe(server, PROBE_OWNS=",", PROBE_NAME=f"reader-{at}") for at in range(2)]
    for reader in readers:
        await reader.ready()
        await reader.dump(log.tail())
    owner.kill()
    flush(log)
    row.injected()
    for reader in readers:
        await refuses(reader, "waits for stream")
        assert any(f"stream {stream}" in line and "now it is gone" in line
                   for line in reader.lines for stream in STREAMS)  # fmt: skip
    await is_not_created(log)
    # An operator begins anew: they take the new log, and nothing of the old one.
    sent = Sent()
    anew = await row.probe(server).ready()
    units = [sent.unit(key) for key in KEYS[:100]]
    sent.answered(units, await anew.append_many(units))
    for reader in readers:
        await reader.ready()
    row.appended(log, sent)
    await row.view_is_rebuild(log, anew, *readers, at=server)


class Trimming:
    """A reader that is away while facts come and others are trimmed."""

    def __init__(self, row: Row, stopped: bool):
        self.row = row
        self.stopped = stopped
        self.sent = Sent()
        self.inputs: dict[tuple[int, int], Logged] = {}  # by place, also those that are trimmed

    async def begin(self) -> None:
        row = self.row
        self.server = row.redis()
        self.log = Log(self.server)
        self.proxy = await row.proxy(self.server)
        self.writer = await row.probe(self.server).ready()
        self.reader = self._start()
        await self._append(500)
        await self.reader.ready()

    def _start(self) -> Probe:
        return self.row.probe(
            self.proxy,
            reactions=",".join(REACTIONS),
            folder=self.row.folder / "reader",
            FACTFOLD_SNAPSHOT_DIR="snapshots",
            **FAST,
        )

    async def _append(self, facts: int) -> None:
        units = [self.sent.unit(key) for key in self.row.random.choices(KEYS, k=facts)]
        self.sent.answered(units, await self.writer.append_many(units))
        found = self.log.facts("inputs", trimmed=True)
        self.inputs |= {fact.place: fact for fact in found}

    async def trim(self, where: str) -> str:
        """Trims one partition; "n to m" of what nobody has read then."""
        dice, log = self.row.random, self.log
        await log.reacted(*REACTIONS)
        await self.reader.dump(log.tail())
        read = [int(log.head("inputs", p)["n"]) for p in range(PARTITIONS)]
        if self.stopped:
            self.reader.terminate()
            await self.reader.ends()
        else:
            self.proxy.refusing = True
            self.proxy.cut()
        if where == "past" or dice.random() < 0.7:
            await self._append(100)
        p = dice.randrange(PARTITIONS)
        tail = int(log.head("inputs", p)["n"])
        first = {  # that is left
            "before": lambda: dice.choice([read[p], dice.randint(1, read[p])]),
            "at": lambda: read[p] + 1,
            "past": lambda: dice.choice([read[p] + 2, dice.randint(read[p] + 2, tail + 1)]),
        }[where]()
        await self.writer.dump(log.tail())  # it has all that is trimmed now
        with log.redis() as client:
            name = f"{{inputs/{p}}}:log"
            client.xtrim(name, maxlen=tail - first + 1, approximate=False)
            assert client.xlen(name) == tail - first + 1
        self.row.injected()
        self.proxy.refusing = False
        if self.stopped:
            self.reader = self._start()
        return f"stream inputs, partition {p}: facts {read[p] + 1} to {first - 1} were removed"

    async def is_unharmed(self) -> None:
        await self.reader.ready()
        await self.log.reacted(*REACTIONS)
        dumped = await self.reader.dump(self.log.tail())
        expected = await self.writer.dump(self.log.tail())
        for each in (dumped, expected):
            each.position = ",".join(sorted(each.position.split(",")))
        assert dumped == expected
        said = [line for line in self.reader.lines if "cannot be complete" in line
                or "the log changed" in line or "has stopped" in line]  # fmt: skip
        assert not said, said


@pytest.mark.at_least(3)
@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
async def test_trimmed(row: Row, stopped: bool) -> None:
    """XTRIM before, at and past the anchor"""
    row.label = "reader stopped" if stopped else "reader running"
    trimming = Trimming(row, stopped)
    await trimming.begin()
    for where in ("before", "at"):
        await trimming.trim(where)
        await trimming.is_unharmed()
    inputs, outputs = list(trimming.inputs.values()), trimming.log.facts("outputs")
    for reaction in REACTIONS:
        row.count(check_reaction(reaction, inputs, outputs))
    missing = await trimming.trim("past")
    await refuses(trimming.reader, "view probe cannot be complete", missing)
    for reaction in () if stopped else REACTIONS:  # which begin once the view is complete
        await eventually(
            lambda r=reaction: [
                line
                for line in trimming.reader.said(f"reaction {r} has stopped")
                if missing in line
            ]
        )
    # One that has read nothing yet lacks them all.
    fresh = row.probe(trimming.server)
    await refuses(fresh, "view probe cannot be complete", ": facts 1 to ")
    assert not await trimming.reader.serving()
