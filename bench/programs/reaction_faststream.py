"""FastStream consumes, answers each message with one that it publishes, and acknowledges.

usage: URL STREAM MESSAGES WORK; how it consumes is in faststream_backlog.py

single    message by message, and `await broker.publish(…, stream=…)`
batch     batches of 500, and the same for each message of it, one after the other
together  batches of 500, and 64 at once with asyncio.gather: its client has 100 connections
pipeline  batches of 500, and one Redis pipeline for each, as `Pipeline` of its annotations makes it

Nothing in it keeps an answer from being published twice, or facts of one key in order.
"""

import asyncio
import base64
import sys

import answers_pb2
import bench_pb2
import redis
from faststream.redis import RedisBroker

from bench.programs.faststream_backlog import Backlog
from bench.programs.turns import Answer, run, take_turns_async

url, stream, size, work = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
ANSWERS = "faststream-charges"
TOGETHER = 64
backlog = Backlog(url, stream, size, batch=work != "single")


def charge(message: str) -> bytes:
    event = bench_pb2.ParcelMoved.FromString(base64.b64decode(message))
    answer = answers_pb2.ParcelCharged(id=event.id, carrier=event.carrier, cents=event.weight // 10)
    data: bytes = answer.SerializeToString()
    return data


async def one_by_one(broker: RedisBroker, messages: list[str]) -> None:
    for message in messages:
        await broker.publish(charge(message), stream=ANSWERS)


async def together(broker: RedisBroker, messages: list[str]) -> None:
    for at in range(0, len(messages), TOGETHER):
        some = messages[at : at + TOGETHER]
        await asyncio.gather(*(broker.publish(charge(each), stream=ANSWERS) for each in some))


async def pipeline(broker: RedisBroker, messages: list[str]) -> None:
    async with broker._connection.pipeline() as pipe:
        for message in messages:
            await broker.publish(charge(message), stream=ANSWERS, pipeline=pipe)
        await pipe.execute()


HANDLERS = {
    "single": one_by_one, "batch": one_by_one, "together": together, "pipeline": pipeline
}  # fmt: skip


async def turn(seconds: float) -> Answer:
    with redis.Redis.from_url(url) as client:
        client.delete(ANSWERS)
    return await backlog.turn(seconds, HANDLERS[work])


async def main() -> None:
    await take_turns_async(turn)


run(main)
