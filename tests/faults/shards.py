"""A service, its load, and a log on several servers, some of which fall: what is lost is named."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import grpc

from .load import Load
from .log import Log, Logged, Sent, check_reaction, keys
from .probe import Probe
from .proxy import Command, Hook, Link, Proxy, Verdict
from .row import Row
from .witness import Witness, named

KEYS = keys(500)
REACTIONS = ("answer", "scatter")
FAST = {"FACTFOLD_LEASE": "1"}


class Redirections(Hook):
    """Counts the answers of a server that has not, or not yet, what it is asked for."""

    def __init__(self) -> None:
        self.seen = dict.fromkeys((b"ASK", b"TRYAGAIN", b"MOVED"), 0)

    @property
    def all_seen(self) -> bool:
        return all(self.seen.values())

    async def reply(self, link: Link, command: Command, reply: bytes) -> Verdict:
        word = reply[1:].split(b" ", 1)[0] if reply.startswith(b"-") else b""
        if word in self.seen:
            self.seen[word] += 1
        return Verdict.PASS


@dataclass
class Traffic:
    """A probe that is called and one that reacts, both through one proxy."""

    row: Row
    server: Any
    proxy: Proxy
    writer: Probe
    reacting: Probe
    witness: Witness
    confirmed: bool
    sent: Sent = field(default_factory=Sent)

    @classmethod
    async def begin(cls, row: Row, *options: str, confirmed: bool = False, **how: Any) -> Self:
        """`options`, `how`: of the servers. `confirmed`: by a replica, before anything counts."""
        server = await asyncio.to_thread(row.redis, *options, **how)
        proxy, witness = await row.proxy(server), Witness("inputs", "outputs")
        proxy.hooks.append(witness)
        told = FAST | {"FACTFOLD_WAIT_REPLICAS": str(int(confirmed))}
        writer = await row.probe(proxy, **told).ready()
        reacting = await row.probe(proxy, reactions=",".join(REACTIONS), **told).ready()
        return cls(row, server, proxy, writer, reacting, witness, confirmed)

    @property
    def log(self) -> Log:
        """On the servers that have it now."""
        return Log(self.server)

    def load(self, **how: Any) -> Load:
        return Load(self.row, self.writer, self.sent, KEYS, **{"size": 10, "pause": 0.05, **how})

    async def append(self, some: Sequence[str]) -> None:
        """One fact of each key, acknowledged."""
        units = [self.sent.unit(key) for key in some]
        outcomes = await self._served(self.writer, lambda: self.writer.append_many(units))
        self.sent.answered(units, outcomes)

    async def read(self) -> None:
        """Until each view has all that is there."""
        tail = self.log.tail()
        for probe in self.probes:
            await self._served(probe, lambda p=probe: p.dump(tail))

    @staticmethod
    async def _served(probe: Probe, call: Callable[[], Awaitable[Any]]) -> Any:
        """Over the moments in which a probe, which served before, knows that it is not ready."""
        async with asyncio.timeout(60):
            while True:
                try:
                    return await call()
                except grpc.aio.AioRpcError as error:
                    if not (error.details() or "").startswith("not ready: "):
                        raise
                await probe.ready()

    @staticmethod
    async def during(load: Load, fault: Callable[[], Any]) -> Any:
        """The result of `fault`, in a thread, while facts come."""
        await load.acknowledged(100)
        result = await asyncio.to_thread(fault)
        await load.acknowledged(200)
        return result

    @property
    def probes(self) -> tuple[Probe, ...]:
        return self.writer, self.reacting

    def nothing_is_lost(self) -> None:
        """Nobody has said so."""
        said = [
            line
            for probe in self.probes
            for words in ("rolled back", "are lost", "the log changed", "has stopped")
            for line in probe.said(words)
        ]
        assert not said, said[0]

    async def accounted_for(self, *others: Sent) -> int:
        """All that was appended is in the log and answered, or named as lost; how many are that.

        If replicas confirm, only what nobody was told of may be lost.
        """
        row, log = self.row, self.log
        await asyncio.gather(*(probe.ready() for probe in self.probes))
        await log.reacted(*REACTIONS)
        # Views notice within a blocked read what nobody appends behind.
        await asyncio.sleep(2.5)
        lost = named(self.probes)
        inputs, outputs = log.facts("inputs"), log.facts("outputs")
        there = {fact.position for fact in (*inputs, *outputs)}
        assert not lost & there, f"named as lost, and in the log: {sorted(lost & there)[:5]}"
        may_be = set() if self.confirmed else lost
        row.count(self.sent.check(inputs, may_be))
        for sent in others:
            row.count(sent.check(log.facts(sent.stream), may_be))
        self._answered(inputs, outputs, may_be)
        await row.view_is_rebuild(log, *self.probes, at=self.server)
        return len(lost)

    def _answered(self, inputs: list[Logged], outputs: list[Logged], lost: set[str]) -> None:
        """What answers an input that was lost is left out; answers that are named are excused."""
        there = {fact.position for fact in inputs}
        gone = {
            position
            for position, fact in self.witness.facts.items()
            if fact.stream == "inputs" and position not in there
        }
        answers = [fact for fact in outputs if fact.event.position not in gone]
        known = [self.witness.facts[position] for position in lost & self.witness.facts.keys()]
        for reaction in REACTIONS:
            excused = {
                (fact.event.id, fact.event.index)
                for fact in known
                if fact.stream == "outputs" and fact.event.reaction == reaction
            }
            self.row.count(check_reaction(reaction, inputs, answers, excused=excused))
