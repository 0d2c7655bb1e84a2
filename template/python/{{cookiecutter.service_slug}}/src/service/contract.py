"""The contract's messages and client stubs under one short name."""

from typing import TYPE_CHECKING

import {{cookiecutter.__package}}.contract_pb2 as contract_pb2
from {{cookiecutter.__package}}.contract_pb2 import *
from {{cookiecutter.__package}}.contract_pb2_grpc import *

SERVICE = "{{cookiecutter.service_slug}}"
DESCRIPTORS = [contract_pb2.DESCRIPTOR]

if not TYPE_CHECKING:  # to mypy, a name that is not there stays an error of its line
    from factfold_chassis.contract import not_in_stubs

    __getattr__ = not_in_stubs
