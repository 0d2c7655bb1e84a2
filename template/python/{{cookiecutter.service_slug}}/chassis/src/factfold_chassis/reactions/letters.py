"""The dead letters of one partition: tried again with growing pauses, in the order of each key."""

import asyncio
import logging
import random
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from factfold.v1.fact_pb2 import DeadLetter, Outcome, Place
from factfold_chassis.facts import Fact
from factfold_chassis.log.link import LinkLost
from factfold_chassis.reactions.answers import Answers
from factfold_chassis.reactions.outbox import ending, outcome_of, units_of
from factfold_chassis.reactions.tenure import Group, Refused, Tenure
from factfold_chassis.tasks import cancel, cancelled

if TYPE_CHECKING:
    from factfold_chassis.core import Core

logger = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 30.0  # seconds between two tries, doubled from one to the next
MOST = 1000  # letters of a partition; with more it is paused


def new_letter(
    fact: Fact, outcome: Outcome, refused: Sequence[Refused], attempts: int
) -> DeadLetter:
    """What a fact becomes that was not answered, or whose answer was not appended."""
    letter = DeadLetter(entry_id=fact.entry[0], fields=fact.entry[1], state=DeadLetter.HELD)
    if not outcome.held:
        error = outcome.failure or refused[0].reason
        _fail(letter, error, dead=outcome.hopeless or attempts == 1)
        _remember_applied(letter, outcome, refused)
    return letter


def _fail(letter: DeadLetter, error: str, *, dead: bool) -> None:
    letter.attempts += 1
    letter.error = error
    letter.failed_unix_nano = time.time_ns()
    letter.state = DeadLetter.DEAD if dead else DeadLetter.RETRYING


def _remember_applied(letter: DeadLetter, outcome: Outcome, refused: Sequence[Refused]) -> None:
    missing = {each.place for each in refused}
    letter.applied.extend(
        Place(stream=unit.stream, partition=unit.partition)
        for unit in outcome.units
        if (unit.stream, unit.partition) not in missing
    )


def _pause(letter: DeadLetter) -> float | None:
    """Seconds until a letter is tried; None: not before somebody asks for it."""
    if letter.state == DeadLetter.DEAD:
        return None
    if not letter.attempts or letter.HasField("outcome"):
        return 0.0
    longest: float = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(letter.attempts - 1, 20))
    return longest * random.uniform(0.5, 1.0)


