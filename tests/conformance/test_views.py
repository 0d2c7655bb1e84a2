"""The same log makes the same tables, whoever folds it; positions, readiness, a log that breaks."""

import asyncio
import hashlib
import random
import zlib
from typing import Any

from faults.log import STREAMS, eventually, keys, partition_of
from faults.probe import Probe, contract
from faults.test_lost_log import flush, refuses

from . import entries
from .calls import call
from .cases import Case
from .playing import Scenes
from .reading import keyed
from .stage import Stage

FAMILY = "views"
NOTICED = 8.0  # seconds: a blocked read lasts two, and the machine is busy
scenes = Scenes()


async def test_views(stage: Stage, case: Case) -> None:
    await scenes.play(stage, case)


async def add(probe: Probe, *names: str, first: int = 1, stream: str = "inputs") -> None:
    units = [contract.AppendRequest(stream=stream, key=name, first=first) for name in names]
    outcomes = await probe.append_many(units)
    assert not any(outcome.code for outcome in outcomes), outcomes


def in_order(dumped: Any) -> Any:
    """A dump whose positions are sorted: they have no order."""
    dumped.position = ",".join(sorted(dumped.position.split(",")))
    return dumped


def rows(dumped: Any, table: str) -> dict[str, bytes]:
    (found,) = (each for each in dumped.tables if each.name == table)
    return {row.key: row.value for row in found.row}


def record(stage: Stage, dice: random.Random) -> None:
    """Facts of all streams, as appenders of many services might have written them."""
    names = [*keys(60), "Größe", "日本語", "🦜", "x" * 512, "a\tb", '"']
    version: dict[str, int] = {}
    for number in range(1, 600):
        key = dice.choice(names)
        match dice.choice(STREAMS):
            case "inputs":
                event = contract.Input(key=key, number=number, payload=dice.randbytes(9))
            case "moves":
                event = contract.Moved(
                    key=key, number=number, group=dice.choice(["", "red", "blue", "grün"]),
                    amount=dice.choice([-(2**63), 2**63 - 1, -1, 0, 5]),
                    to=dice.choice(["", *names]),
                )  # fmt: skip
            case _:
                event = contract.Output(key=key, number=number, of=key)
        stream = {"Input": "inputs", "Moved": "moves"}.get(event.DESCRIPTOR.name, "outputs")
        meta = entries.new_meta()
        if stream == "moves":
            version[key] = version.get(key, 0) + 1
            meta.version = version[key]
            # Sums have to stay within what the field holds.
            event.amount //= 2**20
        entries.write_event(stage.log, stream, event, meta)


@scenes
async def recorded(stage: Stage, case: Case) -> None:
    """The first one folds the log as it grows, the second one all at once."""
    async with stage.apart() as apart:
        early = await apart.probe(0)
        await asyncio.to_thread(record, apart, random.Random(7))
        tail = apart.log.tail()
        late = await apart.start(1).ready()
        one, other = in_order(await early.dump(tail)), in_order(await late.dump(tail))
        assert one.position == ",".join(sorted(tail.split(",")))
        for left, right in zip(one.tables, other.tables, strict=True):
            assert left.name == right.name
            assert {row.key: row.value for row in left.row} == {
                row.key: row.value for row in right.row
            }, left.name
        assert one == other


@scenes
async def order(stage: Stage, case: Case) -> None:
    """The row has a checksum over the ids of the facts in the order of their folds."""
    probe = await stage.probe()
    for first in range(1, 40, 4):
        units = [
            contract.AppendRequest(stream="inputs", key=case.key, first=first + at)
            for at in range(4)
        ]
        await probe.append_many(units)
    facts = keyed(stage, "inputs", case.key)
    assert [fact.event.number for fact in facts] == list(range(1, 41))
    ids = "".join(fact.position.rpartition(":")[2] for fact in facts)
    row = contract.Seen.FromString(rows(await probe.dump(facts[-1].position), "inputs")[case.key])
    assert row == contract.Seen(facts=40, last_number=40, order=zlib.crc32(ids.encode()))


@scenes
async def hashes(stage: Stage, case: Case) -> None:
    probe = await stage.probe()
    # UTF-16 would sort the last two the other way round.
    await add(probe, *(f"{case.key}-{end}" for end in ("b", "B", "ß", "", "\uffee", "🦜")))
    dumped = await probe.dump(stage.log.tail())
    hashed = await probe.dump(stage.log.tail(), hashes_only=True)
    for table, alone in zip(dumped.tables, hashed.tables, strict=True):
        found = [(row.key.encode(), row.value) for row in table.row]
        assert [key for key, _ in found] == sorted(key for key, _ in found)
        text = b"".join(key + b"\0" + value + b"\0" for key, value in found)
        assert table.sha256 == alone.sha256 == hashlib.sha256(text).digest()
        assert (table.rows, alone.rows, len(alone.row)) == (len(found), len(found), 0)


