"""The contract's messages and client stubs under one short name."""

from {{cookiecutter.__package}}.contract_pb2 import *
from {{cookiecutter.__package}}.contract_pb2_grpc import *

SERVICE = "{{cookiecutter.service_slug}}"
