"""A real Redis, and a contract compiled as a service compiles its own."""

import sys
from collections.abc import AsyncIterator, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import redis as redis_py
from grpc_tools import protoc

from factfold_chassis.testing import redis_server as servers

HERE = Path(__file__).parent
CHASSIS = HERE.parents[1] / "template/python/{{cookiecutter.service_slug}}/chassis"


def _compile(out: Path) -> None:
    google = Path(protoc.__file__).parent / "_proto"
    arguments = ["", f"-I{HERE / 'protos'}", f"-I{CHASSIS / 'protos'}", f"-I{google}"]
    assert protoc.main([*arguments, f"--python_out={out}", "shop.proto", "bank.proto"]) == 0


@pytest.fixture(scope="session", autouse=True)
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    out = tmp_path_factory.mktemp("stubs")
    _compile(out)
    sys.path.insert(0, str(out))
    yield
    sys.path.remove(str(out))


@pytest.fixture(scope="session")
def shop(stubs: None) -> ModuleType:
    return import_module("shop_pb2")


@pytest.fixture(scope="session")
def bank(stubs: None) -> ModuleType:
    return import_module("bank_pb2")


@pytest.fixture(scope="session")
def shared_server() -> Iterator[servers.RedisServer]:
    with servers.start() as server:
        yield server


@pytest.fixture
def server(shared_server: servers.RedisServer) -> servers.RedisServer:
    """An empty server. Tests that break one start their own."""
    with redis_py.Redis.from_url(shared_server.url) as client:
        client.flushall()
        client.script_flush()
    return shared_server


@pytest.fixture
async def client(server: servers.RedisServer) -> AsyncIterator[redis_py.asyncio.Redis]:
    async with redis_py.asyncio.Redis.from_url(server.url, protocol=2) as client:
        yield client
