"""How far a view is."""

import asyncio
import math
from collections import deque
from operator import itemgetter

from factfold_chassis.facts import Position
from factfold_chassis.log.read import START, Anchor, Batch, Lag
from factfold_chassis.log.streams import Head

RECENT = 1024  # facts of a partition of which a position is compared in full
_ID = itemgetter(0)  # of an entry


class Place:
    """How far a view is in one partition."""

    __slots__ = (
        "_ids",
        "anchor",
        "checked",
        "epoch",
        "partition",
        "stream",
        "tail",
        "target",
        "waiting"
    )  # fmt: skip

    def __init__(self, stream: str, partition: int, head: Head, anchor: Anchor = START):
        self.stream = stream
        self.partition = partition
        self.epoch = head.epoch
        self.anchor = anchor
        self.checked = False  # the log has said that the anchor is in it
        self.target = head.n  # the view is ready once it has passed the tail seen at start
        self.tail = head.n
        self.waiting: dict[asyncio.Future[None], int] = {}
        # Of the last facts, up to the anchor.
        self._ids = deque([anchor.entry_id.encode()] if anchor.n else [], maxlen=RECENT)

    @property
    def position(self) -> Position:
        return Position(
            self.stream, self.partition, self.epoch, self.anchor.ms, self.anchor.n
        )  # fmt: skip

    @property
    def recent(self) -> list[bytes]:
        """Ids of the last entries, up to the anchor's."""
        return [*self._ids]

    @property
    def done(self) -> int:
        """Facts, of `target`."""
        return min(self.anchor.n, self.target)

    @property
    def passed(self) -> bool:
        return self.checked and self.anchor.n >= self.target

    @property
    def lag(self) -> Lag:
        behind = self.tail - self.anchor.n
        return Lag.of(self.stream, self.partition, behind, self.anchor.ms)

    def advance(self, batch: Batch) -> None:
        self.checked = True
        self.anchor, self.tail = batch.anchor, batch.tail
        self._ids.extend(map(_ID, batch.entries))
        self._wake(self.anchor.n)

    def end(self) -> None:
        """Nothing comes here any more: nobody need wait."""
        self._wake(math.inf)

    def _wake(self, up_to: float) -> None:
        for future, n in self.waiting.items():
            if n <= up_to and not future.done():
                future.set_result(None)

    def had(self, position: Position) -> bool:
        """Whether this fact was folded, and not another one with its n; older ones are believed."""
        back = self.anchor.n - position.n
        entry_id = f"{position.ms}-{position.n}".encode()
        return back >= len(self._ids) or self._ids[-1 - back] == entry_id
