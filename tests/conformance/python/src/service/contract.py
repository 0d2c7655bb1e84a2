"""The contract's messages and client stubs under one short name."""
# ruff: noqa: F403

from factfold.v1.conformance_pb2 import *
from probe.v1.inputs_pb2 import *
from probe.v1.moves_pb2 import *
from probe.v1.outputs_pb2 import *
from probe.v1.view_pb2 import *
