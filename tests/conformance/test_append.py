"""Appends: acknowledged means in the log, once, whatever was retried."""

import asyncio
from typing import Any

from faults.log import Sent, keys, partition_of
from faults.probe import contract
from faults.proxy import Trap

from .calls import call
from .cases import Case
from .playing import Scenes
from .reading import keyed
from .stage import Stage
from .steps import Steps

FAMILY = "append"
MIB = 1 << 20
CALLERS = 64
scenes = Scenes()


async def test_append(stage: Stage, case: Case) -> None:
    await scenes.play(stage, case)


@scenes
async def one_call(stage: Stage, case: Case) -> None:
    await Steps(stage, case).play()
    facts = keyed(stage, "inputs", case.key)
    assert [fact.event.number for fact in facts] == list(range(1, 42))
    first = facts[0].n
    assert [fact.n for fact in facts[:40]] == list(range(first, first + 40))


@scenes
async def side_by_side(stage: Stage, case: Case) -> None:
    probes = [await stage.probe(at) for at in range(2)]

    async def write(at: int) -> int:
        """Until ten commands have passed; how many were refused."""
        done = refused = 0
        while done < 10:
            request = contract.AppendRequest(stream="moves", key=case.key, first=done + 1)
            answer = await call(probes[at], "Append", request)
            assert answer.code in ("OK", "ABORTED"), answer
            done += answer.code == "OK"
            refused += answer.code != "OK"
            await asyncio.sleep(0.01 * refused)  # its view has to get what the other one wrote
            assert refused < 500
        return refused

    await asyncio.gather(write(0), write(1))
    facts = keyed(stage, "moves", case.key)
    assert [fact.meta.version for fact in facts] == list(range(1, 21))
    for at in range(2):
        dumped = await probes[at].dump(facts[-1].position)
        (rows,) = (table.row for table in dumped.tables if table.name == "moves")
        (row,) = (contract.Move.FromString(each.value) for each in rows if each.key == case.key)
        assert row.version == 20


@scenes
async def largest_fact(stage: Stage, case: Case) -> None:
    """By what a small one counts: key, type, meta, data, and 32 bytes."""
    probe = await stage.probe()
    key = case.key + case.more.get("letter", "")

    async def append(payload: int) -> Any:
        request = contract.AppendRequest(stream="inputs", key=key, first=1, payload_bytes=payload)
        return await call(probe, "Append", request)

    assert (await append(100_000)).code == "OK"
    (fact,) = keyed(stage, "inputs", key)
    entry = dict(_fields(stage, fact.position))
    size = sum(len(value) for value in entry.values()) + 32
    # From 100,000 bytes on to the most, the length of a payload takes three bytes, as does its
    # message's.
    room = 100_000 + MIB - size
    assert (await append(room + 1)).violations == [
        ("probe.v1.Input", f"a fact has at most {MIB} bytes, not {MIB + 1}")
    ]
    assert (await append(room)).code == "OK"
    assert len(keyed(stage, "inputs", key)) == 2


def _fields(stage: Stage, position: str) -> list[tuple[bytes, bytes]]:
    place, entry_id = position.split("@")[0], position.rpartition(":")[2]
    with stage.log.redis() as client:
        ((_, fields),) = client.xrange(f"{{{place}}}:log", entry_id, entry_id)
    return list(fields.items())


@scenes
async def largest_call(stage: Stage, case: Case) -> None:
    await Steps(stage, case).play()
    probe = await stage.probe()
    request = contract.AppendRequest(
        stream="inputs", key=case.key, first=1, facts=2, payload_bytes=MIB // 2 - 400
    )
    assert (await call(probe, "Append", request)).code == "OK"
    assert len(keyed(stage, "inputs", case.key)) == 2


def _batches(stage: Stage) -> int:
    """How many batches of processes the inputs have."""
    found = 0
    with stage.log.redis() as client:
        for partition in range(4):
            for name, value in client.hgetall(f"{{inputs/{partition}}}:producers").items():
                if b"/" not in name and name != b"_":
                    found += int(value.rpartition(b"|")[2].split(b";")[0])
    return found


