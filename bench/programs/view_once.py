"""Makes the view of parcels in a fresh process, once, and says how long that took.

usage: view_once REDIS_URL [SNAPSHOTS [save]]; from the snapshot that is there, else from the log
"""

import asyncio
import json
import sys
import time

from bench.programs.declared import FOREIGN, PARCELS, VIEW, parcel_moved
from bench.programs.turns import run
from bench.serving import rss_of
from factfold_chassis.log.link import Redis
from factfold_chassis.views.engine import ViewEngine
from factfold_chassis.views.keep import Home

url, *rest = sys.argv[1:]


async def ready(folder: str) -> tuple[ViewEngine, "asyncio.Task[None]"]:
    news = asyncio.Event()

    def count(name: str, **attributes: str) -> None:
        raise AssertionError(name)

    engine = ViewEngine(
        VIEW, [parcel_moved], FOREIGN, Redis(url),
        home=Home("bench", folder), count=count, changed=news.set,
    )  # fmt: skip
    task = asyncio.create_task(engine.run())
    while not engine.ready:
        news.clear()
        await news.wait()
    return engine, task


async def main() -> None:
    before, began = rss_of(), time.perf_counter()
    engine, task = await ready(rest[0] if rest else "")
    took = time.perf_counter() - began
    keys, facts = len(engine.tables[PARCELS]), sum(place.anchor.n for place in engine.places())
    answer = {"value": took, "keys": keys, "facts": facts, "rss": rss_of()}
    answer["bytes_a_key"] = (answer["rss"] - before) * 2**20 / keys
    if rest[1:] == ["save"]:
        await engine.save()
    task.cancel()
    print(json.dumps(answer), flush=True)


run(main)
