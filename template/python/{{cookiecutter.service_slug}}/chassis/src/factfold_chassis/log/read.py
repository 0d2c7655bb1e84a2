"""Reading one partition: in order, without gaps, always from where it left off.

Every read also asks for the anchor, the last fact that was taken: a log that lost facts and grew
again past the reader looks like a longer log otherwise (docs/protocol.md, Reading).
"""

import logging
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError
from redis.exceptions import ResponseError

from factfold.v1.fact_pb2 import FactMeta
from factfold_chassis.facts import Entry, split_id
from factfold_chassis.log.link import (
    REPLY_TIMEOUT,
    Argument,
    Backoff,
    Link,
    LinkLost,
)
from factfold_chassis.log.redis import Redis
from factfold_chassis.log.streams import Keys, read_head, read_trimmed

logger = logging.getLogger(__name__)

FIRST, BATCH_BYTES = 100, 4 << 20  # facts of the first batch, bytes that later ones aim at
BLOCK = 2.0  # seconds: a reader blocked for longer is not woken by a deleted key (redis#6887)


class LogChanged(Exception):
    """What was read before is not what the log says now. `str(error)` is one clause."""


class LogBroken(LogChanged):
    """Reading it again from the start would end the same way; `advice`: what an operator does."""

    advice = ""


class LogGap(LogBroken):
    """Facts that were not read yet have been removed."""

    advice = "restore the log from a backup and restart"


class LogTrimmed(LogBroken):
    """The same, and somebody meant it."""

    advice = (
        "for a view, copy the *.snapshot files of an instance that has read them into "
        "FACTFOLD_SNAPSHOT_DIR and restart"
    )


class LogForeign(LogBroken):
    """An entry stands there that no appender wrote."""

    advice = "remove it with XDEL and restart"


class LogRolledBack(LogChanged):
    """Facts that were read are gone, or others stand in their place."""


class LogRecreated(LogChanged):
    """The partition has another epoch."""


class LogGone(LogChanged):
    """The partition is not there any more."""


class _Missing(Exception):
    """Facts from `first` to `last` are not in the log, and later ones are, or are counted."""

    def __init__(self, first: int, last: int):
        self.first, self.last = first, last


@dataclass(frozen=True, slots=True)
class Anchor:
    """The last fact taken from a partition; n = 0: none yet."""

    ms: int = 0
    n: int = 0
    fact_id: bytes = b""  # empty: not known, then only its presence is checked

    @property
    def entry_id(self) -> str:
        return f"{self.ms}-{self.n}"


START = Anchor()


@dataclass(frozen=True, slots=True)
class Batch:
    """Facts of one partition that follow each other."""

    entries: list[Entry]
    anchor: Anchor  # the last of them
    tail: int  # n of the log's last fact, as last seen
    size: int = 0  # bytes that were read for them


class Lag(NamedTuple):
    """How far behind the log's end somebody is, as that was last seen."""

    stream: str
    partition: int
    facts: int
    seconds: float | None  # since the oldest of these facts was appended; None: not known

    @classmethod
    def of(cls, stream: str, partition: int, facts: int, since: int) -> "Lag":
        """`since`: ms of the oldest of these facts, or of the last one before; 0: not known."""
        seconds: float | None = 0.0
        if facts > 0:
            seconds = max(0.0, time.time() - since / 1000) if since else None
        return cls(stream, partition, max(0, facts), seconds)


