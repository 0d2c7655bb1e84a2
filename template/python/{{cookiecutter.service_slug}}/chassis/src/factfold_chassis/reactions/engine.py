"""Runs a reaction: settle, append, commit (docs/protocol.md, Reactions)."""

import asyncio
import logging
import secrets
from collections.abc import Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

from factfold.v1.fact_pb2 import FactMeta, Outcome, Unit
from google.protobuf.message import DecodeError
from redis.exceptions import ResponseError

from factfold_chassis.errors import WiringError
from factfold_chassis.facts import Fact, Position, split_id
from factfold_chassis.log.lane import MAX_BATCH_BYTES, MAX_BATCH_FACTS
from factfold_chassis.log.link import REPLY_TIMEOUT, Backoff, Link, LinkLost
from factfold_chassis.log.read import Anchor, Batch, LogChanged, Reader
from factfold_chassis.log.scripts import APPEND, BEAT, CLAIM, COMMIT, SETTLE
from factfold_chassis.log.streams import Head, Keys, wait_for_stream
from factfold_chassis.reactions.declare import Reacting, Reaction
from factfold_chassis.reactions.outbox import append_command, decide
from factfold_chassis.reactions.ownership import ANYBODY, Ownership, Seen, tend
from factfold_chassis.tasks import cancelled, together
from factfold_chassis.telemetry import Replay, Send

if TYPE_CHECKING:
    from factfold_chassis.core import Core

logger = logging.getLogger(__name__)

BATCH = 100  # facts between two commits
LONGEST_PAUSE = 30.0  # seconds between two tries of a handler that fails

# The open span of each append, by the n of its cause, the stream and the partition.
_Sends = dict[tuple[int, str, int], Send]


class Fenced(Exception):
    """Another instance owns the partition now; `str(error)` names it."""


class ReactionEngine:
    """One reaction of this instance: one worker for each partition of its stream."""

    def __init__(self, core: "Core", reaction: Reaction):
        self.reaction = reaction
        self.group = f"{core.name}.{reaction.name}"
        self.events = {event.name: event for event in map(core.contract.event_of, reaction.events)}
        streams = {event.stream.name: event.stream for event in self.events.values()}
        if len(streams) != 1:
            raise WiringError(
                f"reaction {reaction.name} answers events of the streams "
                f"{' and '.join(streams)}: write one reaction for each stream"
            )
        self.stream = next(iter(streams.values()))
        self.core = core
        self.status = f"reaction {reaction.name} waits for stream {self.stream.name}"
        self.stopping = False
        self._workers: list[_Worker] = []

    async def run(self) -> None:
        """Work until cancelled."""
        heads = await wait_for_stream(self.core.redis, self.stream.name)
        self._workers = [
            _Worker(self, partition, head) for partition, head in enumerate(heads)
        ]  # fmt: skip
        self.status = ""
        self.core.changed()
        # A reaction may read them, and what it decides is never decided again.
        await self.core.views_ready.wait()
        await together(
            tend(self.core.redis, [worker.ownership for worker in self._workers]),
            *(worker.run() for worker in self._workers),
        )

    def lag(self) -> list[tuple[str, int, int]]:
        """(stream, partition, facts behind the tail)."""
        return [(self.stream.name, w.partition, max(0, w.tail - w.n)) for w in self._workers]

    def stop(self, reason: str) -> None:
        """The reaction cannot go on: the service says so."""
        self.status = f"reaction {self.reaction.name} has stopped: {reason}"
        logger.error("%s", self.status)
        self.core.changed()


