"""The least that a server of this kind imports: gRPC, redis-py, OpenTelemetry, uvloop."""

import asyncio
import os

import grpc
import uvloop
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from redis.asyncio import ConnectionPool

IMPORTED = (
    OTLPMetricExporter, OTLPSpanExporter, MeterProvider, TracerProvider, BatchSpanProcessor,
    ConnectionPool,
)  # fmt: skip


async def main() -> None:
    server = grpc.aio.server()
    healthy = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    await healthy.set("", health_pb2.HealthCheckResponse.SERVING)
    server.add_insecure_port(os.environ["FACTFOLD_LISTEN"])
    await server.start()
    await asyncio.Event().wait()


with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(main())
