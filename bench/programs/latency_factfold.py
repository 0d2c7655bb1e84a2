"""From the call of a command to its fact in another process' view, one at a time.

usage: latency_factfold ROOT REDIS_URL
"""

import sys
import time
from pathlib import Path

import grpc
from acme.orders.v1 import contract_pb2, contract_pb2_grpc

from bench.programs.orders import NAME
from bench.programs.stopwatch import Clocked, answer
from bench.programs.turns import Answer, run, take_turns_async
from bench.serving import serving

root, url = sys.argv[1:]

REQUEST = contract_pb2.CreateOrderRequest(name=NAME)
told = {"FACTFOLD_REDIS_URL": url, "OTEL_SDK_DISABLED": "true"}


async def main() -> None:
    view = Clocked("latency_view", root, url)  # no process is forked beside gRPC's threads
    with serving(Path(root), **told) as server, view:
        async with grpc.aio.insecure_channel(server.address) as channel:
            stub = contract_pb2_grpc.OrderServiceStub(channel)

            async def turn(seconds: float) -> Answer:
                took, began = [], time.monotonic()
                while time.monotonic() - began < seconds:
                    called = time.monotonic()
                    await stub.CreateOrder(REQUEST)
                    took.append(view.next() - called)
                return answer(took)

            await take_turns_async(turn)


run(main)
