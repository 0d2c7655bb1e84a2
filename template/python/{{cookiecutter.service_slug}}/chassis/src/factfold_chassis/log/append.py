"""The append path: group commit, duplicate suppression, retries (docs/protocol.md, Append)."""

import asyncio
from collections.abc import Callable, Sequence

from factfold_chassis.errors import InvalidRequest, LogReplaced, LogUnreachable, QueueFull
from factfold_chassis.facts import Position, partition_of
from factfold_chassis.log.lane import (
    MAX_BATCH_BYTES,
    MAX_BATCH_FACTS,
    Lane,
    NewFact,
    Unit,
    check_key,
    check_size,
)
from factfold_chassis.log.lost import Memory
from factfold_chassis.log.redis import Redis
from factfold_chassis.log.replicas import NO_REPLICAS, Replicas
from factfold_chassis.log.sender import Sender
from factfold_chassis.log.streams import Keys
from factfold_chassis.tasks import together

_CLOSED = "the service is shutting down"


class Appender:
    """Appends to one own stream; `run` must be running.

    Args:
        epochs: of each partition, as found at start.
        timeout: seconds until an append that Redis does not answer is given up.
        limit: facts that may wait; more are refused.
        replicas: that must have a fact before its append is answered.
        alarm: told in one line what an operator must know.

    `memories` are what it remembers, by partition; a reaction adds what it appends by itself.
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
        replicas: Replicas = NO_REPLICAS,
        alarm: Callable[[str], None],
    ):
        self.stream = stream
        # Asked for once: in CPython 3.11 it is a system call.
        self._loop = asyncio.get_running_loop()
        self._timeout = timeout
        self._limit = limit
        self._max_fact_bytes = max_fact_bytes
        self.memories = [Memory(stream, *each) for each in enumerate(epochs)]
        self._lanes = [
            Lane(stream, each.partition, each.epoch, Keys(stream, each.partition).appending, each)
            for each in self.memories
        ]
        # One connection for all: a second one costs more than it brings. Partitions of a cluster
        # come and go one by one, so there each has its own.
        shared = [[lane] for lane in self._lanes] if redis.sharded else [self._lanes]
        self._senders = [
            Sender(
                redis, stream, lanes,
                timeout=timeout, replicas=replicas, gone=self._forget, alarm=alarm,
            )
            for lanes in shared
        ]  # fmt: skip
        self._closed = False
        self._waiting = 0

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
        lane.wake.set()
        return await unit.done

    def _check(self, facts: Sequence[NewFact]) -> int:
        """The size of all."""
        key = facts[0].key
        check_key(key)
        total = 0
        for fact in facts:
            size = fact.size
            check_size(fact.type, size, self._max_fact_bytes)
            total += size
        if len(facts) == 1:
            return total
        if any(fact.key != key for fact in facts):
            raise InvalidRequest("key", "the facts of one append must share their key")
        if len(facts) > MAX_BATCH_FACTS:
            raise InvalidRequest("facts", f"one append takes at most {MAX_BATCH_FACTS} facts")
        if total > MAX_BATCH_BYTES:
            raise InvalidRequest(
                "facts",
                f"the facts of one append have at most {MAX_BATCH_BYTES} bytes, not {total}",
            )
        return total

    async def run(self) -> None:
        """Work until cancelled; outlives any number of lost connections."""
        await together(*(sender.run() for sender in self._senders))

    async def flush(self, timeout: float) -> None:
        """Take nothing more, wait until nothing waits, then give up what is left."""
        self._closed = True
        waiting = [unit.done for lane in self._lanes for unit in lane.pending]
        for lane in self._lanes:
            waiting += [unit.done for batch in lane.window for unit in batch.units]
        if waiting:
            await asyncio.wait(waiting, timeout=timeout)
        for sender in self._senders:
            sender.close(_CLOSED)

    def _forget(self, unit: Unit) -> None:
        self._waiting -= len(unit.facts)
