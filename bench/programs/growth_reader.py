"""Another service's view of parcels: follows the log until its stdin ends.

usage: growth_reader REDIS_URL; `turn` answers once it has caught up
"""

import asyncio
import sys

from bench.programs.declared import FOREIGN, VIEW, parcel_moved
from bench.programs.turns import Answer, run, take_turns_async
from factfold_chassis.log.redis import Redis
from factfold_chassis.views.engine import ViewEngine


async def main() -> None:
    news = asyncio.Event()

    def count(name: str, **attributes: str) -> None:
        raise AssertionError(name)

    redis = Redis(sys.argv[1])
    engine = ViewEngine(VIEW, [parcel_moved], FOREIGN, redis, count=count, changed=news.set)
    task = asyncio.create_task(engine.run())

    async def turn(seconds: float) -> Answer:
        while not engine.ready:
            news.clear()
            await news.wait()
        return {"value": sum(place.anchor.n for place in engine.places())}

    await take_turns_async(turn)
    task.cancel()


run(main, as_service=True)
