"""A view of orders in a process of its own, which says when it has folded a fact.

usage: latency_view ROOT REDIS_URL
"""

import asyncio
import os
import sys

from acme.orders.v1 import contract_pb2

from bench.programs.stopwatch import note
from bench.programs.turns import run
from factfold_chassis.contract import Contract
from factfold_chassis.facts import Fact
from factfold_chassis.log.redis import Redis
from factfold_chassis.views.declare import View, fold
from factfold_chassis.views.engine import ViewEngine

root, url = sys.argv[1:]

VIEW = View("orders")
ORDERS = VIEW.table("orders", contract_pb2.Order)

caught_up = False


@fold(contract_pb2.OrderCreated, into=ORDERS)
def order_created(
    row: contract_pb2.Order | None, event: contract_pb2.OrderCreated, fact: Fact
) -> contract_pb2.Order | None:
    row = contract_pb2.Order(id=event.id, name=event.name, version=fact.version)
    if caught_up:
        os.write(1, note())
    return row


async def main() -> None:
    news = asyncio.Event()

    def count(name: str, **attributes: str) -> None:
        raise AssertionError(name)

    engine = ViewEngine(
        VIEW,
        [order_created],
        Contract([], [contract_pb2.DESCRIPTOR]),
        Redis(url),
        count=count,
        changed=news.set,
    )
    task = asyncio.create_task(engine.run())
    while not engine.ready:
        news.clear()
        await news.wait()
    global caught_up
    caught_up = True
    os.write(1, note())
    await task


run(main, as_service=True)
