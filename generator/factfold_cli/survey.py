"""What there still is of a stream."""

import re
from dataclasses import dataclass
from typing import Any

import redis

from factfold_cli import log as logs
from factfold_cli.clients import Log
from factfold_cli.contract import STREAM_NAME
from factfold_cli.letters import Partition
from factfold_cli.printable import printable

_KEY = re.compile(rf"\{{{STREAM_NAME}(?:/(\d{{1,9}})\}}:([a-z-]+)|\}}:members)(?::(.+))?")
_STREAM = re.compile(rf"\{{({STREAM_NAME})/\d{{1,9}}\}}:(?:head|log)")


@dataclass(frozen=True)
class Left:
    """What is left of a stream.

    Attributes:
        counts: the numbers of partitions that its heads name.
        there: it has a log or a head somewhere.
        whole: every partition is there, with all its facts.
    """

    stream: str
    counts: set[int]
    there: bool
    whole: bool
    facts: int
    dead_letters: int
    groups: list[str]

    @property
    def gone(self) -> bool:
        """What its running readers write again does not count: they would hide a flushed Redis."""
        return not self.there and not str(self)

    def __str__(self) -> str:
        """What would be lost; empty for nothing."""
        names = f": {', '.join(map(printable, self.groups))}"
        lost = [
            *([number(self.facts, "fact")] if self.facts else []),
            *([number(self.dead_letters, "dead letter")] if self.dead_letters else []),
            *([number(len(self.groups), "group") + names] if self.groups else []),
        ]
        return ", ".join(lost)


def survey(log: Log, stream: str) -> Left:
    numbers: set[int] = set()
    groups, dead_letters, there = set(), 0, False
    for name in keys(log, stream):
        of, kind, group = parts(name)
        there = there or kind in ("head", "log")
        if of is not None:
            numbers.add(of)
        if group and kind in ("group", "dead"):
            groups.add(group)
        if kind == "dead":
            dead_letters += max(0, _of(log, "HLEN", name) - 1)  # without the placeholder
    counts, sound, facts = set(), set(), 0
    for at in sorted(numbers):
        partition = Partition(stream, at)
        head, entries = partition.key("head"), partition.key("log")
        facts += (length := _of(log, "XLEN", entries))
        if count := _of(log, "HGET", head, "partitions"):
            counts.add(count)
            n, trimmed = _of(log, "HGET", head, "n"), _of(log, "HGET", head, "trimmed")
            if log.exists(entries) and length == n - trimmed:
                sound.add(at)
    whole = [set(range(count)) for count in counts] == [sound]
    return Left(stream, counts, there, whole, facts, dead_letters, sorted(groups))


def streams(log: Log) -> list[str]:
    """All of which there is a log or a head."""
    found = map(_STREAM.fullmatch, logs.keys(log, "{*/*}:*"))
    return sorted({match[1] for match in found if match})


def keys(log: Log, stream: str) -> list[str]:
    return logs.keys(log, f"{{{stream}/*}}:*") + logs.keys(log, f"{{{stream}}}:members:*")


def parts(key: str) -> tuple[int | None, str, str]:
    """Partition, kind and group."""
    match = _KEY.fullmatch(key)
    if match is None:
        return None, "", ""
    at = None if match[1] is None else int(match[1])
    return at, match[2] or "", match[3] or ""


def number(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")


def _of(log: Any, *words: str) -> int:
    """The reply as a number; 0 for none, and for a key that somebody has used for other things."""
    try:
        return int(log.execute_command(*words) or 0)
    except (redis.ResponseError, ValueError):
        return 0
