"""What caused a fact, and what it caused, over all streams of a log.

A fact names its cause by id, and no index leads from an id to a place. But ids are UUIDv7: they
say when they were made, which is just before their facts were appended, and a log is in the order
of time. So a search reads all partitions side by side from about then on. It is bounded.
"""

import heapq
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from factfold_cli.clients import Log
from factfold_cli.errors import Failed
from factfold_cli.facts import Fact, fields_of, id_text
from factfold_cli.letters import Partition
from factfold_cli.starts import head, partitions
from factfold_cli.survey import streams

# First close to the time in an id; then from well before it on, as clocks differ and appends wait.
_NEAR_MS, _FAR_MS = 2_000, 60_000
# One server's clock, which may be set back a little.
_CLOCK_MS = 1_000
_PAGE, _MOST_PAGE, _PAGE_BYTES = 16, 500, 1 << 20
_LONGEST_CHAIN = 100
_MOST_EFFECTS = 1_000


@dataclass(frozen=True)
class Family:
    """A fact and its relatives.

    Attributes:
        causes: of the fact, the first cause first.
        missing: the id of the first cause's own cause, which was not found; empty if it has none.
        effects: each with how many facts lie between it and the fact, as a tree is written.
        begin: time in milliseconds from which effects were looked for.
        looked_at: how many entries were read for it.
        complete: no search stopped before the end.
    """

    fact: Fact
    causes: list[Fact]
    missing: bytes
    effects: list[tuple[int, Fact]]
    streams: list[str]
    begin: int
    looked_at: int
    complete: bool


class Search:
    """Each search reads `most` entries, no more."""

    def __init__(self, log: Log, most: int) -> None:
        self._log = log
        self._most = most
        self.streams: list[str] = []
        self._partitions: list[tuple[Partition, str]] = []
        for stream in streams(log):
            with suppress(Failed):  # a log without any head
                its = [Partition(stream, at) for at in range(partitions(log, stream))]
                self._partitions += [(each, head(log, each)[0]) for each in its]
                self.streams.append(stream)
        self.looked_at = 0
        self.stopped = False

    def family(self, fact: Fact) -> Family:
        causes: list[Fact] = []
        seen, missing = {fact.id}, b""
        first = fact
        while first.cause and first.cause not in seen and len(causes) < _LONGEST_CHAIN:
            found = self.find(first.cause, until=first.ms + _CLOCK_MS)
            if found is None:
                missing = first.cause
                break
            seen.add(found.id)
            causes.insert(0, found)
            first = found
        begin = max(0, fact.ms - _CLOCK_MS)
        effects = self._effects(fact, begin) if fact.id else {}
        return Family(
            fact, causes, missing, list(_tree(fact, effects)), self.streams, begin,
            self.looked_at, not self.stopped,
        )  # fmt: skip

    def find(self, id: bytes, until: int | None = None) -> Fact | None:
        """The fact with this id that was appended before `until`, in milliseconds."""
        at = int.from_bytes(id[:6]) if UUID(bytes=id).version == 7 else None
        windows: list[tuple[int, int | None]] = [(0, until)]
        if at is not None:
            windows = [(max(0, at - _NEAR_MS), at + _NEAR_MS), (max(0, at - _FAR_MS), until)]
        for begin, end in windows:
            for fact in self._between(begin, end):
                if fact.id == id:
                    return fact
        return None

    def at(self, partition: Partition, entry_id: bytes) -> Fact:
        """Raises Failed if the entry is gone."""
        found: Any = self._log.xrange(partition.key("log"), entry_id, entry_id)
        if not found:
            raise Failed(f"an entry of {partition.stream} was removed while it was looked at")
        return Fact(partition, head(self._log, partition)[0], entry_id, fields_of(found[0][1]))

    def _effects(self, fact: Fact, begin: int) -> dict[bytes, list[Fact]]:
        """The effects of the fact and of each of its effects, by id."""
        found: dict[bytes, list[Fact]] = {fact.id: []}
        # Of one millisecond an effect may come before its cause. Places only: facts can be large.
        waiting: dict[bytes, list[tuple[Partition, bytes]]] = {}
        for each in self._between(begin, None):
            if not each.cause or not each.id:
                continue
            if each.cause not in found:
                waiting.setdefault(each.cause, []).append((each.partition, each.entry_id))
                continue
            new = [each]
            while new:
                effect = new.pop()
                if effect.id in found:
                    continue
                found[effect.cause].append(effect)
                found[effect.id] = []
                if len(found) > _MOST_EFFECTS:
                    self.stopped = True
                    return found
                new += [self.at(*place) for place in waiting.pop(effect.id, ())]
        return found

    def _between(self, begin: int, end: int | None) -> Iterator[Fact]:
        """All facts of a time, in its order, as far as `most` goes."""
        lanes = [self._of(*partition, begin, end) for partition in self._partitions]
        for number, fact in enumerate(heapq.merge(*lanes, key=lambda fact: fact.ms)):
            if number >= self._most:
                self.stopped = True
                return
            self.looked_at += 1
            yield fact

    def _of(self, partition: Partition, epoch: str, begin: int, end: int | None) -> Iterator[Fact]:
        key, after, last = partition.key("log"), str(begin), "+" if end is None else str(end)
        count = _PAGE
        while True:
            page: Any = self._log.xrange(key, after, last, count=count)
            for entry_id, fields in page:
                yield Fact(partition, epoch, entry_id, fields_of(fields))
            if len(page) < count:
                return
            after = f"({page[-1][0].decode()}"
            size = sum(len(value) for _, fields in page for value in fields)
            count = max(1, min(_MOST_PAGE, len(page) * _PAGE_BYTES // (size + 1)))


def _tree(fact: Fact, effects: dict[bytes, list[Fact]]) -> Iterator[tuple[int, Fact]]:
    waiting = [(0, each) for each in reversed(effects.get(fact.id, []))]
    while waiting:
        depth, each = waiting.pop()
        yield depth, each
        waiting += [(depth + 1, its) for its in reversed(effects[each.id])]


def not_found(id: bytes, search: Search) -> Failed:
    """What to say of an id that `search` has not found."""
    there = ", ".join(search.streams) or "none"
    more = ", or look at more with --search" if search.stopped else ""
    return Failed(
        f"no fact {id_text(id)} among {search.looked_at:,} entries; streams here: {there}; "
        f"give its position{more}"
    )
