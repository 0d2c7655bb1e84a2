"""What stands in Redis, read raw, and what that says about what went in."""

from __future__ import annotations

import asyncio
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from factfold.v1.fact_pb2 import FactMeta

from .probe import contract
from .servers import Server

PARTITIONS = 4
FIELDS = [b"type", b"key", b"meta", b"data"]
STREAMS = ("inputs", "moves", "outputs")
PAGE = 5_000
RAW = "return redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', ARGV[2])"


def partition_of(key: str) -> int:
    return zlib.crc32(key.encode()) % PARTITIONS


def keys(number: int, prefix: str = "key") -> list[str]:
    """So many keys, spread over all partitions."""
    made = [f"{prefix}-{at:05}" for at in range(number)]
    assert number < 4 * PARTITIONS or {partition_of(key) for key in made} == set(range(PARTITIONS))
    return made


@dataclass(frozen=True, slots=True)
class Logged:
    """A fact as it stands in Redis."""

    stream: str
    partition: int
    n: int
    position: str  # stream/partition@epoch:ms-n
    type: str
    key: str
    meta: FactMeta
    event: Any

    @property
    def place(self) -> tuple[int, int]:
        return self.partition, self.n

    @classmethod
    def of(
        cls, stream: str, partition: int, epoch: str, entry_id: str, fields: Sequence[bytes]
    ) -> Logged:
        """`fields` are the values of FIELDS."""
        kind, key, meta, data = fields
        event = getattr(contract, kind.decode().rpartition(".")[2]).FromString(data)
        return cls(
            stream, partition, int(entry_id.split("-")[1]),
            f"{stream}/{partition}@{epoch}:{entry_id}", kind.decode(), key.decode(),
            FactMeta.FromString(meta), event,
        )  # fmt: skip


class Log:
    """The log in one server, or in several, read past every proxy."""

    def __init__(self, server: Server):
        self._server = server
        self._client = server.client()

    @contextmanager
    def redis(self) -> Iterator[Any]:
        """A client of redis-py, bytes as they are. On a cluster a call is of one partition."""
        yield self._client

    def everywhere(self, *words: str | int) -> None:
        """A command to each server: redis-py's cluster sends some to one alone."""
        for node in self._server.nodes:
            node.ask(*words)

    def now(self) -> float:
        """Seconds by the servers' clock."""
        seconds, microseconds = self._server.nodes[0].ask("TIME")
        return seconds + microseconds / 1e6

    def head(self, stream: str, partition: int) -> dict[str, str]:
        return self._hash(f"{{{stream}/{partition}}}:head")

    def group(self, stream: str, partition: int, reaction: str) -> dict[str, str]:
        return self._hash(f"{{{stream}/{partition}}}:group:probe.{reaction}")

    def _hash(self, key: str) -> dict[str, str]:
        with self.redis() as client:
            return {name.decode(): text.decode() for name, text in client.hgetall(key).items()}

    def tail(self, *streams: str) -> str:
        """Positions of the last facts, as factfold-at-least takes them."""
        found = []
        for stream in streams or STREAMS:
            for partition in range(PARTITIONS):
                head = self.head(stream, partition)
                if int(head.get("n", 0)):
                    place = f"{stream}/{partition}@{head['epoch']}"
                    found.append(f"{place}:{head['ms']}-{head['n']}")
        return ",".join(found)

    def count(self, stream: str) -> int:
        return sum(int(self.head(stream, p).get("n", 0)) for p in range(PARTITIONS))

    def facts(self, stream: str, *, trimmed: bool = False) -> list[Logged]:
        """All facts, partition by partition: n from 1 without gaps, ms never less than before.

        `trimmed`: some are missing at the beginning.
        """
        found: list[Logged] = []
        for partition in range(PARTITIONS):
            head = self.head(stream, partition)
            last_n, last_ms = 0, 0
            for entry_id, fields in self.entries(stream, partition):
                assert fields[0::2] == FIELDS
                ms, n = map(int, entry_id.split(b"-"))
                assert n == last_n + 1 or (trimmed and not last_n), (
                    f"{stream}/{partition} jumps from {last_n} to {n}"
                )
                assert ms >= last_ms, f"{stream}/{partition} goes back in time at {n}"
                last_n, last_ms = n, ms
                at = stream, partition, head["epoch"], entry_id.decode()
                found.append(Logged.of(*at, fields[1::2]))
            counted = int(head.get("n", 0))
            assert last_n == counted or (trimmed and not last_n), (
                f"{stream}/{partition}: the head counts {counted} facts, the last one is {last_n}"
            )
        return found

    def entries(self, stream: str, partition: int) -> Iterator[tuple[bytes, list[bytes]]]:
        """Raw entries: redis-py would make a dict of the fields."""
        start, log = b"-", f"{{{stream}/{partition}}}:log"
        while True:
            with self.redis() as client:
                page = client.eval(RAW, 1, log, start, PAGE)
            yield from page
            if len(page) < PAGE:
                break
            start = b"(" + page[-1][0]

    # Reactions.

    def committed(self, reaction: str, stream: str = "inputs") -> int:
        """How many facts a reaction has committed."""
        groups = [self.group(stream, p, reaction) for p in range(PARTITIONS)]
        return sum(int(group.get("position", "0-0").split("-")[1]) for group in groups)

    def unfinished(
        self, *reactions: str, stream: str = "inputs", partition: int | None = None
    ) -> bool:
        """Whether inputs have been settled and not been committed: a kill now counts."""
        for reaction in reactions:
            for each in range(PARTITIONS) if partition is None else [partition]:
                group = self.group(stream, each, reaction)
                if int(group.get("settled", 0)) > int(group.get("position", "0-0").split("-")[1]):
                    return True
        return False

    async def reacted(self, *reactions: str, stream: str = "inputs", seconds: float = 60) -> None:
        """Wait until the reactions have committed all that is in the stream."""
        await eventually(
            lambda: {self.committed(each, stream) for each in reactions} == {self.count(stream)},
            seconds,
            lambda: (
                f"{self.count(stream)} facts in {stream}, committed: "
                + ", ".join(f"{each} {self.committed(each, stream)}" for each in reactions)
            ),
        )


