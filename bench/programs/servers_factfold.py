"""The same work on one server or on several, and what each process takes for it.

usage: URL WORK [REPLICAS]; URL names all servers, REPLICAS must confirm what is appended

one        one caller appends a fact, awaits its position, and so on: the value is in ms
callers    64 of them: facts a second
units      16 callers, each appends 100 facts of one key
rebuild    the view is folded from the start of its log
reaction   each fact that is there is answered with one event
"""

import asyncio
import secrets
import sys
import time

import answers_pb2
import bench_pb2
import redis as redis_py

from bench.filling import SPREAD
from bench.programs.callers import KEYS, appended, made
from bench.programs.declared import FOREIGN, OWN, VIEW, parcel_moved
from bench.programs.empty import empty
from bench.programs.turns import Answer, run, take_turns_async
from bench.serving import cpu_of
from factfold_chassis import Append, reaction
from factfold_chassis.calls import Query
from factfold_chassis.contract import Contract
from factfold_chassis.core import Core
from factfold_chassis.log.append import Appender
from factfold_chassis.log.lane import NewFact
from factfold_chassis.log.redis import Redis
from factfold_chassis.log.replicas import Replicas
from factfold_chassis.log.streams import create_stream
from factfold_chassis.log.url import LogUrl
from factfold_chassis.settings import Settings
from factfold_chassis.tasks import cancel
from factfold_chassis.telemetry import Telemetry
from factfold_chassis.views.engine import ViewEngine

url, work, *rest = sys.argv[1:]
SERVERS = [f"redis://{address}/0" for address in LogUrl.parse(url).addresses]
FACTS = [NewFact(key, type_, meta, data) for type_, key, meta, data in made()]
SINGLE, UNITS = [[fact] for fact in FACTS], [[fact] * 100 for fact in FACTS]
CALLERS = {"one": 1, "callers": 64, "units": 16}
POLL = 0.01  # seconds
ANSWERS = Contract([answers_pb2.DESCRIPTOR], [bench_pb2.DESCRIPTOR])
for contract in (OWN, ANSWERS):
    (stream,) = contract.own_streams
    object.__setattr__(stream, "partitions", SPREAD)


def pid_of(server: str) -> int:
    with redis_py.Redis.from_url(server) as client:
        return int(client.info("server")["process_id"])


class Meter:
    """What has been used since it was made."""

    def __init__(self) -> None:
        self._pids = [pid_of(server) for server in SERVERS]
        self._began, self._own, self._theirs = self._now()

    def _now(self) -> tuple[float, float, list[float]]:
        return time.perf_counter(), time.process_time(), [cpu_of(pid) for pid in self._pids]

    def answer(self, facts: int) -> Answer:
        """Facts a second, and µs of CPU a fact: here, in all servers, in the busiest of them."""
        now, own, theirs = self._now()
        spent, own = now - self._began, own - self._own
        servers = [after - before for after, before in zip(theirs, self._theirs, strict=True)]
        return {
            "value": facts / spent,
            "own_us": 1e6 * own / facts,
            "servers_us": 1e6 * sum(servers) / facts,
            "busiest_us": 1e6 * max(servers) / facts,
        }


async def append(seconds: float) -> Answer:
    for server in SERVERS:
        empty(server)
    settings, redis = Settings(), Redis(url)
    (stream,) = OWN.own_streams
    appender = Appender(
        redis, stream.name, await create_stream(redis, stream),
        timeout=settings.append_timeout, limit=settings.append_queue,
        max_fact_bytes=settings.max_fact_bytes, alarm=print,
        replicas=Replicas.within(int(rest[0]) if rest else 0, settings.append_timeout),
    )  # fmt: skip
    running = asyncio.create_task(appender.run())
    for single in SINGLE[:100]:  # all partitions are connected
        await appender.append(single)
    facts = UNITS if work == "units" else SINGLE
    took: list[float] = []
    done = 0

    async def call(number: int) -> int:
        nonlocal done
        began = time.perf_counter()
        await appender.append(facts[number % KEYS])
        took.append(time.perf_counter() - began)
        done += len(facts[0])
        return len(facts[0])

    meter = Meter()
    await appended(seconds, CALLERS[work], call)
    answer = meter.answer(done)
    await cancel([running])
    if work == "one":
        answer["value"] = 1e3 * sorted(took)[len(took) // 2]
    return answer


async def rebuild(seconds: float) -> Answer:
    meter, facts = Meter(), 0
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        facts += await rebuilt()
    return meter.answer(facts)


async def rebuilt() -> int:
    """Facts."""
    news = asyncio.Event()

    def count(name: str, **attributes: str) -> None:
        raise AssertionError(name)

    engine = ViewEngine(VIEW, [parcel_moved], FOREIGN, Redis(url), count=count, changed=news.set)
    task = asyncio.create_task(engine.run())
    while not engine.ready:
        news.clear()
        await news.wait()
    await cancel([task])
    return sum(place.anchor.n for place in engine.places())


@reaction(bench_pb2.ParcelMoved)
async def charge(event: bench_pb2.ParcelMoved, call: Query) -> Append:
    return Append(
        answers_pb2.ParcelCharged(id=event.id, carrier=event.carrier, cents=event.weight // 10)
    )


async def react(seconds: float) -> Answer:
    """As a service of another name each time, so from the first fact on."""
    name = f"charging-{secrets.token_hex(4)}"
    replicas = int(rest[0]) if rest else 0
    settings = Settings(redis_url=url, wait_replicas=replicas)
    core = Core(name, ANSWERS, [], [charge], settings, Telemetry())
    await core.start()
    try:
        await core.wait_ready()
        (engine,) = core._reactions
        while not (before := engine.committed):
            await asyncio.sleep(POLL)
        meter = Meter()
        await asyncio.sleep(seconds)
        return meter.answer(engine.committed - before)
    finally:
        await core.close(1.0)


async def main() -> None:
    await take_turns_async({"rebuild": rebuild, "reaction": react}.get(work, append))


run(main, as_service=True)
