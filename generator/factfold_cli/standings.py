"""How far behind each reader is, out of two looks at the log."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from factfold_cli.letters import Partition
from factfold_cli.readers import Look, Reader, Spot, View, oldest

# Three times what a view lets pass before it writes its cursors again, if nothing has changed.
AWAY_SECONDS = 90.0
# Members and owners beat ten times in FACTFOLD_LEASE, which is 5 s by default.
PATIENCE_SECONDS = 3.0
# Of a view that goes on: how old its cursor may be.
_CURSOR_SECONDS = 2.0

N = TypeVar("N", int, float)

AWAY, GONE, REPLACED = "away", "log gone", "log replaced"


@dataclass(frozen=True)
class Standing:
    """A reader in one stream, or in one partition of it.

    Of a view's instances it is the one that is furthest behind among those that are there; if all
    are away, the one that was seen last.

    Attributes:
        partition: None for all.
        facts: behind the end of the log; None: not known.
        seconds: age of the oldest of these facts; None: not known.
        pace: facts a second; None: not known yet.
        there, away: how many instances are, and are not.
        who: the instance, or the owner of a partition; empty for nobody, and for several.
        seen: when one was there, in seconds; None: not known.
        state: AWAY, GONE, REPLACED, or empty.
        dead_letters: None of a view.
    """

    reader: Reader
    partition: int | None
    facts: int | None
    seconds: float | None
    pace: float | None
    there: int
    away: int
    who: str
    seen: float | None
    state: str
    dead_letters: int | None

    @property
    def lost(self) -> bool:
        """Whether the log that it was reading is not there any more."""
        return self.state in (GONE, REPLACED)

    @property
    def badness(self) -> tuple[bool, int, float, bool]:
        return self.lost, self.facts or 0, self.seconds or 0.0, bool(self.state)


class _Presence(NamedTuple):
    """Who there is of a reader; `instance` stands for it."""

    instance: str
    there: int
    away: int
    seen: float | None
    gone: bool


def standings(log: Any, before: Look, now: Look, each: bool) -> list[Standing]:
    """The worst first; `each`: one for each partition, else one for each stream."""
    found = {reader: _presence(reader, before, now) for reader in now.spots}
    spots = {reader: now.spots[reader][its.instance] for reader, its in found.items()}
    behind = {
        (partition, spot.entry_id)
        for its in spots.values()
        for partition, spot in its.items()
        if _facts(now, partition, spot)
    }
    times = oldest(log, behind)
    its = [
        _standing(reader, found[reader], partitions, each, before, now, times)
        for reader, where in spots.items()
        for partitions in ([[at] for at in sorted(where)] if each else [sorted(where)])
    ]
    return sorted(its, key=lambda standing: standing.badness, reverse=True)


def _presence(reader: Reader, before: Look, now: Look) -> _Presence:
    if reader.kind != View:
        return _owners(reader, before, now)
    spots = now.spots[reader]
    seen = {name: max(spot.seen for spot in its.values()) for name, its in spots.items() if name}
    if not seen:  # it is registered, or all its instances were dropped
        return _Presence("", 0, 0, None, True)
    there = [name for name, when in seen.items() if now.when - when < AWAY_SECONDS]

    def behind(name: str) -> tuple[int, str]:
        return sum(_facts(now, at, spot) or 0 for at, spot in spots[name].items()), name

    last = max(seen, key=lambda name: (seen[name], name))
    instance = max(there, key=behind) if there else last
    return _Presence(instance, len(there), len(seen) - len(there), seen[last], not there)


def _owners(reader: Reader, before: Look, now: Look) -> _Presence:
    """Of a reaction: who beats. A clock says nothing of it, only a second look does."""
    were, are = before.members.get(reader, {}), now.members[reader]
    there = {name for name, beat in are.items() if were.get(name) != beat}
    groups = before.groups.get(reader, {})
    for partition, group in now.groups[reader].items():
        if partition in groups and group.owner and groups[partition].beat != group.beat:
            there.add(group.owner)
    silent = not there and now.when - before.when >= PATIENCE_SECONDS
    return _Presence("", len(there), 0, now.when if there else None, silent)


def _standing(
    reader: Reader,
    its: _Presence,
    partitions: Sequence[Partition],
    each: bool,
    before: Look,
    now: Look,
    times: Mapping[tuple[Partition, bytes], float],
) -> Standing:
    spots = now.spots[reader][its.instance]
    were = before.spots.get(reader, {}).get(its.instance, {})
    groups = now.groups.get(reader, {})
    facts = [_facts(now, at, spots[at]) for at in partitions]
    ages = [
        _age(now, count, times.get((at, spots[at].entry_id)))
        for at, count in zip(partitions, facts, strict=True)
    ]
    paces = [_pace(were.get(at), spots[at], now.when - before.when) for at in partitions]
    owners = {groups[at].owner for at in partitions} if groups else {its.instance}
    return Standing(
        reader,
        partitions[0].number if each else None,
        _sum(facts),
        None if None in ages else max(age for age in ages if age is not None),
        _sum(paces),
        its.there,
        its.away,
        owners.pop() if len(owners) == 1 else "",
        its.seen,
        _state(reader, partitions, now) or AWAY * its.gone,
        sum(groups[at].dead_letters for at in partitions) if groups else None,
    )


def _facts(now: Look, partition: Partition, spot: Spot) -> int | None:
    head = now.heads[partition]
    return None if head is None or spot.n is None else max(0, head[1] - spot.n)


def _age(now: Look, facts: int | None, oldest: float | None) -> float | None:
    if facts == 0:
        return 0.0
    return None if oldest is None else max(0.0, now.when - oldest)


def _pace(before: Spot | None, now: Spot, between: float) -> float | None:
    if before is None or before.n is None or now.n is None or not between:
        return None
    # One that idled wrote its cursor long before it went on.
    passed = min(now.seen - before.seen, between + _CURSOR_SECONDS)
    return max(0, now.n - before.n) / passed if passed > 0 else 0.0


def _state(reader: Reader, partitions: Iterable[Partition], now: Look) -> str:
    for partition in partitions:
        head, group = now.heads[partition], now.groups.get(reader, {}).get(partition)
        if head is None:
            return GONE
        if group is not None and group.epoch != head[0]:
            return REPLACED
    return ""


def _sum(values: Sequence[N | None]) -> N | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None
