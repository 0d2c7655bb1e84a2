"""One partition of a stream, as far as somebody who watches has read it."""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from factfold_cli.clients import Log, together
from factfold_cli.facts import Fact, fields_of, split_id
from factfold_cli.letters import Partition

_REMEMBERED = 256


@dataclass(frozen=True)
class Note:
    """Something about the log that who watches it has to know, in one line."""

    text: str


@dataclass
class Lane:
    """One partition, as far as it was read.

    Attributes:
        after: the id of the last entry that was read.
        n: of the last fact that was read; None if reading began at a time.
        anchor: id of the last fact's entry, and its metadata, which has the fact's own id; empty
            if it is not known. None if there is nothing to compare, or it was trimmed.
        until: n after which nothing is asked for; None to go on for ever.
    """

    partition: Partition
    epoch: str
    after: bytes = b"0-0"
    n: int | None = 0
    anchor: tuple[bytes, bytes] | None = None
    until: int | None = None
    gone: bool = False
    # There may be more than the last read took.
    more: bool = True
    # n up to which the next read has to find facts.
    due: int = 0
    # Read and not handed out, each with its time.
    waiting: deque[tuple[int, Fact | Note]] = field(default_factory=deque)
    recent: deque[tuple[bytes, bytes]] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))

    def __str__(self) -> str:
        return f"{self.partition.stream}/{self.partition.number}"

    def begin(self, epoch: str) -> None:
        self.epoch, self.after, self.n, self.anchor, self.due = epoch, b"0-0", 0, None, 0
        self.recent.clear()
        self.more = True

    def say(self, text: str) -> None:
        self.waiting.append((split_id(self.after)[0], Note(f"{self}: {text}")))


def at_end(log: Log, lane: Lane) -> None:
    """Sets `lane` behind the last entry of its log."""

    def ask(step: Any) -> None:
        step.hget(lane.partition.key("head"), "n")
        step.xrevrange(lane.partition.key("log"), count=1)

    n, last = together(log, lane.partition.key("log"), ask)
    lane.after, lane.n, lane.anchor, lane.more = b"0-0", whole(n), None, False
    if last:
        entry_id, fields = last[0]
        lane.after = entry_id
        if split_id(entry_id)[1] == lane.n:
            lane.anchor = (entry_id, meta_of(fields))
            lane.recent.append(lane.anchor)


def meta_of(fields: list[bytes]) -> bytes:
    return fields_of(fields).get(b"meta", b"")


def whole(raw: bytes | None) -> int:
    """A number of a head; 0 for none, and for what somebody else has written there."""
    return int(raw) if raw and raw.isdigit() else 0
