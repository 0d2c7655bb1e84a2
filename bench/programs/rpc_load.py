"""Starts a server and calls it, eight calls in flight on one channel.

usage: rpc_load query|command ROOT ours|bare|stock [VARIABLE=VALUE…]
"""

import asyncio
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
from acme.orders.v1 import contract_pb2, contract_pb2_grpc

from bench.programs.orders import NAME
from bench.programs.turns import Answer, run, take_turns_async
from bench.serving import SERVICE, Server, serving

IN_FLIGHT = 8
SERVERS = {
    "ours": SERVICE,
    "bare": ("-m", "bench.programs.rpc_bare"),
    "stock": ("-m", "bench.programs.rpc_bare", "stock"),
}

work, root, kind, *told = sys.argv[1:]

Call = Callable[[], Any]


async def call_of(stub: Any) -> Call:
    created = contract_pb2.CreateOrderRequest(name=NAME)
    if work == "command":
        return lambda: stub.CreateOrder(created)
    creating = stub.CreateOrder(created)
    order = contract_pb2.GetOrderRequest(id=(await creating).id)
    position = dict(await creating.trailing_metadata()).get("factfold-position", "")
    await stub.GetOrder(order, metadata=[("factfold-at-least", position)] if position else None)
    return lambda: stub.GetOrder(order)


async def main() -> None:
    settings = dict(text.split("=", 1) for text in told)
    with serving(Path(root), SERVERS[kind], **settings) as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            call = await call_of(contract_pb2_grpc.OrderServiceStub(channel))
            await take_turns_async(lambda seconds: turn(server, call, seconds))


async def turn(server: Server, call: Call, seconds: float) -> Answer:
    used, began = server.cpu(), time.perf_counter()

    async def calls() -> int:
        count = 0
        while time.perf_counter() - began < seconds:
            await call()
            count += 1
        return count

    count = sum(await asyncio.gather(*(calls() for _ in range(IN_FLIGHT))))
    took, used = time.perf_counter() - began, server.cpu() - used
    return {"value": count / took, "a_cpu_second": count / used, "busy": used / took}


run(main)
