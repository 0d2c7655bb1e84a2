"""Services come up in any order, and answer each fact once."""

import asyncio
from typing import Any

import grpc
import pytest

from factfold_cli.redis_server import RedisServer

from .conftest import Start
from .running import (
    NOT_SERVING,
    SERVING,
    Made,
    Process,
    channel,
    eventually,
    facts,
    health,
    reacted,
)

ORDERS = 100


async def create_orders(orders: Made, process: Process) -> None:
    async with channel(await process.address()) as to_service:
        stub = orders.contract.OrderServiceStub(to_service)
        requests = [orders.contract.CreateOrderRequest(name=f"order {n}") for n in range(ORDERS)]
        await asyncio.gather(*(stub.CreateOrder(request, timeout=10) for request in requests))


async def every_order_has_one_shipment(
    shipments: Made, process: Process, server: RedisServer, number: int = ORDERS
) -> None:
    group = "shipments.create_shipment_for_order"
    await process.address()
    await eventually(lambda: reacted(server, "orders", group))
    made, shipped = facts(server, "orders"), facts(server, "shipments")
    assert len(made) == len(shipped) == number
    cause = {fact.meta.id: fact for fact in made}
    assert len(cause) == number
    assert {fact.meta.causation_id for fact in shipped} == cause.keys()
    for fact in shipped:
        of = cause[fact.meta.causation_id]
        # Both events have an id and a name, under the same numbers.
        event = shipments.contract.ShipmentCreated
        assert event.FromString(fact.data).name == event.FromString(of.data).name


async def test_subscriber_started_first_says_so_and_gets_all_history(
    orders: Made, shipments: Made, start: Start, server: RedisServer
) -> None:
    subscriber = start(shipments)

    def waiting() -> dict[str, Any] | None:
        reasons = subscriber.said("waiting")
        return next((line for line in reasons if "stream orders" in line["reason"]), None)

    line = await eventually(waiting)
    assert line["reason"] == (
        "view shipments waits for stream orders; "
        "reaction create_shipment_for_order waits for stream orders"
    )
    assert await health(line["address"]) == NOT_SERVING
    async with channel(line["address"]) as to_service:
        stub = shipments.contract.ShipmentServiceStub(to_service)
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await stub.ListShipments(shipments.contract.ListShipmentsRequest(), timeout=5)
    assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE
    assert refusal.value.details() == f"not ready: {line['reason']}; retry later"

    await create_orders(orders, start(orders))
    await every_order_has_one_shipment(shipments, subscriber, server)
    assert await health(line["address"]) == SERVING


async def test_subscriber_started_last_gets_all_history(
    orders: Made, shipments: Made, start: Start, server: RedisServer
) -> None:
    await create_orders(orders, start(orders))
    await every_order_has_one_shipment(shipments, start(shipments), server)


async def test_two_that_subscribe_to_each_other_come_up_and_do_not_answer_for_ever(
    mutual: tuple[Made, Made], start: Start, server: RedisServer
) -> None:
    a, b = mutual
    of_a, of_b = start(a), start(b)
    async with channel(await of_a.address()) as to_a, channel(await of_b.address()) as to_b:
        for n in range(10):
            request: Any = a.contract.CreateARequest(name=f"a {n}")
            await a.contract.AServiceStub(to_a).CreateA(request, timeout=5)
            request = b.contract.CreateBRequest(name=f"b {n}")
            await b.contract.BServiceStub(to_b).CreateB(request, timeout=5)

    def quiet() -> bool:
        """Each has answered all that there is, so that no more can come."""
        sizes = len(facts(server, "a")), len(facts(server, "b"))
        done = reacted(server, "a", "b.create_b_for_a") and reacted(server, "b", "a.create_a_for_b")
        return done and sizes == (len(facts(server, "a")), len(facts(server, "b"))) > (10, 10)

    await eventually(quiet)
    for own, other in (("a", "b"), ("b", "a")):
        asked = {fact.meta.id for fact in facts(server, own) if not fact.meta.causation_id}
        answers = [fact.meta.causation_id for fact in facts(server, other)]
        assert len(asked) == 10
        assert sorted(filter(None, answers)) == sorted(asked)
