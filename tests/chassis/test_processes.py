"""Several processes behind one port: started, watched and ended by a parent, with a real Redis."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import redis as redis_py
import test_service
from test_service import CODERS, LIGHT, Lamp, Process, get_lamp, light_lamp, watch_lamps

from factfold_chassis import processes
from factfold_chassis.errors import AddressRefused, SettingsError
from factfold_chassis.service import Running
from factfold_chassis.settings import Settings
from factfold_chassis.telemetry import Telemetry
from factfold_chassis.testing import redis_server as servers

GET = "/acme.lamps.v1.LampService/GetLamp"
# A channel for each call has a connection of its own only with this.
ALONE = [("grpc.use_local_subchannel_pool", 1)]
Launch = Callable[..., Process]


@pytest.fixture
def launch(tmp_path: Path, server: servers.RedisServer) -> Iterator[Launch]:
    """Two processes and their parent, unless told otherwise."""
    started: list[Process] = []

    def start(**given: str) -> Process:
        environment = {"FACTFOLD_REDIS_URL": server.url, "FACTFOLD_PROCESSES": "2"}
        started.append(Process(tmp_path, **{**environment, **given}))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.wait()
        for pid in children(each):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def children(process: Process) -> list[int]:
    """Those that run, the oldest first. Its session outlives it, as they may."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, session, *more = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        pid = int(stat.parent.name)
        if int(session) == process.process.pid != pid and state != "Z":
            found.append((int(more[15]), pid))
    return [pid for _, pid in sorted(found)]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def eventually(check: Callable[[], Any], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, "not true in time"
        time.sleep(0.02)


def serving(process: Process, count: int = 2) -> str:
    """Their address, once so many more say that they serve."""
    lines = [process.says("serving") for _ in range(count)]
    assert len({line["process"] for line in lines}) == count
    (address,) = {line["address"] for line in lines}
    return str(address)


def call(address: str, path: str, id: str, at_least: str = "") -> tuple[str, str]:
    """The answer and the position, on a connection of its own."""
    with grpc.insecure_channel(address, options=ALONE) as channel:
        metadata = [("factfold-at-least", at_least)] if at_least else []
        ask = channel.unary_unary(path, *CODERS)
        answer, done = ask.with_call(Lamp(id=id), timeout=5, metadata=metadata)
        return answer.id, str(dict(done.trailing_metadata()).get("factfold-position", ""))


def reached(address: str, pids: list[int], id: str, at_least: str) -> bool:
    """Whether the processes `pids`, and no others, say that this lamp is lit."""
    answers = {call(address, GET, id, at_least)[0] for _ in range(40)}
    return answers == {str(pid) for pid in pids}


def facts(server: servers.RedisServer) -> int:
    with redis_py.Redis.from_url(server.url) as client:
        return sum(int(client.xlen(f"{{lamps/{partition}}}:log")) for partition in range(2))


def test_each_answers_at_one_address_from_a_view_of_its_own(launch: Launch) -> None:
    process = launch()
    address = serving(process)
    assert not address.endswith(":0")
    pids = children(process)
    assert len(pids) == 2
    for id in ("a", "b"):
        _, position = call(address, LIGHT, id)
        assert reached(address, pids, id, position)


def test_one_process_has_no_parent(launch: Launch) -> None:
    process = launch(FACTFOLD_PROCESSES="1")
    line = process.says("serving")
    assert "process" not in line
    assert children(process) == []
    call(line["address"], LIGHT, "a")
    assert call(line["address"], GET, "a")[0] == str(process.process.pid)


def test_none_listens_before_it_is_ready(
    launch: Launch, server: servers.RedisServer, tmp_path: Path
) -> None:
    with servers.start(tmp_path / "data") as redis:
        redis.stop()
        process = launch(FACTFOLD_REDIS_URL=redis.url)
        address = process.says("waiting")["address"]
        host, port = address.split(":")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, int(port)), timeout=2)
        # Nobody listens, and yet it is taken, for one process as for several.
        for count in ("1", "2"):
            other = launch(FACTFOLD_LISTEN=address, FACTFOLD_PROCESSES=count)
            assert other.ends() == 2
            assert other.lines[-1] == refusal(address)
        redis.start_again()
        assert serving(process) == address
        assert call(address, LIGHT, "a")[0] == "a"


def refusal(address: str) -> str:
    return f"lamps: FACTFOLD_LISTEN: {address} cannot be listened on; is another process there?\n"


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_an_address_in_use_is_one_line(launch: Launch, host: str) -> None:
    with socket.create_server((host, 0)) as taken:
        address = f"{host}:{taken.getsockname()[1]}"
        process = launch(FACTFOLD_LISTEN=address)
        assert process.ends() == 2
    assert process.lines == [refusal(address)]


def test_a_host_that_nobody_knows_is_one_line(launch: Launch) -> None:
    process = launch(FACTFOLD_LISTEN="no.such.host.invalid:1")
    assert process.ends(30) == 2
    assert process.lines == [refusal("no.such.host.invalid:1")]