@scenes
async def positions(stage: Stage, case: Case) -> None:
    async with stage.apart() as apart:
        probe = await apart.probe()
        assert (await probe.dump()).position == ""
        await add(probe, case.key)
        dumped = await probe.dump(apart.log.tail())
        assert dumped.position == apart.log.tail()
        assert dumped.position.startswith(f"inputs/{partition_of(case.key)}@")
        await add(probe, *keys(20, case.key))
        dumped = await probe.dump(apart.log.tail())
        assert sorted(dumped.position.split(",")) == sorted(apart.log.tail().split(","))


@scenes
async def readiness(stage: Stage, case: Case) -> None:
    """Whoever comes up while much is appended has what was there when it came."""
    async with stage.apart() as apart:
        writer = await apart.probe()
        names = keys(400, case.key)
        for first in range(1, 11):
            await add(writer, *names, first=first)
        count = apart.log.count("inputs")
        slow = await apart.proxy()
        slow.delay = 0.1  # of each reply
        reader = apart.start(of=slow)
        appending = asyncio.create_task(add(writer, *names, first=11))
        await reader.ready()
        # At once, without being told to wait.
        dumped = await reader.stub.Dump(contract.DumpRequest(), timeout=10)
        seen = rows(dumped, "inputs").values()
        assert sum(contract.Seen.FromString(each).facts for each in seen) >= count
        await appending


@scenes
async def drained(stage: Stage, case: Case) -> None:
    probe = await stage.start().ready()
    names = keys(50, case.key)
    calls = [
        asyncio.create_task(
            call(
                probe,
                "Append",
                contract.AppendRequest(stream="inputs", key=key, first=1, sleep_ms=400),
            )
        )
        for key in names
    ]
    await asyncio.sleep(0)  # they are begun
    await probe.status()  # on the same connection, so behind them: all are accepted
    probe.terminate()
    answers = await asyncio.gather(*calls)
    assert {answer.code for answer in answers} == {"OK"}
    assert await probe.ends() == 0
    facts = {fact.position for fact in stage.log.facts("inputs") if fact.key in names}
    assert facts == {answer.message.position for answer in answers}


@scenes
async def killed(stage: Stage, case: Case) -> None:
    async with stage.apart() as apart:
        kept = {"FACTFOLD_SNAPSHOT_DIR": "snapshots", "FACTFOLD_SNAPSHOT_INTERVAL": "0.2"}
        writer = await apart.probe()
        for first in range(1, 4):
            reader = await apart.start(folder="reader", **kept).ready()
            await add(writer, *keys(100, case.key), first=first)
            await add(writer, *keys(30, case.key), stream="moves", first=first)
            if first > 1:
                await asyncio.sleep(0.4)  # a snapshot
            reader.kill()
        reader = await apart.start(folder="reader", **kept).ready()
        rebuilt = await apart.start().ready()
        tail = apart.log.tail()
        assert in_order(await reader.dump(tail)) == in_order(await rebuilt.dump(tail))
        assert reader.said("begins with a snapshot")


@scenes
async def added_later(stage: Stage, case: Case) -> None:
    async with stage.apart() as apart:
        first = await apart.probe()
        await add(first, *keys(100, case.key))
        later = await apart.start(PROBE_NAME="later", PROBE_OWNS=",").ready()
        tail = apart.log.tail()
        assert rows(await later.dump(tail), "inputs") == rows(await first.dump(tail), "inputs")
        # Where it is stands in cursors of its own.
        with apart.log.redis() as client:
            assert client.exists("{inputs/0}:cursors:later.probe")


async def _reader_behind(stage: Stage, case: Case) -> tuple[Probe, Any, Probe]:
    """A writer, and a reader that is cut off behind what it has read, and its proxy."""
    writer = await stage.probe()
    await add(writer, *keys(40, case.key))
    proxy = await stage.proxy()
    reader = await stage.start(of=proxy, PROBE_NAME="reader", PROBE_OWNS=",").ready()
    await reader.dump(stage.log.tail())
    proxy.refusing = True
    proxy.cut()
    return writer, proxy, reader


def _shortened(stage: Stage, partition: int, first: int) -> None:
    """By hand: facts before n = `first` are gone, and nothing says so."""
    tail = int(stage.log.head("inputs", partition)["n"])
    with stage.log.redis() as client:
        client.xtrim(f"{{inputs/{partition}}}:log", maxlen=tail - first + 1, approximate=False)


