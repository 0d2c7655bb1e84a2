"""Trimming by policy: facts that are old enough leave the service's own streams, as far as their
readers allow (docs/protocol.md, Trimming).
"""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from redis.exceptions import ResponseError

from factfold_chassis.facts import split_id
from factfold_chassis.log.link import Link, LinkLost
from factfold_chassis.log.redis import Redis
from factfold_chassis.log.scripts import TRIM
from factfold_chassis.log.streams import Keys

logger = logging.getLogger(__name__)

AT_ONCE = 1000  # facts that one call removes: a third of a millisecond, and 1 ms if each has 5 KiB


@dataclass(frozen=True, slots=True)
class Policy:
    """What may go. A fact may as soon as one of the two lets it.

    Attributes:
        age: seconds; a fact that is older may go. 0: no age is enough.
        facts: a partition may be left with so many. 0: with all.
    """

    age: float = 0.0
    facts: int = 0

    def __bool__(self) -> bool:
        return bool(self.age or self.facts)

    def __str__(self) -> str:
        given = {"FACTFOLD_KEEP_AGE": self.age, "FACTFOLD_KEEP_FACTS": self.facts}
        return " and ".join(name for name, value in given.items() if value)


class Readers(NamedTuple):
    """The keys of those who read one partition."""

    cursors: set[bytes]
    groups: set[bytes]


NOBODY = Readers(set(), set())


class Holder(NamedTuple):
    """Who needs a fact that may go otherwise: a reader, or the group of a reaction."""

    name: str  # service.view or service.reaction
    instance: str  # of a reader; empty if none has left a cursor, or for a group
    position: str

    @property
    def first(self) -> str:
        """The first fact that it needs, in words."""
        return "the first fact" if self.position == "0-0" else self.position

    @classmethod
    def of(cls, key: bytes, instance: bytes, position: bytes) -> "Holder | None":
        """None if nobody does."""
        name = key.decode().partition("}:")[2].partition(":")[2]
        return cls(name, instance.decode(), position.decode()) if name else None


