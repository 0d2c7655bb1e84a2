"""Which facts the log has lost, by name: after a failover an operator looks for them elsewhere."""

from collections.abc import Callable, Sequence
from typing import Protocol

from factfold_chassis.facts import split_id
from factfold_chassis.log.link import Link
from factfold_chassis.log.read import fact_id_of
from factfold_chassis.log.streams import Keys, read_trimmed

A_LINE = 100  # positions


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
