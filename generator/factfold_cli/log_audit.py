"""Whether the logs of a stream hold what was appended, all of it and nothing else.

Rights cannot keep a service from damaging its own log (docs/security.md), so this compares what
the heads count with what is there. Nothing is read in full: a few numbers of each partition.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import redis

from factfold_cli.clients import Log, together
from factfold_cli.facts import split_id
from factfold_cli.findings import WARNING, WRONG
from factfold_cli.lanes import whole
from factfold_cli.letters import Partition
from factfold_cli.survey import keys, number, parts

_HEAD = ("epoch", "partitions", "n", "ms", "trimmed")
_AHEAD_MS = 3_600_000
# Above it no appender goes: Lua's numbers round.
_ENDED = 2**53
_RESTORE = "restore them from a backup or a replica"
_WHO = "only the user of its service, an operator and an admin can do that"


@dataclass(frozen=True)
class Fault:
    """What is not as it must be: in which log, how bad (a state of findings), and what mends it."""

    log: str
    state: str
    found: str
    mend: str


def faults(log: Log, stream: str) -> list[Fault]:
    """Raises redis.ResponseError where the user may not ask."""
    numbers = {at for name in keys(log, stream) for at, _, _ in [parts(name)] if at is not None}
    heads: dict[int, list[bytes | None]] = {}
    found: list[Fault] = []
    for at in sorted(numbers):
        head, entries, now = _read(log, Partition(stream, at))
        found += _of(Partition(stream, at), head, entries, now)
        if isinstance(head, list) and head[0] is not None:
            heads[at] = head
    return [*found, *_together(stream, heads, numbers)]


def _read(log: Log, partition: Partition) -> tuple[Any, Any, int]:
    """Head and log as they are at one moment, errors of either in their place; Unix ms."""

    def ask(step: Any) -> None:
        step.hmget(partition.key("head"), _HEAD)
        step.xinfo_stream(partition.key("log"))
        step.time()

    head, entries, (seconds, micros) = together(
        log, partition.key("log"), ask, raise_on_error=False
    )
    for error in (head, entries):
        if isinstance(error, redis.exceptions.NoPermissionError):
            raise error
    return head, entries, seconds * 1000 + micros // 1000


def _of(partition: Partition, head: Any, entries: Any, now: int) -> Iterator[Fault]:
    where = f"{partition.stream}/{partition.number}"
    key = partition.key("log")
    recreate = f"restore it from a backup, or factfold stream recreate {partition.stream}"
    if not isinstance(head, list):
        yield Fault(where, WRONG, "its head is no hash: somebody else has written there", recreate)
        return
    if head[0] is None:
        if isinstance(entries, dict):
            yield Fault(where, WRONG, f"its head is gone; {_WHO}", recreate)
        return
    if not isinstance(entries, dict):
        what = "is no stream" if "WRONGTYPE" in str(entries) else "is gone"
        yield Fault(where, WRONG, f"its log {what}, and its head is there; {_WHO}", recreate)
        return
    n, ms, trimmed = map(whole, head[2:])
    yield from _end(where, key, (ms, n), entries, now)
    yield from _content(where, n, trimmed, entries)


def _end(where: str, key: str, of_head: tuple[int, int], entries: Any, now: int) -> Iterator[Fault]:
    """The last id that Redis gave out must be the last fact's."""
    last = split_id(entries["last-generated-id"])
    ms, n = of_head
    if last == of_head or (not n and last == (0, 0)):
        if ms > now + _AHEAD_MS:
            found = f"its facts are {_hours(ms - now)} ahead of Redis' clock"
            mend = "set the clock right; until then times in ids are wrong, and nothing else is"
            yield Fault(where, WARNING, found, mend)
        return
    if last < of_head:
        yield Fault(
            where, WRONG, f"its log ends at {_id(last)}, and fact {_id(of_head)} was appended",
            "somebody has set it back or replaced it: restore it from a backup or a replica",
        )  # fmt: skip
        return
    found = f"{_id(last)} stands behind its last fact, and no appender wrote it"
    if max(last) >= _ENDED:
        found = f"it was ended: {found}"
    elif last[0] > now + _AHEAD_MS:
        found += f"; it is {_hours(last[0] - now)} ahead of Redis' clock"
    mend = f"XDEL {key} {_id(last)}, then XSETID {key} {ms}-{n}, then restart its service"
    yield Fault(where, WRONG, f"{found}: nothing can be appended; {_WHO}", mend)


def _content(where: str, n: int, trimmed: int, entries: Any) -> Iterator[Fault]:
    """n counts without gaps, and what was trimmed on purpose is known."""
    first, last = entries["first-entry"], entries["last-entry"]
    expected, begins = n - trimmed, split_id(first[0])[1] if first else n + 1
    # What stands behind the last fact is said already.
    length = int(entries["length"]) - bool(last and split_id(last[0])[1] > n)
    if length < expected:
        lost = number(expected - length, "fact")
        if begins - 1 == trimmed + expected - length:
            lost += f" ({trimmed + 1} to {begins - 1})"
        found = f"{lost} of {expected} were removed, and not by factfold trim; {_WHO}"
        yield Fault(where, WRONG, found, _RESTORE)
    elif length > expected:
        found = f"{number(length - expected, 'entry')} more than were appended"
        mend = "the services that read it name them; remove them with XDEL, then restart those"
        yield Fault(where, WRONG, f"{found}; {_WHO}", mend)
    elif expected and begins != trimmed + 1:
        found = f"it begins at {first[0].decode()}, and fact {trimmed + 1} is its first"
        yield Fault(where, WRONG, f"{found}; {_WHO}", _RESTORE)


def _together(
    stream: str, heads: dict[int, list[bytes | None]], numbers: set[int]
) -> Iterator[Fault]:
    """All partitions are there, and of one epoch."""
    counts = {whole(head[1]) for head in heads.values()}
    recreate = f"restore it from a backup, or factfold stream recreate {stream}"
    if len({head[0] for head in heads.values()}) > 1 or len(counts) > 1:
        found = f"its partitions are of different epochs or counts; {_WHO}"
        yield Fault(stream, WRONG, found, recreate)
    elif heads and (missing := set(range(*counts)) - heads.keys() - numbers):
        names = ", ".join(f"{stream}/{at}" for at in sorted(missing))
        yield Fault(stream, WRONG, f"{names} is gone; {_WHO}", recreate)


def _hours(ms: int) -> str:
    return number(round(ms / 3_600_000), "hour")


def _id(numbers: tuple[int, int]) -> str:
    return "-".join(map(str, numbers))
