"""An instance that is killed is replaced by one that stood by."""

from factfold_cli.redis_server import RedisServer

from .conftest import Start
from .running import Made
from .test_start_order import ORDERS, create_orders, every_order_has_one_shipment


async def test_who_stands_by_takes_over_and_answers_each_fact_once(
    orders: Made, shipments: Made, start: Start, server: RedisServer
) -> None:
    owner = start(orders)
    first = start(shipments)
    await first.address()
    last = start(shipments)
    await create_orders(orders, owner)
    await every_order_has_one_shipment(shipments, last, server)
    last.kill()
    await create_orders(orders, owner)
    await every_order_has_one_shipment(shipments, first, server, 2 * ORDERS)