def test_connections_that_were_closed_do_not_hold_up_a_restart(launch: Launch) -> None:
    """Also those of a service that had the port for itself."""
    with socket.create_server(("127.0.0.1", 0)) as former:
        address = f"127.0.0.1:{former.getsockname()[1]}"
        with socket.create_connection(former.getsockname()) as caller:
            former.accept()[0].close()  # who closes first is the one to remember it
            assert caller.recv(1) == b""
    for _ in range(2):
        process = launch(FACTFOLD_LISTEN=address)
        assert serving(process) == address
        assert call(address, LIGHT, "a")[0] == "a"
        process.process.terminate()
        assert process.ends() == 0


def test_what_keeps_it_from_starting_is_said_once(launch: Launch) -> None:
    process = launch(OTEL_TRACES_EXPORTER="smoke")
    assert process.ends() == 2
    assert [line for line in process.lines if not line.startswith("{")] == [
        "lamps: OTEL_TRACES_EXPORTER is 'smoke': write otlp or none\n"
    ]
    assert said(process) == ["starting processes"]


def said(process: Process) -> list[str]:
    """The messages, as far as they were read."""
    return [json.loads(line)["message"] for line in process.lines if line.startswith("{")]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_all_of_them(launch: Launch, number: signal.Signals) -> None:
    process = launch()
    address = serving(process)
    channels = [grpc.insecure_channel(address, options=ALONE) for _ in range(12)]
    try:
        slow = [c.unary_unary(LIGHT, *CODERS).future(Lamp(id="slow")) for c in channels]
        time.sleep(0.25)
        if number == signal.SIGINT:
            os.killpg(process.process.pid, number)  # as a terminal does
        else:
            process.process.send_signal(number)
        assert {each.result(timeout=5).id for each in slow} == {"slow"}
    finally:
        for channel in channels:
            channel.close()
    assert process.ends() == 0
    messages = said(process)
    assert [messages.count(each) for each in ("ending processes", "ending", "ended")] == [1, 2, 2]


def test_a_second_signal_ends_all_of_them_at_once(launch: Launch) -> None:
    process = launch(FACTFOLD_DRAIN_TIMEOUT="60")
    address = serving(process)
    pids = children(process)
    with grpc.insecure_channel(address) as channel:
        stuck = channel.unary_unary(LIGHT, *CODERS).future(Lamp(id="stuck"), timeout=60)
        time.sleep(0.3)
        process.process.terminate()
        process.says("ending")
        with pytest.raises(subprocess.TimeoutExpired):
            process.process.wait(0.5)
        process.process.terminate()
        assert process.ends(2) == -signal.SIGTERM
        assert stuck.exception(timeout=2)
    eventually(lambda: not any(map(alive, pids)), 2)


def test_one_that_is_killed_is_started_again_and_calls_go_on(launch: Launch) -> None:
    process = launch()
    address = serving(process)
    _, position = call(address, LIGHT, "a")
    before = children(process)
    os.kill(before[1], signal.SIGKILL)
    line = process.says("process 2 has ended and is started again")
    assert (line["pid"], line["why"], line["pause_s"]) == (before[1], "Killed", 0.1)
    assert reached(address, before[:1], "a", position)
    assert process.says("serving")["process"] == 2
    after = children(process)
    assert after[0] == before[0]
    assert reached(address, after, "a", position)
    process.process.terminate()
    assert process.ends() == 0


def test_without_their_parent_they_drain(launch: Launch) -> None:
    process = launch()
    address = serving(process)
    pids = children(process)
    with grpc.insecure_channel(address, options=ALONE) as channel:
        slow = channel.unary_unary(LIGHT, *CODERS).future(Lamp(id="slow"))
        time.sleep(0.2)
        process.process.kill()
        assert slow.result(timeout=5).id == "slow"
    eventually(lambda: not any(map(alive, pids)))
    assert process.ends() == -signal.SIGKILL
    messages = said(process)
    assert [messages.count(each) for each in ("the parent process is gone", "ended")] == [2, 2]


def test_the_first_one_writes_the_snapshots_and_all_begin_with_them(
    launch: Launch, server: servers.RedisServer, tmp_path: Path
) -> None:
    folder = tmp_path / "snapshots"
    process = launch(FACTFOLD_SNAPSHOT_DIR=str(folder))
    address = serving(process)
    _, position = call(address, LIGHT, "a")
    assert reached(address, children(process), "a", position)
    instance = (folder / "instance").read_text()
    assert len(cursors(server)) == 2
    # One that takes the place of the first is the first.
    os.kill(children(process)[0], signal.SIGKILL)
    process.says("process 1 has ended and is started again")
    process.says("serving")
    process.process.terminate()
    assert process.ends() == 0
    assert len([*folder.glob("*.snapshot")]) == 1
    assert cursors(server) == {instance: "0-0"}

    process = launch(FACTFOLD_SNAPSHOT_DIR=str(folder))
    address = serving(process)
    lines = [json.loads(line) for line in process.lines]
    began = {line["process"] for line in lines if "begins with a snapshot" in line["message"]}
    assert began == {1, 2}
    # While it reads on, the one that writes none must not lose what lies behind it.
    place, _, entry_id = position.rpartition(":")
    assert set(cursors(server, place.partition("@")[0]).values()) == {"0-0", entry_id}
    process.process.terminate()
    assert process.ends() == 0
    assert cursors(server) == {instance: "0-0"}
    assert len([*folder.glob("*.snapshot")]) == 1  # nothing has changed


