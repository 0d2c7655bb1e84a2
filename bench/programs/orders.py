"""The calls that are measured: those of a generated service about orders."""

import time

import grpc
from acme.orders.v1 import contract_pb2, contract_pb2_grpc

NAME = "Eight pallets of tiles, to be unloaded at gate 4 of the terminal in Rotterdam, not before "
NAME += "seven in the morning; the driver has the papers"

# 200 bytes as a message.
ANSWER = contract_pb2.Order(id="7c5e0c3e-1a52-5d4e-9d0e-0d5a4a3c7f10", name=NAME, version=1)

GET_ORDER = "/acme.orders.v1.OrderService/GetOrder"


def ordered(address: str) -> tuple[bytes, bytes]:
    """A GetOrder request, and the answer that every process gives to it by now."""
    with grpc.insecure_channel(address) as channel:
        stub = contract_pb2_grpc.OrderServiceStub(channel)
        created = stub.CreateOrder(contract_pb2.CreateOrderRequest(name=NAME))
        time.sleep(1.0)
        request = contract_pb2.GetOrderRequest(id=created.id)
        return request.SerializeToString(), stub.GetOrder(request).SerializeToString()
