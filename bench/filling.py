"""Puts facts into a log through the append path."""

import asyncio
import uuid
from collections.abc import Callable

from factfold_chassis.contract import Contract
from factfold_chassis.facts import new_meta
from factfold_chassis.log.append import Appender
from factfold_chassis.log.lane import NewFact
from factfold_chassis.log.redis import Redis
from factfold_chassis.log.streams import create_stream
from factfold_chassis.tasks import cancel

WAITING = 8192
SPREAD = 6  # partitions that one, two and three servers can share evenly


def keys_of(count: int) -> list[str]:
    """Ids as services make them, the same ones in each run."""
    return [str(uuid.uuid5(uuid.NAMESPACE_OID, str(number))) for number in range(count)]


def event(key: str, number: int) -> bytes:
    """About 100 bytes."""
    import bench_pb2

    moved = bench_pb2.ParcelMoved(
        id=key, place=f"terminal {number:09}, gate 4, Rotterdam", carrier="Nordsee Kontor",
        weight=1000 + number,
    )  # fmt: skip
    return bytes(moved.SerializeToString())


def fill(
    url: str,
    facts: int,
    keys: int,
    *,
    partitions: int = 4,
    traced: bool = False,
    data: Callable[[str, int], bytes] = event,
) -> None:
    """Append facts, key after key and round after round, until there are so many."""
    import bench_pb2

    contract = Contract([bench_pb2.DESCRIPTOR])
    (stream,) = contract.own_streams
    object.__setattr__(stream, "partitions", partitions)
    (name,) = stream.events
    ids = keys_of(keys)

    async def work() -> None:
        redis = Redis(url)
        appender = Appender(
            redis, stream.name, await create_stream(redis, stream),
            timeout=60.0, limit=2 * WAITING, max_fact_bytes=1 << 20, alarm=print,
        )  # fmt: skip
        running = asyncio.create_task(appender.run())
        for begin in range(0, facts, WAITING):
            await asyncio.gather(
                *(
                    appender.append([_fact(key, name, data(key, number), traced)])
                    for number in range(begin, min(facts, begin + WAITING))
                    for key in (ids[number % keys],)
                )
            )
        await cancel([running])

    asyncio.run(work())


def _fact(key: str, type_: str, data: bytes, traced: bool) -> NewFact:
    meta = new_meta("/parcels")
    if traced:
        meta.trace_id, meta.span_id, meta.trace_flags = uuid.uuid4().bytes, b"\1" * 8, 1
    return NewFact(key, type_, meta.SerializeToString(), data)