class Trimmer:
    """Applies the policy to a service's own streams, each time it is asked to.

    Attributes:
        held_back: by stream and partition, facts that may go and that somebody still needs.
    """

    def __init__(self, redis: Redis, policy: Policy, alarm: Callable[[str], None]):
        self.held_back: dict[tuple[str, int], int] = {}
        self._redis = redis
        self._policy = policy
        self._alarm = alarm
        self._said: set[str] = set()
        # By stream, since all that may go was gone for the last time.
        self._named: dict[str, set[str]] = {}

    async def trim(self, epochs: Mapping[str, Sequence[str]]) -> None:
        """Once: each stream, given the epochs of its partitions. What fails is said in the log."""
        if not self._policy:
            return
        for stream, its in epochs.items():
            try:
                await self._trim_stream(stream, its)
            except LinkLost as error:
                logger.warning("stream %s was not trimmed: %s", stream, error)
            except ResponseError as error:
                if self._first_time(f"{stream} {error}"):
                    logger.warning("stream %s was not trimmed: %s", stream, error)

    async def _trim_stream(self, stream: str, epochs: Sequence[str]) -> None:
        due: list[tuple[Link, _Part]] = []
        readers: dict[Link, dict[int, Readers]] = {}
        holders: dict[Holder, int] = {}
        async with self._redis.links() as links:
            for partition, epoch in enumerate(epochs):
                self.held_back[stream, partition] = 0
                keys = Keys(stream, partition)
                link = await links.to(keys["log"], keys["head"])
                first = await self._first_to_keep(link, keys)
                # Nothing is removed yet, see find_readers.
                if first and await self._call(link, part := _Part(keys, epoch, first), NOBODY, 0):
                    due.append((link, part))
            for link, part in due:
                if link not in readers:
                    readers[link] = await find_readers(link, stream)
                partition = part.keys.partition
                its = readers[link].get(partition, NOBODY)
                if (held := await self._trim_partition(link, part, its)) is not None:
                    holder, self.held_back[stream, partition] = held
                    holders[holder] = self.held_back[stream, partition]
        if holders:
            self._say_held(stream, max(holders, key=holders.__getitem__))
        else:
            self._named.pop(stream, None)

    async def _first_to_keep(self, link: Link, keys: Keys) -> int | None:
        """The n of the first fact that the policy keeps; None if it keeps all there are."""
        found = await link.call("HMGET", keys["head"], "n", "trimmed")
        if None in found:
            return None
        n, trimmed = map(int, found)
        first = n - self._policy.facts + 1 if self._policy.facts else 1
        if self._policy.age:
            seconds, microseconds = map(int, await link.call("TIME"))  # as the ids have it
            now = seconds * 1000 + microseconds // 1000
            since = max(0, now - int(self._policy.age * 1000))
            found = await link.call("XRANGE", keys["log"], since, "+", "COUNT", 1)
            first = max(first, split_id(found[0][0])[1] if found else n + 1)
        return first if first > trimmed + 1 else None

    async def _trim_partition(
        self, link: Link, part: "_Part", readers: Readers
    ) -> tuple[Holder, int] | None:
        """Who still needs facts that may go, and how many are there yet; None: nobody does."""
        while True:
            reply = await self._call(link, part, readers, AT_ONCE)
            if reply is None:
                return None
            trimmed, allowed, *who = reply
            if int(trimmed) >= int(allowed) - 1:
                holder = Holder.of(*who)
                return holder and (holder, part.first - int(allowed))

    async def _call(
        self, link: Link, part: "_Part", readers: Readers, most: int
    ) -> Sequence[bytes] | None:
        """The reply of the script behind OK; None if this log is not to be trimmed."""
        keys, cursors = part.keys, readers.cursors
        names = [*(keys[name].encode() for name in ("log", "head", "nobody"))]
        names += [*cursors, *readers.groups]
        args = (part.epoch, len(cursors), part.first, "most", most)
        reply: list[bytes] = await TRIM(link, names, *args)
        if reply[0] == b"OK":
            return reply[1:]
        if reply[0] == b"GAP" and self._first_time(keys["log"]):
            entries, facts = map(int, reply[1:])
            self._alarm(
                f"stream {keys.stream}, partition {keys.partition}, is not trimmed: it has "
                f"{entries} entries, and its head counts {facts}"
            )
        return None  # of another epoch: who appends says so

    def _say_held(self, stream: str, holder: Holder) -> None:
        named = self._named.setdefault(stream, set())
        if holder.name in named:
            return
        named.add(holder.name)
        who = f"{holder.name}/{holder.instance}" if holder.instance else holder.name
        logger.warning(
            "stream %s keeps more than %s asks for: %s needs facts from %s on; let it catch up, "
            "keep its snapshots, or drop it if it will not come back: factfold trim %s --drop %s",
            stream, self._policy, who, holder.first, stream, who,
        )  # fmt: skip

    def _first_time(self, what: str) -> bool:
        if what in self._said:
            return False
        self._said.add(what)
        return True


class _Part(NamedTuple):
    """What is to be trimmed of one partition."""

    keys: Keys
    epoch: str
    first: int  # n of the first fact that is kept


async def find_readers(link: Link, stream: str) -> dict[int, Readers]:
    """Who has ever read the partitions that this server has.

    Each one that is there from beginning to end is found; who comes meanwhile, comes too late for
    this trim, and is told so when it reads. Of a slot that is on its way to another server only a
    part is found: the script refuses then, as `nobody` is absent, and so it must have been called
    once before (docs/protocol.md, Trimming).
    """
    key = re.compile(rf"\{{{re.escape(stream)}/(\d{{1,9}})\}}:(cursors|group):.+".encode())
    found: dict[int, Readers] = {}
    at = b"0"
    while True:
        at, names = await link.call("SCAN", at, "MATCH", f"{{{stream}/*}}:*", "COUNT", 1000)
        for match in filter(None, map(key.fullmatch, names)):
            readers = found.setdefault(int(match[1]), Readers(set(), set()))
            (readers.cursors if match[2] == b"cursors" else readers.groups).add(match[0])
        if at == b"0":
            return found
