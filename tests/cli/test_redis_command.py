import signal
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from .running import Command, children, ends


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_runs_until_it_is_told_to_end(
    factfold: Callable[..., Command], number: signal.Signals
) -> None:
    command = factfold("redis")
    url = urlsplit(command.line("redis://127.0.0.1:"))
    below = children(command.pid)
    assert url.port is not None
    assert below
    assert command.send(number) == 0
    assert all(map(ends, below))


def test_keeps_its_data_where_it_is_told(factfold: Callable[..., Command], tmp_path: Path) -> None:
    command = factfold("redis", "--data", str(tmp_path / "log"))
    command.line("redis://127.0.0.1:")
    assert command.send(signal.SIGINT) == 0
    assert (tmp_path / "log").is_dir()


def test_server_ends_with_the_killed_command(factfold: Callable[..., Command]) -> None:
    command = factfold("redis")
    command.line("redis://127.0.0.1:")
    below = children(command.pid)
    command.send(signal.SIGKILL)
    assert all(map(ends, below))


def test_given_server_is_only_named(factfold: Callable[..., Command], tmp_path: Path) -> None:
    secret = tmp_path / "url"
    secret.write_text("rediss://user:secret@log.test:6380/1\n")
    named = factfold("redis", FACTFOLD_REDIS_URL="redis://:secret@log.test:6379/0")
    assert named.line("redis://") == "redis://log.test:6379/0"
    filed = factfold("redis", FACTFOLD_REDIS_URL_FILE=str(secret))
    assert filed.line("rediss://") == "rediss://log.test:6380/1"
    assert named.code() == filed.code() == 0


def test_port_in_use_is_one_line(factfold: Callable[..., Command]) -> None:
    port = urlsplit(factfold("redis").line("redis://127.0.0.1:")).port
    second = factfold("redis", "--port", str(port))
    assert second.line("factfold:") == (
        f"factfold: Port {port} on 127.0.0.1 is in use: give another, or none"
    )
    assert second.code() == 1
