"""The connections of those who read the log break, while they catch up and while they follow."""

import asyncio
from random import Random

import pytest

from .load import Load
from .log import Log, Sent, eventually, keys
from .probe import Probe
from .proxy import Command, Hook, Link, Verdict
from .row import Row

KEYS = keys(500)
REACTIONS = ("answer", "scatter")
READS = ("XRANGE", "XREAD", "HMGET")
UNANSWERED = 8.0  # seconds: longer than any reader waits for a reply


class Breaks(Hook):
    """Does something to one in ten reads, until `left` is 0."""

    def __init__(self, dice: Random):
        self.left = 0
        self.done = 0
        self._dice = dice

    def _strikes(self, command: Command) -> bool:
        if self.left <= 0 or command.name not in READS or self._dice.random() > 0.1:
            return False
        self.left -= 1
        self.done += 1
        return True

    async def command(self, link: Link, command: Command) -> Verdict:
        if self._dice.random() > 0.2 or not self._strikes(command):
            return Verdict.PASS
        return Verdict.CUT

    async def reply(self, link: Link, command: Command, reply: bytes) -> Verdict:
        if not self._strikes(command):
            return Verdict.PASS
        how = self._dice.choice(
            ["cut", "cut inside", "cut behind", "end for reader", "end for Redis", "late"]
        )
        if how == "cut inside":
            await link.hand_on(reply[: self._dice.randrange(len(reply))])
            await asyncio.sleep(0.01)
        elif how == "cut behind":
            await link.hand_on(reply)
        elif how == "end for reader":
            link.end_for_client()
        elif how == "end for Redis":
            link.end_for_server()
        elif how == "late":
            await asyncio.sleep(self._dice.uniform(0, 0.5))
        return Verdict.CUT if how.startswith("cut") else Verdict.PASS


@pytest.mark.at_least(400)
async def test_connections_break(row: Row) -> None:
    """cut, delay and half-close readers' connections, catching up and following"""
    server = row.redis()
    proxy = await row.proxy(server)
    log, sent = Log(server), Sent()
    writer = await row.probe(server).ready()
    breaks = Breaks(row.random)
    proxy.hooks.append(breaks)

    def start() -> Probe:
        return row.probe(proxy, reactions=",".join(REACTIONS), FACTFOLD_LEASE="1")

    reader = None
    breaks.left = row.times // 2
    while breaks.left:
        if reader is not None:
            reader.kill()
        for _ in range(2):
            units = [sent.unit(key) for key in row.random.choices(KEYS, k=1000)]
            sent.answered(units, await writer.append_many(units))
        reader = start()
        await reader.ready()
        await log.reacted(*REACTIONS)
    assert reader is not None

    # In the log are some thousands of facts now; from here on they come one by one.
    caught_up = breaks.done
    assert caught_up
    breaks.left = row.times - caught_up
    async with Load(row, writer, sent, KEYS, size=5, pause=0.02) as load:
        await eventually(lambda: breaks.left == 0, 120)
        if row.times >= 400:
            proxy.flowing.clear()  # nobody hears anything, and no connection ends
            await asyncio.sleep(UNANSWERED)
            proxy.flowing.set()
        await load.acknowledged(100)
    row.injected(breaks.done)
    await log.reacted(*REACTIONS)
    row.appended(log, sent)
    row.answered(log, *REACTIONS)
    await row.view_is_rebuild(log, reader, at=server)
    assert not reader.said("the log changed")


@pytest.mark.at_least(1)
async def test_idle(row: Row) -> None:
    """nothing to read for longer than any time limit"""
    server = row.redis()
    proxy = await row.proxy(server)
    log, sent = Log(server), Sent()
    reader = await row.probe(proxy, reactions=",".join(REACTIONS)).ready()
    units = [sent.unit(key) for key in KEYS]
    sent.answered(units, await reader.append_many(units))
    await log.reacted(*REACTIONS)
    await reader.dump(log.tail())
    links = set(proxy.links)
    await asyncio.sleep(UNANSWERED)
    row.injected()
    assert links <= proxy.links, "a connection was given up"
    units = [sent.unit(key) for key in KEYS]
    sent.answered(units, await reader.append_many(units))
    await log.reacted(*REACTIONS)
    row.appended(log, sent)
    row.answered(log, *REACTIONS)
    await row.view_is_rebuild(log, reader, at=server)