class _Worker:
    """One partition of a reaction."""

    def __init__(self, engine: ReactionEngine, partition: int, head: Head):
        self.partition = partition
        self.n = 0
        self.tail = self._live_from = head.n
        self._engine = engine
        self._core = engine.core
        self._epoch = head.epoch
        keys = Keys(engine.stream.name, partition)
        self._keys = [keys[f"group:{engine.group}"], keys[f"outbox:{engine.group}"]]
        # Redis' own group mirrors the position; in a foreign stream we may not write it.
        self._own_log = [keys["log"]] if engine.stream.own else []
        self._producer = f"{engine.group}/{engine.stream.name}/{partition}/{head.epoch}"
        self.ownership = Ownership(self._keys[0])
        self._settled = 0
        self._sent: dict[tuple[str, int], int] = {}

    async def run(self) -> None:
        backoff = Backoff(self._say_loss)
        seen = ANYBODY  # who starts last is the owner
        while True:
            try:
                await self._own(seen, backoff)
            except (LinkLost, ResponseError) as error:
                seen = ANYBODY
                await backoff.pause(error)
            except Fenced as error:
                logger.warning(
                    "%s, partition %d: %s took over; standing by",
                    self._engine.group, self.partition, error,
                )  # fmt: skip
                seen = await self.ownership.vacancy()
            except WiringError as error:
                self._stop(str(error))
                return
            except LogChanged as change:
                self._stop(
                    f"stream {self._engine.stream.name}, partition {self.partition}: {change}"
                )
                return

    def _stop(self, reason: str) -> None:
        self.ownership.token = b""  # another instance may be able to go on
        self._engine.stop(reason)

    async def _own(self, seen: Seen, backoff: Backoff) -> None:
        """Claim the partition from who was seen to own it, and work until something breaks."""
        engine = self._engine
        async with self._core.redis.link() as link:
            for script in (CLAIM, SETTLE, APPEND, COMMIT, BEAT):
                await script.load(link)
            nonce = secrets.token_hex(8)
            status, *reply = await CLAIM(
                link, self._keys + self._own_log, engine.group, self._core.instance, nonce, *seen
            )
            if status == b"HELD":
                raise Fenced(reply[0].decode())
            self.ownership.token, position, settled, fact_id = reply
            self._settled = int(settled)
            self._sent.clear()
            ms, self.n = split_id(position)
            anchor = Anchor(ms, self.n, bytes.fromhex(fact_id.decode()))
            reader = Reader(
                self._core.redis, engine.stream.name, self.partition, self._epoch,
                anchor=anchor, count=BATCH, on_loss=self._say_loss,
            )  # fmt: skip
            async with aclosing(reader.batches()) as batches:
                async for batch in batches:
                    self.tail = batch.tail
                    await self._undisturbed(link, batch, anchor)
                    anchor, self.n = batch.anchor, batch.anchor.n
                    backoff.reset()

    async def _undisturbed(self, link: Link, batch: Batch, before: Anchor) -> None:
        """A drain lets the batch under way end before this instance stops."""
        work = asyncio.create_task(self._work(link, batch, before))
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            try:
                await asyncio.wait_for(work, REPLY_TIMEOUT)
            except Exception as error:
                logger.warning("%s: batch not committed: %s", self._engine.group, error)
            raise

    async def _work(self, link: Link, batch: Batch, before: Anchor) -> None:
        facts = [
            Fact(self._engine.stream.name, self.partition, self._epoch, entry)
            for entry in batch.entries
        ]
        fresh = [fact for fact in facts if fact.n > self._settled]
        outcomes, sends = await self._answer_all(fresh)
        try:
            settled = await self._settle(link, facts, outcomes)
            await self._append(link, settled, sends)
        except BaseException as error:
            for send in sends.values():
                send.end(error)
            raise
        reply = await link.call(
            *COMMIT.command(
                self._keys + self._own_log,
                self.ownership.token, before.entry_id, batch.anchor.entry_id,
                batch.anchor.fact_id.hex(), self._engine.group, *settled,
            )
        )  # fmt: skip
        if reply[0] == b"FENCED":
            raise self._fenced(reply[1].decode())
        if reply[0] == b"MOVED":
            raise LinkLost(f"the position is {reply[1].decode()}, not {before.entry_id}")

    # Run the handlers: keys side by side, facts of one key one after the other.

    async def _answer_all(self, facts: list[Fact]) -> tuple[dict[int, Outcome], _Sends]:
        by_key: dict[str, list[Fact]] = {}
        metas: list[FactMeta] = []
        for fact in facts:
            try:
                if fact.type in self._engine.events:
                    metas.append(fact.meta)
                    by_key.setdefault(fact.key, []).append(fact)
            except (ValueError, DecodeError) as error:
                self._poison(fact, error)
        outcomes: dict[int, Outcome] = {}
        sends: _Sends = {}

        async def answer(facts: list[Fact], replay: Replay | None) -> None:
            for fact in facts:
                outcome, opened = await self._answer(fact, replay)
                outcomes[fact.n] = outcome
                for unit, send in zip(outcome.units, opened, strict=True):
                    sends[fact.n, unit.stream, unit.partition] = send

        if by_key and facts[0].n <= self._live_from:
            with self._core.telemetry.replay(
                self._engine.stream.name, self.partition, self._engine.group, metas
            ) as replay:
                await together(*(answer(same, replay) for same in by_key.values()))
        else:
            await together(*(answer(same, None) for same in by_key.values()))
        return outcomes, sends

    async def _answer(self, fact: Fact, replay: Replay | None) -> tuple[Outcome, list[Send]]:
        engine, core = self._engine, self._core
        try:
            event = engine.events[fact.type].message.FromString(fact.data)
        except DecodeError as error:
            self._poison(fact, error)
            return Outcome(), []
        pause = 0.1
        while True:
            try:
                with core.telemetry.process(
                    fact.stream, fact.partition, engine.group, fact.meta, fact.key, replay
                ):
                    outputs = await engine.reaction(event, Reacting(core, fact))
                    return decide(
                        outputs, fact, core.contract, core.source, core.telemetry,
                        core.settings.max_fact_bytes,
                    )  # fmt: skip
            except WiringError:
                raise  # trying again cannot help
            except (Exception, asyncio.CancelledError):
                if cancelled():
                    raise
                core.count("factfold.reaction.errors", reaction=engine.reaction.name)
                logger.exception(
                    "reaction %s failed on the fact at %s; trying again in %.1f s, "
                    "the partition waits",
                    engine.reaction.name, fact.position, pause,
                )  # fmt: skip
            if engine.stopping:
                raise LinkLost("the service is shutting down")
            await asyncio.sleep(pause)
            pause = min(LONGEST_PAUSE, 2 * pause)

    def _poison(self, fact: Fact, error: Exception) -> None:
        self._core.count("factfold.reaction.errors", reaction=self._engine.reaction.name)
        logger.error(
            "reaction %s passes over the fact at %s: it does not parse: %s",
            self._engine.reaction.name, fact.position, error,
        )  # fmt: skip

    # What is settled is appended, whoever decided it.

    async def _settle(
        self, link: Link, facts: list[Fact], outcomes: dict[int, Outcome]
    ) -> dict[int, Outcome]:
        """The outcomes that are to be appended, by n; first writer wins."""
        first, last = facts[0].n, facts[-1].n
        if not outcomes and first > self._settled:
            return {}  # no handler ran: there is nothing that a rerun could answer otherwise
        pairs: list[int | bytes] = []
        for n in sorted(outcomes):
            if outcomes[n].units:
                pairs += (n, outcomes[n].SerializeToString())
        reply = await link.call(
            *SETTLE.command(self._keys, self.ownership.token, self._settled + 1, last, *pairs)
        )
        if reply[0] == b"FENCED":
            raise self._fenced(reply[1].decode())
        if reply[0] == b"GAP":
            raise LinkLost(f"settled up to {reply[1].decode()}, not {self._settled}")
        self._settled = max(self._settled, last)
        stored = {
            int(n): Outcome.FromString(outcome)
            for n, outcome in zip(reply[1::2], reply[2::2], strict=True)
        }
        return {n: stored[n] for n in sorted(stored) if n <= last}

    def _fenced(self, owner: str) -> Exception:
        if owner == self._core.instance:
            return LinkLost("an earlier claim of this instance came late")
        return Fenced(owner)

    async def _append(self, link: Link, settled: dict[int, Outcome], sends: _Sends) -> None:
        lanes: dict[tuple[str, int], list[tuple[int, Unit]]] = {}
        for n, outcome in settled.items():
            for unit in outcome.units:
                lanes.setdefault((unit.stream, unit.partition), []).append((n, unit))
        calls = [(place, part) for place, units in lanes.items() for part in _parts(units)]
        for place, units in calls:
            epoch = self._core.epochs[place[0]][place[1]]
            await link.send(
                append_command(*place, epoch, self._producer, self._sent.get(place, 0), units)
            )
            self._sent[place] = units[-1][0]
        for place, units in calls:
            reply = await link.receive_soon()
            self._check(place, units, reply)
            self._placed(place, units, reply, sends)

    def _check(
        self, place: tuple[str, int], units: Sequence[tuple[int, Unit]], reply: list[bytes]
    ) -> None:
        """Raises LinkLost to have another try, LogChanged if that cannot help."""
        status = reply[0]
        if status == b"EPOCH":
            raise LogChanged(f"the output stream {place[0]} was replaced")
        if status == b"GAP":
            self._core.alarm(
                f"outputs of {self._engine.group} to {place[0]}/{place[1]} up to fact "
                f"{self._sent[place]} were appended and are gone: the log was rolled back; "
                "compare it with a replica or a backup"
            )
        if status != b"OK":
            raise LinkLost(f"{place[0]}/{place[1]} answered {b' '.join(reply[:2]).decode()}")
        for pair in filter(None, reply[4].decode().split(",")):
            index, _, actual = pair.partition(":")
            n, unit = units[int(index)]
            self._core.count("factfold.reaction.errors", reaction=self._engine.reaction.name)
            logger.error(
                "reaction %s: what it appends for fact %d of %s/%d is refused: "
                "%r is at version %s",
                self._engine.reaction.name, n, self._engine.stream.name, self.partition,
                unit.facts[0].key, actual,
            )  # fmt: skip
        if reply[5]:
            raise LinkLost(reply[5].decode(errors="replace"))

    def _placed(
        self,
        place: tuple[str, int],
        units: Sequence[tuple[int, Unit]],
        reply: list[bytes],
        sends: _Sends,
    ) -> None:
        """End the spans of what was appended now."""
        epoch = self._core.epochs[place[0]][place[1]]
        refused = {int(pair.split(":")[0]) for pair in reply[4].decode().split(",") if pair}
        ms, n = int(reply[1]), int(reply[2]) - 1
        for index, (cause, unit) in enumerate(units):
            if index < int(reply[6]) or index in refused:
                continue
            n += len(unit.facts)
            send = sends.pop((cause, *place), None)
            if send is not None:
                send.placed(place[1], str(Position(*place, epoch, ms, n)))
                send.end()

    def _say_loss(self, reason: str, attempt: int) -> None:
        if attempt == 1:
            logger.warning("%s/%d: %s", self._engine.group, self.partition, reason)


def _parts(units: list[tuple[int, Unit]]) -> list[list[tuple[int, Unit]]]:
    """Calls of the append script, within its limits or of one unit."""
    parts: list[list[tuple[int, Unit]]] = []
    facts = size = 0
    for n, unit in units:
        facts += len(unit.facts)
        size += unit.ByteSize()
        if not parts or facts > MAX_BATCH_FACTS or size > MAX_BATCH_BYTES:
            parts.append([])
            facts, size = len(unit.facts), unit.ByteSize()
        parts[-1].append((n, unit))
    return parts
