"""Reactions: exactly once in what they append, in key order, through kills and lost connections."""

import asyncio
import re
import time
from typing import Any

from faults.log import eventually, keys, partition_of
from faults.probe import contract
from faults.test_lost_log import flush, refuses

from factfold.v1.fact_pb2 import Outcome

from . import entries
from .cases import Case
from .playing import Scenes
from .reacting import answered, answers, append, committed, document, once, sprung
from .reading import keyed
from .stage import Stage
from .steps import Steps

FAMILY = "reactions"
BOTH = {"PROBE_REACTIONS": "answer,scatter"}
SCATTER = {"PROBE_REACTIONS": "scatter"}
scenes = Scenes()


async def test_reactions(stage: Stage, case: Case) -> None:
    await scenes.play(stage, case)


@scenes
async def causes(stage: Stage, case: Case) -> None:
    probe = await stage.probe(**case.probe)
    (position,) = await append(probe, [case.key], first=7)
    await answered(stage, case.key, [7])
    (cause,) = keyed(stage, "inputs", case.key)
    (answer,) = answers(stage, case.key)
    assert answer.event == contract.Output(
        key=case.key, reaction="answer", position=position, id=cause.meta.id, of=case.key,
        number=7, count=1,
    )  # fmt: skip
    assert (answer.meta.causation_id, answer.meta.source) == (cause.meta.id, "/probe")
    assert (answer.meta.request_id, answer.meta.version) == ("", 0)
    assert len(answer.meta.id) == 16
    assert answer.meta.id != cause.meta.id


@scenes
async def scattered(stage: Stage, case: Case) -> None:
    probe = await stage.probe(**case.probe)
    names = keys(20, case.key)
    await append(probe, names, do={"outputs": 5})
    await append(probe, names, first=2)
    await eventually(lambda: all(committed(stage, name, "scatter") for name in names))
    once(stage, "scatter", keys=names)
    assert len(answers(stage, names[0], "scatter")) >= 6


@scenes
async def versioned(stage: Stage, case: Case) -> None:
    """The Moved is appended beside the Output, maybe behind it."""
    steps = Steps(stage, case)
    *done, last = case.steps
    case.steps[:] = done
    await steps.play()
    await eventually(lambda: len(keyed(stage, "moves", case.key)) == 2)
    case.steps[:] = [*done, last]
    await Steps(stage, case).logged(last["logged"], last)


@scenes
async def side_by_side(stage: Stage, case: Case) -> None:
    """Twenty that take 0.2 s each, of one partition."""
    probe = await stage.probe(**case.probe)
    names = [key for key in keys(400, case.key) if partition_of(key) == 1][:20]
    began = time.monotonic()
    await append(probe, names, do={"sleep_ms": 200, "only": "answer"})
    await eventually(lambda: all(answers(stage, name) for name in names))
    assert time.monotonic() - began < 20 * 0.2 / 2
    once(stage, "answer", keys=names)


@scenes
async def passed(stage: Stage, case: Case) -> None:
    await stage.probe(**case.probe)
    other = contract.Input(key=case.key, number=1)
    fields = [
        (name, b"probe.v1.Other" if name == b"type" else value)
        for name, value in entries.pairs(other, case.key, entries.new_meta())
    ]
    entries.write(stage.log, "inputs", fields, partition_of(case.key))
    await eventually(lambda: committed(stage, case.key))
    assert not answers(stage, case.key)


@scenes
async def added_later(stage: Stage, case: Case) -> None:
    async with stage.apart() as apart:
        writer = await apart.probe()
        names = keys(50, case.key)
        for first in (1, 2):
            await append(writer, names, first=first)
        await apart.probe(PROBE_REACTIONS="answer")
        await apart.log.reacted("answer")
        once(apart, "answer")
        assert len(apart.log.facts("outputs")) == 100


@scenes
async def outbox(stage: Stage, case: Case) -> None:
    async with stage.apart() as apart:
        writer = await apart.probe()
        proxy = await apart.proxy()
        came, go_on = asyncio.Event(), asyncio.Event()

        async def hold() -> None:
            came.set()
            await go_on.wait()

        springing = await sprung(proxy, "append", executed=False, do=hold)
        reacting = await apart.start(of=proxy, **SCATTER).ready()
        await append(writer, [case.key], first=1, do={"outputs": 6})
        place = f"{{inputs/{partition_of(case.key)}}}"
        await asyncio.wait_for(came.wait(), 20)
        stored = _outbox(apart, place)
        (data,) = stored.values()
        assert stored.keys() == {b"1"}
        outcome = Outcome.FromString(data)
        assert outcome.SerializeToString(deterministic=True) == data
        assert apart.log.group("inputs", partition_of(case.key), "scatter")["settled"] == "1"
        assert not apart.log.facts("outputs")
        # A unit has all facts of one partition.
        places = [(unit.stream, unit.partition) for unit in outcome.units]
        assert len(set(places)) == len(places)
        assert {stream for stream, _ in places} == {"outputs"}
        for unit in outcome.units:
            assert {partition_of(fact.key) for fact in unit.facts} == {unit.partition}
            assert {fact.type for fact in unit.facts} == {"probe.v1.Output"}
        settled = sorted(fact.data for unit in outcome.units for fact in unit.facts)
        reacting.kill()
        go_on.set()
        await springing
        # Whoever comes next appends what was settled, though it would answer otherwise.
        await apart.probe(**SCATTER)
        await apart.log.reacted("scatter")
        found = apart.log.facts("outputs")
        assert sorted(_data(apart, fact.position) for fact in found) == settled
        await eventually(lambda: not _outbox(apart, place))


