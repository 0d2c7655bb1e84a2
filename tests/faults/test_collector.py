"""A trace collector that is away, silent or says no costs nothing but spans."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest

from factfold_cli.redis_server import free_port

from .log import Log, Sent, keys
from .row import Row

KEYS = keys(500)
QUEUE = 512  # spans
CALLS = 2000
# In seconds. An exporter waits for its collector for ten.
SLOWEST = 1.0
DRAIN = 3


@asynccontextmanager
async def absent() -> AsyncIterator[int]:
    """Nobody listens."""
    yield free_port()


@asynccontextmanager
async def hung() -> AsyncIterator[int]:
    """Takes connections and never says a word."""
    ended = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await ended.wait()
        writer.transport.abort()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        ended.set()
        server.close()


@asynccontextmanager
async def refusing() -> AsyncIterator[int]:
    """Answers each export with an error that is worth repeating."""

    class Handler(grpc.GenericRpcHandler):
        def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
            return grpc.unary_unary_rpc_method_handler(refuse)

    async def refuse(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        await context.abort(grpc.StatusCode.UNAVAILABLE, "no room")
        return b""

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


@pytest.mark.at_least(1)
@pytest.mark.parametrize("collector", [absent, hung, refusing], ids=lambda make: make.__name__)
async def test_collector(row: Row, collector) -> None:
    """collector absent, hung, refusing"""
    row.label = collector.__name__
    server = row.redis()
    log, sent = Log(server), Sent()
    async with collector() as port:
        probe = row.probe(
            server,
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}",
            OTEL_BSP_MAX_QUEUE_SIZE=str(QUEUE),
            OTEL_BSP_SCHEDULE_DELAY="100",
            OTEL_METRIC_EXPORT_INTERVAL="200",
            FACTFOLD_DRAIN_TIMEOUT=str(DRAIN),
        )
        await probe.ready()
        row.injected()
        slowest = 0.0
        few = asyncio.Semaphore(8)

        async def call(at: int) -> None:
            nonlocal slowest
            unit = sent.unit(KEYS[at % len(KEYS)])
            async with few:
                began = time.monotonic()
                answer = await probe.stub.Append(unit, timeout=30)
                slowest = max(slowest, time.monotonic() - began)
            sent.outcome(unit, answer.position, "")

        await asyncio.gather(*map(call, range(CALLS)))
        assert slowest < SLOWEST
        # The span of the call that asks ends after its answer is made.
        made = 2 * CALLS
        status = await probe.status()
        assert made - QUEUE <= status.spans_dropped <= made
        row.appended(log, sent)

        probe.terminate()
        began = time.monotonic()
        assert await probe.ends() == 0
        assert time.monotonic() - began < DRAIN + 3
        (line,) = [json.loads(line) for line in probe.said("spans were dropped")]
        assert line["spans"] == made + 1
