"""Which facts the log has lost, by name: after a failover an operator looks for them elsewhere."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Protocol

from factfold_chassis.facts import split_id
from factfold_chassis.log.link import Link
from factfold_chassis.log.read import fact_id_of
from factfold_chassis.log.streams import Keys

A_LINE = 100  # positions
# Of a partition: so many batches in any case, and all within a minute up to so many facts. A master
# that nobody follows any more goes on for seconds.
BATCHES, FACTS, MINUTE = 256, 10_000, 60_000

_END = attrgetter("end")


class Part(Protocol):
    """A partition, as it was known."""

    @property
    def stream(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def epoch(self) -> str: ...


async def has_fact(link: Link, part: Part, entry_id: bytes, fact_id: bytes) -> bool:
    """Whether the log has this fact, or had it until it was trimmed.

    A log of another epoch counts as having it: whoever uses it finds that out by itself.
    """
    keys = Keys(part.stream, part.partition)
    await link.send(
        ("HMGET", keys["head"], "epoch", "trimmed"), ("XRANGE", keys["log"], entry_id, entry_id)
    )
    epoch, trimmed = await link.receive_soon()
    entries = await link.receive_soon()
    if epoch != part.epoch.encode() or split_id(entry_id)[1] <= int(trimmed or 0):
        return True
    return bool(entries) and fact_id in (b"", fact_id_of(entries[0]))


async def count_kept(link: Link, part: Part, facts: Sequence[tuple[bytes, bytes]]) -> int:
    """How many of these facts, the first ones, the log still has, or had until it was trimmed.

    A failover takes the newest ones, so those behind are lost.

    Args:
        facts: entry id and fact id, if known, in the order of one log; the last one is lost.
    """
    kept, lost = 0, len(facts) - 1
    while kept < lost:
        middle = (kept + lost) // 2
        if await has_fact(link, part, *facts[middle]):
            kept = middle + 1
        else:
            lost = middle
    return kept


def name_lost(
    part: Part, ids: Sequence[bytes], were: str, alarm: Callable[[str], None], *, more: bool
) -> None:
    """Tell `alarm` which facts are lost.

    Args:
        were: what they were: "acknowledged".
        more: earlier ones, which nobody remembers, may be lost too.
    """
    stream, partition = part.stream, part.partition
    lost = [f"{stream}/{partition}@{part.epoch}:{entry_id.decode()}" for entry_id in ids]
    them = "them, and for earlier ones that are remembered no more," if more else "them"
    for at in range(0, len(lost), A_LINE):
        alarm(
            f"the log of stream {stream}, partition {partition}, was rolled back: of the facts "
            f"that were {were}, {len(lost)} are lost: {', '.join(lost[at : at + A_LINE])}; "
            f"look for {them} in a replica or a backup"
        )


@dataclass(slots=True, eq=False)
class Acknowledged:
    """Facts that follow each other, and that the log said it has."""

    ms: int
    first: int  # n
    end: int  # n of the last
    fact_id: bytes  # of the last; empty: not known
    link: int  # number of the newest connection whose server had them

    def __len__(self) -> int:
        return self.end - self.first + 1

    @property
    def facts(self) -> list[tuple[bytes, bytes]]:
        """Entry id and fact id."""
        ids = [b"%d-%d" % (self.ms, n) for n in range(self.first, self.end + 1)]
        return [*((entry_id, b"") for entry_id in ids[:-1]), (ids[-1], self.fact_id)]


class Memory:
    """What this process appended to one partition, by calls and by reactions: the newest of it."""

    def __init__(self, stream: str, partition: int, epoch: str):
        self.stream = stream
        self.partition = partition
        self.epoch = epoch
        self._known: deque[Acknowledged] = deque()
        self._facts = 0

    def __len__(self) -> int:
        """Facts."""
        return self._facts

    def remember(self, facts: Acknowledged) -> None:
        known = self._known
        known.append(facts)
        self._facts += len(facts)
        while len(known) > BATCHES and (self._facts > FACTS or facts.ms - known[0].ms > MINUTE):
            self._facts -= len(known.popleft())

    async def compare(self, link: Link, alarm: Callable[[str], None]) -> None:
        """Tell `alarm` which facts a failover took out of the log; on each new connection."""
        # Those who append side by side do not hear of it in the order of the log. And each
        # connection by itself: one may go on with a server that nobody follows any more, while
        # another one has appended behind what its successor has.
        by_link: dict[int, list[Acknowledged]] = {}
        for each in sorted(self._known, key=_END):
            by_link.setdefault(each.link, []).append(each)
        for known in by_link.values():
            if await has_fact(link, self, *known[-1].facts[-1]):
                for each in known:
                    each.link = link.number
                continue
            facts = [fact for each in known for fact in each.facts]
            kept = await count_kept(link, self, facts)
            # Only now: if the connection is lost meanwhile, the next one says it. And once: of
            # those who connect side by side only the first one still knows them.
            if known[-1] in self._known:
                self._forget(known)
                lost = [entry_id for entry_id, _ in facts[kept:]]
                name_lost(self, lost, "acknowledged", alarm, more=not kept)

    def _forget(self, facts: Sequence[Acknowledged]) -> None:
        gone = set(facts)
        self._known = deque(each for each in self._known if each not in gone)
        self._facts = sum(map(len, self._known))
