"""Redis dies again and again under callers who go on: nothing is lost, nothing is there twice."""

import asyncio
import uuid
from collections import Counter
from typing import Any

import grpc

from factfold_cli.redis_server import RedisServer

from .conftest import Start
from .running import Made, channel, eventually, facts, position_of

CALLERS = 64
ROUND = 500  # calls that are answered between two kills
REPEATED = 50  # of the answered calls, in the end
PAUSE = 0.03  # seconds between two calls of one caller


class Callers:
    """64 that create, each with a request_id of its own, and one that asks all the time."""

    def __init__(self, made: Made, stub: Any) -> None:
        self._contract = made.contract
        self._stub = stub
        self._enough = asyncio.Event()
        self.acknowledged: dict[str, tuple[str, str]] = {}  # request_id → id, position
        self.unknown: set[str] = set()  # request_id
        self.codes: Counter[grpc.StatusCode] = Counter()
        self.queries = 0
        self.failed_queries: list[grpc.aio.AioRpcError] = []

    async def run(self) -> None:
        await asyncio.gather(self._ask(), *(self._create() for _ in range(CALLERS)))

    def stop(self) -> None:
        self._enough.set()

    async def acknowledge(self, calls: int) -> None:
        """Wait until so many more have been answered."""
        wanted = len(self.acknowledged) + calls
        await eventually(lambda: len(self.acknowledged) >= wanted)

    async def refuse(self, calls: int) -> None:
        """Wait until so many more have failed."""
        wanted = self.codes.total() + calls
        await eventually(lambda: self.codes.total() >= wanted)

    async def _create(self) -> None:
        while not self._enough.is_set():
            await self.send(str(uuid.uuid4()))
            await asyncio.sleep(PAUSE)

    async def send(self, request_id: str) -> None:
        request = self._contract.CreateOrderRequest(request_id=request_id, name=request_id[:8])
        call = self._stub.CreateOrder(request, timeout=10)
        try:
            answer = await call
        except grpc.aio.AioRpcError as error:
            self.codes[error.code()] += 1
            self.unknown.add(request_id)
            return
        position = position_of(await call.trailing_metadata())
        self.acknowledged[request_id] = answer.id, position

    async def _ask(self) -> None:
        await eventually(lambda: self.acknowledged)
        known, position = next(iter(self.acknowledged.values()))
        seen = (("factfold-at-least", position),)
        get = self._contract.GetOrderRequest(id=known)
        page = self._contract.ListOrdersRequest(page_size=10)
        while not self._enough.is_set():
            try:
                assert (await self._stub.GetOrder(get, timeout=1, metadata=seen)).item.id == known
                assert (await self._stub.ListOrders(page, timeout=1)).items
            except grpc.aio.AioRpcError as error:
                self.failed_queries.append(error)
            self.queries += 1
            await asyncio.sleep(0.01)


async def view(made: Made, address: str, at_least: str) -> dict[str, tuple[str, int]]:
    """id → name and version of all that an instance lists, page after page."""
    found: dict[str, tuple[str, int]] = {}
    token = ""
    async with channel(address) as to_service:
        stub = made.contract.OrderServiceStub(to_service)
        while True:
            request = made.contract.ListOrdersRequest(page_size=1000, page_token=token)
            metadata = (("factfold-at-least", at_least),)
            page = await stub.ListOrders(request, timeout=5, metadata=metadata)
            assert not found.keys() & {item.id for item in page.items}
            found |= {item.id: (item.name, item.version) for item in page.items}
            token = page.next_page_token
            if not token:
                return found


async def test_what_was_acknowledged_is_in_the_log_once(
    orders: Made, start: Start, server: RedisServer
) -> None:
    process = start(orders)
    async with channel(await process.address()) as to_service:
        callers = Callers(orders, orders.contract.OrderServiceStub(to_service))
        running = asyncio.create_task(callers.run())
        # The second time it is back before anybody has been told.
        for told in (CALLERS, 0, CALLERS):
            await callers.acknowledge(ROUND)
            queries = callers.queries
            await asyncio.to_thread(server.kill)
            await callers.refuse(told)
            if told:
                await eventually(lambda wanted=queries + told: callers.queries >= wanted)
            assert callers.failed_queries == []
            await asyncio.to_thread(server.start_again)
        await callers.acknowledge(ROUND)
        callers.stop()
        await running

        assert set(callers.codes) == {grpc.StatusCode.UNAVAILABLE}
        logged = facts(server, "orders")
        assert max(Counter(fact.meta.request_id for fact in logged).values()) == 1
        places = {fact.meta.request_id: (fact.key, fact.position) for fact in logged}
        assert callers.acknowledged.items() <= places.items()
        assert places.keys() <= callers.acknowledged.keys() | callers.unknown

        # Whoever does not know asks again, and some who do: one fact, and the answer of old.
        again = callers.unknown | set(list(callers.acknowledged)[:REPEATED])
        callers.unknown = set()
        await asyncio.gather(*map(callers.send, again))
        assert callers.unknown == set()
        assert places.items() <= callers.acknowledged.items()
        logged = facts(server, "orders")
        assert len(logged) == len(callers.acknowledged)
        assert callers.acknowledged == {
            fact.meta.request_id: (fact.key, fact.position) for fact in logged
        }

    assert process.running
    assert len(process.said("starting")) == len(process.said("serving")) == 1
    assert process.said("not serving") == []
    at_least = ",".join({fact.position.split("@")[0]: fact.position for fact in logged}.values())
    rows = {fact.key: (fact.meta.request_id[:8], 1) for fact in logged}
    assert await view(orders, await process.address(), at_least) == rows
    assert await view(orders, await start(orders).address(), at_least) == rows
