"""Generated services, made once and run as processes, each test with a Redis of its own."""

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import pytest
from cli.running import FACTFOLD, plain_environment

from factfold_cli import redis_server
from factfold_cli.discovery import discover
from factfold_cli.launchers import launcher

from .running import Made, Process

Start = Callable[..., Process]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("services")


def factfold(here: Path, *arguments: str) -> None:
    done = subprocess.run(
        [*FACTFOLD, *arguments], cwd=here, env=plain_environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def new(here: Path, name: str, *arguments: str) -> None:
    factfold(here, "new", name, "--language", "python", "--no-input", *arguments)


def prepared(root: Path) -> Made:
    (service,) = discover([root])
    python = Path(asyncio.run(launcher(service).prepare(print)).command[0])
    sys.path.append(str(root / "gen"))
    contract = import_module(f"acme.{service.name}.v1.contract_pb2")
    stubs = import_module(f"acme.{service.name}.v1.contract_pb2_grpc")
    vars(contract).update({name: stub for name, stub in vars(stubs).items() if "Stub" in name})
    return Made(root, python, contract)


@pytest.fixture(scope="session")
def orders(folder: Path) -> Made:
    new(folder, "orders")
    return prepared(folder / "orders")


@pytest.fixture(scope="session")
def shipments(folder: Path, orders: Made) -> Made:
    """Subscribes to orders."""
    new(folder, "shipments", "--subscribe", "orders")
    return prepared(folder / "shipments")


@pytest.fixture(scope="session")
def mutual(folder: Path) -> tuple[Made, Made]:
    """a and b, which subscribe to each other."""
    new(folder, "a")
    new(folder, "b", "--subscribe", "a")
    factfold(folder / "a", "add", "subscription", "../b")
    return prepared(folder / "a"), prepared(folder / "b")


@pytest.fixture
def server() -> Iterator[redis_server.RedisServer]:
    with redis_server.start(fsync="always") as server:
        yield server


@pytest.fixture
def start(server: redis_server.RedisServer) -> Iterator[Start]:
    """`start(MADE, SETTING=…)` runs one more instance, until the end of the test."""
    started: list[Process] = []

    def begin(made: Made, **settings: str) -> Process:
        started.append(Process(made, server.url, **settings))
        return started[-1]

    yield begin
    for process in started:
        process.close()
        # For the report of a failed test.
        print("\n".join([f"--- {process.name}", *process.lines]))
