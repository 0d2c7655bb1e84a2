"""Commands that are repeated, at other instances and across kills."""

import asyncio
import uuid
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest

from .log import Counts, Log, Sent, keys
from .probe import Probe, contract
from .proxy import Trap
from .row import Row

KEYS = keys(500)
BESIDE = 20  # more commands that are under way when the instance is killed
FAILURES = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


@dataclass
class Asked:
    """One command, and every answer that came."""

    request: Any
    answers: list[Any] = field(default_factory=list)

    async def at(self, probe: Probe) -> bool:
        """Ask once; whether there was an answer."""
        try:
            self.answers.append(await probe.stub.Append(self.request, timeout=5))
        except grpc.aio.AioRpcError as error:
            if error.code() not in FAILURES:
                raise
            return False
        return True

    async def until_answered(self, probe: Probe) -> None:
        async with asyncio.timeout(20):
            while not await self.at(probe):
                await asyncio.sleep(0.05)


@pytest.mark.at_least(100)
async def test_two_instances(row: Row) -> None:
    """the same request_id to two instances, across a kill"""
    server = row.redis()
    proxy = await row.proxy(server)
    log = Log(server)
    dying, staying = row.probe(proxy), row.probe(server)
    await staying.ready()
    version = dict.fromkeys(KEYS, 1)
    sent = Sent("moves")
    first = [sent.unit(key) for key in KEYS]
    sent.answered(first, await staying.append_many(first))
    asked: list[Asked] = []

    def ask(key: str) -> Asked:
        request = contract.AppendRequest(
            stream="moves", key=key, first=version[key] + 1, facts=1, request_id=str(uuid.uuid4())
        )
        # As the caller has seen it, or as the instance sees it.
        if row.random.random() < 0.5:
            request.expected_version = version[key]
        version[key] += 1
        asked.append(Asked(request))
        return asked[-1]

    while row.more:
        await dying.ready()
        commands = [ask(key) for key in row.random.sample(KEYS, 1 + BESIDE)]
        # Before the log has it, or after, when only the answer is missing.
        executed = row.random.random() < 0.7
        trap = Trap(lambda command: command.name == "append", dying.kill, executed=executed)
        killing = asyncio.create_task(proxy.spring(trap))
        await asyncio.sleep(0)
        if row.random.random() < 0.5:  # at both at once
            some = [command.at(staying) for command in commands[::2]]
        else:
            some = []
        await asyncio.gather(*(command.at(dying) for command in commands), *some)
        await killing
        row.injected()
        await asyncio.gather(*(command.until_answered(staying) for command in commands))
        dying = row.probe(proxy)
    await dying.ready()
    # The instance that has seen none of it, and the one that has seen it all.
    for probe in (dying, staying):
        await asyncio.gather(*(command.until_answered(probe) for command in asked))

    facts = log.facts("moves")
    row.count(sent.check(fact for fact in facts if fact.event.number == 1))
    facts = [fact for fact in facts if fact.event.number > 1]
    counts = Counts(facts_in=len(asked), facts_out=len(facts))
    places = defaultdict(list)
    for fact in facts:
        places[fact.meta.request_id].append(fact)
    assert places.keys() <= {command.request.request_id for command in asked}
    for command in asked:
        found = places[command.request.request_id]
        if not found:
            counts.find("lost", str(command.request))
            continue
        for fact in found[1:]:
            counts.find("doubled", f"{found[0].position} and {fact.position}")
        answers = {(answer.position, answer.version) for answer in command.answers}
        assert answers == {(found[0].position, found[0].meta.version)}, "not one answer"
        assert [answer.repeated for answer in command.answers].count(False) <= 1
        assert found[0].key == command.request.key
        assert found[0].event.number == command.request.first
    row.count(counts)
    await row.view_is_rebuild(log, staying, dying, at=server)
