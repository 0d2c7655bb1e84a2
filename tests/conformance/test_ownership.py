"""Instances of two languages in one group: who owns what, and how it changes hands."""

import asyncio
import signal
from collections.abc import Iterable
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from faults.log import PARTITIONS, eventually, keys
from faults.probe import Probe
from faults.proxy import Command, Hook, Link, Verdict

from .cases import Case
from .playing import Scenes
from .reacting import append, once, sprung
from .stage import LEASE, Stage

FAMILY = "ownership"
BOTH = {"PROBE_REACTIONS": "answer,scatter"}
ANSWER = {"PROBE_REACTIONS": "answer"}
REACTIONS = ("answer", "scatter")
BUSY = 4.0  # times that a machine may take longer than a protocol's times say
scenes = Scenes()


async def test_ownership(stage: Stage, case: Case) -> None:
    await scenes.play(stage, case)


def score(partition: int, member: str) -> tuple[bytes, str]:
    return sha256(f"{member}\0{partition}".encode()).digest()[:8], member


def due(members: Iterable[str]) -> list[str]:
    """Who is to own each partition (docs/protocol.md, Ownership)."""
    return [max(members, key=partial(score, p)) for p in range(PARTITIONS)]


def owners(stage: Stage, reaction: str = "answer") -> list[str]:
    return [stage.log.group("inputs", p, reaction).get("owner", "") for p in range(PARTITIONS)]


async def shared(
    stage: Stage, *members: str, seconds: float = LEASE * BUSY * 2, reaction: str = "answer"
) -> None:
    """Wait until each partition has its due owner."""
    wanted = due(members)
    await eventually(
        lambda: owners(stage, reaction) == wanted,
        seconds,
        lambda: f"{owners(stage, reaction)}, not {wanted}",
    )


async def started(stage: Stage, at: int, *, of: Any = None, **settings: str) -> tuple[Probe, str]:
    probe = await stage.start(at, of=of, **settings).ready()
    return probe, (await probe.status()).instance


async def both(
    stage: Stage, one: dict[str, str], other: dict[str, str] | None = None
) -> tuple[Probe, tuple[Probe, str], tuple[Probe, str]]:
    """Who appends, and an instance of each language, begun together."""
    second = one if other is None else other
    return await asyncio.gather(
        stage.probe(), started(stage, 0, **one), started(stage, 1, **second)
    )


@scenes
async def split(stage: Stage, case: Case) -> None:
    async with stage.apart() as apart:
        _, (_, one), (_, other) = await both(apart, ANSWER)
        await shared(apart, one, other)
        members = apart.log._hash("{inputs}:members:probe.answer").keys() - {"_"}
        assert members == {one, other}


@scenes
async def joined(stage: Stage, case: Case) -> None:
    async with stage.apart() as apart:
        writer, (_, one) = await asyncio.gather(apart.probe(), started(apart, 0, **ANSWER))
        await shared(apart, one)
        names = keys(60, case.key)
        await append(writer, names)
        tokens = [apart.log.group("inputs", p, "answer")["token"] for p in range(PARTITIONS)]
        appending = asyncio.create_task(append(writer, names, first=2, facts=3))
        _, other = await started(apart, 1, **ANSWER)
        await appending
        await shared(apart, one, other)
        for p, owner in enumerate(due([one, other])):
            token = apart.log.group("inputs", p, "answer")["token"]
            assert (token != tokens[p]) == (owner == other), "only what moves is claimed anew"
        await append(writer, names, first=5)
        await apart.log.reacted("answer")
        once(apart, "answer")


@scenes
async def ended(stage: Stage, case: Case) -> None:
    lease = 10.0
    async with stage.apart() as apart:
        told = {**ANSWER, "FACTFOLD_LEASE": str(lease)}
        writer, (leaving, one), (_, other) = await both(apart, told)
        # Whoever came last takes the other one for alive at once.
        await shared(apart, one, other, seconds=2 * lease)
        await append(writer, keys(60, case.key), do={"sleep_ms": 20})
        leaving.terminate()
        assert await leaving.ends() == 0
        await shared(apart, other, seconds=lease * 0.6)
        await apart.log.reacted("answer")
        once(apart, "answer")
        members = apart.log._hash("{inputs}:members:probe.answer").keys() - {"_"}
        assert members == {other}


@scenes
async def killed(stage: Stage, case: Case) -> None:
    async with stage.apart() as apart:
        writer, (dying, one), (_, other) = await both(apart, ANSWER)
        await shared(apart, one, other)
        dying.kill()
        await append(writer, keys(60, case.key))
        await shared(apart, other)
        await apart.log.reacted("answer")
        once(apart, "answer")


@scenes
async def killed_at(stage: Stage, case: Case) -> None:
    """The first one is killed where it has everything, then the other one comes."""
    async with stage.apart() as apart:
        writer = await apart.probe(1)
        proxy = await apart.proxy()
        dying = apart.start(0, of=proxy, **BOTH)
        springing = await sprung(proxy, case.more["step"], executed=True, do=dying.kill)
        await dying.ready()
        await append(writer, keys(60, case.key))
        await asyncio.wait_for(springing, 20)
        await started(apart, 1, **BOTH)
        await append(writer, keys(60, case.key), first=2)
        await apart.log.reacted(*REACTIONS)
        once(apart, *REACTIONS)


