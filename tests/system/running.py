"""A generated service as a process, run as `factfold up` runs it, and the log that it writes."""

import asyncio
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import grpc
import redis
from cli.running import plain_environment
from grpc_health.v1 import health_pb2, health_pb2_grpc

from factfold.v1.fact_pb2 import FactMeta
from factfold_cli.processes import foreign_environment
from factfold_cli.redis_server import RedisServer, kept
from factfold_cli.services import CHANNEL_OPTIONS

Result = TypeVar("Result")

FIELDS = [b"type", b"key", b"meta", b"data"]
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
PARTITIONS = 4


@dataclass(frozen=True)
class Made:
    """A generated repository, the Python that runs it, and its stubs under one name."""

    root: Path
    python: Path
    contract: ModuleType


class Process:
    """One instance of a service. It ends with this process, however that ends."""

    def __init__(self, made: Made, redis_url: str, **settings: str) -> None:
        self.name = made.root.name
        foreign = foreign_environment()
        plain = {name: text for name, text in plain_environment().items() if name in foreign}
        paths = [str(made.root / name) for name in ("src", "gen", "chassis/src")]
        self._process = subprocess.Popen(
            kept([str(made.python), "-m", "service"], 15.0),
            cwd=made.root,
            env={
                **plain,
                "PYTHONPATH": os.pathsep.join(paths),
                "PYTHONUNBUFFERED": "1",
                "FACTFOLD_REDIS_URL": redis_url,
                "FACTFOLD_LISTEN": "127.0.0.1:0",
                **settings,
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line.rstrip("\n"))

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def said(self, message: str) -> list[dict[str, Any]]:
        """The log lines with this message."""
        logged = [json.loads(line) for line in self.lines if line.startswith("{")]
        return [line for line in logged if line["message"] == message]

    async def says(self, message: str) -> dict[str, Any]:
        """The first log line with this message, waited for."""

        def found() -> dict[str, Any] | None:
            lines = self.said(message)
            assert lines or self.running, "\n".join(self.lines)
            return lines[0] if lines else None

        try:
            return await eventually(found)
        except AssertionError:
            raise AssertionError(f"no {message!r} in:\n" + "\n".join(self.lines)) from None

    async def address(self) -> str:
        """host:port, once it is ready."""
        line = await self.says("serving")
        return str(line["address"])

    def terminate(self) -> None:
        """SIGTERM, which its keeper hands on."""
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL, to the service and to its keeper."""
        os.killpg(self._process.pid, signal.SIGKILL)

    async def ends(self) -> int:
        """The exit code, waited for."""
        return await asyncio.to_thread(self._process.wait, 20)

    def close(self) -> None:
        if self.running:
            self.terminate()
        self._process.wait(20)
        self._reader.join(20)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


@dataclass(frozen=True)
class Logged:
    """A fact as it stands in Redis."""

    position: str
    type: str
    key: str
    meta: FactMeta
    data: bytes


def xrange(server: RedisServer, log: str) -> list[tuple[bytes, list[bytes]]]:
    """The entries of a Redis stream, raw: redis-py would make a dict of the fields."""
    with redis.Redis.from_url(server.url, protocol=2) as client:
        connection = client.connection_pool.get_connection()
        connection.send_command("XRANGE", log, "-", "+")
        entries = connection.read_response(disable_decoding=True)
        client.connection_pool.release(connection)
    return [(entry_id, fields) for entry_id, fields in entries]


def facts(server: RedisServer, stream: str) -> list[Logged]:
    """All facts of a stream, partition by partition; their numbers have no gaps."""
    found = []
    with redis.Redis.from_url(server.url, protocol=2, decode_responses=True) as client:
        for partition in range(PARTITIONS):
            place = f"{stream}/{partition}"
            epoch = client.hget(f"{{{place}}}:head", "epoch")
            entries = xrange(server, f"{{{place}}}:log")
            for n, (entry_id, fields) in enumerate(entries, start=1):
                assert fields[0::2] == FIELDS
                assert entry_id.endswith(b"-%d" % n)
                kind, key, meta, data = fields[1::2]
                position = f"{place}@{epoch}:{entry_id.decode()}"
                parsed = FactMeta.FromString(meta)
                found.append(Logged(position, kind.decode(), key.decode(), parsed, data))
    return found


def channel(address: str) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)


async def health(address: str) -> int:
    async with channel(address) as to_service:
        check = health_pb2_grpc.HealthStub(to_service).Check
        return int((await check(health_pb2.HealthCheckRequest(), timeout=5)).status)


def reacted(server: RedisServer, stream: str, group: str) -> bool:
    """Whether a reaction has committed all facts that are in the stream now."""
    with redis.Redis.from_url(server.url, protocol=2, decode_responses=True) as client:
        for partition in range(PARTITIONS):
            place = f"{{{stream}/{partition}}}"
            position = client.hget(f"{place}:group:{group}", "position") or "0-0"
            if position.split("-")[1] != client.hget(f"{place}:head", "n"):
                return False
    return True


def position_of(trailers: Any) -> str:
    """The position in the trailers of a call."""
    return str(dict(trailers or ()).get("factfold-position", ""))


async def eventually(check: Callable[[], Result], seconds: float = 15) -> Result:
    """The first true result of `check()`."""
    deadline = time.monotonic() + seconds
    while not (result := check()):
        assert time.monotonic() < deadline, f"not true within {seconds:g} s: {result!r}"
        await asyncio.sleep(0.02)
    return result
