"""Where a view is, written into the log for who looks or trims (docs/wire-format.md, Cursors)."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from redis.exceptions import ResponseError

from factfold_chassis.log.link import Argument, Link, LinkLost
from factfold_chassis.log.read import Anchor
from factfold_chassis.log.redis import Links, Redis
from factfold_chassis.log.streams import Keys
from factfold_chassis.views.snapshot import Positions

logger = logging.getLogger(__name__)

PAUSE = 2.0  # seconds between two looks at what has changed
REFRESH = 30.0  # seconds after which a cursor is written again, changed or not

PlaceKey = tuple[str, int]  # stream, partition


class Cursors:
    """The cursors of one view of one instance.

    Args:
        service, view: who reads.
        instance: whose cursors they are.
        lasting: it comes back under the same name.
        again: the id from which a partition would be read again at the worst, by its place, its
            epoch, and where the view is now.
    """

    def __init__(
        self,
        redis: Redis,
        service: str,
        view: str,
        instance: str,
        *,
        lasting: bool,
        again: Callable[[PlaceKey, str, Anchor], str],
    ):
        self._redis = redis
        self._reader = f"{service}.{view}"
        self._view = view
        self._instance = instance
        self._lasting = lasting
        self._again = again
        self._written: dict[PlaceKey, tuple[str, str, float]] = {}  # again, present, when
        self._left = False
        self._lost = False  # and said to be

    async def follow(self, present: Callable[[], Positions]) -> None:
        """Write each that has changed, and each now and then, until cancelled."""
        while True:
            await asyncio.sleep(PAUSE)
            try:
                async with self._redis.links() as links:
                    while True:
                        await self._send(links, self._marks(self._due(present())))
                        await asyncio.sleep(PAUSE)
            except (LinkLost, ResponseError) as error:
                self._say(error)

    async def mark(self, positions: Positions) -> None:
        """Write those of `positions`, now."""
        await self._tell(self._marks(positions))

    async def leave(self, positions: Positions) -> None:
        """The cursors of an instance that comes back stay, those of another one are removed."""
        if self._lasting:
            await self.mark(positions)
        else:
            self._left = True
            await self._tell([("HDEL", self._key(each), self._instance) for each in positions])

    def _due(self, positions: Positions) -> Positions:
        """Those that the log does not have as they are, or has had for long."""
        due: Positions = {}
        for place, (epoch, anchor) in positions.items():
            again, present, since = self._written.get(place, ("", "", 0.0))
            same = (again, present) == (self._again(place, epoch, anchor), anchor.entry_id)
            if not same or time.monotonic() - since >= REFRESH:
                due[place] = epoch, anchor
        return due

    def _marks(self, positions: Positions) -> list[tuple[Argument, ...]]:
        if self._left:
            return []
        now = time.time_ns() // 1_000_000
        marks: list[tuple[Argument, ...]] = []
        for place, (epoch, anchor) in positions.items():
            again, present = self._again(place, epoch, anchor), anchor.entry_id
            self._written[place] = again, present, time.monotonic()
            value = f"{again} {now} {present}"
            marks.append(("HSET", self._key(place), "_", "1", self._instance, value))
        return marks

    async def _tell(self, commands: Sequence[tuple[Argument, ...]]) -> None:
        if not commands:
            return
        try:
            async with self._redis.links() as links:
                await self._send(links, commands)
        except (LinkLost, ResponseError) as error:
            self._say(error)

    async def _send(self, links: Links, commands: Sequence[tuple[Argument, ...]]) -> None:
        by_link: dict[Link, list[tuple[Argument, ...]]] = {}
        for command in commands:
            by_link.setdefault(await links.to(str(command[1])), []).append(command)
        for link, its in by_link.items():
            await link.send(*its)
        for link, its in by_link.items():
            for _ in its:
                await link.receive_soon()
            self._lost = False

    def _say(self, error: Exception) -> None:
        self._written.clear()
        if not self._lost:
            logger.warning("the cursors of view %s were not written: %s", self._view, error)
        self._lost = True

    def _key(self, place: PlaceKey) -> str:
        return Keys(*place)[f"cursors:{self._reader}"]
