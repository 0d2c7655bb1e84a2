"""What an owner may do with its partition: each step is fenced by the token of its claim."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from redis.exceptions import ResponseError

from factfold.v1.fact_pb2 import DeadLetter, Outcome
from factfold_chassis.errors import VersionConflict
from factfold_chassis.facts import Position, id_in, split_id
from factfold_chassis.log.lane import MAX_BATCH_BYTES, MAX_BATCH_FACTS
from factfold_chassis.log.link import Argument, Link, LinkLost
from factfold_chassis.log.lost import Acknowledged, Memory
from factfold_chassis.log.read import Anchor, LogChanged, LogRecreated
from factfold_chassis.log.redis import Links, Redis
from factfold_chassis.log.replicas import NO_REPLICAS, Replicas
from factfold_chassis.log.scripts import (
    APPEND,
    CLAIM,
    COMMIT,
    LETTERS,
    RELEASE,
    RENEW,
    SETTLE,
    Script,
    load,
)  # fmt: skip
from factfold_chassis.log.streams import Keys
from factfold_chassis.reactions.outbox import PlaceKey, Unit, append_command
from factfold_chassis.reactions.ownership import Seen

Lane = tuple[PlaceKey, str]  # an output partition, and a producer


class Fenced(Exception):
    """Another instance owns the partition; `str(error)` names it."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A unit that was not appended: its key has another version."""

    n: int  # of the fact that it answers
    place: PlaceKey
    reason: str


@dataclass(frozen=True, slots=True)
class Group:
    """One partition of a reaction's input, and where its state is."""

    name: str  # service.reaction
    stream: str
    partition: int
    epoch: str
    own: bool  # Redis' own group mirrors the position; in a foreign stream we may not write it

    def keys(self, *names: str) -> list[str]:
        keys = Keys(self.stream, self.partition)
        return [keys[name if name == "head" else f"{name}:{self.name}"] for name in names]

    @property
    def log(self) -> list[str]:
        return [Keys(self.stream, self.partition)["log"]] if self.own else []

    def producer(self, name: str) -> str:
        """Who appends for it; `name` is the epoch, or what took its place."""
        return f"{self.name}/{self.stream}/{self.partition}/{name}"


