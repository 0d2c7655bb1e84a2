"""Contracts for tests, compiled on the spot."""

from __future__ import annotations

import tempfile
from pathlib import Path

import grpc_tools
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc

import factfold.v1
from factfold.v1 import options_pb2

_CHASSIS = Path(next(iter(factfold.v1.__path__))).parents[2]
_WELL_KNOWN = Path(next(iter(grpc_tools.__path__))) / "_proto"


def compiled(name: str, text: str) -> FileDescriptor:
    """The descriptor of the proto file `text`, under a `name` that no other test uses."""
    assert options_pb2.DESCRIPTOR
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, name).write_text(text)
        out = Path(folder, "out")
        includes = [f"-I{path}" for path in (folder, _CHASSIS / "protos", _WELL_KNOWN)]
        assert protoc.main(["", *includes, f"--descriptor_set_out={out}", name]) == 0
        (file,) = FileDescriptorSet.FromString(out.read_bytes()).file
    pool = descriptor_pool.Default()
    pool.Add(file)
    return pool.FindFileByName(name)
