"""Streams: their keys, their creation by the owner, and waiting for those of others."""

import asyncio
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from factfold_chassis.contract import StreamSpec
from factfold_chassis.errors import LogReplaced, WiringError
from factfold_chassis.log.link import Link, persist
from factfold_chassis.log.redis import Links, Redis
from factfold_chassis.log.scripts import CREATE

logger = logging.getLogger(__name__)
POLL = 0.25  # seconds between two looks for a stream that does not exist yet


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one partition; the braces put them into one slot of a cluster."""

    stream: str
    partition: int

    def __getitem__(self, name: str) -> str:
        return f"{{{self.stream}/{self.partition}}}:{name}"

    @property
    def appending(self) -> list[str]:
        return [self["log"], self["head"], self["producers"], self["versions"]]


@dataclass(frozen=True, slots=True)
class Head:
    """What `{S/p}:head` says."""

    epoch: str
    partitions: int
    n: int  # facts appended so far
    ms: int  # of the last


async def read_head(link: Link, stream: str, partition: int) -> Head | None:
    """None: the partition does not exist."""
    reply = await link.call(
        "HMGET", Keys(stream, partition)["head"], "epoch", "partitions", "n", "ms"
    )
    if reply[0] is None:
        return None
    return Head(reply[0].decode(), int(reply[1]), int(reply[2]), int(reply[3]))


async def read_trimmed(link: Link, keys: Keys) -> int:
    """The n up to which facts were removed on purpose."""
    return int(await link.call("HGET", keys["head"], "trimmed") or 0)


async def _head(links: Links, stream: str, partition: int) -> Head | None:
    link = await links.to(Keys(stream, partition)["head"])
    return await read_head(link, stream, partition)


async def create_stream(
    redis: Redis, stream: StreamSpec, *, expected: Callable[[], str] = lambda: ""
) -> list[str]:
    """Make an own stream if it is not there; returns the epoch of each partition.

    Waits for Redis as long as it takes.

    Args:
        expected: asked when a partition is absent: why it must not be; empty if it may.

    Raises:
        LogReplaced: the log is expected and absent, in part lost, or there without its head.
        WiringError: it was created with another number of partitions.
    """
    epochs: list[str] = []

    async def create() -> None:
        epochs.clear()
        epoch = secrets.token_hex(8)
        async with redis.links() as links:
            heads = [await _head(links, stream.name, p) for p in range(stream.partitions)]
            present = [head for head in heads if head is not None]
            for head in present:
                _check_partitions(stream, head.partitions)
            # Nobody appends before all partitions are there.
            filled = any(head.n for head in present)
            for partition, found in enumerate(heads):
                if (
                    found is None
                    and (why := "others hold facts" if filled else expected())
                    # Somebody else may have created it since.
                    and await _head(links, stream.name, partition) is None
                ):
                    raise LogReplaced(stream.name, f"partition {partition} is absent, and {why}")
                keys = Keys(stream.name, partition).appending
                link = await links.to(*keys)
                status, *reply = await CREATE(link, keys, stream.partitions, epoch)
                if status == b"FOREIGN":
                    raise LogReplaced(stream.name, reply[0].decode())
                _check_partitions(stream, int(reply[1]))
                epochs.append(reply[0].decode())
            if not present and epochs[0] == epoch:
                logger.info(
                    "created stream %s: %d partitions, epoch %s",
                    stream.name, stream.partitions, epoch,
                )  # fmt: skip

    await persist(create, _waiting_for_redis)
    return epochs


def _check_partitions(stream: StreamSpec, found: int) -> None:
    if found != stream.partitions:
        raise WiringError(
            f"stream {stream.name} has {found} partitions and the contract says "
            f"{stream.partitions}: partitions are fixed at creation; put {found} into the contract"
        )


async def wait_for_stream(redis: Redis, stream: str) -> list[Head]:
    """The heads of a stream that somebody else creates, once all its partitions exist."""
    heads: list[Head] = []

    async def wait() -> None:
        said = False
        async with redis.links() as links:
            while True:
                heads.clear()
                head = await _head(links, stream, 0)
                for partition in range(head.partitions if head else 0):
                    found = await _head(links, stream, partition)
                    if found:
                        heads.append(found)
                if head and len(heads) == head.partitions:
                    return
                if not said:
                    logger.info("waiting for stream %s: it does not exist", stream)
                    said = True
                await asyncio.sleep(POLL)

    await persist(wait, _waiting_for_redis)
    return heads


def _waiting_for_redis(reason: str, attempt: int) -> None:
    if attempt == 1 or attempt % 30 == 0:
        logger.warning("waiting for Redis: %s", reason)
