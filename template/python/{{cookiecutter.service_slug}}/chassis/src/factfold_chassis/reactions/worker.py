"""One partition of a reaction: settle, append, commit, whenever this instance owns it."""

import asyncio
import logging
import secrets
from contextlib import aclosing
from operator import attrgetter
from typing import TYPE_CHECKING

from redis.exceptions import ResponseError

from factfold.v1.fact_pb2 import DeadLetter
from factfold_chassis.facts import Fact, split_id
from factfold_chassis.log.link import REPLY_TIMEOUT, Backoff, LinkLost
from factfold_chassis.log.read import (
    START,
    Anchor,
    Batch,
    Lag,
    LogChanged,
    LogRolledBack,
    Reader,
)
from factfold_chassis.log.redis import Redis
from factfold_chassis.log.streams import Head, Keys
from factfold_chassis.reactions.answers import Answers
from factfold_chassis.reactions.letters import Letters, new_letter
from factfold_chassis.reactions.outbox import ending, units_of
from factfold_chassis.reactions.ownership import OURS, Ownership, Seen
from factfold_chassis.reactions.tenure import Fenced, Group, Refused, Tenure
from factfold_chassis.tasks import cancel, cancelled

if TYPE_CHECKING:
    from factfold_chassis.core import Core

logger = logging.getLogger(__name__)

BATCH = 100  # facts between two commits