@dataclass
class Counts:
    """A line of the table."""

    injected: int = 0
    facts_in: int = 0
    facts_out: int = 0
    lost: int = 0
    doubled: int = 0
    out_of_order: int = 0
    findings: list[str] = field(default_factory=list)  # the first few, in words

    def __iadd__(self, other: Counts) -> Counts:
        for name in ("injected", "facts_in", "facts_out", "lost", "doubled", "out_of_order"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.findings += other.findings
        return self

    @property
    def clean(self) -> bool:
        return not (self.lost or self.doubled or self.out_of_order)

    def find(self, what: str, text: str) -> None:
        """Count one of lost, doubled, out_of_order."""
        setattr(self, what, getattr(self, what) + 1)
        if len(self.findings) < 20:
            self.findings.append(f"{what}: {text}")


class Sent:
    """What was asked to be appended, and what the answers were.

    A fact is known by its key and number, which no other fact of the stream has.
    """

    def __init__(self, stream: str = "inputs"):
        self.stream = stream
        self.acknowledged: dict[tuple[str, int], str] = {}  # → position
        self.refused: dict[tuple[str, int], str] = {}  # → message: nothing was appended
        self.unknown: dict[tuple[str, int], str] = {}  # → message: appended or not
        self._numbers: Counter[str] = Counter()

    def unit(self, key: str, *, facts: int = 1, **fields: Any) -> Any:
        """An AppendRequest of the next facts of a key."""
        first = self._numbers[key] + 1
        self._numbers[key] += facts
        return contract.AppendRequest(
            stream=self.stream, key=key, first=first, facts=facts, **fields
        )

    def answered(self, units: Sequence[Any], outcomes: Sequence[Any]) -> None:
        """Note the AppendOutcome of each unit."""
        for unit, outcome in zip(units, outcomes, strict=True):
            self.outcome(unit, outcome.appended.position, outcome.message)

    def failed(self, units: Sequence[Any], message: str) -> None:
        """The call itself failed: what became of its units is unknown."""
        for unit in units:
            self.outcome(unit, "", f"is unknown: {message}")

    def outcome(self, unit: Any, position: str, message: str) -> None:
        """`position` is the last fact's; `message` the error's, empty if there is none."""
        for at in range(unit.facts or 1):
            fact = unit.key, unit.first + at
            if not message:
                before, n = position.rsplit("-", 1)
                self.acknowledged[fact] = f"{before}-{int(n) - unit.facts + 1 + at}"
            elif "nothing was appended" in message:
                self.refused[fact] = message
            else:
                self.unknown[fact] = message

    def check(self, facts: Iterable[Logged], named: Set[str] = frozenset()) -> Counts:
        """Acknowledged facts are in the log once, at their position, those of a key in order.

        Those at positions that are `named` as lost do not count. A fact that was refused and is
        there counts as doubled: its caller will send it again.
        """
        counts = Counts()
        found: dict[tuple[str, int], list[str]] = defaultdict(list)
        last: Counter[str] = Counter()
        for fact in facts:
            known = fact.key, fact.event.number
            found[known].append(fact.position)
            if known not in self.acknowledged:
                continue
            if fact.event.number < last[fact.key]:
                counts.find("out_of_order", f"{known} at {fact.position}")
            last[fact.key] = fact.event.number
        counts.facts_out = sum(map(len, found.values()))
        counts.facts_in = len(self.acknowledged) + len(self.unknown.keys() & found.keys())
        for known, position in self.acknowledged.items():
            if position in named:
                counts.facts_in -= 1
            elif position not in found.get(known, ()):
                counts.find("lost", f"{known} was acknowledged at {position}")
        for known, positions in found.items():
            for position in positions[1:]:
                counts.find("doubled", f"{known} at {positions[0]} and {position}")
            if known in self.refused:
                counts.find("doubled", f"{known} at {positions[0]}: {self.refused[known]}")
            elif known not in self.acknowledged and known not in self.unknown:
                counts.find("doubled", f"{known} at {positions[0]}: nobody sent it")
        return counts


def check_reaction(
    reaction: str,
    inputs: Sequence[Logged],
    outputs: Iterable[Logged],
    expected: Mapping[bytes, int] | None = None,
    excused: Set[tuple[bytes, int]] = frozenset(),
) -> Counts:
    """One complete set of outputs per input, from one run, in the order of the inputs' key.

    `expected` (id of the input → number of outputs) for inputs that are not to have a set; the
    others must have one, but for what is `excused` (id of the input, index). Outputs of no input,
    or of a second run, count as doubled.
    """
    counts = Counts(facts_in=len(inputs))
    by_id = {fact.meta.id: fact for fact in inputs}
    sets: dict[bytes, list[Logged]] = defaultdict(list)
    last: dict[tuple[str, int], int] = {}
    for out in outputs:
        if out.event.reaction != reaction:
            continue
        counts.facts_out += 1
        cause = by_id.get(out.event.id)
        if cause is None:
            counts.find("doubled", f"{out.position} answers {out.event.position}, not in the log")
            continue
        sets[out.event.id].append(out)
        way = cause.key, out.partition
        if cause.n < last.get(way, 0):
            counts.find("out_of_order", f"{out.position} answers {cause.position} of {cause.key}")
        last[way] = cause.n
    for fact in inputs:
        its = sets.get(fact.meta.id, [])
        wanted = (expected or {}).get(fact.meta.id)
        if wanted is None:
            wanted = its[0].event.count if its else 1
        run = its[0].event.run if its else b""
        seen = Counter((out.event.run, out.event.index) for out in its)
        for index in range(wanted):
            if not seen[run, index] and (fact.meta.id, index) not in excused:
                counts.find("lost", f"output {index} of {wanted} for {fact.position}")
        extra = len(its) - sum(1 for index in range(wanted) if seen[run, index])
        for _ in range(extra):
            counts.find("doubled", f"{len(its)} outputs for {fact.position}, not {wanted}")
    return counts


async def eventually(
    check: Callable[[], Any], seconds: float = 20, say: Callable[[], str] = lambda: ""
) -> Any:
    """The first true result of `check()`."""
    end = time.monotonic() + seconds
    while not (result := check()):
        assert time.monotonic() < end, f"not within {seconds:g} s: {say()}"
        await asyncio.sleep(0.02)
    return result
