"""A stream begins anew after its log is lost, and services go on with the new one."""

import asyncio
import subprocess

import grpc
import pytest
import redis
from cli.running import FACTFOLD, plain_environment

from factfold_cli.redis_server import RedisServer

from .conftest import Start
from .running import Made, Process, channel, eventually, facts, reacted

# By the append itself, and from then on by the service.
REFUSALS = (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.UNAVAILABLE)
GROUP = "shipments.create_shipment_for_order"


async def create(orders: Made, process: Process, name: str) -> None:
    async with channel(await process.address()) as to_service:
        request = orders.contract.CreateOrderRequest(name=name)
        await orders.contract.OrderServiceStub(to_service).CreateOrder(request, timeout=10)


async def test_the_running_owner_of_a_lost_log_refuses_until_it_is_restarted(
    orders: Made, shipments: Made, start: Start, server: RedisServer
) -> None:
    owner, reader = start(orders), start(shipments)
    await create(orders, owner, "before")
    await reader.address()
    await eventually(lambda: reacted(server, "orders", GROUP))
    with redis.Redis.from_url(server.url) as log:
        log.flushall()

    async def refused() -> None:
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await create(orders, owner, "lost")
        assert refusal.value.code() in REFUSALS
        assert "stream orders" in (refusal.value.details() or "")

    await refused()
    for stream in ("orders", "shipments"):
        done = await asyncio.to_thread(
            lambda stream: subprocess.run(
                [*FACTFOLD, "stream", "recreate", stream, "--yes"],
                cwd=shipments.root,
                env=plain_environment() | {"FACTFOLD_REDIS_URL": server.url},
                capture_output=True,
                text=True,
            ),
            stream,
        )
        assert (done.returncode, done.stderr) == (0, "")
    # It knows the log that is gone, and must not write to another one unasked.
    await refused()
    assert facts(server, "orders") == []
    for process in (owner, reader):
        process.terminate()
        assert await process.ends() == 0

    owner, reader = start(orders), start(shipments)
    await create(orders, owner, "after")
    await reader.address()
    await eventually(lambda: reacted(server, "orders", GROUP))
    for stream, made in (("orders", orders), ("shipments", shipments)):
        (fact,) = facts(server, stream)
        event = getattr(made.contract, "OrderCreated" if made is orders else "ShipmentCreated")
        assert event.FromString(fact.data).name == "after"