def cursors(server: servers.RedisServer, place: str = "lamps/0") -> dict[str, str]:
    with redis_py.Redis.from_url(server.url, decode_responses=True) as client:
        found: Any = client.hgetall(f"{{{place}}}:cursors:lamps.lamps")
    return {name: text.split()[0] for name, text in found.items() if name != "_"}


def test_reactions_answer_once_whichever_process_has_them(
    launch: Launch, server: servers.RedisServer
) -> None:
    process = launch(FACTFOLD_LEASE="1")
    address = serving(process)
    for at in range(60):
        call(address, LIGHT, f"echo {at}")
        if at == 30:
            os.kill(children(process)[0], signal.SIGKILL)
            process.says("process 1 has ended and is started again")
    eventually(lambda: facts(server) >= 120, 20)
    time.sleep(1.5)  # whoever comes late
    assert facts(server) == 120


# The parent alone, with processes that do as `serve` says.

SUPERVISE = """
import logging, os, signal, sys, time
from factfold_chassis import logs
from factfold_chassis.processes import supervise
from factfold_chassis.settings import Settings

def drain(code=0):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(code))

def serve(settings, member):
    {}

settings = Settings(processes=2, listen="127.0.0.1:0")
logs.configure(settings)
sys.exit(supervise(settings, serve))
"""


def supervised(launch: Launch, serve: str) -> Process:
    return launch(program=SUPERVISE.format(serve.replace("\n", "\n    ")))


def test_one_that_cannot_begin_ends_all_with_its_code(launch: Launch) -> None:
    process = supervised(launch, "print('cannot', file=sys.stderr); sys.exit(3)")
    assert process.ends() == 3
    assert [line for line in process.lines if line == "cannot\n"] == ["cannot\n"]


def test_one_that_refuses_later_ends_all(launch: Launch) -> None:
    serve = "drain()\nmember.begun()\ntime.sleep(60 if member.number == 1 else 0.3)\nsys.exit(2)"
    assert supervised(launch, serve).ends() == 2


def test_pauses_grow(launch: Launch) -> None:
    serve = "drain()\nmember.begun()\nif member.number == 1: sys.exit(1)\ntime.sleep(60)"
    process = supervised(launch, serve)
    lines = [process.says("process 1 has ended and is started again") for _ in range(4)]
    assert [(line["why"], line["pause_s"]) for line in lines] == [
        ("exit code 1", 0.1), ("exit code 1", 0.2), ("exit code 1", 0.4), ("exit code 1", 0.8),
    ]  # fmt: skip
    process.process.terminate()
    assert process.ends() == 0


@pytest.mark.parametrize(
    ("end", "code"),
    [("sys.exit(7)", 7), ("os.kill(os.getpid(), signal.SIGKILL)", 137), ("time.sleep(0.3)", 0)],
)
def test_a_drain_that_fails_is_told(launch: Launch, end: str, code: int) -> None:
    serve = (
        "member.begun()\n"
        "if member.number == 2:\n"
        f"    signal.signal(signal.SIGTERM, lambda *_: {end})\n"
        "logging.warning('sleeps')\n"
        "time.sleep(60 if member.number == 1 else 0.5)"
    )
    process = supervised(launch, serve)
    process.says("sleeps")
    process.says("sleeps")
    process.process.terminate()
    assert process.ends() == code


def test_exit_codes_are_seen_where_the_signal_for_them_is_ignored(launch: Launch) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        process = supervised(launch, "sys.exit(3)")
    finally:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    assert process.ends() == 3


async def test_one_that_cannot_listen_once_it_is_ready_ends(server: servers.RedisServer) -> None:
    app = test_service.service(light_lamp, get_lamp, watch_lamps)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        settings = Settings(redis_url=server.url, listen=listen, processes=2)
        async with Running(app, settings, Telemetry()) as running:
            with pytest.raises(AddressRefused):
                await asyncio.wait_for(running.until(asyncio.Event()), 10)


def test_elsewhere_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes.sys, "platform", "darwin")
    with pytest.raises(SettingsError) as refused:
        processes.supervise(Settings(processes=2), lambda settings, member: None)
    assert str(refused.value) == "FACTFOLD_PROCESSES: only Linux shares a port; set it to 1"
