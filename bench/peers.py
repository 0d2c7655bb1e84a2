"""What the peers read: the same events, each in its peer's own format, in streams of Redis."""

import asyncio
import base64
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from itertools import islice, starmap

import redis
from faststream.redis.parser.binary import BinaryMessageFormatV1

from bench.filling import event, keys_of
from factfold_chassis.facts import partition_of

AT_ONCE = 1000

Fields = Mapping[str | bytes, str | bytes]


def put(url: str, stream: str, entries: Iterable[Fields]) -> None:
    """XADD in pipelines."""
    rest = iter(entries)
    with redis.Redis.from_url(url) as client, client.pipeline(transaction=False) as pipeline:
        while some := list(islice(rest, AT_ONCE)):
            for fields in some:
                pipeline.xadd(stream, dict(fields))
            pipeline.execute()


def put_faststream(url: str, stream: str, facts: int, keys: int) -> None:
    """As `broker.publish(text, stream=stream)` stores it.

    Events are base64: a batch of FastStream goes through JSON, which takes no other bytes.
    """

    async def encoded() -> list[Fields]:
        return [
            {
                "__data__": await BinaryMessageFormatV1.encode(
                    message=base64.b64encode(data).decode(),
                    reply_to=None,
                    headers=None,
                    correlation_id=str(uuid.uuid4()),
                )
            }
            for data in _events(facts, keys)
        ]

    put(url, stream, asyncio.run(encoded()))


def put_watermill(url: str, stream: str, facts: int, keys: int) -> None:
    """As Watermill's publisher stores a message without metadata."""
    put(
        url,
        stream,
        (
            {"_watermill_message_uuid": str(uuid.uuid4()), "metadata": "", "payload": data}
            for data in _events(facts, keys)
        ),
    )


def put_cloudevents(
    url: str, stream: str, facts: int, keys: int, partitions: int, data: Callable[[str, int], bytes]
) -> None:
    """CloudEvents 1.0 in binary mode: an attribute a field, as text, and the data as it is.

    Redis has no binding of its own; names are those of the one for Kafka. The attributes are
    those that a fact has (docs/wire-format.md), without its number.
    """
    ids = keys_of(keys)

    def entry(sequence: int, number: int) -> Fields:
        key = ids[number % keys]
        now = time.time_ns()
        return {
            "ce_specversion": "1.0",
            "ce_id": str(uuid.uuid4()),
            "ce_source": "/parcels",
            "ce_type": "bench.v1.ParcelMoved",
            "ce_subject": key,
            "ce_time": f"{time.strftime('%FT%T', time.gmtime(now // 10**9))}.{now % 10**9:09}Z",
            "ce_traceparent": f"00-{uuid.uuid4().hex}-{1:016x}-01",
            "ce_sequence": str(sequence),
            "content-type": "application/protobuf",
            "data": data(key, number),
        }

    for partition in range(partitions):
        its = (n for n in range(facts) if partition_of(ids[n % keys], partitions) == partition)
        put(url, f"{stream}-{partition}", starmap(entry, enumerate(its, 1)))


def _events(facts: int, keys: int) -> Iterable[bytes]:
    ids = keys_of(keys)
    return (event(ids[number % keys], number) for number in range(facts))
