"""Runs a reaction: one worker for each partition of its stream (docs/protocol.md, Reactions)."""

import asyncio
import logging
from typing import TYPE_CHECKING

from factfold_chassis.errors import WiringError
from factfold_chassis.log.read import Lag, LogChanged
from factfold_chassis.log.streams import wait_for_stream
from factfold_chassis.reactions.answers import Answers
from factfold_chassis.reactions.declare import Reaction
from factfold_chassis.reactions.ownership import Membership
from factfold_chassis.reactions.tenure import Group
from factfold_chassis.reactions.worker import Worker
from factfold_chassis.tasks import cancel, together

if TYPE_CHECKING:
    from factfold_chassis.core import Core

logger = logging.getLogger(__name__)


class ReactionEngine:
    """One reaction of this instance."""

    def __init__(self, core: "Core", reaction: Reaction):
        self.reaction = reaction
        events = {event.name: event for event in map(core.contract.event_of, reaction.events)}
        streams = {event.stream.name: event.stream for event in events.values()}
        if len(streams) != 1:
            raise WiringError(
                f"reaction {reaction.name} answers events of the streams "
                f"{' and '.join(streams)}: write one reaction for each stream"
            )
        self.stream = next(iter(streams.values()))
        self.status = f"reaction {reaction.name} waits for stream {self.stream.name}"
        self._core = core
        self._answers = Answers(core, reaction, events)
        self._workers: list[Worker] = []

    async def run(self) -> None:
        """Work until cancelled, or until going on cannot help."""
        core, stream = self._core, self.stream.name
        heads = await wait_for_stream(core.redis if self.stream.own else core.foreign, stream)
        group = self._answers.group
        self._workers = [
            Worker(
                core, self._answers, Group(group, stream, partition, head.epoch, self.stream.own),
                head,
            )
            for partition, head in enumerate(heads)
        ]  # fmt: skip
        self.status = ""
        core.changed()
        # A reaction may read them, and what it decides is never decided again.
        await core.views_ready.wait()
        membership = Membership(
            core.redis, core.instance, f"{{{stream}}}:members:{group}",
            [worker.ownership for worker in self._workers], core.settings.lease,
        )  # fmt: skip
        tending = asyncio.create_task(membership.tend())
        working = asyncio.create_task(together(*(worker.run() for worker in self._workers)))
        try:
            done, _ = await asyncio.wait((tending, working), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except (WiringError, LogChanged) as error:
            self.status = (
                f"reaction {self.reaction.name} has stopped: {error}; "
                "it goes on once that is mended and the service restarted"
            )
            logger.error("%s", self.status)
            core.changed()
        finally:
            # The batches under way may end before anybody takes their owner for gone.
            try:
                await cancel([working])
            finally:
                await cancel([tending])
                await membership.leave()

    def lag(self) -> list[Lag]:
        """Of the partitions that this instance owns."""
        return [worker.lag for worker in self._workers if worker.ownership.token]

    @property
    def committed(self) -> int:
        """Facts whose answers are committed, as far as this instance has seen."""
        return sum(worker.n for worker in self._workers)
