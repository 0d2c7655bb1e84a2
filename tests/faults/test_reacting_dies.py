"""A reacting instance is killed, another takes over."""

import asyncio

import pytest

from .load import Load
from .log import Log, Sent, keys
from .reacting import STEPS, Instance, Step, first_at
from .row import Row

KEYS = keys(500)
FACTS = 20_000  # of all faults together, with --long
FAULTS = 63  # nine times each step, and at random


@pytest.mark.at_least(FAULTS)
async def test_killed(row: Row) -> None:
    """SIGKILL the reacting service between any two steps (settle, append, commit) and at random"""
    await killed(row, "answer")


@pytest.mark.at_least(FAULTS)
async def test_killed_with_random_answers(row: Row) -> None:
    """the same with handlers that answer at random, outputs to 4 partitions"""
    await killed(row, "scatter")


async def killed(row: Row, reaction: str) -> None:
    """Two instances share the partitions; who is killed is replaced."""
    server = row.redis()
    log, sent = Log(server), Sent()
    writer = await row.probe(server).ready()
    instances = [await Instance.start(row, server, reaction) for _ in range(2)]
    moments: list[Step | None] = []
    async with Load(row, writer, sent, KEYS, pause=0.3) as load:
        while row.more:
            moments = moments or row.random.sample([*STEPS, None], len(STEPS) + 1)
            moment = moments.pop()
            if moment is None:
                await asyncio.sleep(row.random.uniform(0, 0.2))
                dead = row.random.choice(instances)
                dead.probe.kill()
                row.injected(log.unfinished(reaction))
            else:
                # Of several appends to as many partitions of outputs some are in the log.
                nth = row.random.randint(1, 4)
                dead = await first_at(instances, moment, lambda at: at.probe.kill(), nth=nth)
                row.injected()
            instances.remove(dead)
            instances.append(await Instance.start(row, server, reaction))
        await load.acknowledged(max(0, FACTS * row.times // FAULTS - len(sent.acknowledged)))
    await log.reacted(reaction)
    row.appended(log, sent)
    row.answered(log, reaction)
    probes = [instance.probe for instance in instances]
    await row.view_is_rebuild(log, writer, *probes, at=server)
