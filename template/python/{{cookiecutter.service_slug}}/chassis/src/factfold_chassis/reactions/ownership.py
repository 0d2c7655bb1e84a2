"""Who owns a partition of a reaction: the owner beats, the others stand by.

No clock is shared: an owner is gone once its beat has not changed for the lease, as measured by
who looks (docs/protocol.md, Reactions).
"""

import asyncio
import logging
from collections.abc import Sequence

from factfold_chassis.log.link import Link, Redis, persist
from factfold_chassis.log.scripts import BEAT

logger = logging.getLogger(__name__)

INTERVAL = 1.0  # seconds between two beats, and between two looks at them
LEASE = 5.0  # seconds of silence after which another instance takes over

Seen = tuple[bytes, bytes]  # token and beat
ANYBODY: Seen = (b"", b"")


class Ownership:
    """One partition as this instance sees it. `token` is ours; empty: somebody else owns it."""

    def __init__(self, group_key: str):
        self.token = b""
        self._key = group_key
        self._seen: Seen | None = None
        self._since = 0.0
        self._vacant = asyncio.Event()

    async def vacancy(self) -> Seen:
        """Wait until the owner has been silent for the lease; returns what it was seen with."""
        self.token, self._seen = b"", None
        self._vacant.clear()
        await self._vacant.wait()
        assert self._seen is not None
        return self._seen

    async def tend(self, link: Link) -> None:
        """Beat, or look whether the owner does."""
        if self.token:
            # Who is fenced hears it from the next settle or commit.
            await BEAT(link, [self._key], self.token)
            return
        token, beat = await link.call("HMGET", self._key, "token", "beat")
        now = asyncio.get_running_loop().time()
        if self._seen != (token, beat):
            self._seen, self._since = (token, beat), now
        elif token and now - self._since >= LEASE:
            self._vacant.set()


async def tend(redis: Redis, ownerships: Sequence[Ownership]) -> None:
    """Tend to all of them until cancelled."""

    async def session() -> None:
        async with redis.link() as link:
            while True:
                for ownership in ownerships:
                    await ownership.tend(link)
                await asyncio.sleep(INTERVAL)

    await persist(session, lambda reason, attempt: logger.debug("tending: %s", reason))
