"""Who owns a partition: owners that were stopped, instances that come and go, lost claims."""

import asyncio
import signal
import time
from functools import partial
from hashlib import sha256

import pytest

from .load import Load
from .log import PARTITIONS, Log, Sent, eventually, keys
from .proxy import Command, Hook, Link, Verdict
from .reacting import LEASE, STEPS, Instance, Step, first_at, owners
from .row import Row

KEYS = keys(500)
REACTIONS = ("answer", "scatter")
REPLY_TIMEOUT = 5.0  # docs/protocol.md, Times
LONG_LEASE = 4.0  # where something must not take as long as a lease


def weight(partition: int, member: str) -> bytes:
    return sha256(f"{member}\0{partition}".encode()).digest()[:8]


def outcome(log: Log, reaction: str) -> dict[str, object]:
    """All that a late owner could change."""
    told: dict[str, object] = {}
    for partition in range(PARTITIONS):
        told[f"outputs/{partition}"] = log.head("outputs", partition)
        group = log.group("inputs", partition, reaction)
        told[f"group of {partition}"] = [group[name] for name in ("settled", "position", "fact")]
        with log.redis() as client:
            for name in ("outbox", "dead", "dead-keys"):
                key = f"{{inputs/{partition}}}:{name}:probe.{reaction}"
                told[key] = client.hgetall(key)
    return told


async def taken_over(log: Log, late: Instance) -> None:
    """Wait until it owns nothing."""
    await eventually(lambda: late.name not in owners(log, "scatter").values(), 10 * LEASE)


class Fences(Hook):
    """Counts steps that are refused."""

    def __init__(self) -> None:
        self.refused = 0

    async def hit(self) -> None:
        await eventually(lambda: self.refused, 10, lambda: "the late owner was never refused")

    async def reply(self, link: Link, command: Command, reply: bytes) -> Verdict:
        self.refused += command.name in ("settle", "commit") and b"FENCED" in reply[:32]
        return Verdict.PASS


@pytest.mark.at_least(63)
async def test_stopped(row: Row) -> None:
    """SIGSTOP an owner past its lease, another takes over, SIGCONT"""
    server = row.redis()
    log, sent = Log(server), Sent()
    writer = await row.probe(server).ready()
    instances = [await Instance.start(row, server, "scatter") for _ in range(2)]
    go_on = asyncio.Event()

    async def stop(instance: Instance) -> None:
        """What it has sent, or the reply, is still on its way when it goes on."""
        instance.probe.signal(signal.SIGSTOP)
        await go_on.wait()

    moments: list[Step | None] = []
    while row.more:
        moments = moments or row.random.sample([*STEPS, None], len(STEPS) + 1)
        moment = moments.pop()
        go_on.clear()
        units = [sent.unit(key) for key in KEYS]
        appending = asyncio.create_task(writer.append_many(units))
        if moment is None:
            late = await first_at(instances, ("settle", True), lambda at: None, then=Verdict.PASS)
            await asyncio.sleep(row.random.uniform(0, 0.05))
            late.probe.signal(signal.SIGSTOP)
            await asyncio.sleep(0.05)  # what it has sent is executed
        else:
            nth = row.random.randint(1, 2)
            late = await first_at(instances, moment, stop, nth=nth, then=Verdict.PASS)
        since = time.monotonic()
        under_way = moment or any(
            log.unfinished("scatter", partition=partition)
            for (_, partition), owner in owners(log, "scatter").items()
            if owner == late.name
        )
        sent.answered(units, await appending)
        await taken_over(log, late)
        fences = Fences()
        late.proxy.hooks.append(fences)
        # It comes back while the other one works on the same facts, or when that has done so.
        if done := row.random.random() < 0.5:
            await log.reacted("scatter")
        before = outcome(log, "scatter")
        late.probe.signal(signal.SIGCONT)
        go_on.set()
        # Who has waited for a reply for too long gives the connection up instead.
        heard = time.monotonic() - since < REPLY_TIMEOUT - 1
        if heard and under_way and moment != ("commit", True):
            await fences.hit()
        if done:
            await asyncio.sleep(LEASE / 2)
            assert outcome(log, "scatter") == before
        await log.reacted("scatter")
        late.proxy.hooks.remove(fences)
        row.injected(bool(under_way))
    row.appended(log, sent)
    row.answered(log, "scatter")
    await row.view_is_rebuild(log, writer, *(each.probe for each in instances), at=server)


@pytest.mark.at_least(5)
async def test_come_and_go(row: Row) -> None:
    """1 → 3 → 1 instances under load, leaving by SIGTERM and SIGKILL"""
    server = row.redis()
    log, sent = Log(server), Sent()
    writer = await row.probe(server).ready()

    async def shared(names: set[str], seconds: float) -> None:
        """Wait until the live members have what is theirs (docs/protocol.md, Ownership)."""
        theirs = {
            (reaction, partition): max(names, key=partial(weight, partition))
            for reaction in REACTIONS
            for partition in range(PARTITIONS)
        }
        await eventually(
            lambda: owners(log, *REACTIONS) == theirs,
            seconds,
            lambda: f"{owners(log, *REACTIONS)}, not {theirs}",
        )

    async def start() -> Instance:
        return await Instance.start(row, server, *REACTIONS, lease=LONG_LEASE)

    instances = [await start()]
    async with Load(row, writer, sent, KEYS, pause=0.3) as load:
        while row.more:
            instances += await asyncio.gather(start(), start())
            row.random.shuffle(instances)
            # Who has just come takes the one that was killed for alive, for one lease.
            await shared({each.name for each in instances}, 1.5 * LONG_LEASE)
            if row.counts.injected:  # until they all know better
                await asyncio.sleep(LONG_LEASE)
            await load.acknowledged(300)
            terminated, killed = instances.pop(), instances.pop()
            terminated.probe.terminate()
            assert await terminated.probe.ends() == 0
            # At once: its silence would be noticed only then.
            await shared({each.name for each in (killed, *instances)}, LONG_LEASE / 2)
            await load.acknowledged(300)
            # With something under way, if it owns anything.
            if killed.name in owners(log, *REACTIONS).values():
                step = row.random.choice(STEPS)
                await first_at([killed], step, lambda at: at.probe.kill())
            else:
                killed.probe.kill()
            await shared({each.name for each in instances}, 2 * LONG_LEASE)
            row.injected()
    await log.reacted(*REACTIONS)
    row.appended(log, sent)
    row.answered(log, *REACTIONS)
    await row.view_is_rebuild(log, writer, *(each.probe for each in instances), at=server)
