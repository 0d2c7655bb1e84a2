"""gRPC servers as processes: ours as generated, and those that they are compared with."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bench.stage import ROOT
from factfold_chassis.testing.redis_server import free_port

PATIENCE = 60.0  # seconds
SERVICE = ("-m", "service")
_PR_SET_PDEATHSIG = 1
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def plain_environment() -> dict[str, str]:
    """Without what the person who runs the bench tells services of their own."""
    told = ("FACTFOLD_", "OTEL_")
    return {name: text for name, text in os.environ.items() if not name.startswith(told)}


def factfold_environment() -> dict[str, str]:
    """Where `python -m factfold_cli` is found: installed, else in this clone."""
    environment = plain_environment()
    if find_spec("factfold_cli") is None:
        paths = [str(ROOT / "generator"), environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    return environment


def make(folder: Path, name: str) -> Path:
    """The repository of a generated service with its stubs; made once."""
    root = folder / name
    if not root.exists():
        make_stubs(new(folder, name))
        # Contenders that call it import them.
        os.environ["PYTHONPATH"] += os.pathsep + str(root / "gen")
    return root


def new(folder: Path, name: str, language: str = "python") -> Path:
    """`factfold new NAME` in `folder`."""
    command = [sys.executable, "-m", "factfold_cli", "new", name, "--language", language]
    _run([*command, "--no-input"], folder, factfold_environment())
    return folder / name


def make_stubs(root: Path) -> None:
    _run([sys.executable, "hatch_build.py"], root, plain_environment())


def _run(command: Sequence[str], folder: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[1:])}: {done.stderr.strip()}")


@dataclass(frozen=True)
class Server:
    """One that runs, with all the processes it has started."""

    address: str
    began: float  # by time.monotonic()
    _pid: int

    def cpu(self) -> float:
        """Seconds of CPU that it has used."""
        return sum(map(cpu_of, _tree(self._pid)))

    def rss(self) -> float:
        """MiB of memory that it has now."""
        return sum(map(rss_of, _tree(self._pid)))

    def kill(self) -> None:
        os.killpg(self._pid, signal.SIGKILL)


@contextmanager
def serving(root: Path, what: Sequence[str] | Path = SERVICE, **settings: str) -> Iterator[Server]:
    """`python WHAT` with the stubs of the repository `root`, and its code; ready when entered.
    A path is a program in Go, which needs neither.

    It listens where FACTFOLD_LISTEN says, and ends with the block or with this process.
    """
    address = f"127.0.0.1:{free_port()}"
    paths = [str(root / name) for name in ("src", "gen", "chassis/src")]
    environment = plain_environment() | settings | {"FACTFOLD_LISTEN": address}
    environment["PYTHONPATH"] = os.pathsep.join([*paths, str(ROOT)])
    command = [str(what)] if isinstance(what, Path) else [sys.executable, *what]
    with tempfile.TemporaryFile("w+") as said:
        began = time.monotonic()
        process = subprocess.Popen(
            command,
            cwd=root,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
            preexec_fn=end_with_parent,
        )
        try:
            _wait_ready(address, process)
            yield Server(address, began, process.pid)
        except _Ended:
            said.seek(0)
            raise RuntimeError(f"{' '.join(command)} has ended:\n{said.read()}") from None
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def end_with_parent() -> None:
    """For a process that was just forked: not to outlive this one."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class _Ended(Exception):
    pass


def _wait_ready(address: str, process: "subprocess.Popen[bytes]") -> None:
    """Until its health says SERVING, and hardly any longer."""
    _wait_listening(address, process)
    end = time.monotonic() + PATIENCE
    with grpc.insecure_channel(address) as channel:
        # Not its Watch: the stock interceptor breaks that.
        stub: Any = health_pb2_grpc.HealthStub(channel)
        while process.poll() is None:
            with suppress(grpc.RpcError):
                said = stub.Check(health_pb2.HealthCheckRequest(), timeout=1.0)
                if said.status == health_pb2.HealthCheckResponse.SERVING:
                    return
            if time.monotonic() > end:
                raise RuntimeError(f"{address} is not ready after {PATIENCE:g} s")
            time.sleep(0.001)
    raise _Ended


def _wait_listening(address: str, process: "subprocess.Popen[bytes]") -> None:
    host, _, port = address.rpartition(":")
    end = time.monotonic() + PATIENCE
    while process.poll() is None:
        try:
            socket.create_connection((host, int(port))).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
        time.sleep(0.001)
    raise _Ended


def _tree(pid: int) -> list[int]:
    """It and all processes below it."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(found for child in map(int, children) for found in _tree(child))]


def cpu_of(pid: int) -> float:
    """Seconds of CPU that one process has used."""
    # The name may hold spaces and brackets: the last one ends it.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def rss_of(pid: int | str = "self") -> float:
    """MiB of memory that one process has now."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE / 2**20
