"""Runs a reaction's handler: what it answers to facts, or why it could not."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from factfold.v1.fact_pb2 import FactMeta, Outcome
from factfold_chassis.contract import EventSpec
from factfold_chassis.errors import WiringError
from factfold_chassis.facts import Fact
from factfold_chassis.reactions.declare import Reacting, Reaction
from factfold_chassis.reactions.outbox import Unit, decide, outcome_of
from factfold_chassis.tasks import cancelled, side_by_side
from factfold_chassis.telemetry import Replay

if TYPE_CHECKING:
    from factfold_chassis.core import Core

logger = logging.getLogger(__name__)

MAX_ERROR = 500  # characters of an error that are kept


class Answers:
    """Answers facts of one stream with a reaction's handler.

    A handler that fails is an outcome as well: the fact becomes a dead letter.
    """

    def __init__(self, core: "Core", reaction: Reaction, events: Mapping[str, EventSpec]):
        self.reaction = reaction.name
        self.group = f"{core.name}.{reaction.name}"
        self._core = core
        self._reaction = reaction
        self._events = events

    async def batch(
        self, facts: Sequence[Fact], blocked: set[bytes], *, replay: bool
    ) -> tuple[dict[int, Outcome], list[Unit]]:
        """Outcomes by n, of facts that concern the reaction: keys side by side, each in order.

        And what they append, in no order.

        Args:
            blocked: keys whose facts are held back.
            replay: the facts are of the past; their spans then join one new trace.
        """
        outcomes: dict[int, Outcome] = {}
        units: list[Unit] = []
        lines: dict[bytes, list[Fact]] = {}
        for fact in facts:
            if self._concerned(fact):
                lines.setdefault(fact.raw_key, []).append(fact)

        async def answer(key: bytes, line: list[Fact], replay: Replay | None) -> None:
            held = key in blocked
            for at, fact in enumerate(line):
                if at and cancelled():  # and the handler has kept it to itself
                    raise asyncio.CancelledError
                outcome, its = (Outcome(held=True), []) if held else await self.one(fact, replay)
                outcomes[fact.n] = outcome
                units.extend(its)
                held = held or bool(outcome.failure)

        if lines and replay:
            stream, partition = facts[0].stream, facts[0].partition
            metas = (meta for line in lines.values() for fact in line if (meta := _meta(fact)))
            with self._core.telemetry.replay(stream, partition, self.group, metas) as root:
                await side_by_side(answer(key, line, root) for key, line in lines.items())
        else:
            await side_by_side(answer(key, line, None) for key, line in lines.items())
        return outcomes, units

    def _concerned(self, fact: Fact) -> bool:
        """Entries without a type may be anything."""
        try:
            return fact.type in self._events
        except ValueError:
            return True

    async def one(
        self, fact: Fact, replay: Replay | None = None, *, again: bool = False
    ) -> tuple[Outcome, list[Unit]]:
        """What the handler answers to one fact, and what that appends.

        Args:
            again: it has failed before; its stack was logged then.

        Raises:
            WiringError: the code is wrong for every fact.
        """
        core = self._core
        try:
            if (spec := self._events.get(fact.type)) is None:
                raise ValueError(f"this reaction does not answer {fact.type}")
            event = fact.read(spec.message)
        except ValueError as error:
            reason = f"the entry cannot be read: {error}"
            return self._failed(fact, reason, hopeless=True, stack=False), []
        # A view may have begun anew, and what is decided now is never decided again.
        await core.views_ready.wait()
        try:
            with core.telemetry.process(
                fact.stream, fact.partition, self.group, fact.meta, fact.key, replay
            ):
                outputs = await self._reaction.function(event, Reacting(core, fact))
                units = decide(
                    outputs, fact, core.contract, core.source, core.telemetry,
                    core.settings.max_fact_bytes,
                )  # fmt: skip
        except WiringError:
            raise  # a person has to change the code: facts can wait where they are
        except (Exception, asyncio.CancelledError) as error:
            if cancelled():
                raise
            reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            return self._failed(fact, reason, stack=not again), []
        return outcome_of(units), units

    def _failed(self, fact: Fact, reason: str, *, hopeless: bool = False, stack: bool) -> Outcome:
        self._core.count("factfold.reaction.errors", reaction=self._reaction.name)
        logger.warning(
            "reaction %s cannot answer the fact at %s: %s; later facts of its key wait behind it",
            self._reaction.name, fact.position, reason, exc_info=stack,
        )  # fmt: skip
        # What a handler says need not be text that can be stored.
        text = reason[:MAX_ERROR].encode(errors="replace").decode()
        return Outcome(failure=text, hopeless=hopeless)


def _meta(fact: Fact) -> FactMeta | None:
    try:
        return fact.meta
    except (ValueError, DecodeError):
        return None