def state(stage: Stage) -> list[Any]:
    """All that a late owner could change."""
    found: list[Any] = [stage.log.head("outputs", p) for p in range(PARTITIONS)]
    for p in range(PARTITIONS):
        group = stage.log.group("inputs", p, "scatter")
        found.append([group[name] for name in ("settled", "position", "fact")])
        with stage.log.redis() as client:
            found.append(client.hgetall(f"{{inputs/{p}}}:outbox:probe.scatter"))
    return found


class Late(Hook):
    """Who is about to settle is stopped, and what it settles is on its way until `go_on`."""

    def __init__(self, probe: Probe):
        self.go_on = asyncio.Event()
        self._probe = probe

    async def command(self, link: Link, command: Command) -> Verdict:
        if command.name == "settle" and not self.go_on.is_set():
            self._probe.signal(signal.SIGSTOP)
            await self.go_on.wait()
        return Verdict.PASS


@scenes
async def late(stage: Stage, case: Case) -> None:
    """Stopped with answers on their way to the log, and woken while the other one answers."""
    async with stage.apart() as apart:
        writer = await apart.probe(1)
        proxy = await apart.proxy()
        stopping = apart.start(0, of=proxy, PROBE_REACTIONS="scatter")
        late = Late(stopping)
        proxy.hooks.append(late)
        await stopping.ready()
        await append(writer, keys(60, case.key), do={"wait_while": case.key})
        await eventually(lambda: not is_running(stopping))
        # From now on handlers wait, so nobody else has settled when the late one comes.
        flag = apart.shared / case.key
        flag.touch()
        _, other = await started(apart, 1, PROBE_REACTIONS="scatter")
        await eventually(lambda: owners(apart, "scatter") == [other] * PARTITIONS)
        kept = state(apart)
        stopping.signal(signal.SIGCONT)
        late.go_on.set()
        await asyncio.sleep(LEASE / 4)
        assert state(apart) == kept
        flag.unlink()
        await append(writer, keys(60, case.key), first=2)
        await apart.log.reacted("scatter")
        once(apart, "scatter")


def is_running(probe: Probe) -> bool:
    """Whether a process has not been stopped by a signal."""
    stat = Path(f"/proc/{probe.pid}/stat").read_text()
    return stat.rpartition(")")[2].split()[0] != "T"


@scenes
async def under_load(stage: Stage, case: Case) -> None:
    async with stage.apart() as apart:
        writer, (_, one), (_, other) = await both(apart, BOTH)
        names = keys(100, case.key)
        for first in range(1, 9):
            await append(writer, names, first=first)
        await apart.log.reacted(*REACTIONS)
        once(apart, *REACTIONS)
        await shared(apart, one, other)


@scenes
async def in_turn(stage: Stage, case: Case) -> None:
    async with stage.apart() as apart:
        names, first, ending = keys(80, case.key), 1, False
        writer, *instances = await both(apart, BOTH)
        running = [probe for probe, _ in instances]

        async def load() -> None:
            nonlocal first
            while not ending:
                await append(writer, names, first=first)
                first += 1
                await asyncio.sleep(0.1)

        loading = asyncio.create_task(load())
        for turn in range(2):
            await asyncio.sleep(LEASE / 2)
            running[turn % 2].kill()
            running[turn % 2] = (await started(apart, turn % 2, **BOTH))[0]
        ending = True
        await loading
        await apart.log.reacted(*REACTIONS)
        once(apart, *REACTIONS)


@scenes
async def forgotten(stage: Stage, case: Case) -> None:
    """By the one that is left: its field is removed, and only its."""
    lease = 0.3
    async with stage.apart() as apart:
        told = {**ANSWER, "FACTFOLD_LEASE": str(lease)}
        _, (dying, one), (_, other) = await both(apart, told)

        def members() -> dict[str, str]:
            found: dict[str, str] = apart.log._hash("{inputs}:members:probe.answer")
            return {name: beat for name, beat in found.items() if name != "_"}

        await eventually(lambda: members().keys() == {one, other})
        before = members()
        await eventually(
            lambda: all(int(members()[name]) > int(beat) for name, beat in before.items())
        )
        dying.kill()
        await asyncio.sleep(3 * lease)
        assert members().keys() == {one, other}
        await eventually(lambda: members().keys() == {other}, 10 * lease * BUSY)


@scenes
async def each_reaction(stage: Stage, case: Case) -> None:
    async with stage.apart() as apart:
        writer, (_, one), (_, other) = await both(apart, BOTH, {"PROBE_REACTIONS": "scatter"})
        await shared(apart, one)
        await shared(apart, one, other, reaction="scatter")
        await append(writer, keys(60, case.key))
        await apart.log.reacted(*REACTIONS)
        once(apart, *REACTIONS)


@scenes
async def at_rest(stage: Stage, case: Case) -> None:
    """Nobody is there for a while; what comes meanwhile is answered, and nothing again."""
    async with stage.apart() as apart:
        writer, (one, _) = await asyncio.gather(apart.probe(), started(apart, 0, **BOTH))
        names = keys(40, case.key)
        await append(writer, names)
        await apart.log.reacted(*REACTIONS)
        one.terminate()
        assert await one.ends() == 0
        before = [fact.position for fact in apart.log.facts("outputs")]
        await append(writer, names, first=2)
        assert [fact.position for fact in apart.log.facts("outputs")] == before
        await started(apart, 1, **BOTH)
        await apart.log.reacted(*REACTIONS)
        once(apart, *REACTIONS)
