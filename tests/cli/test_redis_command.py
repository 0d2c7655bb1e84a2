import signal
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from factfold_cli.redis_server import free_port

from .piped import piped
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


def test_given_server_is_only_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factfold: Callable[..., Command]
) -> None:
    url = factfold("redis").line("redis://127.0.0.1:")
    secret = tmp_path / "url"
    secret.write_text(url.replace("redis://", "redis://default:secret@") + "\n")
    for variable, value in (
        ("FACTFOLD_REDIS_URL", url),
        # A server without passwords takes any of the default user.
        ("FACTFOLD_REDIS_URL_FILE", str(secret)),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(variable, value)
            done = piped("redis", at=tmp_path)
            assert (done.returncode, done.stdout, done.stderr) == (
                0,
                f"{url}\n",
                f"nothing was started: {variable} names this server\n",
            )
            for more in (["--port", "7000"], ["--data", "log"]):
                done = piped("redis", *more, at=tmp_path)
                assert (done.returncode, done.stdout, done.stderr) == (
                    2,
                    "",
                    f"factfold: {variable} is set, so no server is started: unset it, or leave "
                    "--port and --data out\n",
                )
    assert not (tmp_path / "log").exists()


def test_given_server_that_does_not_answer_is_not_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    monkeypatch.setenv("FACTFOLD_REDIS_URL", f"redis://:secret@127.0.0.1:{port}/0")
    done = piped("redis", at=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (
        1,
        "",
        f"factfold: no log at redis://127.0.0.1:{port}/0: Error 111 connecting to "
        f"127.0.0.1:{port}. Connection refused; start it, or unset FACTFOLD_REDIS_URL to have one "
        "started\n",
    )


def test_file_without_a_url_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "url"
    monkeypatch.setenv("FACTFOLD_REDIS_URL_FILE", str(path))
    refused = f"factfold: FACTFOLD_REDIS_URL_FILE: {path}"
    done = piped("redis", at=tmp_path)
    assert (done.returncode, done.stderr) == (2, f"{refused} cannot be read\n")
    path.write_text("\n")
    done = piped("redis", at=tmp_path)
    assert (done.returncode, done.stderr) == (
        2,
        f"{refused} is empty: write the log's URL into it\n",
    )


def test_port_in_use_is_one_line(factfold: Callable[..., Command]) -> None:
    port = urlsplit(factfold("redis").line("redis://127.0.0.1:")).port
    second = factfold("redis", "--port", str(port))
    assert second.line("factfold:") == (
        f"factfold: Port {port} on 127.0.0.1 is in use: give another, or none"
    )
    assert second.code() == 1
