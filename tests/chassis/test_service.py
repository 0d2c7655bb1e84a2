"""A service put together, and its process from start to end, against a real Redis."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty, Queue
from types import ModuleType
from typing import Any

import grpc
import pytest
from contracts import compiled
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc

from factfold_chassis.calls import Handler, command, query, watch
from factfold_chassis.errors import WiringError
from factfold_chassis.reactions.declare import Reaction, reaction
from factfold_chassis.service import Service
from factfold_chassis.testing import redis_server as servers

PROTO = """
    syntax = "proto3";
    package acme.lamps.v1;
    import "factfold/v1/options.proto";
    option (factfold.v1.stream) = {name: "lamps" partitions: 2};
    message LampLit { option (factfold.v1.event) = {}; string id = 1 [(factfold.v1.key) = true]; }
    message Lamp { string id = 1; }
    service LampService {
      rpc LightLamp(Lamp) returns (Lamp);
      rpc GetLamp(Lamp) returns (Lamp) { option idempotency_level = NO_SIDE_EFFECTS; }
      rpc WatchLamps(Lamp) returns (stream Lamp) { option idempotency_level = NO_SIDE_EFFECTS; }
    }
"""
FILE = compiled("lamps.proto", PROTO)
Lamp: Any = GetMessageClass(FILE.message_types_by_name["Lamp"])
LampLit: Any = GetMessageClass(FILE.message_types_by_name["LampLit"])
LIGHT, WATCH = (f"/acme.lamps.v1.LampService/{name}" for name in ("LightLamp", "WatchLamps"))
CODERS = Lamp.SerializeToString, Lamp.FromString


@command
async def light_lamp(request: Any, call: Any) -> Any: ...


@query
def get_lamp(request: Any, call: Any) -> Any: ...


@watch
async def watch_lamps(request: Any, call: Any) -> Any:
    yield


def service(*found: Handler | Reaction) -> Service:
    part = ModuleType("part")
    vars(part).update({f"part_{at}": each for at, each in enumerate(found)})
    return Service(name="lamps", contract=[FILE], parts=[part])


def test_what_is_found_is_wired_by_name() -> None:
    wired = service(light_lamp, get_lamp, watch_lamps, get_lamp).wire()
    assert [(method.name, handler) for method, handler in wired.methods] == [
        ("LightLamp", light_lamp),
        ("GetLamp", get_lamp),
        ("WatchLamps", watch_lamps),
    ]


def named(name: str, handler: Handler) -> Handler:
    handler.function.__name__ = name
    return handler


@query
async def waiting(request: Any, call: Any) -> Any: ...


@query
def other(request: Any, call: Any) -> Any: ...


@command
async def changing(request: Any, call: Any) -> Any: ...


@reaction(LampLit)
async def follow(event: Any, call: Any) -> None: ...


@reaction(LampLit)
def hasty(event: Any, call: Any) -> Any: ...


def copied(original: Reaction) -> Reaction:
    """From one file to another, and not renamed."""
    return Reaction(original.events, original.function)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (
            (light_lamp, watch_lamps),
            "/acme.lamps.v1.LampService/GetLamp has no handler: "
            "write get_lamp(request, call) as `@query def`",
        ),
        (
            (light_lamp, get_lamp, watch_lamps, named("get_lump", other)),
            "the handler get_lump answers no RPC: name it after one of the contract's, "
            "or if protos/ has it, make the stubs anew: `python hatch_build.py`",
        ),
        (
            (light_lamp, watch_lamps, named("get_lamp", changing)),
            "/acme.lamps.v1.LampService/GetLamp is marked NO_SIDE_EFFECTS: "
            "its handler must be `@query def`, not `@command async def`",
        ),
        (
            (light_lamp, watch_lamps, named("get_lamp", waiting)),
            "/acme.lamps.v1.LampService/GetLamp is marked NO_SIDE_EFFECTS: "
            "its handler must be `@query def`, not `@query async def`",
        ),
        (
            (light_lamp, get_lamp, watch_lamps, changing),
            "two handlers are named get_lamp: remove one",
        ),
        (
            (light_lamp, get_lamp, watch_lamps, follow, copied(follow)),
            "two reactions are named follow: rename one; its position is kept under that name",
        ),
        (
            (light_lamp, get_lamp, watch_lamps, hasty),
            "reaction hasty must be `@reaction(…) async def`",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(parts: tuple[Handler | Reaction, ...], message: str) -> None:
    with pytest.raises(WiringError) as refusal:
        service(*parts).wire()
    assert str(refusal.value) == message


PROGRAM = """
import lamp_parts
from test_service import FILE
from factfold_chassis.service import Service, run
run(Service(name="lamps", contract=[FILE], parts=[lamp_parts]))
"""


class Process:
    """A service in a process of its own; `lines` are its log, as far as it was read."""

    def __init__(self, folder: Path, program: str = PROGRAM, **environment: str) -> None:
        (folder / "lamp_parts.py").write_text(
            textwrap.dedent(
                """
                import asyncio
                import contextlib
                import os
                import time
                from factfold_chassis import Append, View, fold, reaction
                from factfold_chassis.calls import command, query, watch
                from test_service import Lamp, LampLit

                LAMPS = View("lamps").table("lamps", Lamp)

                async def stay():
                    end = time.monotonic() + 60
                    while time.monotonic() < end:
                        with contextlib.suppress(asyncio.CancelledError):
                            await asyncio.sleep(1)

                @fold(LampLit, into=LAMPS)
                def lit(row, event, fact):
                    return Lamp(id=event.id)

                @reaction(LampLit)
                async def follow(event, call):
                    if event.id == "reaction":
                        await stay()
                    if event.id.startswith("echo"):
                        return Append(LampLit(id=f"of {event.id}"))

                @command
                async def light_lamp(request, call):
                    await call.append(LampLit(id=request.id))
                    await asyncio.sleep({"slow": 0.5, "stuck": 60}.get(request.id, 0))
                    if request.id == "call":
                        await stay()
                    if request.id == "disk":
                        os.fsync = lambda file: time.sleep(60)
                    return Lamp(id=request.id)

                @query
                def get_lamp(request, call):
                    row = call.rows(LAMPS).get(request.id)
                    return Lamp(id=str(os.getpid()) if row else "")

                @watch
                async def watch_lamps(request, call):
                    async for change in call.changes():
                        yield Lamp(id=change.event.id)
                """
            )
        )
        path = [str(folder), str(Path(__file__).parent), *sys.path]
        self.process = subprocess.Popen(
            [sys.executable, "-c", program],
            env={
                **{name: value for name, value in os.environ.items() if "FACTFOLD" not in name},
                "PYTHONPATH": os.pathsep.join(path),
                "FACTFOLD_LISTEN": "127.0.0.1:0",
                **environment,
            },
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.lines: list[str] = []
        self._queue: Queue[str] = Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._queue.put(line)

    def says(self, message: str, seconds: float = 10) -> dict[str, Any]:
        """The fields of the next log line with this message."""
        end = time.monotonic() + seconds
        while True:
            try:
                line = self._queue.get(timeout=max(0.01, end - time.monotonic()))
            except Empty:
                raise AssertionError(f"{message!r} was not said: {self.lines}") from None
            self.lines.append(line)
            if line.startswith("{") and json.loads(line)["message"] == message:
                fields: dict[str, Any] = json.loads(line)
                return fields

    def ends(self, seconds: float = 10) -> int:
        code = self.process.wait(seconds)
        time.sleep(0.05)
        while not self._queue.empty():
            self.lines.append(self._queue.get())
        return code


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    started: list[Process] = []

    def start(**environment: str) -> Process:
        started.append(Process(tmp_path, **environment))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.wait()


@pytest.mark.parametrize(
    ("environment", "line"),
    [
        (
            {"FACTFOLD_LISTEN": "here"},
            "lamps: FACTFOLD_LISTEN is 'here': it must be host:port, such as 127.0.0.1:50051\n",
        ),
        (
            {"OTEL_TRACES_EXPORTER": "smoke"},
            "lamps: OTEL_TRACES_EXPORTER is 'smoke': write otlp or none\n",
        ),
    ],
)
def test_what_keeps_it_from_starting_is_one_line_and_exit_code_2(
    launch: Callable[..., Process], environment: dict[str, str], line: str
) -> None:
    process = launch(**environment)
    assert process.ends() == 2
    assert process.lines == [line]


def health(address: str) -> int:
    with grpc.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        return int(stub.Check(health_pb2.HealthCheckRequest(), timeout=2).status)


def test_redis_may_come_later(launch: Callable[..., Process], tmp_path: Path) -> None:
    with servers.start(tmp_path / "data") as redis:
        redis.stop()
        process = launch(FACTFOLD_REDIS_URL=redis.url)
        assert process.says("starting")["redis"] == redis.url
        waiting = process.says("waiting")
        assert waiting["reason"]
        assert health(waiting["address"]) == health_pb2.HealthCheckResponse.NOT_SERVING
        redis.start_again()
        assert process.says("serving")["address"] == waiting["address"]
        assert health(waiting["address"]) == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains(
    launch: Callable[..., Process], number: signal.Signals, server: servers.RedisServer
) -> None:
    process = launch(FACTFOLD_REDIS_URL=server.url)
    address = process.says("serving")["address"]
    with grpc.insecure_channel(address) as channel:
        watching = channel.unary_stream(WATCH, *CODERS)(Lamp(), timeout=30)
        slow = channel.unary_unary(LIGHT, *CODERS).future(Lamp(id="slow"))
        assert next(watching).id == "slow"
        process.process.send_signal(number)
        assert slow.result(timeout=5).id == "slow"
        with pytest.raises(grpc.RpcError) as error:
            next(watching)
        assert error.value.code() is grpc.StatusCode.UNAVAILABLE
        (position,) = [
            value for name, value in error.value.trailing_metadata() if name == "factfold-position"
        ]
        assert position.startswith("lamps/")
    assert process.ends() == 0
    assert json.loads(process.lines[-1])["message"] == "ended"


def test_a_second_signal_ends_it_at_once(
    launch: Callable[..., Process], server: servers.RedisServer
) -> None:
    process = launch(FACTFOLD_REDIS_URL=server.url, FACTFOLD_DRAIN_TIMEOUT="60")
    with grpc.insecure_channel(process.says("serving")["address"]) as channel:
        watching = channel.unary_stream(WATCH, *CODERS)(Lamp(), timeout=30)
        stuck = channel.unary_unary(LIGHT, *CODERS).future(Lamp(id="stuck"), timeout=60)
        assert next(watching).id == "stuck"
        process.process.send_signal(signal.SIGTERM)
        process.says("ending")
        with pytest.raises(subprocess.TimeoutExpired):
            process.process.wait(0.3)
        process.process.send_signal(signal.SIGTERM)
        assert process.ends(2) == -signal.SIGTERM
        assert stuck.exception(timeout=2)


@pytest.mark.parametrize("hangs", ["call", "reaction", "disk"])
def test_what_hangs_and_will_not_be_cancelled_is_ended_by_force(
    launch: Callable[..., Process], server: servers.RedisServer, tmp_path: Path, hangs: str
) -> None:
    """What it has to leave behind, it has left by then."""
    process = launch(
        FACTFOLD_REDIS_URL=server.url,
        FACTFOLD_DRAIN_TIMEOUT="2",
        FACTFOLD_SNAPSHOT_DIR=str(tmp_path / "snapshots"),
    )
    with grpc.insecure_channel(process.says("serving")["address"]) as channel:
        watching = channel.unary_stream(WATCH, *CODERS)(Lamp(), timeout=30)
        lighting = channel.unary_unary(LIGHT, *CODERS).future(Lamp(id=hangs), timeout=30)
        assert next(watching).id == hangs
        if hangs == "disk":
            lighting.result(timeout=5)
        time.sleep(0.7 if hangs == "reaction" else 0)  # it owns its partitions by then
        process.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert process.ends() == 1
        assert 2 < time.monotonic() - began < 4
    assert [line for line in process.lines if "hangs, and is ended by force" in line]
    assert [line for line in process.lines if "most recent call first" in line]
    assert any('"message": "ended"' in line for line in process.lines)
    written = [*(tmp_path / "snapshots").glob("*.snapshot")]
    assert len(written) == (hangs != "disk")


def test_a_collector_that_is_away_does_not_hold_up_the_end(
    launch: Callable[..., Process], server: servers.RedisServer
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        process = launch(
            FACTFOLD_REDIS_URL=server.url,
            FACTFOLD_DRAIN_TIMEOUT="2",
            OTEL_EXPORTER_OTLP_ENDPOINT=endpoint,
        )
        process.says("serving")
        process.process.send_signal(signal.SIGTERM)
        assert process.ends(6) == 0
