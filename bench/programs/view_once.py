"""Makes the view of parcels in a fresh process, once, and says how long that took.

usage: view_once REDIS_URL [rebuild|save|restore|queries [SNAPSHOTS]]
"""

import asyncio
import json
import sys
import time
from typing import Any

import grpc

from bench.filling import keys_of
from bench.programs.declared import FOREIGN, PARCELS, VIEW, parcel_moved
from bench.programs.stopwatch import percentile
from bench.programs.turns import Answer, run
from bench.serving import rss_of
from factfold_chassis.log.redis import Redis
from factfold_chassis.views.engine import ViewEngine
from factfold_chassis.views.keep import Home

GETS, CALLS = 50_000, 2_000

url, what, *folder = sys.argv[1:]


async def ready() -> tuple[ViewEngine, "asyncio.Task[None]"]:
    news = asyncio.Event()

    def count(name: str, **attributes: str) -> None:
        raise AssertionError(name)

    engine = ViewEngine(
        VIEW, [parcel_moved], FOREIGN, Redis(url),
        home=Home("bench", folder[0] if folder else ""), count=count, changed=news.set,
    )  # fmt: skip
    task = asyncio.create_task(engine.run())
    while not engine.ready:
        news.clear()
        await news.wait()
    return engine, task


async def main() -> None:
    before, began = rss_of(), time.perf_counter()
    engine, task = await ready()
    took = time.perf_counter() - began
    keys, facts = len(engine.tables[PARCELS]), sum(place.anchor.n for place in engine.places())
    answer = {"value": took, "keys": keys, "facts": facts, "rss": rss_of()}
    answer["bytes_a_key"] = (answer["rss"] - before) * 2**20 / keys
    if what == "save":
        await engine.save()
    if what == "queries":
        answer |= await queries(engine, keys)
    task.cancel()
    print(json.dumps(answer), flush=True)


async def queries(engine: ViewEngine, keys: int) -> Answer:
    """In µs: a row from the table, and through gRPC with the caller in this process."""
    rows, ids = engine.tables[PARCELS], keys_of(keys)
    step = max(1, keys // GETS)
    gets = []
    for key in ids[::step]:
        began = time.perf_counter()
        row = rows.get(key)
        gets.append(1e6 * (time.perf_counter() - began))
        assert row is not None

    async def get(key: bytes, context: Any) -> bytes:
        row = rows.get(key.decode())
        assert row is not None
        data: bytes = row.SerializeToString()
        return data

    method: dict[str, Any] = {"Get": grpc.unary_unary_rpc_method_handler(get)}
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Parcels", method),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    calls = []
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub: Any = channel.unary_unary("/Parcels/Get")
        for at in range(CALLS):
            began = time.perf_counter()
            await stub(ids[at * 7919 % keys].encode())
            calls.append(1e6 * (time.perf_counter() - began))
    await server.stop(None)
    return {
        "get_p50": percentile(gets, 0.5),
        "get_p99": percentile(gets, 0.99),
        "call_p50": percentile(calls, 0.5),
        "call_p99": percentile(calls, 0.99),
    }


run(main, as_service=True)
