"""How many have each name. It is kept once a handler imports it."""

from google.protobuf.wrappers_pb2 import UInt64Value

from service import contract
from service.views import {{cookiecutter.__plural_snake}}


def add(count: UInt64Value, row: contract.{{cookiecutter.aggregate}}) -> None:
    count.value += 1


def remove(count: UInt64Value, row: contract.{{cookiecutter.aggregate}}) -> None:
    count.value -= 1


TABLE = {{cookiecutter.__plural_snake}}.VIEW.aggregate(
    "{{cookiecutter.__plural_snake}}_by_name",
    source={{cookiecutter.__plural_snake}}.TABLE,
    by=lambda row: row.name or None,
    row=UInt64Value,
    add=add,
    remove=remove,
)
