"""A receiver of traces and metrics that throws them away."""

import asyncio
import os
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from bench.programs.turns import run

SERVICES = ("trace.v1.TraceService", "metrics.v1.MetricsService")


async def receive(data: bytes, context: Any) -> bytes:
    return b""


async def main() -> None:
    server = grpc.aio.server()
    method: dict[str, Any] = {"Export": grpc.unary_unary_rpc_method_handler(receive)}
    for name in SERVICES:
        whole = f"opentelemetry.proto.collector.{name}"
        handler = grpc.method_handlers_generic_handler(whole, method)
        server.add_generic_rpc_handlers((handler,))
    healthy = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    await healthy.set("", health_pb2.HealthCheckResponse.SERVING)
    server.add_insecure_port(os.environ["FACTFOLD_LISTEN"])
    await server.start()
    await asyncio.Event().wait()


run(main)