@scenes
async def removed(stage: Stage, case: Case) -> None:
    """In front of all that is left, or behind what the reader has read."""
    async with stage.apart() as apart:
        writer, proxy, reader = await _reader_behind(apart, case)
        read = int(apart.log.head("inputs", 0)["n"])
        await add(writer, *keys(40, case.key), first=2)
        if case.more["in_the_middle"]:
            with apart.log.redis() as client:
                some = client.xrange("{inputs/0}:log")[read : read + 2]
                client.xdel("{inputs/0}:log", *(entry_id for entry_id, _ in some))
        else:
            _shortened(apart, 0, read + 3)
        proxy.refusing = False
        missing = f"stream inputs, partition 0: facts {read + 1} to {read + 2} were removed"
        await refuses(reader, "view probe cannot be complete", missing)


@scenes
async def trimmed(stage: Stage, case: Case) -> None:
    async with stage.apart() as apart:
        writer, proxy, reader = await _reader_behind(apart, case)
        read = int(apart.log.head("inputs", 0)["n"])
        await add(writer, *keys(40, case.key), first=2)
        _shortened(apart, 0, read + 1)
        proxy.refusing = False
        tail = apart.log.tail()
        assert in_order(await reader.dump(tail)) == in_order(await writer.dump(tail))
        assert await reader.serving()


@scenes
async def deleted(stage: Stage, case: Case) -> None:
    async with stage.apart() as apart:
        writer = await apart.probe()
        await add(writer, *keys(40, case.key))
        reader = await apart.start(PROBE_NAME="reader", PROBE_OWNS=",").ready()
        await reader.dump(apart.log.tail())
        await asyncio.sleep(0.1)  # it blocks
        writer.kill()
        flush(apart.log)
        await refuses(reader, "waits for stream")
        assert any("now it is gone" in line for line in reader.lines)
        # A new one is taken, and nothing of the old one.
        anew = await apart.start().ready()
        await add(anew, case.key)
        await reader.ready()
        assert rows(await reader.dump(apart.log.tail()), "inputs").keys() == {case.key}


@scenes
async def rolled_back(stage: Stage, case: Case) -> None:
    """As after a failover to a replica that lagged: the last facts are gone, and n with them."""
    async with stage.apart() as apart:
        writer, proxy, reader = await _reader_behind(apart, case)
        partition = partition_of(case.key)
        log, head = f"{{inputs/{partition}}}:log", f"{{inputs/{partition}}}:head"
        writer.kill()
        with apart.log.redis() as client:
            last = client.xrevrange(log, count=3)
            for entry_id, _ in last[:2]:
                client.xdel(log, entry_id)
            ms, n = last[2][0].split(b"-")
            client.hset(head, mapping={"n": n, "ms": ms})
            client.execute_command("XSETID", log, last[2][0])
        other = contract.Input(key=case.key, number=99)
        entries.write_event(apart.log, "inputs", other)
        proxy.refusing = False
        await eventually(lambda: reader.said("the log changed"), NOTICED)
        rebuilt = await apart.start(PROBE_NAME="rebuilt", PROBE_OWNS=",").ready()
        await reader.ready()
        tail = apart.log.tail()
        assert in_order(await reader.dump(tail)) == in_order(await rebuilt.dump(tail))
        # What it had folded and the log has lost is named, one by one.
        lost = f"inputs/{partition}@{apart.log.head('inputs', partition)['epoch']}"
        for entry_id, _ in last[:2]:
            assert reader.said(f"{lost}:{entry_id.decode()}"), entry_id


@scenes
async def foreign(stage: Stage, case: Case) -> None:
    async with stage.apart() as apart:
        writer = await apart.probe()
        await add(writer, *keys(40, case.key))
        with apart.log.redis() as client:
            entry_id = client.xadd("{inputs/1}:log", {"type": "x"}).decode()
        said = f"stream inputs, partition 1: no appender wrote the entry {entry_id}"
        await eventually(lambda: writer.said(said), NOTICED)
        assert not await writer.serving()
        assert writer.running


@scenes
async def idle(stage: Stage, case: Case) -> None:
    async with stage.apart() as apart:
        probe = await apart.probe()
        with apart.log.redis() as client:
            own = client.client_id()
            before = {each["id"] for each in client.client_list()} - {str(own)}
            await asyncio.sleep(5.5)
            assert before <= {each["id"] for each in client.client_list()}
        position = entries.write_event(apart.log, "inputs", contract.Input(key=case.key, number=1))
        # Within the time of a call, not of a reconnect.
        dumped = await probe.stub.Dump(
            contract.DumpRequest(), timeout=2, metadata=(("factfold-at-least", position),)
        )
        assert case.key in rows(dumped, "inputs")