class Worker:
    """Answers the facts of one partition."""

    def __init__(self, core: "Core", answers: Answers, group: Group, head: Head):
        self.partition = group.partition
        self.tail = self._live_from = head.n
        self.ownership = Ownership(group.partition, *group.keys("group", "redrive"))
        self._core = core
        self._answers = answers
        self._group = group
        self._commits = 0
        self._position = START
        self._since = 0  # ms of the first fact of the batch under way; 0: there is none

    async def run(self) -> None:
        """Work until cancelled.

        Raises:
            WiringError: the reaction's code does not fit.
            LogChanged: the log is not what was read before.
        """
        backoff = Backoff(self._say_loss)
        seen = await self.ownership.vacancy()
        did_not_fit: Anchor | None = None
        while True:
            commits = self._commits
            try:
                await self._own(seen)
                seen = await self.ownership.vacancy()
            except Fenced as error:
                logger.info("%s: %s has the partition now", self._name, error)
                seen = await self.ownership.vacancy()
            except LogRolledBack as change:
                if self._position == did_not_fit:
                    raise self._located(change) from None
                # The position is kept beside the log, and was rolled back with it.
                did_not_fit = self._position
                self._core.alarm(f"{self._name}: {change}; going on from what is there")
                seen = OURS
            except LogChanged as change:
                raise self._located(change) from None
            except (LinkLost, ResponseError) as error:
                if self._commits > commits:
                    backoff.reset()
                await backoff.pause(error)
                seen = OURS

    @property
    def n(self) -> int:
        """Of the last fact that is committed."""
        return self._position.n

    @property
    def lag(self) -> Lag:
        group = self._group
        since = self._since or self._position.ms
        return Lag.of(group.stream, group.partition, self.tail - self.n, since)

    @property
    def _name(self) -> str:
        return f"{self._group.name}, partition {self.partition} of stream {self._group.stream}"

    def _located(self, change: LogChanged) -> LogChanged:
        return type(change)(
            f"stream {self._group.stream}, partition {self.partition}: {change}"
        )  # fmt: skip

    async def _own(self, seen: Seen) -> None:
        """Claim the partition, and work until another member is to have it."""
        core, ownership = self._core, self.ownership
        async with Tenure.of(
            core.redis,
            self._group,
            core.memories,
            core.instance,
            secrets.token_hex(8),
            seen,
            core.replicas,
            alarm=core.alarm,
        ) as tenure:
            ownership.begin(tenure.token)
            await self._look_back(tenure)
            letters = Letters(core, self._answers, self._group, tenure)
            aside = asyncio.create_task(letters.run(ownership.requests))
            batches = asyncio.create_task(self._work_off(tenure, letters))
            unwanted = asyncio.create_task(_until(ownership.unwanted))
            try:
                done, _ = await asyncio.wait(
                    (aside, batches, unwanted), return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    task.result()
            finally:
                # The batch under way may end, on the connection that the letters share; until
                # then the beats go on, or another member takes it for abandoned.
                try:
                    await cancel([batches, unwanted])
                finally:  # also if the whole service ends meanwhile
                    await cancel([aside])
                    ownership.token = b""

    async def _look_back(self, tenure: Tenure) -> None:
        """Tell facts that were answered from others with their numbers.

        A failover may roll back the log, and with it what is settled, and leave the outputs, which
        are on other servers. What stood in the log before was appended earlier than what comes now.
        """
        if (ahead := await tenure.ahead()) is None:
            return
        (last, ms), group, answered = ahead, self._group, tenure.settled
        keys = Keys(group.stream, group.partition)
        begin, count = tenure.anchor.entry_id, last - tenure.anchor.n + 1
        async with self._reads.link(keys["log"], keys["head"]) as link:
            for entry in await link.call("XRANGE", keys["log"], begin, "+", "COUNT", count):
                entry_ms, n = split_id(entry[0])
                if n <= last and entry_ms <= ms:
                    answered = max(answered, n)
        self._core.alarm(
            f"{self._name}: it was rolled back, and what the reaction appended was not: facts up "
            f"to {last} had been answered, and {tenure.settled} is the last one that is known to "
            f"be; those up to {answered} are not answered again, what was appended for lost ones "
            "stays"
        )
        await tenure.renew(answered, secrets.token_hex(8))

    @property
    def _reads(self) -> Redis:
        return self._core.redis if self._group.own else self._core.foreign

    async def _work_off(self, tenure: Tenure, letters: Letters) -> None:
        group = self._group
        self._position, self._since = tenure.anchor, 0
        reader = Reader(
            self._reads, group.stream, group.partition, group.epoch,
            anchor=tenure.anchor, count=BATCH, on_loss=self._say_loss,
        )  # fmt: skip
        async with aclosing(reader.batches()) as batches:
            async for batch in batches:
                self.tail, (self._since, _) = batch.tail, split_id(batch.entries[0][0])
                await letters.room()
                await self._undisturbed(tenure, batch, letters)
                self._position, self._since = batch.anchor, 0
                self._commits += 1
                letters.changed()

    async def _undisturbed(self, tenure: Tenure, batch: Batch, letters: Letters) -> None:
        """A drain lets the batch under way end before this instance stops."""
        work = asyncio.create_task(self._work(tenure, batch, letters))
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            if cancelled() and not work.done():
                try:
                    await asyncio.wait_for(work, REPLY_TIMEOUT)
                except Exception as error:
                    logger.warning("%s: batch not committed: %s", self._name, error)
            raise

    async def _work(self, tenure: Tenure, batch: Batch, letters: Letters) -> None:
        group = self._group
        last = batch.anchor.n
        first = last - len(batch.entries) + 1
        place = group.stream, group.partition, group.epoch
        facts = dict(enumerate([Fact(*place, entry) for entry in batch.entries], first))
        settled = {n: outcome for n, outcome in tenure.outcomes.items() if n <= last}
        blocked = set(tenure.held)
        for n, outcome in settled.items():
            if outcome.failure or outcome.held:
                blocked.add(facts[n].raw_key)
        fresh = [fact for n, fact in facts.items() if n > tenure.settled]
        answered, units = await self._answers.batch(
            fresh, blocked, replay=bool(fresh) and fresh[0].n <= self._live_from
        )
        with ending(units):
            if answered:
                await tenure.settle(last, answered)
            units += [unit for n, outcome in settled.items() for unit in units_of(n, outcome)]
            units.sort(key=attrgetter("n"))
            refused: dict[int, list[Refused]] = {}
            for each in await tenure.append(units, ms=batch.anchor.ms):
                refused.setdefault(each.n, []).append(each)
        outcomes = settled | answered
        attempts = self._core.settings.reaction_attempts
        new = [
            (n, facts[n].raw_key, new_letter(facts[n], outcome, refused.get(n, []), attempts))
            for n, outcome in sorted(outcomes.items())
            if outcome.failure or outcome.held or n in refused
        ]
        done = [n for n, outcome in outcomes.items() if outcome.ByteSize()]
        await tenure.commit(batch.anchor, new, done)
        for n, _, letter in new:
            if letter.state == DeadLetter.DEAD:
                letters.given_up(n, letter)
        for n in settled:
            del tenure.outcomes[n]

    def _say_loss(self, reason: str, attempt: int) -> None:
        if attempt == 1:
            logger.warning("%s: %s", self._name, reason)


async def _until(event: asyncio.Event) -> None:
    await event.wait()
