"""What the peers read: the same events, each in its peer's own format, in streams of Redis."""

import asyncio
import base64
import uuid
from collections.abc import Iterable, Mapping
from itertools import islice

import redis
from faststream.redis.parser.binary import BinaryMessageFormatV1

from bench.filling import event, keys_of

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


def _events(facts: int, keys: int) -> Iterable[bytes]:
    ids = keys_of(keys)
    return (event(ids[number % keys], number) for number in range(facts))