def _outbox(stage: Stage, place: str) -> dict[bytes, bytes]:
    with stage.log.redis() as client:
        found: dict[bytes, bytes] = client.hgetall(f"{place}:outbox:probe.scatter")
    found.pop(b"_", None)
    return found


def _data(stage: Stage, position: str) -> bytes:
    place, entry_id = position.split("@")[0], position.rpartition(":")[2]
    with stage.log.redis() as client:
        ((_, fields),) = client.xrange(f"{{{place}}}:log", entry_id, entry_id)
    data: bytes = fields[b"data"]
    return data


@scenes
async def producer(stage: Stage, case: Case) -> None:
    async with stage.apart() as apart:
        probe = await apart.probe(PROBE_REACTIONS="answer")
        for first in (1, 2, 3):
            await append(probe, [case.key], first=first)
        await apart.log.reacted("answer")
        partition = partition_of(case.key)
        epoch = apart.log.head("inputs", partition)["epoch"]
        found = apart.log._hash(f"{{outputs/{partition}}}:producers")
        value = found[f"probe.answer/inputs/{partition}/{epoch}"]
        assert re.fullmatch(r"\d{13,}\|3\|\|\|\d{13,}", value), value
        assert found.keys() == {"_", f"probe.answer/inputs/{partition}/{epoch}"}


@scenes
async def killed(stage: Stage, case: Case) -> None:
    async with stage.apart() as apart:
        writer = await apart.probe()
        proxy = await apart.proxy()
        probe = apart.start(of=proxy, **BOTH)
        springing = await sprung(
            proxy, case.more["step"], executed=case.more["executed"], do=probe.kill
        )
        await probe.ready()
        await append(writer, keys(40, case.key))
        await asyncio.wait_for(springing, 20)
        await apart.probe(**BOTH)
        await apart.log.reacted("answer", "scatter")
        once(apart, "answer", "scatter")


@scenes
async def cut(stage: Stage, case: Case) -> None:
    async with stage.apart() as apart:
        writer = await apart.probe()
        proxy = await apart.proxy()
        await apart.start(of=proxy, **BOTH).ready()
        first = 0
        for step in ("settle", "append", "commit"):
            for executed in (False, True):
                first += 1
                springing = await sprung(proxy, step, executed=executed, do=lambda: None)
                await append(writer, keys(40, case.key), first=first)
                await asyncio.wait_for(springing, 20)
        await apart.log.reacted("answer", "scatter")
        once(apart, "answer", "scatter")


@scenes
async def scripts_flushed(stage: Stage, case: Case) -> None:
    probe = await stage.probe(**case.probe)
    for first in (1, 2, 3):
        stage.log.everywhere("SCRIPT", "FLUSH")
        await append(probe, [case.key], first=first)
        await answered(stage, case.key, [*range(1, first + 1)])


@scenes
async def lag(stage: Stage, case: Case) -> None:
    async with stage.apart() as apart:
        probe = await apart.probe(PROBE_REACTIONS="answer")
        names = keys(20, case.key)
        await append(probe, names)
        await apart.log.reacted("answer")
        assert _lag(apart) == 0
        flag = apart.shared / "wait"
        flag.touch()
        await append(probe, names, first=2, do={"wait_while": "wait"})
        assert _lag(apart) == 20
        flag.unlink()
        await apart.log.reacted("answer")
        assert _lag(apart) == 0


def _lag(stage: Stage) -> int:
    """Of the reaction, over all partitions."""
    found: list[Any] = document(stage, "lag", "inputs", "--reader", "probe.answer")["readers"]
    (reader,) = (each for each in found if each["reader"] == "probe.answer")
    return int(reader["facts"])


@scenes
async def replaced(stage: Stage, case: Case) -> None:
    async with stage.apart() as apart:
        probe = await apart.probe(PROBE_REACTIONS="answer")
        await append(probe, keys(20, case.key))
        await apart.log.reacted("answer")
        flush(apart.log)
        await refuses(probe, "reaction answer has stopped", "stream inputs")
        with apart.log.redis() as client:
            assert not client.keys("*:log")
