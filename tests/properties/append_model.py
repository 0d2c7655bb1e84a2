"""What append.lua is to do, as docs/protocol.md and docs/wire-format.md have it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

KEPT_BATCHES = 5
KEPT_REFUSALS = 256
LAST_N = 2**53  # no fact can stand behind it: numbers in Lua are doubles

Reply = list[bytes | int]


@dataclass(frozen=True)
class NewFact:
    key: bytes
    expected: int | None
    type: bytes
    meta: bytes
    data: bytes

    @property
    def arguments(self) -> list[bytes]:
        return [self.type, self.key, self.meta, self.data]


@dataclass(frozen=True)
class Unit:
    sequence: int
    facts: Sequence[NewFact]


@dataclass(frozen=True)
class Call:
    epoch: bytes
    producer: bytes
    mode: str
    sequence: int
    predecessor: int
    units: Sequence[Unit]

    @property
    def arguments(self) -> list[bytes | str | int]:
        facts = [fact for unit in self.units for fact in unit.facts]
        args: list[bytes | str | int] = [self.epoch, self.producer, self.mode]
        args += [self.sequence, self.predecessor, self.sizes]
        versions = ["" if fact.expected is None else str(fact.expected) for fact in facts]
        args.append(",".join(versions) if any(versions) else "")
        for fact in facts:
            args += fact.arguments
        return args

    @property
    def sizes(self) -> str:
        if self.mode == "units":
            return ",".join(f"{unit.sequence}:{len(unit.facts)}" for unit in self.units)
        sizes = [len(unit.facts) for unit in self.units]
        # Whether single facts are counted is up to the caller.
        if set(sizes) == {1} and self.sequence % 2:
            return ""
        return ",".join(map(str, sizes))


@dataclass(frozen=True)
class Outcome:
    """One batch of a process."""

    sequence: int
    reply: Reply


@dataclass
class Progress:
    """How far a reaction is, or a dead letter."""

    n: int = 0
    refusals: list[tuple[int, int]] = field(default_factory=list)
    cut: tuple[int, int] | None = None  # unit behind n, and how many of its facts are in


@dataclass(frozen=True)
class Entry:
    id: bytes
    fields: list[bytes]


class AppendModel:
    """One partition. `ms` and `error` of a call are what the server said; the rest is foretold."""

    def __init__(self, epoch: bytes):
        self.epoch = epoch
        self.n = 0
        self.ms = 0
        self.log: list[Entry] = []
        self.versions: dict[bytes, int] = {}
        self.batches: dict[bytes, list[Outcome]] = {}
        self.progress: dict[bytes, Progress] = {}

    def call(self, call: Call, *, room: int, full: bool, ms: int, error: bytes) -> Reply:
        """The reply.

        Args:
            room: how many facts can be appended before an XADD fails.
            full: Redis is out of memory.
        """
        if call.epoch != self.epoch:
            return [b"EPOCH", self.epoch]
        if call.mode == "batch":
            return self._batch(call, room, full, ms, error)
        return self._units(call, room, full, ms, error)

    def _batch(self, call: Call, room: int, full: bool, ms: int, error: bytes) -> Reply:
        known = self.batches.get(call.producer, [])
        for outcome in known:
            if outcome.sequence == call.sequence:
                return outcome.reply
        last = known[-1].sequence if known else 0
        if call.sequence <= last or call.predecessor != last:
            return [b"GAP", b"%d" % last]
        if full:
            return [b"OOM", error]

        first, conflicts, failed = self.n + 1, [], False
        planned = dict(self.versions)
        decided = [self._conflict(unit.facts, planned) for unit in call.units]
        for index, (unit, actual) in enumerate(zip(call.units, decided, strict=True)):
            if actual is not None:
                conflicts.append((index, actual))
                continue
            for fact in unit.facts:
                if room == 0:
                    failed = True
                    break
                room -= 1
                self._append(fact, ms)
                if fact.expected is not None:
                    self.versions[fact.key] = fact.expected + 1
            if failed:
                break
        facts = self.n + 1 - first
        if failed and not facts:
            return [b"ERROR", error]
        reply: Reply = [b"OK", b"%d" % ms, b"%d" % first, facts, _listed(conflicts)]
        reply += [error if failed else b"", 0]
        self.batches[call.producer] = [*known, Outcome(call.sequence, reply)][-KEPT_BATCHES:]
        return reply

    def _units(self, call: Call, room: int, full: bool, ms: int, error: bytes) -> Reply:
        before = self.progress.get(call.producer, Progress())
        if call.predecessor > before.n:
            return [b"GAP", b"%d" % before.n]
        if full:
            return [b"OOM", error]

        after = Progress(before.n, list(before.refusals), before.cut)
        planned = dict(self.versions)
        appended, resumed, skipped, conflicts, failed = 0, 0, 0, [], False
        todo: list[tuple[int, Unit, int, int | None]] = []  # with facts that are in, and conflict
        for index, unit in enumerate(call.units):
            if unit.sequence <= before.n:
                skipped += 1
                conflicts += [
                    (index, actual) for n, actual in before.refusals if n == unit.sequence
                ]
            elif before.cut is not None and unit.sequence == before.cut[0]:
                resumed = before.cut[1]
                todo.append((index, unit, resumed, None))
            else:
                todo.append((index, unit, 0, self._conflict(unit.facts, planned)))
        first = self.n + 1 - resumed
        for index, unit, already, actual in todo:
            if actual is not None:
                conflicts.append((index, actual))
                after.refusals.append((unit.sequence, actual))
                after.n = unit.sequence
                continue
            if already:
                after.cut = None
            for at, fact in enumerate(unit.facts[already:], already):
                if room == 0:
                    failed = True
                    after.cut = (unit.sequence, at) if at else None
                    break
                room -= 1
                appended += 1
                self._append(fact, ms)
                if at == 0:  # the unit's versions are taken with its first fact
                    self._conflict(unit.facts, self.versions)
            if failed:
                break
            after.n = unit.sequence
        if failed and not appended:
            return [b"ERROR", error]
        after.refusals = after.refusals[-KEPT_REFUSALS:]
        self.progress[call.producer] = after
        reply: Reply = [b"OK", b"%d" % ms, b"%d" % first, self.n + 1 - first, _listed(conflicts)]
        return [*reply, error if failed else b"", skipped]

    def _conflict(self, facts: Sequence[NewFact], versions: dict[bytes, int]) -> int | None:
        """The version that a unit meets instead of the expected one; takes its versions if none."""
        taken: dict[bytes, int] = {}
        for fact in facts:
            if fact.expected is None:
                continue
            actual = taken.get(fact.key, versions.get(fact.key, 0))
            if actual != fact.expected:
                return actual
            taken[fact.key] = actual + 1
        versions.update(taken)
        return None

    def _append(self, fact: NewFact, ms: int) -> None:
        self.n += 1
        self.ms = ms
        fields = [b"type", fact.type, b"key", fact.key, b"meta", fact.meta, b"data", fact.data]
        self.log.append(Entry(b"%d-%d" % (ms, self.n), fields))

    # What stands in Redis, without the times in front of the producers.

    @property
    def producers(self) -> dict[bytes, bytes]:
        found = {}
        for producer, outcomes in self.batches.items():
            parts = []
            for outcome in outcomes:
                _, ms, first, facts, conflicts, error, _ = outcome.reply
                parts.append(b"%d;%s;%s;%d;%s;%s" % (
                    outcome.sequence, ms, first, facts, conflicts, error,
                ))  # fmt: skip
            found[producer] = b"|".join(parts)
        for producer, at in self.progress.items():
            cut = b"%d:%d" % at.cut if at.cut else b""
            found[producer] = b"%d|%s|%s" % (at.n, _listed(at.refusals), cut)
        return found


def _listed(pairs: Sequence[tuple[int, int]]) -> bytes:
    return b",".join(b"%d:%d" % pair for pair in pairs)
