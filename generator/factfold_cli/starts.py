"""Where a reader of a stream begins: at its end, its beginning, behind positions, or at a time."""

import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from factfold_cli import survey
from factfold_cli.clients import Log
from factfold_cli.decoding import text
from factfold_cli.errors import Failed, Refused
from factfold_cli.facts import NAMES, fields_of, split_id
from factfold_cli.lanes import Lane, at_end, whole
from factfold_cli.letters import Partition, parse_position

_AGE = re.compile(r"(\d{1,9})(s|min|m|h|d)")
_SECONDS = {"s": 1, "min": 60, "m": 60, "h": 3600, "d": 86_400}
_EPOCH = re.compile(r"@([0-9a-f]{16}):")
_LAST_N = 2**64 - 1
# Entries that no appender wrote are not expected to be many in a row.
_FEW = 20


class Place(NamedTuple):
    """A position that somebody gave; `epoch` and `ms` as far as its text names them."""

    partition: Partition
    n: int
    epoch: str
    entry_id: str

    def __str__(self) -> str:
        return f"{self.partition.stream}/{self.partition.number}:{self.n}"


class From(NamedTuple):
    """Where to begin. Of the three one at most; none means the beginning."""

    end: bool = False
    ms: int | None = None
    places: tuple[Place, ...] = ()


def parse(words: str) -> From | None:
    """`beginning`, `end`, positions with commas, an age such as 15m, or a time; None for others."""
    if words in ("beginning", "end"):
        return From(end=words == "end")
    if age := _AGE.fullmatch(words):
        return From(ms=max(0, int((time.time() - int(age[1]) * _SECONDS[age[2]]) * 1000)))
    places = [place(part) for part in words.split(",") if part]
    if places and all(places):
        return From(places=tuple(each for each in places if each))
    try:
        at = datetime.fromisoformat(words)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return From(ms=max(0, int(at.timestamp() * 1000)))


def place(words: str) -> Place | None:
    """`stream/partition@epoch:ms-n`, also without epoch and ms; None if it is no position."""
    if (found := parse_position(words)) is None:
        return None
    position, entry_id = found
    epoch = _EPOCH.search(words)
    return Place(position.partition, position.n, epoch[1] if epoch else "", entry_id)


def lanes(log: Log, stream: str, start: From, follow: bool) -> list[Lane]:
    """The partitions of a stream, set to where reading begins. Raises Failed, Refused."""
    count = partitions(log, stream)
    its = [place for place in start.places if place.partition.stream == stream]
    if start.places and not its:
        raise Refused(f"none of the positions is of {stream}")
    for each in its:
        if each.partition.number >= count:
            raise Refused(f"{stream} has {survey.number(count, 'partition')}: there is no {each}")
    found = []
    for at in range(count):
        partition = Partition(stream, at)
        epoch, n = head(log, partition)
        lane = Lane(partition, epoch, until=None if follow else n)
        if start.end:
            at_end(log, lane)
        elif start.ms is not None:
            if start.ms:
                lane.after, lane.n = b"%d-%d" % (start.ms - 1, _LAST_N), None
        else:
            for each in its:
                if each.partition == partition:
                    _begin_behind(log, lane, each, n)
        found.append(lane)
    return found


def partitions(log: Log, stream: str) -> int:
    """How many the stream has, as its heads say. Raises Failed if it is not there."""
    # The first ones go first: nothing says how many there are before one is found.
    key = Partition(stream, 0).key("head")
    raw: Any = log.hget(key, "partitions")
    if whole(raw):
        return whole(raw)
    left = survey.survey(log, stream).counts
    if len(left) == 1:
        return left.pop()
    there = ", ".join(survey.streams(log)) or "none"
    raise Failed(f"there is no stream {stream!r} here; streams here: {there}")


def head(log: Log, partition: Partition) -> tuple[str, int]:
    """Epoch and n of a partition; an empty epoch if it is not there."""
    found: Any = log.hmget(partition.key("head"), ["epoch", "n"])
    return text(found[0] or b""), whole(found[1])


def entry_at(log: Log, place: Place) -> bytes:
    """The id of the fact at `place`. Raises Failed if it is not in the log."""
    epoch, last = head(log, place.partition)
    where = f"{place.partition.stream}/{place.partition.number}"
    if not epoch:
        raise Failed(f"there is no {where} in this log")
    if place.epoch not in ("", epoch):
        raise Failed(
            f"{place} is of another log: the epoch of {where} is {epoch} now, not {place.epoch}"
        )
    if place.n > last:
        raise Failed(f"{where} ends at fact {last}: there is no {place}")
    found = place.entry_id.encode() or _find(log, place)
    if not found or not log.xrange(place.partition.key("log"), found, found):
        raise Failed(f"the fact at {place} is not in the log any more")
    return found


def _begin_behind(log: Log, lane: Lane, place: Place, last: int) -> None:
    """Raises Failed for a position of another log, or behind the end of this one."""
    if place.epoch not in ("", lane.epoch):
        raise Failed(
            f"{place} is of another log: the epoch of {lane} is {lane.epoch} now, not {place.epoch}"
        )
    if place.n > last:
        raise Failed(f"{lane} ends at fact {last}: there is no {place}")
    entry_id = place.entry_id.encode() or _find(log, place)
    lane.n = place.n
    if entry_id:
        lane.after, lane.anchor = entry_id, (entry_id, b"")
        return
    # Reading begins with the first one there is, whose number tells what is missing.
    first: Any = log.xrange(lane.partition.key("log"), count=1)
    if first and split_id(first[0][0])[1] <= place.n:
        raise Failed(f"the fact at {place} is not in the log any more")


def _find(log: Log, place: Place) -> bytes:
    """The id of an entry of which only n is known; empty if it is not there.

    Times rise with numbers, so some forty looks find it in a log of any length.
    """
    key = place.partition.key("log")
    ends: Sequence[Any] = [log.xrange(key, count=1), log.xrevrange(key, count=1)]
    if not all(ends):
        return b""
    last = head(log, place.partition)[1]
    low, high = (split_id(end[0][0])[0] for end in ends)
    while low <= high:
        middle = (low + high) // 2
        there = _first_fact(log, key, middle, last)
        if there is None or there[1] > place.n:
            high = middle - 1
        elif there[1] == place.n:
            return b"%d-%d" % there
        else:
            same: Any = log.xrange(key, f"{there[0]}-{place.n}", f"{there[0]}-{place.n}")
            if same:
                return bytes(same[0][0])
            low = there[0] + 1
    return b""


def _first_fact(log: Log, key: str, ms: int, last: int) -> tuple[int, int] | None:
    """The id of the first entry from a time on that an appender can have written."""
    for count in (1, _FEW):
        there: Any = log.xrange(key, f"{ms}-0", count=count)
        for entry_id, fields in there:
            complete = fields_of(fields).keys() >= set(NAMES)
            if complete and 0 < split_id(entry_id)[1] <= last:
                return split_id(entry_id)
    return None
