"""The probe: made once, run as any number of processes, called over gRPC."""

from __future__ import annotations

import asyncio
import importlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from cli.running import children, plain_environment
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_tools import protoc

from factfold_cli.redis_server import free_port, kept
from factfold_cli.services import CHANNEL_OPTIONS

ROOT = Path(__file__).resolve().parents[2]
CONFORMANCE = ROOT / "tests" / "conformance"
PROTOS = (ROOT / "protos", CONFORMANCE / "protos")
SERVING = health_pb2.HealthCheckResponse.SERVING
START_SECONDS = 30.0
OPTIONS = (*CHANNEL_OPTIONS, ("grpc.max_receive_message_length", -1))


def compile_stubs(out: Path) -> None:
    """Makes the contract's stubs for the suite itself, whatever language the probe is in."""
    google = Path(protoc.__file__).parent / "_proto"
    paths = [f"-I{path}" for path in (*PROTOS, google)]
    files = ["factfold/v1/conformance.proto"]
    files += sorted(str(path.relative_to(PROTOS[1])) for path in PROTOS[1].rglob("*.proto"))
    arguments = ["", *paths, f"--python_out={out}", f"--grpc_python_out={out}", *files]
    assert protoc.main(arguments) == 0
    sys.path.append(str(out))


class Contract:
    """The messages and stubs of the probe's contract, by their names."""

    def __getattr__(self, name: str) -> Any:
        modules = ["factfold.v1.conformance_pb2", "factfold.v1.conformance_pb2_grpc"]
        modules += [f"probe.v1.{name}_pb2" for name in ("inputs", "moves", "outputs", "view")]
        for module in map(importlib.import_module, modules):
            if hasattr(module, name):
                return getattr(module, name)
        raise AttributeError(name)


contract = Contract()


@dataclass(frozen=True)
class Made:
    """A probe that can be started: the rendered and overlaid repository of one language."""

    language: str
    root: Path
    start: Sequence[str]
    environment: Mapping[str, str]
    scripts: Path

    def with_script(self, name: str, old: str, new: str, folder: Path) -> Made:
        """The same probe with `old` replaced by `new` in one of its Lua scripts."""
        shutil.copytree(self.root, folder, symlinks=True)
        made = _made(self.language, folder)
        script = made.scripts / f"{name}.lua"
        text = script.read_text()
        assert text.count(old) == 1, f"{name}.lua has {old!r} {text.count(old)} times"
        script.write_text(text.replace(old, new))
        _build(made)  # a program may hold its scripts
        return made


def make(language: str, folder: Path) -> Made:
    """Renders, overlays and builds the probe below `folder`."""
    table = _table(language)
    _run([_filled(part, folder) for part in table["render"]], folder, plain_environment())
    root = folder / "probe"
    for name in table["remove"]:
        shutil.rmtree(root / name)
    leave = shutil.ignore_patterns("__pycache__")
    shutil.copytree(CONFORMANCE / table["overlay"], root, dirs_exist_ok=True, ignore=leave)
    shutil.copytree(PROTOS[1], root / "protos")
    spec = Path("factfold", "v1", "conformance.proto")
    (root / "protos" / spec).parent.mkdir(parents=True)
    shutil.copyfile(PROTOS[0] / spec, root / "protos" / spec)
    made = _made(language, root)
    _build(made)
    return made


def _build(made: Made) -> None:
    for command in _table(made.language)["build"]:
        words = [_filled(part, made.root) for part in command]
        _run(words, made.root, {**plain_environment(), **made.environment})


def _made(language: str, root: Path) -> Made:
    table = _table(language)
    environment = {name: _filled(text, root) for name, text in table["environment"].items()}
    start = [_filled(part, root) for part in table["start"]]
    return Made(language, root, start, environment, root / table["scripts"])


def tables() -> dict[str, dict[str, Any]]:
    """All rows of languages.toml."""
    return tomllib.loads((CONFORMANCE / "languages.toml").read_text(encoding="utf-8"))


def _table(language: str) -> dict[str, Any]:
    return tables()[language]


