"""Who works on which partition of a reaction (docs/protocol.md, Ownership).

No clock is shared and nothing expires on the server: whose beat has not changed for the lease, as
measured by who looks, is gone.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from hashlib import sha256
from typing import Any

from redis.exceptions import ResponseError

from factfold_chassis.log.link import LinkLost, persist
from factfold_chassis.log.redis import Links, Redis
from factfold_chassis.log.scripts import BEAT, MEMBER

logger = logging.getLogger(__name__)

BEATS = 10  # in each lease
FORGOTTEN = 10  # leases of silence after which a member's field is removed

Seen = tuple[bytes, bytes]  # token and beat
OURS: Seen = (b"", b"")  # a claim to what nobody else owns


def chosen(members: Iterable[str], partition: int) -> str:
    """Who of `members` is to own `partition`: rendezvous hashing.

    The one with the greatest first 8 bytes of SHA-256(member, 0x00, partition as text).
    """
    return max(
        members,
        key=lambda member: (sha256(f"{member}\0{partition}".encode()).digest()[:8], member),
    )


class Silence:
    """How long something has not changed, on this instance's own clock."""

    def __init__(self) -> None:
        self._seen: dict[Any, tuple[Any, float]] = {}

    def of(self, what: Any, value: Any) -> float:
        """Seconds since `value` was first seen, without a change since."""
        now = asyncio.get_running_loop().time()
        seen, since = self._seen.get(what, (None, now))
        if seen != value or what not in self._seen:
            self._seen[what] = (value, now)
            return 0.0
        return now - since


class Ownership:
    """One partition as this instance sees it. `token` is ours; empty: somebody else owns it."""

    def __init__(self, partition: int, group_key: str, redrive_key: str):
        self.partition = partition
        self.token = b""
        # Of sequence, request, …: each beat tells all that are open, so one reply is enough.
        self.requests: asyncio.Queue[list[bytes]] = asyncio.Queue(1)
        self.unwanted = asyncio.Event()  # another live member is to have it
        self.keys = [group_key, redrive_key]
        self._vacant: asyncio.Future[Seen] | None = None

    def begin(self, token: bytes) -> None:
        """This instance owns the partition now."""
        self.token = token
        self.unwanted.clear()
        self.requests = asyncio.Queue(1)

    async def vacancy(self) -> Seen:
        """Wait until this instance is to own the partition and nobody alive does."""
        self.token = b""
        self._vacant = asyncio.get_running_loop().create_future()
        try:
            return await self._vacant
        finally:
            self._vacant = None

    def offer(self, seen: Seen) -> None:
        if self._vacant is not None and not self._vacant.done():
            self._vacant.set_result(seen)


class Membership:
    """This instance among those that share a reaction's partitions.

    Args:
        members_key: `{S}:members:G`.
        lease: seconds of silence after which a member or an owner counts as gone.
    """

    def __init__(
        self,
        redis: Redis,
        instance: str,
        members_key: str,
        ownerships: Sequence[Ownership],
        lease: float,
    ):
        self._redis = redis
        self._instance = instance
        self._key = members_key
        self._ownerships = ownerships
        self._lease = lease
        self._silence = Silence()
        self._members: list[str] = []  # alive, when they were last seen

    async def tend(self) -> None:
        """Beat and look, until cancelled."""

        async def session() -> None:
            async with self._redis.links() as links:
                while True:
                    await self._round(links)
                    await asyncio.sleep(self._lease / BEATS)

        await persist(session, lambda reason, attempt: logger.debug("tending: %s", reason))

    async def _round(self, links: Links) -> None:
        """One beat of everything; partitions whose server is away do not keep others from theirs.

        Raises LinkLost or ResponseError if a server was away.
        """
        away: Exception | None = None
        try:
            self._members = await self._look(links)
        except (LinkLost, ResponseError) as error:
            away = error
        for ownership in self._ownerships:
            members = self._members or [self._instance]
            wanted = chosen(members, ownership.partition) == self._instance
            try:
                await self._tend(links, ownership, wanted)
            except (LinkLost, ResponseError) as error:
                away = error
        if away is not None:
            raise away

    async def leave(self) -> None:
        """Let the others share what this one had."""
        with suppress(LinkLost, ResponseError, TimeoutError):
            async with asyncio.timeout(1.0), self._redis.link(self._key) as link:
                await link.call("HDEL", self._key, self._instance)

    async def _look(self, links: Links) -> list[str]:
        """Beat; returns the members that are alive, this one among them."""
        link = await links.to(self._key)
        reply = await MEMBER(link, [self._key], self._instance)
        alive = [self._instance]
        for member, beat in zip(reply[::2], reply[1::2], strict=True):
            silent = self._silence.of(member, beat)
            if member.decode() == self._instance:
                continue
            if silent < self._lease:
                alive.append(member.decode())
            elif silent > FORGOTTEN * self._lease:
                await link.call("HDEL", self._key, member)
        return alive

    async def _tend(self, links: Links, ownership: Ownership, wanted: bool) -> None:
        link = await links.to(*ownership.keys)
        if token := ownership.token:
            status, *requests = await BEAT(link, ownership.keys, token)
            if ownership.token != token:
                return  # claimed anew since: the reply is about the claim before
            if status == b"OK" and requests and ownership.requests.empty():
                ownership.requests.put_nowait(requests)
            # Who is fenced must not wait for a fact to hear it: who took over may be gone again.
            if status != b"OK" or not wanted:
                ownership.unwanted.set()
            return
        token, beat, owner = await link.call("HMGET", ownership.keys[0], "token", "beat", "owner")
        if not owner or owner.decode() == self._instance:
            vacant, seen = True, OURS
        else:
            seen = (token, beat)
            vacant = self._silence.of(ownership.partition, seen) >= self._lease
        if wanted and vacant:
            ownership.offer(seen)
