"""Appends through the chassis' append path: in the log once, whatever was retried.

usage: URL WORK

callers N  N callers, each appends one fact and awaits its position, again and again
units      16 callers, each appends 100 facts of one key, all or nothing
command    64 callers of Command.append, in a service that folds what it appends: ids, metadata
           and the service's own reading are in it, its telemetry is idle
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import bench_pb2

from bench.programs.callers import KEYS, appended, made
from bench.programs.declared import OWN, parcel_moved
from bench.programs.empty import empty
from bench.programs.turns import Answer, run, take_turns_async
from factfold_chassis.core import Core
from factfold_chassis.log.append import Appender
from factfold_chassis.log.lane import NewFact
from factfold_chassis.log.redis import Redis
from factfold_chassis.log.streams import create_stream
from factfold_chassis.settings import Settings
from factfold_chassis.tasks import cancel
from factfold_chassis.telemetry import Telemetry

url, work, *rest = sys.argv[1:]
(stream,) = OWN.own_streams
UNIT = 100
FACTS = [NewFact(key, type_, meta, data) for type_, key, meta, data in made()]
UNITS = [[NewFact(fact.key, fact.type, fact.meta, fact.data)] * UNIT for fact in FACTS]


@asynccontextmanager
async def appending() -> AsyncIterator[Appender]:
    settings, redis = Settings(), Redis(url)
    appender = Appender(
        redis, stream.name, await create_stream(redis, stream),
        timeout=settings.append_timeout, limit=settings.append_queue,
        max_fact_bytes=settings.max_fact_bytes, alarm=print,
    )  # fmt: skip
    running = asyncio.create_task(appender.run())
    await appender.append(FACTS[:1])  # it is connected
    try:
        yield appender
    finally:
        await cancel([running])


@asynccontextmanager
async def serving() -> AsyncIterator[Core]:
    core = Core("parcels", OWN, [parcel_moved], [], Settings(redis_url=url), Telemetry())
    await core.start()
    await core.wait_ready()
    try:
        yield core
    finally:
        await core.close(1.0)


async def callers(seconds: float) -> Answer:
    async with appending() as appender:

        async def append(number: int) -> int:
            await appender.append([FACTS[number % KEYS]])
            return 1

        return await appended(seconds, int(rest[0]), append)


async def units(seconds: float) -> Answer:
    async with appending() as appender:

        async def append(number: int) -> int:
            await appender.append(UNITS[number % KEYS])
            return UNIT

        return await appended(seconds, 16, append)


async def command(seconds: float) -> Answer:
    async with serving() as core:

        async def append(number: int) -> int:
            call = core.command(bench_pb2.ParcelMoved())
            await call.append(
                bench_pb2.ParcelMoved(
                    id=call.new_id(), place="terminal 000000000, gate 4, Rotterdam",
                    carrier="Nordsee Kontor", weight=1000 + number,
                )
            )  # fmt: skip
            return 1

        return await appended(seconds, 64, append)


async def turn(seconds: float) -> Answer:
    empty(url)
    return await {"callers": callers, "units": units, "command": command}[work](seconds)


async def main() -> None:
    await take_turns_async(turn)


run(main, as_service=True)
