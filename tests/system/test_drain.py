"""SIGTERM under load: what was accepted is done, watches say where to go on."""

import asyncio
import contextlib
import os
import signal
import uuid
from collections import Counter
from typing import Any

import grpc

from factfold_cli.redis_server import RedisServer

from .conftest import Start
from .running import Made, channel, eventually, facts, position_of

CALLS = 200


async def test_calls_in_flight_finish(orders: Made, start: Start, server: RedisServer) -> None:
    process = start(orders)
    async with channel(await process.address()) as to_service:
        stub = orders.contract.OrderServiceStub(to_service)
        await stub.ListOrders(orders.contract.ListOrdersRequest(), timeout=5)
        # A log that does not answer for a moment holds all of them in flight.
        os.kill(server.pid, signal.SIGSTOP)
        try:
            requests = [orders.contract.CreateOrderRequest(name=str(n)) for n in range(CALLS)]
            calls = [stub.CreateOrder(request, timeout=10) for request in requests]
            # On the same connection, so behind them.
            await stub.ListOrders(orders.contract.ListOrdersRequest(), timeout=5)
            assert not [call for call in calls if call.done()]
            process.terminate()
            await process.says("ending")
            await asyncio.sleep(0.3)
            assert not [call for call in calls if call.done()]
        finally:
            os.kill(server.pid, signal.SIGCONT)
        answers = await asyncio.gather(*calls)
        positions = [position_of(await call.trailing_metadata()) for call in calls]
    assert await process.ends() == 0
    logged = {fact.key: fact.position for fact in facts(server, "orders")}
    answered = {answer.id: place for answer, place in zip(answers, positions, strict=True)}
    assert len(answered) == CALLS
    assert logged == answered


async def test_calls_that_keep_coming_are_done_or_refused(
    orders: Made, start: Start, server: RedisServer
) -> None:
    """Each call is answered, or nothing has come of it."""
    process = start(orders)
    acknowledged: set[str] = set()
    refusals: Counter[tuple[grpc.StatusCode, str]] = Counter()
    async with channel(await process.address()) as to_service:
        stub = orders.contract.OrderServiceStub(to_service)

        async def caller() -> None:
            while True:
                request_id = str(uuid.uuid4())
                request = orders.contract.CreateOrderRequest(request_id=request_id, name="Tea")
                try:
                    await stub.CreateOrder(request, timeout=10)
                except grpc.aio.AioRpcError as error:
                    refusals[error.code(), error.details() or ""] += 1
                    return
                acknowledged.add(request_id)

        callers = asyncio.gather(*(caller() for _ in range(CALLS)))
        await eventually(lambda: len(acknowledged) > 2 * CALLS)
        process.terminate()
        await callers
    assert await process.ends() == 0
    logged = [fact.meta.request_id for fact in facts(server, "orders")]
    assert {code for code, _ in refusals} == {grpc.StatusCode.UNAVAILABLE}, refusals
    assert len(logged) == len(set(logged))
    assert set(logged) == acknowledged, refusals


async def test_a_watch_goes_on_at_another_instance(
    orders: Made, start: Start, server: RedisServer
) -> None:
    ending, other = start(orders), start(orders)
    seen: list[Any] = []
    enough = asyncio.Event()
    async with (
        channel(await ending.address()) as to_ending,
        channel(await other.address()) as to_other,
    ):
        stub = orders.contract.OrderServiceStub(to_other)

        async def create() -> None:
            while not enough.is_set():
                await stub.CreateOrder(orders.contract.CreateOrderRequest(name="Tea"), timeout=10)
                await asyncio.sleep(0.01)

        creating = asyncio.gather(*(create() for _ in range(8)))
        watching = orders.contract.OrderServiceStub(to_ending).WatchOrders(
            orders.contract.WatchOrdersRequest(), timeout=10
        )
        with contextlib.suppress(grpc.aio.AioRpcError):
            async for change in watching:
                seen.append(change)
                if len(seen) == 100:
                    ending.terminate()
        assert await watching.code() is grpc.StatusCode.UNAVAILABLE
        position = position_of(await watching.trailing_metadata())
        assert position == seen[-1].position
        assert await ending.ends() == 0

        first = len(seen)
        await eventually(lambda: len(facts(server, "orders")) > first + 100)
        enough.set()
        await creating
        logged = facts(server, "orders")
        async for change in stub.WatchOrders(
            orders.contract.WatchOrdersRequest(after=position), timeout=10
        ):
            seen.append(change)
            if len(seen) == len(logged):
                break
    assert Counter(change.created.id for change in seen) == Counter(fact.key for fact in logged)
