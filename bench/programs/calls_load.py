"""Queries of a server in Go, eight in flight on one connection.

The caller leaves it the cores.

usage: calls_load ROOT PROGRAM [VARIABLE=VALUE…]
"""

import sys
import time
from pathlib import Path

from bench.programs.h2 import Caller, answered, connected
from bench.programs.orders import GET_ORDER, ordered
from bench.programs.turns import Answer, run, take_turns_async
from bench.serving import Server, serving

IN_FLIGHT = 8

root, program, *told = sys.argv[1:]


async def main() -> None:
    settings = dict(text.split("=", 1) for text in told)
    with serving(Path(root), Path(program), **settings) as server:
        request, answer = ordered(server.address)
        caller = await connected(server.address, GET_ORDER, request, answer, IN_FLIGHT)
        await take_turns_async(lambda seconds: turn(server, caller, seconds))


async def turn(server: Server, caller: Caller, seconds: float) -> Answer:
    used, began = server.cpu(), time.perf_counter()
    count = await answered([caller], seconds)
    took, used = time.perf_counter() - began, server.cpu() - used
    return {"value": count / took, "a_cpu_second": count / used}


run(main)
