"""Appends with redis-py's asyncio client, as its docs show it.

usage: URL WORK [uvloop]

callers   64 callers, each awaits one XADD, again and again
pipeline  16 callers, each awaits a pipeline of 100 XADDs, again and again
uvloop    on it, instead of asyncio's own loop as in the docs
"""

import sys

import redis.asyncio

from bench.programs.callers import KEYS, appended, made
from bench.programs.empty import empty
from bench.programs.turns import Answer, run, take_turns_async

url, work, *loop = sys.argv[1:]
NAMES = ("type", "key", "meta", "data")
ENTRIES = [dict(zip(NAMES, fields, strict=True)) for fields in made()]
PIPELINE = 100


async def main() -> None:
    client = redis.asyncio.Redis.from_url(url)

    async def one(number: int) -> int:
        await client.xadd("parcels", ENTRIES[number % KEYS])
        return 1

    async def many(number: int) -> int:
        async with client.pipeline(transaction=False) as pipeline:
            for at in range(PIPELINE):
                pipeline.xadd("parcels", ENTRIES[(number + at) % KEYS])
            await pipeline.execute()
        return PIPELINE

    callers, append = {"callers": (64, one), "pipeline": (16, many)}[work]

    async def turn(seconds: float) -> Answer:
        empty(url)
        return await appended(seconds, callers, append)

    await take_turns_async(turn)


run(main, on_uvloop=loop == ["uvloop"])
