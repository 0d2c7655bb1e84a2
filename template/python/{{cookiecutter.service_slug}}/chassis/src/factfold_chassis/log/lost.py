"""Which facts the log has lost, by name: after a failover an operator looks for them elsewhere."""

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from operator import attrgetter
from typing import Protocol

from factfold_chassis.facts import split_id
from factfold_chassis.log.link import Link
from factfold_chassis.log.read import fact_id_of
from factfold_chassis.log.streams import Keys, read_trimmed

A_LINE = 100  # positions
REMEMBERED = 256  # acknowledged batches of a partition

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


async def name_lost(
    link: Link, part: Part, ids: Sequence[bytes], were: str, alarm: Callable[[str], None]
) -> None:
    """Tell `alarm` which of these entries, in their order, the log has no more.

    Args:
        ids: at least one; the last one is known to be gone, or of another fact.
        were: what the facts were: "acknowledged".
    """
    stream, partition = part.stream, part.partition
    keys = Keys(stream, partition)
    # As many others may stand between them by now.
    found = await link.call("XRANGE", keys["log"], ids[0], ids[-1], "COUNT", 2 * len(ids))
    present = {entry[0] for entry in found} - {ids[-1]}
    trimmed = await read_trimmed(link, keys)
    lost = [
        f"{stream}/{partition}@{part.epoch}:{entry_id.decode()}"
        for entry_id in ids
        if entry_id not in present and split_id(entry_id)[1] > trimmed
    ]
    oldest_too = ids[0] not in present and split_id(ids[0])[1] > trimmed
    them = "them, and for earlier ones that are remembered no more," if oldest_too else "them"
    for at in range(0, len(lost), A_LINE):
        alarm(
            f"the log of stream {stream}, partition {partition}, was rolled back: of the facts "
            f"that were {were}, {len(lost)} are lost: {', '.join(lost[at : at + A_LINE])}; "
            f"look for {them} in a replica or a backup"
        )


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """Facts that follow each other, and that the log said it has."""

    ms: int
    first: int  # n
    end: int  # n of the last
    fact_id: bytes  # of the last; empty: not known

    @property
    def last(self) -> bytes:
        return b"%d-%d" % (self.ms, self.end)

    @property
    def ids(self) -> list[bytes]:
        """Of the entries."""
        return [b"%d-%d" % (self.ms, n) for n in range(self.first, self.end + 1)]


class Memory:
    """What this process appended to one partition, by calls and by reactions: the newest of it."""

    def __init__(self, stream: str, partition: int, epoch: str):
        self.stream = stream
        self.partition = partition
        self.epoch = epoch
        self._known: deque[Acknowledged] = deque(maxlen=REMEMBERED)

    def remember(self, facts: Acknowledged) -> None:
        self._known.append(facts)

    async def compare(self, link: Link, alarm: Callable[[str], None]) -> None:
        """Tell `alarm` which facts a failover took out of the log; on each new connection."""
        if not self._known:
            return
        # Those who append side by side do not hear of it in the order of the log.
        known = sorted(self._known, key=_END)
        if await has_fact(link, self, known[-1].last, known[-1].fact_id):
            return
        ids = [entry_id for each in known for entry_id in each.ids]
        await name_lost(link, self, ids, "acknowledged", alarm)
        # Only now: if the connection is lost meanwhile, the next one says it.
        for each in known:
            with suppress(ValueError):
                self._known.remove(each)
