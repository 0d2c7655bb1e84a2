"""How large the logs of a stream are, and how fast they grow.

Nothing is read in full. n counts the facts of a partition without gaps, and an entry's id has the
time of its append: so two entries tell how many facts there were between two times.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from factfold_cli.clients import Log
from factfold_cli.facts import split_id
from factfold_cli.letters import Partition
from factfold_cli.survey import keys, parts

_DAY_MS = 86_400_000
# Less than that says nothing of a day.
_LEAST_MS, _LEAST_FACTS = 3_600_000, 100
# Up to so many entries MEMORY USAGE looks at all of them, else at some.
_SMALL, _SAMPLES = 10_000, 20


@dataclass(frozen=True)
class Growth:
    """One stream.

    Attributes:
        facts: that its logs have now.
        bytes: that its logs take in memory.
        per_day: facts in the last day that it had; None if there is not enough history.
    """

    stream: str
    partitions: int
    facts: int
    bytes: int
    per_day: float | None

    @property
    def bytes_per_day(self) -> float | None:
        return None if self.per_day is None else self.per_day * self.bytes / max(1, self.facts)


def growth(
    log: Any, stream: str, has: Callable[[Partition], bool] = lambda partition: True
) -> Growth:
    """Of the partitions that `has` takes. Raises redis.ResponseError where one may not ask."""
    facts = bytes_ = 0
    first_ms, last_ms = [], []
    its = [
        Partition(stream, at)
        for name in keys(log, stream)
        for at, kind, _ in [parts(name)]
        if at is not None and kind == "log" and has(Partition(stream, at))
    ]
    for partition in its:
        key = partition.key("log")
        length = int(log.xlen(key))
        facts += length
        bytes_ += int(log.memory_usage(key, samples=0 if length <= _SMALL else _SAMPLES) or 0)
        if length:
            first_ms.append(_numbers(log.xrange(key, count=1))[0])
            last_ms.append(_numbers(log.xrevrange(key, count=1))[0])
    rate = _rate(log, its, min(first_ms), max(last_ms)) if facts >= _LEAST_FACTS else None
    return Growth(stream, len(its), facts, bytes_, rate)


def _rate(log: Log, its: list[Partition], first: int, last: int) -> float | None:
    """Facts a day, from the last day before `last`; less of it if there is no more."""
    begin = max(first, last - _DAY_MS)
    if last - begin < _LEAST_MS:
        return None
    count = 0
    for partition in its:
        key = partition.key("log")
        since, until = log.xrange(key, min=begin, count=1), log.xrevrange(key, count=1)
        if since and until:
            count += max(0, _numbers(until)[1] - _numbers(since)[1]) + 1
    return count * _DAY_MS / (last - begin)


def _numbers(entries: Any) -> tuple[int, int]:
    return split_id(entries[0][0])
