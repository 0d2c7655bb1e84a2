"""The calls that are measured: those of a generated service about orders."""

from acme.orders.v1 import contract_pb2

NAME = "Eight pallets of tiles, to be unloaded at gate 4 of the terminal in Rotterdam, not before "
NAME += "seven in the morning; the driver has the papers"

# 200 bytes as a message.
ANSWER = contract_pb2.Order(id="7c5e0c3e-1a52-5d4e-9d0e-0d5a4a3c7f10", name=NAME, version=1)
