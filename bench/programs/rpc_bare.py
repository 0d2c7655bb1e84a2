"""A bare grpc.aio server: answers each call with the same message, of the size of ours.

usage: rpc_bare [stock]; with the interceptor of opentelemetry-instrumentation-grpc then
"""

import asyncio
import os
import sys
from typing import Any

import grpc
from acme.orders.v1 import contract_pb2, contract_pb2_grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from bench.programs.orders import ANSWER
from bench.programs.turns import run

Context = grpc.aio.ServicerContext[Any, Any]


# mypy does not see stubs that are made in the run.
class Orders(contract_pb2_grpc.OrderServiceServicer):  # type: ignore[misc]
    async def GetOrder(self, request: Any, context: Context) -> Any:
        return contract_pb2.GetOrderResponse(item=ANSWER)

    async def CreateOrder(self, request: Any, context: Context) -> Any:
        return contract_pb2.CreateOrderResponse(id=ANSWER.id, version=1)


def interceptors() -> list[grpc.aio.ServerInterceptor]:
    if sys.argv[1:] != ["stock"]:
        return []
    from opentelemetry.instrumentation.grpc import aio_server_interceptor

    from factfold_chassis.telemetry import Telemetry

    # The exporter is ours, so that what differs is the interceptor.
    Telemetry.from_environment("bare").install()
    return [aio_server_interceptor()]


async def main() -> None:
    server = grpc.aio.server(interceptors=interceptors())
    contract_pb2_grpc.add_OrderServiceServicer_to_server(Orders(), server)
    healthy = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    await healthy.set("", health_pb2.HealthCheckResponse.SERVING)
    server.add_insecure_port(os.environ["FACTFOLD_LISTEN"])
    await server.start()
    await asyncio.Event().wait()


run(main)
