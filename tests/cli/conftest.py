import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from topologies import Cluster, Sentinels

from .running import FACTFOLD, Command


@pytest.fixture
def factfold() -> Iterator[Callable[..., Command]]:
    """Starts `factfold` with arguments and environment variables; ended with the test."""
    started: list[Command] = []

    def start(*arguments: str, **environment: str) -> Command:
        started.append(Command(*arguments, **environment))
        return started[-1]

    yield start
    for command in started:
        command.send(signal.SIGTERM)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Three masters with a replica each; a test leaves it as it was, but for its facts."""
    with Cluster() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def sentinels() -> Iterator[Sentinels]:
    with Sentinels(replicas=1) as sentinels:
        yield sentinels


@pytest.fixture
def services(tmp_path: Path) -> Path:
    """A folder with the generated services orders and shipments, which subscribes to orders."""
    for words in (["orders"], ["shipments", "--subscribe", "orders"]):
        command = [*FACTFOLD, "new", *words, "--language", "python", "--no-input"]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    return tmp_path
