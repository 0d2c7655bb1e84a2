"""A key whose facts cannot be answered for a while."""

import asyncio
from collections.abc import Sequence

import pytest

from .letters import keys_of, letters
from .load import Load
from .log import Log, Logged, Sent, keys, partition_of
from .row import Row

KEYS = keys(500)
FAILING = KEYS[0]
LONG, SHORT = 60.0, 10.0  # seconds
FLAG = "broken"


def milliseconds(fact: Logged) -> int:
    return int(fact.position.rpartition(":")[2].split("-")[0])


@pytest.mark.at_least(1)
async def test_one_key_fails(row: Row, pytestconfig: pytest.Config) -> None:
    """one key failing"""
    seconds = LONG if pytestconfig.getoption("--long") else SHORT
    row.label = f"for {seconds:g} s"
    server = row.redis()
    log, sent = Log(server), Sent()
    probe = await row.probe(server, reactions="answer", FACTFOLD_LEASE="1").ready()
    flag = row.folder / "shared" / FLAG
    flag.touch()
    others = [key for key in KEYS if key != FAILING]

    enough = asyncio.Event()

    async def ask_for_the_failing_key() -> None:
        while not enough.is_set():  # not cancelled: a call under way would have no answer
            units = [sent.unit(FAILING, do={"fail_while": FLAG})]
            sent.answered(units, await probe.append_many(units))
            await asyncio.sleep(0.2)

    async with Load(row, probe, sent, others, callers=2, size=10, pause=0.03) as load:
        asking = asyncio.create_task(ask_for_the_failing_key())
        await load.acknowledged(100)
        await asyncio.sleep(seconds)
        held = len(letters(log, "answer"))
        flag.unlink()
        row.injected()
        mended = int(log.now()) * 1000
        await load.acknowledged(200)
        enough.set()
        await asking
    assert held > 10
    await log.reacted("answer")
    # The longest pause between two tries.
    async with asyncio.timeout(40):
        while keys_of(log, "answer"):
            await asyncio.sleep(0.1)
    row.appended(log, sent)
    row.answered(log, "answer")

    inputs, outputs = log.facts("inputs"), log.facts("outputs")
    at = {fact.event.id: milliseconds(fact) for fact in outputs}
    assert all(at[fact.meta.id] >= mended for fact in inputs if fact.key == FAILING
               and milliseconds(fact) < mended)  # fmt: skip
    began = milliseconds(next(fact for fact in inputs if fact.key == FAILING))
    meant = [
        fact for fact in inputs if fact.key != FAILING and began <= milliseconds(fact) < mended
    ]
    sharing = [fact for fact in meant if fact.partition == partition_of(FAILING)]
    apart = [fact for fact in meant if fact.partition != partition_of(FAILING)]

    def rate(facts: Sequence[Logged]) -> float:
        """Facts per second and key that were answered while the key failed."""
        answered = sum(at[fact.meta.id] < mended for fact in facts)
        assert answered > 0.9 * len(facts) > 100, f"{answered} of {len(facts)} were answered"
        return answered / len({fact.key for fact in facts}) / (mended - began) * 1000

    assert 0.8 < rate(sharing) / rate(apart) < 1.25, (rate(sharing), rate(apart))
    # Nor do they wait longer for their answers.
    for facts in (sharing, apart):
        waits = sorted(at[fact.meta.id] - milliseconds(fact) for fact in facts)
        assert waits[len(waits) * 9 // 10] < 1000, (
            f"one in ten waits {waits[len(waits) * 9 // 10]} ms"
        )