class Tenure:
    """One instance's time as the owner of one partition.

    Every method raises Fenced if another one owns it, LinkLost if the outcome is unknown, after
    which the partition is to be claimed anew, and LogChanged if going on cannot help.

    Attributes:
        anchor: the last fact that is committed.
        settled: n up to which no fact is answered again.
        outcomes: by n, of facts that are settled and not committed.
        held: the n of the dead letters of each key, ascending.
    """

    def __init__(
        self,
        links: Links,
        link: Link,
        group: Group,
        memories: Mapping[str, Sequence[Memory]],
        replicas: Replicas,
        alarm: Callable[[str], None],
        reply: list[Any],
    ):
        self.token, position, settled, fact_id, outcomes, held = reply
        self.anchor = Anchor(*split_id(position), bytes.fromhex(fact_id.decode()))
        self.settled = int(settled)
        self.outcomes = {int(n): Outcome.FromString(data) for n, data in _pairs(outcomes)}
        self.held = {key: [int(n) for n in ns.split(b",")] for key, ns in _pairs(held)}
        self._links = links
        self._link = link
        self._appending = {link}  # links whose servers have the append script
        self._compared: set[PlaceKey] = set()
        self._group = group
        self._memories = memories
        self._replicas = replicas
        self._alarm = alarm
        self._sent: dict[Lane, int] = {}
        self._producers = [(0, group.epoch)]  # for inputs behind an n, ascending
        # The partition's batches and its dead letters share the connections.
        self._lock = asyncio.Lock()
        self._broken_off = False

    @classmethod
    @asynccontextmanager
    async def of(
        cls,
        redis: Redis,
        group: Group,
        memories: Mapping[str, Sequence[Memory]],
        instance: str,
        nonce: str,
        seen: Seen,
        replicas: Replicas = NO_REPLICAS,
        *,
        alarm: Callable[[str], None],
    ) -> AsyncIterator["Tenure"]:
        """Claim the partition from who was seen to own it; give it up at the end.

        Args:
            memories: of what this process appended to each partition of its own streams.
            alarm: told in one line what an operator must know.
        """
        keys = group.keys("head", "group", "outbox", "dead", "dead-keys", "redrive") + group.log
        async with redis.links() as links:
            link = await links.to(*keys)
            await load(link, CLAIM, SETTLE, APPEND, COMMIT, LETTERS, RENEW)
            status, *reply = await CLAIM(
                link, keys, group.name, group.epoch, instance, nonce, *seen
            )
            if status == b"HELD":
                raise Fenced(reply[0].decode())
            if status == b"EPOCH":
                present = reply[0].decode() or "gone"
                raise LogRecreated(f"its epoch was {group.epoch}, now it is {present}")
            tenure = cls(links, link, group, memories, replicas, alarm, reply)
            try:
                await tenure._find_producers()
                await tenure._confirm()  # also what was settled and not confirmed before
                yield tenure
            finally:
                # On a connection of its own: a reply may still be due on the other one. A server
                # that refuses, being full, must not take the place of a cancellation.
                with suppress(LinkLost, ResponseError, TimeoutError):
                    key = group.keys("group")
                    async with asyncio.timeout(1.0), redis.link(*key) as last:
                        await RELEASE(last, key, tenure.token)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """The connections for one step; of no use to anybody once a step was broken off."""
        async with self._lock:
            if self._broken_off:
                raise LinkLost("replies are due to a step that was broken off")
            self._broken_off = True
            yield
            self._broken_off = False

    async def settle(self, last: int, outcomes: Mapping[int, Outcome]) -> None:
        """Nobody answers the facts up to `last` again. An empty outcome need not be kept."""
        pairs: list[int | bytes] = []
        for n, outcome in sorted(outcomes.items()):
            if data := outcome.SerializeToString():
                pairs += (n, data)
        await self._call(SETTLE, ["group", "outbox"], self.settled + 1, last, *pairs)
        await self._confirm()
        self.settled = last

    async def _confirm(self) -> None:
        """Replicas have what was decided, before anything comes of it on other servers.

        Else a failover of this one would take the decision away and leave what came of it.
        """
        if self._replicas:
            async with self._turn():
                await self._replicas.confirm(self._link)

    async def commit(
        self, after: Anchor, letters: Sequence[tuple[int, bytes, DeadLetter]], done: Iterable[int]
    ) -> None:
        """Move the position; `done` are the outbox entries that are carried out."""
        args: list[Argument] = [
            self.anchor.entry_id, after.entry_id, after.fact_id.hex(), self._group.name,
            len(letters),
        ]  # fmt: skip
        for n, key, letter in letters:
            args += (n, key, letter.SerializeToString())
        keys = ["group", "outbox", "dead", "dead-keys"]
        await self._call(COMMIT, keys, *args, *done, log=self._group.log)
        self.anchor = after
        for n, key, _ in letters:
            self.held.setdefault(key, []).append(n)

    async def letter(self, n: int) -> DeadLetter | None:
        async with self._turn():
            data = await self._link.call("HGET", *self._group.keys("dead"), n)
        return None if data is None else DeadLetter.FromString(data)

    async def change(
        self, n: int, key: bytes, letter: DeadLetter | None, request: Sequence[int] = ()
    ) -> None:
        """Write a dead letter down as it is now; None drops it."""
        data = b"" if letter is None else letter.SerializeToString()
        keys = ["group", "dead", "dead-keys", "redrive"]
        await self._call(LETTERS, keys, 1, n, key, data, *request)
        await self._confirm()
        if letter is None:
            self.held[key].remove(n)
            if not self.held[key]:
                del self.held[key]

    async def forget(self, request: int) -> None:
        """A request of the command line that there is nothing to do for."""
        await self._call(LETTERS, ["group", "dead", "dead-keys", "redrive"], 0, request)

    async def append(
        self, units: Iterable[Unit], *, letter: tuple[str, int] | None = None, ms: int = 0
    ) -> list[Refused]:
        """Put settled units into the log, those to one place in this order.

        `ms`: of the last input that is settled with them.
        `letter`: entry id and round of the dead letter they answer, which is its own producer.
        """
        lanes: dict[Lane, list[Unit]] = {}
        for unit in units:
            producer = self._group.producer(self._producer_of(unit.n))
            if letter is not None:
                producer = f"{self._group.producer(self._group.epoch)}/{letter[0]}"
            lanes.setdefault((unit.place, producer), []).append(unit)
        calls = [(lane, part) for lane, its in lanes.items() for part in _parts(its)]
        refused: list[Refused] = []
        there: list[tuple[PlaceKey, Acknowledged]] = []
        async with self._turn():
            to = {place: await self._to(place) for place, _ in lanes}
            for lane, part in calls:
                place, producer = lane
                epoch = self._at(place).epoch
                sent, sequence = 0, None
                if letter is None:
                    sent, self._sent[lane] = self._sent.get(lane, 0), part[-1].n
                else:
                    sequence = letter[1]
                command = append_command(place, epoch, producer, sent, part, sequence, ms)
                await to[place].send(command)
            for lane, part in calls:
                link = to[lane[0]]
                reply = await link.receive_soon()
                refused += self._placed(lane, part, reply)
                if known := _acknowledged(part, reply, link):
                    there.append((lane[0], known))
            for link in set(to.values()):
                await self._replicas.confirm(link)
        for place, known in there:
            self._at(place).remember(known)
        return refused

    # Of a log that was rolled back while the outputs were not, as they are on other servers.

    async def ahead(self) -> tuple[int, int] | None:
        """n and ms of the last input whose outputs are there although it is not settled.

        None: there is none, as it is unless the log of the inputs was rolled back, and with it what
        is settled.
        """
        producer = self._group.producer(self._producers[-1][1])
        last, ms = 0, 0
        async with self._turn():
            for place in [(s, p) for s, its in self._memories.items() for p in range(len(its))]:
                link = await self._to(place)
                stored = await link.call("HGET", Keys(*place)["producers"], producer)
                _, n, _, _, *then = (stored or b"0|0||").split(b"|")
                if int(n) > last:
                    last, ms = int(n), int(then[0]) if then else 0
        return (last, ms) if last > self.settled else None

    async def renew(self, answered: int, name: str) -> None:
        """Facts up to n = `answered` are not answered again; those behind it are others.

        Their n were given before, so their outputs would pass for known ones: `name` tells them
        apart.
        """
        if answered > self.settled:
            await self.settle(answered, {})
        producers = [*self._producers, (self.settled, name)]
        text = ",".join(f"{n}:{each}" for n, each in producers)
        await self._call(RENEW, ["group"], text)
        await self._confirm()
        self._producers = producers

    async def _find_producers(self) -> None:
        found = await self._link.call("HGET", *self._group.keys("group"), "producers")
        if found:
            pairs = (pair.split(":") for pair in found.decode().split(","))
            self._producers = [(int(behind), name) for behind, name in pairs]

    def _producer_of(self, n: int) -> str:
        return next(name for behind, name in reversed(self._producers) if n > behind)

    async def _to(self, place: PlaceKey) -> Link:
        """The link to an output partition."""
        link = await self._links.to(*Keys(*place).appending)
        if link not in self._appending:
            await load(link, APPEND)
            self._appending.add(link)
        if place not in self._compared:
            await self._at(place).compare(link, self._alarm)
            self._compared.add(place)
        return link

    def _at(self, place: PlaceKey) -> Memory:
        return self._memories[place[0]][place[1]]

    def _placed(self, lane: Lane, units: Sequence[Unit], reply: list[bytes]) -> list[Refused]:
        """What the reply to one append says; ends the spans of what was appended now."""
        place = lane[0]
        where = f"{place[0]}/{place[1]}"
        if reply[0] == b"EPOCH":
            raise LogRecreated(f"the output stream {place[0]} was replaced")
        if reply[0] == b"GAP":
            raise LogChanged(
                f"the output log {where} was rolled back: it lacks what was appended for "
                f"fact {self._sent[lane]}; compare it with a replica or a backup"
            )
        if reply[0] != b"OK" or reply[5]:
            raise LinkLost(f"{where} answered {b' '.join(reply[:2]).decode()}")
        pairs = (pair.split(":") for pair in reply[4].decode().split(",") if pair)
        conflicts = {int(index): int(actual) for index, actual in pairs}
        refused = []
        ms, at, skipped = int(reply[1]), int(reply[2]) - 1, int(reply[6])
        for index, unit in enumerate(units):
            if (actual := conflicts.get(index)) is not None:
                key, expected, *_ = unit.outputs[0]
                error = VersionConflict(place[0], key, expected or 0, actual)
                refused.append(Refused(unit.n, place, error.message))
                unit.end(error)
            elif index >= skipped:
                at += len(unit.outputs)
                if unit.send and unit.send.recorded:
                    unit.send.placed(place[1], str(Position(*place, self._at(place).epoch, ms, at)))
                    unit.send.end()
        return refused

    async def _call(
        self, script: Script, names: list[str], *args: Argument, log: Sequence[str] = ()
    ) -> None:
        async with self._turn():
            status, *reply = await self._link.call(
                *script.command([*self._group.keys(*names), *log], self.token, *args)
            )
        if status == b"FENCED":
            raise Fenced(reply[0].decode() or "nobody yet")
        if status != b"OK":
            raise LinkLost(f"{status.decode()} {reply[0].decode()}: claimed anew")


def _acknowledged(units: Sequence[Unit], reply: list[bytes], link: Link) -> Acknowledged | None:
    """What an append added to the log; None if that is nothing."""
    _, ms, first, count, conflicts, *_ = reply
    if not int(count):
        return None
    last = b"" if conflicts else id_in(units[-1].outputs[-1][3])
    return Acknowledged(int(ms), int(first), int(first) + int(count) - 1, last, link.number)


def _pairs(flat: list[bytes]) -> Iterable[tuple[bytes, bytes]]:
    return zip(flat[::2], flat[1::2], strict=True)


def _parts(units: list[Unit]) -> list[list[Unit]]:
    """Calls of the append script, within its limits or of one unit."""
    parts: list[list[Unit]] = []
    facts = size = 0
    for unit in units:
        facts += len(unit.outputs)
        size += unit.size
        if not parts or facts > MAX_BATCH_FACTS or size > MAX_BATCH_BYTES:
            parts.append([])
            facts, size = len(unit.outputs), unit.size
        parts[-1].append(unit)
    return parts
