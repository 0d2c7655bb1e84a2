"""The owner of a stream appends for a while, and says what that took.

usage: growth_owner REDIS_URL SECONDS PARTITIONS [RATE]; RATE facts a second, else what
64 callers can
"""

import asyncio
import json
import sys
import time
import uuid
from dataclasses import replace

from bench.filling import event
from bench.programs.declared import OWN, STREAM
from bench.programs.stopwatch import percentile
from bench.programs.turns import run
from factfold_chassis.facts import new_meta
from factfold_chassis.log.append import Appender
from factfold_chassis.log.lane import NewFact
from factfold_chassis.log.redis import Redis
from factfold_chassis.log.streams import create_stream
from factfold_chassis.tasks import cancel

CALLERS, TICK = 64, 0.01

url, seconds, partitions, *paced = sys.argv[1:]
took: list[float] = []


async def append(appender: Appender, number: int) -> None:
    key = str(uuid.uuid4())
    meta = new_meta(f"/{STREAM}").SerializeToString()
    began = time.perf_counter()
    await appender.append([NewFact(key, "bench.v1.ParcelMoved", meta, event(key, number))])
    took.append(time.perf_counter() - began)


async def as_they_can(appender: Appender, end: float) -> None:
    async def caller() -> None:
        while time.perf_counter() < end:
            await append(appender, len(took))

    await asyncio.gather(*(caller() for _ in range(CALLERS)))


async def at_a_pace(appender: Appender, end: float, rate: int) -> None:
    began, calls = time.perf_counter(), list[asyncio.Task[None]]()
    while (now := time.perf_counter()) < end:
        while len(calls) < (now - began) * rate:
            calls.append(asyncio.create_task(append(appender, len(calls))))
        await asyncio.sleep(TICK)
    await asyncio.gather(*calls)


async def scripts(redis: Redis) -> int:
    """Scripts that were run: of all processes here, only the owner runs any."""
    async with redis.link() as link:
        said = (await link.call("INFO", "commandstats")).decode()
    lines = dict(line.split(":", 1) for line in said.splitlines() if ":" in line)
    calls = lines.get("cmdstat_evalsha", "calls=0").partition(",")[0]
    return int(calls.partition("=")[2])


async def main() -> None:
    redis = Redis(url)
    (stream,) = OWN.own_streams
    stream = replace(stream, partitions=int(partitions))
    appender = Appender(
        redis, STREAM, await create_stream(redis, stream),
        timeout=60.0, limit=10_000, max_fact_bytes=1 << 20, alarm=print,
    )  # fmt: skip
    task = asyncio.create_task(appender.run())
    await append(appender, 0)
    took.clear()
    ran, used, began = await scripts(redis), time.process_time(), time.perf_counter()
    if paced:
        await at_a_pace(appender, began + float(seconds), int(paced[0]))
    else:
        await as_they_can(appender, began + float(seconds))
    lasted, used = time.perf_counter() - began, time.process_time() - used
    answer = {
        "rate": len(took) / lasted,
        "p50": 1e3 * percentile(took, 0.5),
        "p99": 1e3 * percentile(took, 0.99),
        "cpu": 1e6 * used / len(took),
        "commands": 1e3 * (await scripts(redis) - ran) / len(took),
    }
    await cancel([task])
    print(json.dumps(answer), flush=True)


run(main, as_service=True)
