"""Streams: their keys, their creation by the owner, and waiting for those of others."""

import asyncio
import logging
import secrets
from dataclasses import dataclass

from factfold_chassis.contract import StreamSpec
from factfold_chassis.errors import LogReplaced, WiringError
from factfold_chassis.log.link import Link, Redis, persist
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


async def create_stream(redis: Redis, stream: StreamSpec, *, expect: bool) -> list[str]:
    """Make an own stream if it is not there; returns the epoch of each partition.

    Waits for Redis as long as it takes. `expect`: the log must be there already.

    Raises:
        LogReplaced: the log is expected and absent, or there without its head.
        WiringError: it was created with another number of partitions.
    """
    epochs: list[str] = []

    async def create() -> None:
        epochs.clear()
        epoch = secrets.token_hex(8)
        async with redis.link() as link:
            for partition in range(stream.partitions):
                if expect and await read_head(link, stream.name, partition) is None:
                    raise LogReplaced(
                        stream.name,
                        f"partition {partition} is absent and FACTFOLD_EXPECT_LOG is set",
                    )
                keys = Keys(stream.name, partition).appending
                status, *reply = await CREATE(link, keys, stream.partitions, epoch)
                if status == b"FOREIGN":
                    raise LogReplaced(stream.name, reply[0].decode())
                if int(reply[1]) != stream.partitions:
                    raise WiringError(
                        f"stream {stream.name} has {int(reply[1])} partitions and the contract "
                        f"says {stream.partitions}: partitions are fixed at creation; "
                        f"put {int(reply[1])} into the contract"
                    )
                epochs.append(reply[0].decode())

    await persist(create, _waiting_for_redis)
    return epochs


async def wait_for_stream(redis: Redis, stream: str) -> list[Head]:
    """The heads of a stream that somebody else creates, once all its partitions exist."""
    heads: list[Head] = []

    async def wait() -> None:
        said = False
        async with redis.link() as link:
            while True:
                heads.clear()
                head = await read_head(link, stream, 0)
                for partition in range(head.partitions if head else 0):
                    found = await read_head(link, stream, partition)
                    if found:
                        heads.append(found)
                if head and len(heads) == head.partitions:
                    return
                if not said:
                    logger.info("waiting for stream %s: its owner has not created it yet", stream)
                    said = True
                await asyncio.sleep(POLL)

    await persist(wait, _waiting_for_redis)
    return heads


def _waiting_for_redis(reason: str, attempt: int) -> None:
    if attempt == 1 or attempt % 30 == 0:
        logger.warning("waiting for Redis: %s", reason)
