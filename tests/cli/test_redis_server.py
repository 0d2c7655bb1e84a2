"""The embedded server, with real servers and real kills."""

import contextlib
import importlib.util
import os
import platform
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from factfold_cli import redis_server

from .running import ends


def call(server: redis_server.RedisServer, *words: str) -> bytes:
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(" ".join(words).encode() + b"\r\n")
        return connection.recv(65_536)


def fake_server(folder: Path, name: str, version: str) -> None:
    script = folder / name
    script.write_text(f"#!/bin/sh\necho '{version}'\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)


def test_listens_on_loopback_with_an_append_only_file_and_no_eviction() -> None:
    with redis_server.start(fsync="always") as server:
        assert call(server, "PING") == b"+PONG\r\n"
        for name, value in {
            "bind": "127.0.0.1",
            "protected-mode": "yes",
            "appendonly": "yes",
            "appendfsync": "always",
            "maxmemory-policy": "noeviction",
        }.items():
            assert call(server, "CONFIG", "GET", name).endswith(f"\r\n{value}\r\n".encode())
        assert server.url == f"redis://127.0.0.1:{server.port}/0"
        assert f"process_id:{server.pid}".encode() in call(server, "INFO", "server")


def test_temporary_folder_goes_with_the_server() -> None:
    server = redis_server.start()
    assert server.data_dir.is_dir()
    pid = server.pid
    server.stop()
    assert ends(pid)
    assert not server.data_dir.exists()
    with pytest.raises(redis_server.ServerError) as caught:
        server.start_again()
    assert str(caught.value) == "The server's temporary folder is gone with it: start a new server"


def test_killed_server_starts_again_with_its_data_on_its_port() -> None:
    with redis_server.start(fsync="always") as server:
        first, port = server.pid, server.port
        call(server, "SET", "a", "1")
        server.kill()
        assert ends(first)
        server.start_again()
        assert server.pid != first
        assert server.port == port
        assert call(server, "GET", "a") == b"$1\r\n1\r\n"


def test_own_folder_keeps_data_and_serves_one_server(tmp_path: Path) -> None:
    with redis_server.start(tmp_path / "data") as server:
        call(server, "SET", "a", "1")
        with pytest.raises(redis_server.ServerError) as caught:
            redis_server.start(tmp_path / "data")
        assert str(caught.value) == (
            f"Data folder {tmp_path / 'data'} is used by another server: end that one first"
        )
    with redis_server.start(tmp_path / "data") as server:
        assert call(server, "GET", "a") == b"$1\r\n1\r\n"


def test_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "server.lock").mkdir()
    with pytest.raises(redis_server.ServerError) as caught:
        redis_server.start(tmp_path)
    assert str(caught.value) == f"Data folder {tmp_path} cannot be written: give another"


def test_port_in_use_and_bad_option_are_one_line() -> None:
    with redis_server.start() as server:
        with pytest.raises(redis_server.PortInUse) as taken:
            redis_server.start(port=server.port)
        assert str(taken.value) == (
            f"Port {server.port} on 127.0.0.1 is in use: give another, or none"
        )
    with pytest.raises(redis_server.ServerError, match=r"^The Redis server ended at once: .+$"):
        redis_server.start(extra=("--no-such-option", "1"))


PARENT = """
import sys, threading, time
sys.path.insert(0, {folder!r})
import redis_server
def begin():
    server = redis_server.start()
    servers.append(server)
    print(server.pid, server.data_dir, flush=True)
servers = []
thread = threading.Thread(target=begin)
thread.start()
thread.join()
{forks}
time.sleep(60)
"""


@pytest.mark.parametrize("forks", ["", "import os; os.fork()"], ids=["alone", "child has pipe"])
def test_server_outlives_its_thread_and_ends_with_its_killed_parent(forks: str) -> None:
    folder = str(Path(redis_server.__file__).parent)
    # Its own session, so that the forked child can be ended by group.
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT.format(folder=folder, forks=forks)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert parent.stdout is not None
        pid, data_dir = parent.stdout.readline().split()
        time.sleep(1.2)
        os.kill(int(pid), 0)
        parent.kill()
        parent.wait()
        assert ends(int(pid))
        deadline = time.monotonic() + 10
        while Path(data_dir).exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not Path(data_dir).exists()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(parent.pid, signal.SIGKILL)
        parent.communicate()


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone can tie a child to its parent")
def test_server_ends_with_its_killed_keeper() -> None:
    server = redis_server.start()
    keeper = int(Path(f"/proc/{server.pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    os.kill(keeper, signal.SIGKILL)
    assert ends(server.pid)
    server.stop()


STUBBORN = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(os.getpid(), flush=True)
time.sleep(60)
"""


def kept(script: str, end_seconds: float = 10) -> subprocess.Popen[str]:
    return subprocess.Popen(
        redis_server.kept([sys.executable, "-c", script], end_seconds),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )


def test_kept_command_ends_by_itself_with_its_exit_code() -> None:
    with kept("print('hello'); raise SystemExit(3)") as keeper:
        assert keeper.stdout is not None
        assert keeper.stdout.read() == "hello\n"
        assert keeper.wait(10) == 3


def test_kept_command_that_ignores_sigterm_is_killed_after_the_bound() -> None:
    with kept(STUBBORN, end_seconds=0.2) as keeper:
        assert keeper.stdout is not None
        pid = int(keeper.stdout.readline())
        keeper.communicate(timeout=10)
        assert ends(pid)
        assert keeper.returncode == 128 + signal.SIGKILL


def test_concurrent_starts_do_not_take_each_other_for_their_own() -> None:
    servers: list[redis_server.RedisServer] = []
    threads = [
        threading.Thread(target=lambda: servers.append(redis_server.start())) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    try:
        assert len({server.port for server in servers}) == 6
        for server in servers:
            assert f"process_id:{server.pid}".encode() in call(server, "INFO", "server")
    finally:
        for server in servers:
            server.stop()


@pytest.mark.parametrize(
    ("name", "version", "taken"),
    [
        ("redis-server", "Redis server v=6.2.14 sha=0:0 malloc=libc bits=64 build=0", True),
        ("redis-server", "Redis server v=10.0.0 sha=0:0 malloc=libc bits=64 build=0", True),
        ("valkey-server", "Valkey server v=8.0.1 sha=0:0 malloc=libc bits=64 build=0", True),
        ("redis-server", "Redis server v=6.0.16 sha=0:0 malloc=libc bits=64 build=0", False),
        ("redis-server", "something else", False),
    ],
)
def test_server_on_path_counts_from_6_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, version: str, taken: bool
) -> None:
    fake_server(tmp_path, name, version)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(platform, "machine", lambda: "other")
    if taken:
        assert redis_server.find() == tmp_path / name
    else:
        with pytest.raises(redis_server.ServerNotFound) as caught:
            redis_server.find()
        assert str(caught.value) == (
            "No Redis server was found: install the package redis-server or valkey-server, "
            "6.2 or newer, so that it is on PATH"
        )


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64",
    reason="the wheel holds a server for Linux on x86-64",
)
def test_server_comes_out_of_the_wheel_where_nothing_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    found = redis_server.find()
    assert found.parent == tmp_path / "cache" / "factfold"
    assert list(found.parent.iterdir()) == [found]
    with redis_server.start() as server:
        assert b"redis_version:6.2.14" in call(server, "INFO", "server")
