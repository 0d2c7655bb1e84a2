"""Rebuild of a view. With `own`, of the service's own stream, whose journal is fed as well."""

import asyncio
import sys
import time

from bench.programs.declared import FOREIGN, OWN, PARCELS, VIEW, parcel_moved
from bench.programs.turns import Answer, run, take_turns_async
from factfold_chassis.log.redis import Redis
from factfold_chassis.views.engine import ViewEngine
from factfold_chassis.views.journal import Journal

url, own = sys.argv[1], sys.argv[2:] == ["own"]


async def rebuild() -> tuple[int, int]:
    """Facts and keys."""
    news = asyncio.Event()

    def count(name: str, **attributes: str) -> None:
        raise AssertionError(name)

    journal = Journal() if own else None
    engine = ViewEngine(
        VIEW, [parcel_moved], OWN if own else FOREIGN, Redis(url),
        journal=journal, count=count, changed=news.set,
    )  # fmt: skip
    task = asyncio.create_task(engine.run())
    while not engine.ready:
        news.clear()
        await news.wait()
    task.cancel()
    return sum(place.anchor.n for place in engine.places()), len(engine.tables[PARCELS])


async def turn(seconds: float) -> Answer:
    facts, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        some, keys = await rebuild()
        facts += some
    return {"value": facts / (time.perf_counter() - began), "keys": keys}


async def main() -> None:
    await take_turns_async(turn)


run(main, as_service=True)