@scenes
async def grouped(stage: Stage, case: Case) -> None:
    """While the log is slow to answer: what waits for it meanwhile goes together."""
    proxy = await stage.proxy()
    probe = await stage.start(of=proxy).ready()
    names = [key for key in keys(1000, case.key) if partition_of(key) == 0][:CALLERS]
    requests = [contract.AppendRequest(stream="inputs", key=key, first=1) for key in names]
    for request in requests[:1]:
        assert (await call(probe, "Append", request)).code == "OK"
    batches = _batches(stage)
    proxy.flowing.clear()
    calls = [asyncio.create_task(call(probe, "Append", request)) for request in requests]
    await asyncio.sleep(0)  # they are begun
    await probe.status()  # on the same connection, so behind them: all are accepted
    await asyncio.sleep(0.3)
    proxy.flowing.set()
    assert {answer.code for answer in await asyncio.gather(*calls)} == {"OK"}
    # Five may be in flight, and the rest waits behind them.
    assert _batches(stage) - batches <= 8
    await probe.close()


@scenes
async def ordered(stage: Stage, case: Case) -> None:
    probe = await stage.probe()
    sent = Sent()
    names = keys(32, case.key)

    async def caller(number: int) -> None:
        """Each call has all keys, so calls side by side meet in all partitions."""
        units = [sent.unit(key, facts=2) for key in names]
        sent.answered(units, await probe.append_many(units))

    await asyncio.gather(*map(caller, range(CALLERS)))
    facts = [fact for fact in stage.log.facts("inputs") if fact.key.startswith(case.key)]
    counts = sent.check(facts)
    assert counts.facts_out == CALLERS * 2 * len(names)
    assert (counts.lost, counts.doubled) == (0, 0), counts.findings
    # Calls side by side have no order among each other; the facts of one call have.
    for key in names:
        numbers = [fact.event.number for fact in facts if fact.key == key]
        assert all(second == odd + 1 for odd, second in zip(numbers[::2], numbers[1::2],
                                                            strict=True))  # fmt: skip


@scenes
async def cut(stage: Stage, case: Case) -> None:
    proxy = await stage.proxy()
    probe = await stage.start(of=proxy).ready()
    sent = Sent()
    for nth in range(4):
        trap = Trap(lambda command: command.name == "append", executed=case.more["executed"])
        springing = asyncio.create_task(proxy.spring(trap))
        await asyncio.sleep(0)
        units = [sent.unit(key, facts=1 + nth) for key in keys(40, case.key)]
        sent.answered(units, await probe.append_many(units))
        await asyncio.wait_for(springing, 10)
    assert not sent.unknown
    assert not sent.refused
    facts = [fact for fact in stage.log.facts("inputs") if fact.key.startswith(case.key)]
    counts = sent.check(facts)
    assert counts.clean, counts.findings
    await probe.close()


@scenes
async def scripts_flushed(stage: Stage, case: Case) -> None:
    probe = await stage.probe()
    for at in range(1, 4):
        stage.log.everywhere("SCRIPT", "FLUSH")
        request = contract.AppendRequest(stream="inputs", key=case.key, first=at)
        assert (await call(probe, "Append", request)).code == "OK"
    facts = keyed(stage, "inputs", case.key)
    assert [fact.event.number for fact in facts] == [1, 2, 3]


@scenes
async def clock_back(stage: Stage, case: Case) -> None:
    """As after an entry that was written while the clock was an hour ahead."""
    async with stage.apart() as apart:
        probe = await apart.probe()
        request = contract.AppendRequest(stream="inputs", key=case.key, first=1)
        assert (await call(probe, "Append", request)).code == "OK"
        head = f"{{inputs/{partition_of(case.key)}}}:head"
        ahead = int(apart.log.now() * 1000) + 3_600_000
        with apart.log.redis() as client:
            client.hset(head, "ms", ahead)
        for at in (2, 3):
            request = contract.AppendRequest(stream="inputs", key=case.key, first=at)
            assert (await call(probe, "Append", request)).code == "OK"
        facts = apart.log.facts("inputs")  # asserts that neither n nor ms go back
        assert [fact.position.rpartition(":")[2] for fact in facts[1:]] == [
            f"{ahead}-2",
            f"{ahead}-3",
        ]
        now = apart.log.now() * 1e9
        assert all(abs(fact.meta.time_unix_nano - now) < 60e9 for fact in facts)
        assert await probe.serving()


@scenes
async def killed(stage: Stage, case: Case) -> None:
    probe = await stage.start().ready()
    sent = Sent()
    units = [sent.unit(key) for key in keys(100, case.key)]
    sent.answered(units, await probe.append_many(units))
    probe.kill()
    facts = [fact for fact in stage.log.facts("inputs") if fact.key.startswith(case.key)]
    counts = sent.check(facts)
    assert (len(facts), counts.clean) == (100, True), counts.findings