class Letters:
    """Works off the dead letters of a partition as long as this instance owns it."""

    def __init__(self, core: "Core", answers: Answers, group: Group, tenure: Tenure):
        self._core = core
        self._answers = answers
        self._group = group
        self._tenure = tenure
        self._lines: dict[bytes, asyncio.Task[None]] = {}
        self._woken: dict[bytes, asyncio.Event] = {}
        self._trying: dict[bytes, asyncio.Lock] = {}
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._room = asyncio.Event()
        self._carried_out = 0  # sequence of the last request: it may be heard of again

    async def run(self, requests: "asyncio.Queue[list[bytes]]") -> None:
        """Try letters again, and do what the command line asks, until cancelled."""
        self.changed()
        carrying_out = asyncio.create_task(self._carry_out(requests))
        carrying_out.add_done_callback(self._ended)
        try:
            await self._failed
        finally:
            await cancel([carrying_out, *self._lines.values()])

    def changed(self) -> None:
        """Letters have come: each key with letters has a task that works them off."""
        for key in self._tenure.held:
            if key not in self._lines:
                self._woken[key], self._trying[key] = asyncio.Event(), asyncio.Lock()
                self._lines[key] = line = asyncio.create_task(self._line(key))
                line.add_done_callback(self._ended)

    async def room(self) -> None:
        """Wait while there are too many."""
        said = False
        while (waiting := sum(map(len, self._tenure.held.values()))) >= MOST:
            if not said:
                self._core.alarm(
                    f"reaction {self._group.name} pauses on partition {self._group.partition} of "
                    f"stream {self._group.stream}: {waiting} facts are held back; mend what "
                    f"fails, then `factfold dead-letters list {self._group.name}`"
                )
                said = True
            self._room.clear()
            await self._room.wait()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) and not self._failed.done():
            self._failed.set_exception(error)

    async def _line(self, key: bytes) -> None:
        """Try the first letter of a key until it is gone, then the next one."""
        held, woken, trying = self._tenure.held, self._woken[key], self._trying[key]
        while key in held:
            woken.clear()
            async with trying:  # requests change letters, and the list
                if key not in held:
                    break
                n = held[key][0]
                # Not kept meanwhile: each may carry a fact of 1 MiB.
                pause = _pause(await self._load(n))
            try:
                async with asyncio.timeout(pause):
                    await woken.wait()
                continue
            except TimeoutError:
                pass
            async with trying:
                if n in held.get(key, ()):
                    await self._try(key, n)
        del self._lines[key], self._woken[key], self._trying[key]

    async def _load(self, n: int) -> DeadLetter:
        letter = await self._tenure.letter(n)
        if letter is None:
            raise LinkLost(f"the dead letter {n} is gone")
        return letter

    async def _try(self, key: bytes, n: int) -> None:
        letter, tenure, group = await self._load(n), self._tenure, self._group
        entry = letter.entry_id, list(letter.fields)
        fact = Fact(group.stream, group.partition, group.epoch, entry)
        settled = letter.HasField("outcome")
        if settled:
            units = units_of(n, letter.outcome)
        else:
            outcome, units = await self._answers.one(fact, again=bool(letter.attempts))
            if outcome.failure:
                await self._put_off(n, key, letter, outcome.failure, hopeless=outcome.hopeless)
                return
            if cancelled():  # and the handler has kept it to itself
                raise asyncio.CancelledError
            applied = {(place.stream, place.partition) for place in letter.applied}
            units = [unit for unit in units if unit.place not in applied]
            letter.outcome.CopyFrom(outcome_of(units))
            letter.round += 1
        with ending(units):
            if units and not settled:
                await tenure.change(n, key, letter)
            source = letter.entry_id.decode(), letter.round
            refused = await tenure.append(units, letter=source)
        if refused:
            _remember_applied(letter, letter.outcome, refused)
            letter.ClearField("outcome")
            await self._put_off(n, key, letter, refused[0].reason)
            return
        await tenure.change(n, key, None)
        self._room.set()
        logger.info("reaction %s has answered the fact at %s", group.name, fact.position)

    async def _put_off(
        self, n: int, key: bytes, letter: DeadLetter, error: str, *, hopeless: bool = False
    ) -> None:
        given_up = hopeless or letter.attempts + 1 >= self._core.settings.reaction_attempts
        _fail(letter, error, dead=given_up)
        await self._tenure.change(n, key, letter)
        if given_up:
            self.given_up(n, letter)

    def given_up(self, n: int, letter: DeadLetter) -> None:
        """Say that a letter waits for a person from now on."""
        group = self._group
        self._core.count("factfold.reaction.given_up", reaction=self._answers.reaction)
        logger.error(
            "reaction %s gives up on fact %d of %s/%d (tries: %d): %s; mend the cause, then "
            "`factfold dead-letters redrive %s %s/%d:%d`",
            group.name, n, group.stream, group.partition, letter.attempts, letter.error,
            group.name, group.stream, group.partition, n,
        )  # fmt: skip

    # What the command line asks for.

    async def _carry_out(self, requests: "asyncio.Queue[list[bytes]]") -> None:
        while True:
            asked = await requests.get()
            pairs = zip(map(int, asked[::2]), asked[1::2], strict=True)
            for sequence, request in sorted(pairs):
                if sequence > self._carried_out:
                    await self._carry_out_one(sequence, request)
                    self._carried_out = sequence

    async def _carry_out_one(self, sequence: int, request: bytes) -> None:
        what, _, number = request.partition(b":")
        n = int(number) if number.isdigit() else 0
        key = next((key for key, ns in self._tenure.held.items() if n in ns), None)
        if key is None or what not in (b"redrive", b"discard"):
            await self._tenure.forget(sequence)
            return
        self.changed()  # the letter may have come this moment
        async with self._trying[key]:
            letter = await self._load(n) if n in self._tenure.held.get(key, ()) else None
            if letter is None or (what == b"discard" and letter.HasField("outcome")):
                # It is gone, or its answer is settled, and may be in the log in part.
                await self._tenure.forget(sequence)
                return
            if what == b"discard":
                await self._tenure.change(n, key, None, [sequence])
                self._room.set()
                fact = f"{self._group.stream}/{self._group.partition}:{n}"
                logger.warning("reaction %s: fact %s is discarded", self._group.name, fact)
            else:
                letter.attempts = 0
                letter.state = DeadLetter.RETRYING
                await self._tenure.change(n, key, letter, [sequence])
        if woken := self._woken.get(key):
            woken.set()
