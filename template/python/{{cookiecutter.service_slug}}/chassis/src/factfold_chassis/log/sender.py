"""One connection of the append path: the batches of its partitions go out, replies come back."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from operator import attrgetter

from factfold_chassis.errors import (
    ChassisError,
    LogFull,
    LogReplaced,
    LogUnreachable,
    OutcomeUnknown,
    VersionConflict,
)
from factfold_chassis.facts import Position
from factfold_chassis.log.lane import Batch, Lane, Unit
from factfold_chassis.log.link import Link, LinkLost, pack_command, persist
from factfold_chassis.log.lost import Acknowledged
from factfold_chassis.log.redis import Redis
from factfold_chassis.log.replicas import Replicas
from factfold_chassis.log.scripts import APPEND, load
from factfold_chassis.tasks import together

logger = logging.getLogger(__name__)

IN_FLIGHT = 5  # batches of a partition
# Redis works on some batches while this process prepares the next one. With more under way, appends
# of few callers would go in many small batches, which cost both sides more than few large ones.
AHEAD, ENOUGH = 6, 8
SWEEP = 0.05  # seconds between two looks for appends that have waited too long
IDLE = 6 * 24 * 3600  # seconds: after seven days the script may have dropped a producer

_LAST = attrgetter("last")


class Sender:
    """Brings what waits in `lanes`, partitions of one server, into the log.

    Args:
        timeout: seconds until an append that Redis does not answer is given up.
        replicas: that must have an append before it is answered.
        gone: told of each unit that waits no more.
        alarm: told in one line what an operator must know.
    """

    def __init__(
        self,
        redis: Redis,
        stream: str,
        lanes: Sequence[Lane],
        *,
        timeout: float,
        replicas: Replicas,
        gone: Callable[[Unit], None],
        alarm: Callable[[str], None],
    ):
        self.stream = stream
        # Asked for once: in CPython 3.11 it is a system call.
        self._loop = asyncio.get_running_loop()
        self._redis = redis
        self._lanes = lanes
        self._timeout = timeout
        self._replicas = replicas
        self._gone = gone
        self._alarm = alarm
        self._turn = 0
        self._wake = asyncio.Event()
        for lane in lanes:
            lane.wake = self._wake
        self._stuck = asyncio.Event()
        self._lost = "not connected yet"
        self._link = 0  # its number
        self._unanswered: deque[Batch] = deque()

    async def run(self) -> None:
        """Work until cancelled; outlives any number of lost connections."""
        await together(self._sweep(), persist(self._session, self._on_loss))

    def close(self, reason: str) -> None:
        """Give up all that is left."""
        for lane in self._lanes:
            self._give_up(lane, reason)
            self._fail_pending(lane, LogUnreachable(self.stream, reason))

    # One connection: a writer and a reader, replies in the order of the batches.

    async def _session(self) -> None:
        # Those of all lanes, if they share a connection, are on one server in any case.
        async with self._redis.link(*self._lanes[0].keys) as link:
            await load(link, APPEND)
            self._unanswered.clear()
            for lane in self._lanes:
                await lane.memory.compare(link, self._alarm)
                lane.unanswered = 0
                lane.resend = True
            self._lost, self._link = "", link.number
            self._wake.set()
            await together(self._write(link), self._read(link), self._watch())

    def _confirming(self, batch: Batch) -> list[bytes]:
        """What makes replicas confirm a batch."""
        if not self._replicas:
            return []
        commands = [self._replicas.command]
        if batch.sent > 1:
            # It may be known already: then nothing is written on this connection, and Redis would
            # confirm that.
            assert batch.lane is not None
            commands.insert(0, ("HSET", batch.lane.keys[2], "_", "1"))
        batch.confirming = len(commands)
        return [pack_command(command) for command in commands]

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
                    batches += lane.next_batch(self._gone)
            for batch in batches:
                assert batch.lane is not None
                batch.sent += 1
                batch.lane.unanswered += 1
                self._unanswered.append(batch)
            # Not as one: Redis answers a batch while the next one is still on its way.
            for batch in batches:
                await link.send_packed(batch.packed, *self._confirming(batch))

    async def _read(self, link: Link) -> None:
        while True:
            reply = await link.receive()
            batch = self._unanswered.popleft()
            missing = ""
            if batch.confirming:
                for _ in range(batch.confirming):
                    confirmed = await link.receive()
                missing = self._replicas.missing(confirmed)
            lane = batch.lane
            if lane is not None:
                lane.unanswered -= 1
                if lane.window and lane.window[0] is batch and not lane.resend:
                    self._on_reply(lane, batch, reply, missing)
            self._wake.set()  # what waits in any lane may go now

    def _on_reply(self, lane: Lane, batch: Batch, reply: list[bytes], missing: str) -> None:
        status = reply[0]
        if status == b"OK":
            lane.window.popleft()
            lane.answered = self._loop.time()
            self._settle(lane, batch, reply, missing)
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
            if "READONLY" in text:  # this server follows another one now, which takes appends
                raise LinkLost(text)
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

    def _settle(self, lane: Lane, batch: Batch, reply: list[bytes], missing: str) -> None:
        _, of, first, applied, dropped, failure, _ = reply
        stream, partition, epoch, ms = self.stream, lane.partition, lane.epoch, int(of)
        conflicts: dict[int, int] = {}
        if dropped:
            pairs = (pair.split(":") for pair in dropped.decode().split(","))
            conflicts = {int(index): int(actual) for index, actual in pairs}
        n = int(first) - 1
        end = n + int(applied)
        last: Unit | None = None
        for index, unit in enumerate(batch.units):
            if index in conflicts:
                fact = unit.facts[0]
                expected = fact.expected_version or 0
                self._fail(unit, VersionConflict(stream, fact.key, expected, conflicts[index]))
                continue
            begin, n = n, n + len(unit.facts)
            if n <= end:
                last = unit
                if missing:
                    self._fail(unit, OutcomeUnknown(stream, f"it is in the log, but {missing}"))
                    continue
                self._gone(unit)
                if not unit.done.done():
                    unit.done.set_result(Position(stream, partition, epoch, ms, n))
            else:
                reason = failure.decode(errors="replace")
                error: ChassisError = LogUnreachable(stream, reason)
                if begin < end:
                    cut = f"only {end - begin} of its {len(unit.facts)} facts are in the log: "
                    error = OutcomeUnknown(stream, cut + reason)
                self._fail(unit, error)

        if last is not None and not missing:
            fact_id = last.facts[-1].fact_id if n == end else b""
            lane.memory.remember(Acknowledged(ms, int(first), end, fact_id, self._link))

    def _fail(self, unit: Unit, error: ChassisError) -> None:
        self._gone(unit)
        if not unit.done.done():
            unit.done.set_exception(error)

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
                    self._fail(unit, LogUnreachable(self.stream, self._lost or "it is busy"))

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
                self._fail(unit, error(batch))
        lane.window.clear()
        self._detach(lane)
        lane.renew_producer()

    def _fail_pending(self, lane: Lane, error: ChassisError) -> None:
        while lane.pending:
            self._fail(lane.pending.popleft(), error)
