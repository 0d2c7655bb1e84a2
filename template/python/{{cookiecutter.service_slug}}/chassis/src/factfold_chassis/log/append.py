"""The append path: group commit, duplicate suppression, retries (docs/protocol.md, Append)."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from operator import attrgetter

from factfold_chassis.errors import (
    ChassisError,
    InvalidRequest,
    LogFull,
    LogReplaced,
    LogUnreachable,
    OutcomeUnknown,
    QueueFull,
    VersionConflict,
)
from factfold_chassis.facts import Position, partition_of
from factfold_chassis.log.lane import (
    MAX_BATCH_BYTES,
    MAX_BATCH_FACTS,
    Batch,
    Lane,
    NewFact,
    Unit,
    check_fact,
)
from factfold_chassis.log.link import (
    Link,
    LinkLost,
    Redis,
    persist,
)
from factfold_chassis.log.scripts import APPEND, load
from factfold_chassis.log.streams import Keys
from factfold_chassis.tasks import together

logger = logging.getLogger(__name__)

IN_FLIGHT = 5  # batches of a partition
# Redis works on some batches while this process prepares the next one. With more under way, appends
# of few callers would go in many small batches, which cost both sides more than few large ones.
AHEAD, ENOUGH = 4, 16  # batches of all partitions; units that go all the same
SWEEP = 0.05  # seconds between two looks for appends that have waited too long
IDLE = 6 * 24 * 3600  # seconds: after seven days the script may have dropped a producer


_CLOSED = "the service is shutting down"
_LAST = attrgetter("last")


class Appender:
    """Appends to one own stream; `run` must be running.

    Args:
        epochs: of each partition, as found at start.
        timeout: seconds until an append that Redis does not answer is given up.
        limit: facts that may wait; more are refused.
        alarm: told in one line what an operator must know.
    """

    def __init__(
        self,
        redis: Redis,
        stream: str,
        epochs: Sequence[str],
        *,
        timeout: float,
        limit: int,
        max_fact_bytes: int,
        alarm: Callable[[str], None],
    ):
        self.stream = stream
        self._loop = asyncio.get_running_loop()  # asked for once: in CPython 3.11 it is a system call
        self._redis = redis
        self._timeout = timeout
        self._limit = limit
        self._max_fact_bytes = max_fact_bytes
        self._alarm = alarm
        self._lanes = [
            Lane(partition, epoch, Keys(stream, partition).appending)
            for partition, epoch in enumerate(epochs)
        ]
        for lane in self._lanes:
            lane.renew_producer()
        self._closed = False
        self._turn = 0
        self._waiting = 0
        self._wake = asyncio.Event()
        self._stuck = asyncio.Event()
        self._lost = "not connected yet"
        self._unanswered: deque[Batch] = deque()

    async def append(self, facts: Sequence[NewFact]) -> Position:
        """Append facts of one key, all or nothing; the position of the last one.

        Raises:
            VersionConflict, InvalidRequest, LogFull, LogReplaced, LogUnreachable, QueueFull: not
                appended.
            OutcomeUnknown: sent, and no answer came.
        """
        size = self._check(facts)
        lane = self._lanes[partition_of(facts[0].key, len(self._lanes))]
        if lane.dead:
            raise LogReplaced(self.stream, lane.dead)
        if self._closed:
            raise LogUnreachable(self.stream, _CLOSED)
        if self._waiting + len(facts) > self._limit:
            raise QueueFull(self.stream, self._waiting)
        loop = self._loop
        unit = Unit(facts, loop.time() + self._timeout, loop.create_future(), size)
        lane.pending.append(unit)
        self._waiting += len(facts)
        self._wake.set()
        return await unit.done

    def _check(self, facts: Sequence[NewFact]) -> int:
        key = facts[0].key
        if len(facts) > 1 and any(fact.key != key for fact in facts):
            raise InvalidRequest("key", "the facts of one append must share their key")
        if len(facts) > MAX_BATCH_FACTS:
            raise InvalidRequest("facts", f"one append takes at most {MAX_BATCH_FACTS} facts")
        total = 0
        for fact in facts:
            size = fact.size
            check_fact(key, fact.type, size, self._max_fact_bytes)
            total += size
        if len(facts) > 1 and total > MAX_BATCH_BYTES:
            raise InvalidRequest(
                "facts",
                f"the facts of one append have at most {MAX_BATCH_BYTES} bytes, not {total}",
            )
        return total

    async def run(self) -> None:
        """Work until cancelled; outlives any number of lost connections."""
        await together(self._sweep(), persist(self._session, self._on_loss))

    async def flush(self, timeout: float) -> None:
        """Take nothing more, wait until nothing waits, then give up what is left."""
        self._closed = True
        waiting = [unit.done for lane in self._lanes for unit in lane.pending]
        for lane in self._lanes:
            waiting += [unit.done for batch in lane.window for unit in batch.units]
        if waiting:
            await asyncio.wait(waiting, timeout=timeout)
        for lane in self._lanes:
            self._give_up(lane, _CLOSED)
            self._fail_pending(lane, LogUnreachable(self.stream, _CLOSED))

    # One connection: a writer and a reader, replies in the order of the batches.

    async def _session(self) -> None:
        async with self._redis.link() as link:
            await load(link, APPEND)
            self._unanswered.clear()
            for lane in self._lanes:
                lane.unanswered = 0
                lane.resend = True
            self._lost = ""
            self._wake.set()
            await together(self._write(link), self._read(link), self._watch())

    def _on_loss(self, reason: str, attempt: int) -> None:
        self._lost = reason
        if attempt == 1:
            logger.warning("connection to the log of %s lost: %s", self.stream, reason)

    async def _write(self, link: Link) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            batches: list[Batch] = []
            for lane in sorted(self._lanes, key=_LAST):
                if lane.resend:
                    if lane.unanswered:
                        continue
                    lane.resend = False
                    batches += lane.window
                while lane.pending and len(lane.window) < IN_FLIGHT:
                    ahead = len(self._unanswered) + len(batches)
                    if ahead >= AHEAD and len(lane.pending) < ENOUGH:
                        break
                    self._turn += 1
                    lane.last = self._turn
                    batches += lane.next_batch(self._forget)
            for batch in batches:
                assert batch.lane is not None
                batch.sent += 1
                batch.lane.unanswered += 1
                self._unanswered.append(batch)
            # Not as one: Redis answers a batch while the next one is still on its way.
            for batch in batches:
                await link.send_packed(batch.packed)

    async def _read(self, link: Link) -> None:
        while True:
            reply = await link.receive()
            batch = self._unanswered.popleft()
            lane = batch.lane
            if lane is not None:
                lane.unanswered -= 1
                if lane.window and lane.window[0] is batch and not lane.resend:
                    self._on_reply(lane, batch, reply)
            self._wake.set()  # what waits in any lane may go now

    def _on_reply(self, lane: Lane, batch: Batch, reply: list[bytes]) -> None:
        status = reply[0]
        if status == b"OK":
            lane.window.popleft()
            lane.answered = self._loop.time()
            self._settle(lane, batch, reply)
        elif status == b"GAP":
            self._on_gap(lane, batch, int(reply[1]))
        elif status == b"EPOCH":
            present = reply[1].decode() or "none"
            self._close(lane, f"epoch {lane.epoch} is gone, now {present}")
        elif status == b"FOREIGN":
            self._close(lane, "it has entries that no appender wrote: " + reply[1].decode())
        elif status == b"OOM":
            self._refuse(lane, LogFull(self.stream))
        else:
            text = reply[1].decode(errors="replace")
            self._refuse(lane, LogUnreachable(self.stream, text))

    def _on_gap(self, lane: Lane, batch: Batch, last: int) -> None:
        """The log has forgotten what it acknowledged."""
        if self._loop.time() - lane.answered < IDLE:
            self._alarm(
                f"the log of stream {self.stream}, partition {lane.partition}, was rolled back: "
                f"batch {batch.sequence - 1} was acknowledged, the last one there is {last}; "
                "compare it with a replica or a backup"
            )
        if last >= batch.sequence or (batch.sent > 1 and not last):
            # This batch may have been forgotten too, and its facts not.
            self._give_up(lane, "the log has forgotten its batches")
            return
        lane.renew_producer()
        self._detach(lane)
        lane.window = deque(lane.pack(waiting.units) for waiting in lane.window)
        lane.resend = True

    def _detach(self, lane: Lane) -> None:
        """Replies to batches that are no longer in the window mean nothing."""
        for batch in self._unanswered:
            if batch.lane is lane:
                batch.lane = None
        lane.unanswered = 0

    def _settle(self, lane: Lane, batch: Batch, reply: list[bytes]) -> None:
        _, of, first, applied, dropped, failure, _ = reply
        pairs = (pair.split(":") for pair in dropped.decode().split(",") if pair)
        conflicts = {int(index): int(actual) for index, actual in pairs}
        ms, n, end = int(of), int(first) - 1, int(first) - 1 + int(applied)
        reason = failure.decode(errors="replace")
        for index, unit in enumerate(batch.units):
            if conflicts and (actual := conflicts.get(index)) is not None:
                fact = unit.facts[0]
                expected = fact.expected_version or 0
                self._finish(unit, VersionConflict(self.stream, fact.key, expected, actual))
                continue
            begin, n = n, n + len(unit.facts)
            if n <= end:
                self._finish(unit, Position(self.stream, lane.partition, lane.epoch, ms, n))
            elif begin < end:
                cut = f"only {end - begin} of its {len(unit.facts)} facts are in the log: {reason}"
                self._finish(unit, OutcomeUnknown(self.stream, cut))
            else:
                self._finish(unit, LogUnreachable(self.stream, reason))

    def _forget(self, unit: Unit) -> None:
        self._waiting -= len(unit.facts)

    def _finish(self, unit: Unit, outcome: Position | ChassisError) -> None:
        self._forget(unit)
        if unit.done.done():
            return
        if isinstance(outcome, Position):
            unit.done.set_result(outcome)
        else:
            unit.done.set_exception(outcome)

    # Giving up. A window fails as a whole, and its producer with it: what an old connection may
    # still deliver is then not taken for a batch of the new producer.

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP)
            now = self._loop.time()
            for lane in self._lanes:
                if lane.window and lane.window[0].units[0].deadline < now:
                    self._give_up(lane, self._lost or f"no reply within {self._timeout:g} s")
                    self._stuck.set()
                while lane.pending and lane.pending[0].deadline < now:
                    unit = lane.pending.popleft()
                    self._finish(unit, LogUnreachable(self.stream, self._lost or "it is busy"))

    async def _watch(self) -> None:
        self._stuck.clear()
        await self._stuck.wait()
        raise LinkLost(f"no reply within {self._timeout:g} s")

    def _give_up(self, lane: Lane, reason: str) -> None:
        unknown = OutcomeUnknown(self.stream, reason)
        not_sent = LogUnreachable(self.stream, reason)
        self._fail_window(lane, lambda batch: unknown if batch.sent else not_sent)

    def _refuse(self, lane: Lane, error: ChassisError) -> None:
        """Redis refused the window's first batch: it and its followers are not in the log.

        Unless it was sent before, on a connection that may still deliver it ahead of them.
        """
        if lane.window[0].sent > 1:
            error = OutcomeUnknown(self.stream, error.message)
        self._fail_window(lane, lambda batch: error)

    def _close(self, lane: Lane, reason: str) -> None:
        """Nothing more is appended to this partition until an operator has looked."""
        lane.dead = reason
        error = LogReplaced(self.stream, reason)
        self._alarm(error.message)
        self._fail_window(lane, lambda batch: error)
        self._fail_pending(lane, error)

    def _fail_window(self, lane: Lane, error: Callable[[Batch], ChassisError]) -> None:
        for batch in lane.window:
            for unit in batch.units:
                self._finish(unit, error(batch))
        lane.window.clear()
        self._detach(lane)
        lane.renew_producer()

    def _fail_pending(self, lane: Lane, error: ChassisError) -> None:
        while lane.pending:
            self._finish(lane.pending.popleft(), error)
