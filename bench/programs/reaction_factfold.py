"""A reaction of a service: each fact of a stream is answered with one event of its own stream.

Each turn is a service of another name, so a new group that begins at the first fact. Its own
stream is made anew. Only what is committed counts, and from the first commit on: starting is
measured elsewhere.

usage: URL FACTS
"""

import asyncio
import secrets
import sys
import time

import answers_pb2
import bench_pb2
import redis

from bench.programs.turns import Answer, run, take_turns_async
from factfold_chassis import Append, reaction
from factfold_chassis.calls import Query
from factfold_chassis.contract import Contract
from factfold_chassis.core import Core
from factfold_chassis.settings import Settings
from factfold_chassis.telemetry import Telemetry

url, facts = sys.argv[1], int(sys.argv[2])
CONTRACT = Contract([answers_pb2.DESCRIPTOR], [bench_pb2.DESCRIPTOR])
POLL = 0.01  # seconds


@reaction(bench_pb2.ParcelMoved)
async def charge(event: bench_pb2.ParcelMoved, call: Query) -> Append:
    return Append(
        answers_pb2.ParcelCharged(id=event.id, carrier=event.carrier, cents=event.weight // 10)
    )


async def turn(seconds: float) -> Answer:
    with redis.Redis.from_url(url) as client:
        client.delete("charges", *client.scan_iter("{charges/*"))
    core = Core(
        f"charging-{secrets.token_hex(4)}", CONTRACT, [], [charge],
        Settings(redis_url=url), Telemetry(),
    )  # fmt: skip
    await core.start()
    try:
        await core.wait_ready()
        while not (before := answered(core)):
            await asyncio.sleep(POLL)
        began, worked = time.perf_counter(), time.process_time()
        while answered(core) < facts and time.perf_counter() - began < seconds:
            await asyncio.sleep(POLL)
        done, spent = answered(core) - before, time.perf_counter() - began
        return {"value": done / spent, "cpu_us": (time.process_time() - worked) / done * 1e6}
    finally:
        await core.close(1.0)


def answered(core: Core) -> int:
    """Facts whose answers are committed."""
    (engine,) = core._reactions
    return engine.committed


async def main() -> None:
    await take_turns_async(turn)


run(main, as_service=True)
