"""Puts the probe together as its environment says (factfold/v1/conformance.proto)."""

import os
from importlib import import_module

from probe.v1 import inputs_pb2, moves_pb2, outputs_pb2
from service import folds, handlers

from factfold.v1 import conformance_pb2
from factfold_chassis import Service

STREAMS = {"inputs": inputs_pb2, "moves": moves_pb2, "outputs": outputs_pb2}


def build() -> Service:
    owns = _listed("PROBE_OWNS", ",".join(STREAMS))
    own = [STREAMS[name].DESCRIPTOR for name in owns]
    names = _listed("PROBE_REACTIONS", "answer,scatter")
    reactions = [import_module(f"service.reactions.{name}") for name in names]
    return Service(
        name=os.environ.get("PROBE_NAME", "probe"),
        contract=[conformance_pb2.DESCRIPTOR, *own],
        subscriptions=[STREAMS[name].DESCRIPTOR for name in STREAMS if name not in owns],
        parts=[handlers, folds, *reactions],
    )


def _listed(variable: str, default: str) -> list[str]:
    return list(filter(None, os.environ.get(variable, default).split(",")))
