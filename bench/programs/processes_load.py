"""Queries of a service that runs as several processes behind one port.

usage: processes_load ROOT REDIS_URL PROCESSES
"""

import sys
import time
from pathlib import Path

import grpc
from acme.orders.v1 import contract_pb2, contract_pb2_grpc

from bench.programs.h2 import Caller, answered, connected
from bench.programs.orders import NAME
from bench.programs.turns import Answer, run, take_turns_async
from bench.serving import Server, serving

# The kernel gives each connection to one of the processes: of many each gets its share.
CONNECTIONS, IN_FLIGHT = 32, 2
SERVICE = "/acme.orders.v1.OrderService"

root, url, processes = sys.argv[1:]


def ordered(address: str) -> tuple[bytes, bytes]:
    """A GetOrder request, and the answer that every process gives to it by now."""
    with grpc.insecure_channel(address) as channel:
        stub = contract_pb2_grpc.OrderServiceStub(channel)
        created = stub.CreateOrder(contract_pb2.CreateOrderRequest(name=NAME))
        time.sleep(1.0)
        request = contract_pb2.GetOrderRequest(id=created.id)
        return request.SerializeToString(), stub.GetOrder(request).SerializeToString()


async def main() -> None:
    told = {"FACTFOLD_REDIS_URL": url, "OTEL_SDK_DISABLED": "true"}
    if processes != "1":
        told["FACTFOLD_PROCESSES"] = processes
    with serving(Path(root), **told) as server:
        request, answer = ordered(server.address)
        callers = [
            await connected(server.address, f"{SERVICE}/GetOrder", request, answer, IN_FLIGHT)
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
