"""Queries of a service that runs as several processes behind one port.

usage: processes_load ROOT REDIS_URL PROCESSES
"""

import sys
import time
from pathlib import Path

from bench.programs.h2 import Caller, answered, connected
from bench.programs.orders import GET_ORDER, ordered
from bench.programs.turns import Answer, run, take_turns_async
from bench.serving import Server, serving

# The kernel gives each connection to one of the processes: of many each gets its share.
CONNECTIONS, IN_FLIGHT = 32, 2

root, url, processes = sys.argv[1:]


async def main() -> None:
    told = {"FACTFOLD_REDIS_URL": url, "OTEL_SDK_DISABLED": "true"}
    if processes != "1":
        told["FACTFOLD_PROCESSES"] = processes
    with serving(Path(root), **told) as server:
        request, answer = ordered(server.address)
        callers = [
            await connected(server.address, GET_ORDER, request, answer, IN_FLIGHT)
            for _ in range(CONNECTIONS)
        ]
        await take_turns_async(lambda seconds: turn(server, callers, seconds))


async def turn(server: Server, callers: list[Caller], seconds: float) -> Answer:
    used, mine, began = server.cpu(), time.process_time(), time.perf_counter()
    count = await answered(callers, seconds)
    took = time.perf_counter() - began
    return {
        "value": count / took,
        "cpu": 1e6 * (server.cpu() - used) / count,
        "callers_cpu": 1e6 * (time.process_time() - mine) / count,
        "rss": server.rss(),
    }


run(main)
