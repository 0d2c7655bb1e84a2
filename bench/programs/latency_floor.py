"""The two round trips below a command: a bare gRPC call, and XADD to a blocked XREAD elsewhere.

usage: latency_floor ROOT REDIS_PORT
"""

import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc
from acme.orders.v1 import contract_pb2, contract_pb2_grpc

from bench.programs.latency_xread import KEY, Connection
from bench.programs.orders import ANSWER, NAME
from bench.programs.stopwatch import Clocked, answer
from bench.programs.turns import Answer, run, take_turns_async
from bench.serving import serving

root, port = sys.argv[1:]

REQUEST = contract_pb2.CreateOrderRequest(name=NAME)
DATA = ANSWER.SerializeToString()
FACT = ("type", "acme.orders.v1.OrderCreated", "key", ANSWER.id, "meta", bytes(60), "data", DATA)


async def times(seconds: float, once: Callable[[], Awaitable[float]]) -> list[float]:
    took, began = [], time.monotonic()
    while time.monotonic() - began < seconds:
        took.append(await once())
    return took


async def main() -> None:
    with (
        Clocked("latency_xread", port) as reader,  # no process is forked beside gRPC's threads
        serving(Path(root), ["-m", "bench.programs.rpc_bare"]) as server,
    ):
        redis = await Connection.to(int(port))
        async with grpc.aio.insecure_channel(server.address) as channel:
            stub = contract_pb2_grpc.OrderServiceStub(channel)

            async def call() -> float:
                called = time.monotonic()
                await stub.CreateOrder(REQUEST)
                return time.monotonic() - called

            async def append() -> float:
                called = time.monotonic()
                await redis.call("XADD", KEY, "*", *FACT)
                return reader.next() - called

            async def turn(seconds: float) -> Answer:
                calls = answer(await times(seconds / 2, call))
                appends = answer(await times(seconds / 2, append))
                both = {name: calls[name] + appends[name] for name in calls}
                return both | {"rpc": calls["value"], "log": appends["value"]}

            await take_turns_async(turn)


run(main)