def _filled(text: str, root: Path) -> str:
    return text.format(clone=ROOT, python=sys.executable, root=root)


def _run(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"


class Probe:
    """One instance. It ends with this process, however that ends.

    `folder` is its working folder; what is given as `settings` are environment variables.
    """

    def __init__(self, made: Made, redis_url: str, folder: Path, settings: Mapping[str, str]):
        self.address = f"127.0.0.1:{free_port()}"
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        environment = {
            **plain_environment(),
            **made.environment,
            "PYTHONUNBUFFERED": "1",
            "FACTFOLD_REDIS_URL": redis_url,
            "FACTFOLD_LISTEN": self.address,
            **settings,
        }
        self._process = subprocess.Popen(
            kept(made.start, 15.0),
            cwd=folder,
            env={name: text for name, text in environment.items() if text},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._channel: grpc.aio.Channel | None = None
        self._pid = 0

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line.rstrip("\n"))

    # The process.

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        """Of the service itself, not of its keeper."""
        if not self._pid:
            (self._pid,) = children(self._process.pid)
        return self._pid

    def said(self, text: str) -> list[str]:
        """The log lines that hold a text."""
        return [line for line in self.lines if text in line]

    def signal(self, number: signal.Signals) -> None:
        """To the service itself."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL; returns when the process is gone."""
        if self.running:
            self.signal(signal.SIGKILL)
        self._process.wait(20)

    def terminate(self) -> None:
        """SIGTERM; `ends` waits for what follows."""
        self.signal(signal.SIGTERM)

    async def ends(self) -> int:
        """The exit code, waited for."""
        return await asyncio.to_thread(self._process.wait, 30)

    async def close(self) -> None:
        if self._channel is not None:
            await self._channel.close()
        if self.running:
            if self._pid:
                self.signal(signal.SIGCONT)
            self._process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(self._process.wait, 30)
        self._reader.join(20)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    # Calls.

    @property
    def channel(self) -> grpc.aio.Channel:
        if self._channel is None:
            self._channel = grpc.aio.insecure_channel(self.address, options=OPTIONS)
        return self._channel

    @property
    def stub(self) -> Any:
        """The probe's RPCs."""
        return contract.ProbeStub(self.channel)

    async def serving(self) -> bool:
        """Whether gRPC health says SERVING now; False too while nobody listens."""
        check = health_pb2_grpc.HealthStub(self.channel).Check
        try:
            answer = await check(health_pb2.HealthCheckRequest(), timeout=5)
        except grpc.aio.AioRpcError:
            return False
        return int(answer.status) == SERVING

    async def ready(self, seconds: float = START_SECONDS) -> Probe:
        """Itself, once it serves."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while not await self.serving():
            text = "\n".join(self.lines[-30:])
            assert self.running, f"the probe has ended:\n{text}"
            assert loop.time() < end, f"the probe is not ready after {seconds:g} s:\n{text}"
            await asyncio.sleep(0.03)
        return self

    async def append_many(self, units: Iterable[Any], timeout: float = 30) -> list[Any]:
        """An AppendOutcome for each AppendRequest, in their order."""
        request = contract.AppendManyRequest(units=units)
        answer = await self.stub.AppendMany(request, timeout=timeout)
        return list(answer.outcomes)

    async def dump(self, at_least: str = "", *, hashes_only: bool = False) -> Any:
        """A DumpResponse, of a view that has `at_least` within 20 s: who is behind says: retry."""
        metadata = (("factfold-at-least", at_least),) if at_least else ()
        request = contract.DumpRequest(hashes_only=hashes_only)
        end = asyncio.get_running_loop().time() + 20
        while True:
            try:
                return await self.stub.Dump(request, timeout=30, metadata=metadata)
            except grpc.aio.AioRpcError as error:
                behind = "was not reached in time" in (error.details() or "")
                if not behind or asyncio.get_running_loop().time() > end:
                    raise

    async def status(self) -> Any:
        """A StatusResponse."""
        return await self.stub.Status(contract.StatusRequest(), timeout=10)
