"""What docs/operating.md of a generated repository says to do, done: its shell blocks are run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
import redis as redis_py
from conftest import CHASSIS
from test_service import CODERS, LIGHT, Lamp, Process

from factfold_chassis.testing import redis_server as servers

PAGE = (CHASSIS.parent / "docs/operating.md").read_text()
PORT = "6399"  # in the page
# Where only the server is installed.
REDIS_CLI = f"""#!{sys.executable}
import contextlib, sys
import redis
(_, kind, where, *command) = sys.argv
url = where if kind == "-u" else f"redis://127.0.0.1:{{where}}/0"
client = redis.Redis.from_url(url)
client.response_callbacks.clear()
with contextlib.suppress(redis.ConnectionError):
    print(client.execute_command(*command).decode())
"""
Launch = Callable[..., Process]


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[servers.RedisServer]:
    with servers.start(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    started: list[Process] = []

    def start(**given: str) -> Process:
        started.append(Process(tmp_path, FACTFOLD_SNAPSHOT_DIR=str(tmp_path / "kept"), **given))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.wait()


@pytest.fixture
def follow(tmp_path: Path, redis: servers.RedisServer) -> Iterator[Callable[..., None]]:
    """`follow("back up")` runs the block that begins with `# back up`, as a shell does."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "redis-server").symlink_to(servers.find())
    if (found := shutil.which("redis-cli")) is not None:
        (tools / "redis-cli").symlink_to(found)
    else:
        (tools / "redis-cli").write_text(REDIS_CLI)
        (tools / "redis-cli").chmod(0o755)
    port = str(servers.free_port())

    def run(name: str, **variables: str) -> None:
        (block,) = re.findall(rf"^```sh\n# {name}\n(.*?)^```$", PAGE, re.M | re.S)
        done = subprocess.run(
            [
                "sh",
                "-euc",
                block.replace(PORT, port).replace("{{cookiecutter.service_slug}}", "me"),
            ],
            cwd=tmp_path,
            env={
                **os.environ,
                "PATH": os.pathsep.join([str(tools), os.environ["PATH"]]),
                "FACTFOLD_REDIS_URL": redis.url,
                "REDIS_DATA": str(redis.data_dir),
                **variables,
            },
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    yield run
    with redis_py.Redis(port=int(port)) as left:
        try:
            left.shutdown(nosave=True)
        except redis_py.ConnectionError:
            return  # as it should be


def light(address: str, *ids: str, at_least: str = "") -> str:
    """Positions of the lamps `ids`, the last one."""
    position = ""
    metadata = [("factfold-at-least", at_least)] if at_least else []
    with grpc.insecure_channel(address) as channel:
        ask = channel.unary_unary(LIGHT, *CODERS)
        for id in ids:
            _, call = ask.with_call(Lamp(id=id), timeout=5, metadata=metadata)
            position = str(dict(call.trailing_metadata())["factfold-position"])
    return position


def lit(address: str, id: str, at_least: str = "") -> bool:
    with grpc.insecure_channel(address) as channel:
        ask = channel.unary_unary("/acme.lamps.v1.LampService/GetLamp", *CODERS)
        metadata = [("factfold-at-least", at_least)] if at_least else []
        return bool(ask(Lamp(id=id), timeout=5, metadata=metadata).id)


def names(first: int, last: int) -> list[str]:
    return [f"lamp {at}" for at in range(first, last)]


def test_a_restored_backup_is_what_the_service_goes_on_with(
    launch: Launch, redis: servers.RedisServer, follow: Callable[..., None], tmp_path: Path
) -> None:
    process = launch(FACTFOLD_REDIS_URL=redis.url)
    address = process.says("serving")["address"]
    kept = light(address, *names(0, 20))
    follow("back up")
    lost = light(address, *names(20, 60))
    process.process.terminate()
    assert process.ends() == 0
    redis.kill()
    follow("restore")
    redis.start_again()

    process = launch(FACTFOLD_REDIS_URL=redis.url, FACTFOLD_EXPECT_LOG="true")
    address = process.says("serving")["address"]
    assert any("the log changed: stream lamps" in line for line in process.lines)
    assert [*(tmp_path / "kept").glob("*.outdated")]
    assert lit(address, "lamp 19", kept)
    assert not lit(address, "lamp 59")
    with pytest.raises(grpc.RpcError) as error:
        lit(address, "lamp 59", lost)
    assert error.value.code() is grpc.StatusCode.UNAVAILABLE
    assert lit(address, "new", light(address, *names(100, 160), "new"))
    with pytest.raises(grpc.RpcError) as error:
        lit(address, "lamp 59", lost)
    assert error.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    # What was there before the restore is kept, for whoever misses something.
    assert [*(redis.data_dir / "before").iterdir()]


def test_a_restore_beside_a_running_service_is_noticed_by_it(
    launch: Launch, redis: servers.RedisServer, follow: Callable[..., None]
) -> None:
    process = launch(FACTFOLD_REDIS_URL=redis.url)
    address = process.says("serving")["address"]
    light(address, *names(0, 20))
    follow("back up")
    light(address, *names(20, 60))
    redis.kill()
    follow("restore")
    redis.start_again()
    process.says("serving", 20)
    position = light(address, *names(60, 70))
    assert lit(address, "lamp 69", position)
    assert lit(address, "lamp 19")
    assert not lit(address, "lamp 59")


def test_redis_starts_empty_with_an_rdb_file_alone(
    redis: servers.RedisServer, follow: Callable[..., None], tmp_path: Path
) -> None:
    """Why the restore is not just a copy; once it is, the page can be shorter."""
    with redis_py.Redis.from_url(redis.url) as client:
        client.set("a", 1)
        follow("back up")
        redis.kill()
        for path in redis.data_dir.glob("appendonly*"):
            path.rename(tmp_path / path.name)
        redis.start_again()
        assert client.dbsize() == 0


def test_the_password_of_redis_is_renewed_one_instance_after_the_other(
    launch: Launch, redis: servers.RedisServer, follow: Callable[..., None], tmp_path: Path
) -> None:
    def url(password: str) -> str:
        return redis.url.replace("//", f"//me:{password}@")

    file = tmp_path / "url"
    with redis_py.Redis.from_url(redis.url) as admin:
        admin.execute_command("ACL", "SETUSER", "me", "on", ">old", "~*", "&*", "+@all")
    file.write_text(url("old"))
    process = launch(FACTFOLD_REDIS_URL_FILE=str(file))
    process.says("serving")
    follow("add a password", NEW="new")
    file.write_text(url("new"))
    process.process.terminate()
    assert process.ends() == 0
    process = launch(FACTFOLD_REDIS_URL_FILE=str(file))
    address = process.says("serving")["address"]
    follow("remove a password", OLD="old")
    assert lit(address, "a", light(address, "a"))
    file.write_text(url("old"))
    forgotten = launch(FACTFOLD_REDIS_URL_FILE=str(file))
    forgotten.says("waiting for Redis: invalid username-password pair or user is disabled.")
    assert not any("old@" in line for line in forgotten.lines)