class Reader:
    """Reads one partition from `anchor` on; survives lost connections.

    Args:
        epoch: of the log that the anchor belongs to.
        count: facts a batch has at most.
        at_once: the first batch of each connection comes as soon as the anchor has been compared
            with the log, also if it is empty.
        on_loss: told (reason, attempt) of each lost connection.
    """

    def __init__(
        self,
        redis: Redis,
        stream: str,
        partition: int,
        epoch: str,
        *,
        anchor: Anchor = START,
        count: int = 1000,
        at_once: bool = False,
        on_loss: Callable[[str, int], None] | None = None,
    ):
        self.stream = stream
        self.partition = partition
        self.epoch = epoch
        self.anchor = anchor
        self.tail = anchor.n
        self._at_once = at_once
        self._due = 0  # n up to which the next read must find facts
        self._redis = redis
        self._most, self._count = count, min(FIRST, count)
        self._log = Keys(stream, partition)["log"]
        self._head = Keys(stream, partition)["head"]
        self._on_loss = on_loss or self._say_loss

    async def batches(self) -> AsyncGenerator[Batch]:
        """Batches for ever; the next read is in flight while the caller works on one.

        Raises:
            LogChanged: and which of its subclasses says how.
        """
        backoff = Backoff(self._on_loss)
        while True:
            try:
                async with self._redis.link(self._log, self._head) as link:
                    async for batch in self._session(link):
                        backoff.reset()
                        yield batch
            except (LinkLost, ResponseError) as error:
                await backoff.pause(error)

    async def _session(self, link: Link) -> AsyncGenerator[Batch]:
        head = await read_head(link, self.stream, self.partition)
        self._check_head(head.epoch if head else None, head.n if head else 0)
        self._due = 0
        blocking, at_once, received = False, self._at_once, link.received
        self._ask(link, self.anchor, blocking)
        while True:
            try:
                entries, anchored = await self._take(link, blocking)
            except _Missing as gap:
                raise await self._why(link, gap.first, gap.last) from None
            blocking = len(entries) < self._count
            # All that has come since, as the next read is not under way yet, but for the anchor.
            size = link.received - received - sum(len(b"".join(fields)) for _, fields in anchored)
            received = link.received
            if entries:
                self._count = max(1, min(self._most, len(entries) * BATCH_BYTES // (size + 1)))
            after = _anchor_of(entries[-1]) if entries else self.anchor
            self._ask(link, after, blocking)
            self.anchor = after  # not before: what is not handed on is read again
            if entries or at_once:
                yield Batch(entries, self.anchor, self.tail, size)
            at_once = False

    def _ask(self, link: Link, anchor: Anchor, blocking: bool) -> None:
        after, log = anchor.entry_id, self._log
        commands: list[tuple[Argument, ...]]
        if blocking:
            milliseconds = int(BLOCK * 1000)
            commands = [
                ("XREAD", "COUNT", self._count, "BLOCK", milliseconds, "STREAMS", log, after),
                ("XRANGE", log, after, after),
            ]
        else:
            commands = [("XRANGE", log, after, "+", "COUNT", self._count + 1)]
        # Not at once: what has just come is handed on first.
        link.send_soon(*commands, ("HMGET", self._head, "epoch", "n"))

    async def _take(self, link: Link, blocking: bool) -> tuple[list[Entry], list[Entry]]:
        """What has come behind the anchor, and the anchor's entry, if it is still there."""
        found: list[Any] | None = await link.receive_soon(BLOCK + REPLY_TIMEOUT)
        entries: list[Entry] = found or []
        anchored: list[Entry]
        if blocking:
            entries = found[0][1] if found else []
            anchored = await link.receive_soon()
        elif entries and entries[0][0] == self.anchor.entry_id.encode():
            anchored, entries = entries[:1], entries[1:]
        else:
            anchored = []
        epoch, n = await link.receive_soon()
        self._check_head(epoch.decode() if epoch else None, int(n or 0))
        if self.anchor.n:
            await self._check_anchor(link, anchored[0] if anchored else None)
        if entries:
            self._check_sequence(entries)
        elif self._due > self.anchor.n:
            raise _Missing(self.anchor.n + 1, self._due)
        # Counted already and not found: appended in between, or gone. The next read tells.
        self._due = 0 if entries else self.tail
        return entries, anchored

    def _check_head(self, epoch: str | None, n: int) -> None:
        if epoch is None:
            raise LogGone(f"its epoch was {self.epoch}, now it is gone")
        if epoch != self.epoch:
            raise LogRecreated(f"its epoch was {self.epoch}, now it is {epoch}")
        if n < self.anchor.n:
            raise LogRolledBack(f"it ends at fact {n}, and fact {self.anchor.n} was read")
        self.tail = n

    async def _check_anchor(self, link: Link, entry: Entry | None) -> None:
        if entry is not None:
            if self.anchor.fact_id not in (b"", fact_id_of(entry)):
                raise LogRolledBack(f"another fact stands at {self.anchor.entry_id}")
            return
        first = await link.call("XRANGE", self._log, "-", "+", "COUNT", 1)
        if first and split_id(first[0][0])[1] <= self.anchor.n:
            raise LogRolledBack(f"the fact at {self.anchor.entry_id} is gone, older ones are not")
        # Trimmed past the anchor: harmless unless facts are missing behind it.
        begins = split_id(first[0][0])[1] if first else self.tail + 1
        if begins > self.anchor.n + 1:
            raise _Missing(self.anchor.n + 1, begins - 1)

    def _check_sequence(self, entries: list[Entry]) -> None:
        """Dense numbers up to the head's n, which was read after the entries."""
        first, last = split_id(entries[0][0])[1], split_id(entries[-1][0])[1]
        expected = self.anchor.n + 1
        if first == expected and last - first == len(entries) - 1 and last <= self.tail:
            return
        for entry in entries:
            n = split_id(entry[0])[1]
            if not expected <= n <= self.tail:
                raise LogForeign(f"no appender wrote the entry {entry[0].decode()}")
            if n > expected:
                raise _Missing(expected, n - 1)
            expected += 1

    async def _why(self, link: Link, first: int, last: int) -> LogBroken:
        """Facts that were trimmed on purpose are told apart from those that are lost."""
        trimmed = await read_trimmed(link, Keys(self.stream, self.partition))
        if last <= trimmed:
            return LogTrimmed(
                f"facts {first} to {last} were trimmed on purpose, and only a backup of the log "
                "has them"
            )
        return LogGap(f"facts {first} to {last} were removed before they were read")

    def _say_loss(self, reason: str, attempt: int) -> None:
        if attempt == 1:
            logger.warning("reading %s/%d: %s", self.stream, self.partition, reason)


def fact_id_of(entry: Entry) -> bytes:
    """16 bytes; empty if it cannot be read."""
    fields = entry[1]
    try:
        return FactMeta.FromString(fields[2 * fields[::2].index(b"meta") + 1]).id
    except (ValueError, IndexError, DecodeError):
        return b""


def _anchor_of(entry: Entry) -> Anchor:
    return Anchor(*split_id(entry[0]), fact_id_of(entry))
