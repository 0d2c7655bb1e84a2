"""One running service: its process, its logs, and whether it is ready."""

import asyncio
from collections import deque
from collections.abc import Mapping

import grpc
import grpc.aio
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from factfold_cli.discovery import ServiceFolder
from factfold_cli.launching import Launch
from factfold_cli.output import Output
from factfold_cli.processes import foreign_environment
from factfold_cli.redis_server import kept

# Longer than the time that a service takes, by default, to let its calls finish.
_END_SECONDS = 15.0
_LONGEST_LINE = 2**24
# Proxies are for other hosts, and a service that is just starting is soon there.
CHANNEL_OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 500),
)


class Service:
    """Started and ended any number of times, always at the same `address`."""

    def __init__(
        self, folder: ServiceFolder, port: int, settings: Mapping[str, str], output: Output
    ) -> None:
        """`settings` are environment variables, an empty one is unset; `silent` hides logs."""
        self.folder = folder
        self.address = f"127.0.0.1:{port}"
        self.silent = False
        self.last_lines: deque[str] = deque(maxlen=30)
        self.ready = asyncio.Event()
        self.ended = asyncio.Event()
        self._settings = settings
        self._output = output
        self._state = ""
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, launch: Launch) -> None:
        environment = {
            **foreign_environment(),
            **self._settings,
            **launch.environment,
            "FACTFOLD_LISTEN": self.address,
        }
        for name in [name for name, text in self._settings.items() if not text]:
            del environment[name]
        self.ended.clear()
        self._tell("starting")
        # A session of its own: Ctrl-C is for `up` to answer, which then ends the service.
        self._process = await asyncio.create_subprocess_exec(
            *kept(list(launch.command), _END_SECONDS),
            cwd=self.folder.path,
            env=environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            limit=_LONGEST_LINE,
        )
        self._health = asyncio.create_task(self._watch_health())
        self._logs = asyncio.create_task(self._read(self._process, self._health))

    async def stop(self) -> None:
        """Lets it end gracefully, for a bounded time."""
        if self._process is None:
            return
        # From here on its health is no news.
        self._health.cancel()
        assert self._process.stdin is not None
        self._process.stdin.close()
        await asyncio.wait([self._logs])
        self._process = None

    async def _read(self, process: asyncio.subprocess.Process, health: asyncio.Task[None]) -> None:
        assert process.stdout is not None
        async for raw in process.stdout:
            line = raw.decode(errors="replace").rstrip()
            self.last_lines.append(line)
            if not self.silent:
                self._output.of(self.folder.name, line)
        code = await process.wait()
        health.cancel()
        self.ready.clear()
        self.ended.set()
        self._tell(f"ended, exit code {code}" if code else "ended")

    async def _watch_health(self) -> None:
        async with grpc.aio.insecure_channel(self.address, options=CHANNEL_OPTIONS) as channel:
            watch = channel.unary_stream(
                "/grpc.health.v1.Health/Watch",
                request_serializer=HealthCheckRequest.SerializeToString,
                response_deserializer=HealthCheckResponse.FromString,
            )
            while True:
                try:
                    async for answer in watch(HealthCheckRequest()):
                        if answer.status == HealthCheckResponse.SERVING:
                            self._tell("ready")
                            self.ready.set()
                        else:
                            self.ready.clear()
                            self._tell("not ready yet")
                except grpc.aio.AioRpcError:
                    self.ready.clear()
                await asyncio.sleep(0.05)

    def _tell(self, state: str) -> None:
        if state != self._state:
            self._state = state
            self._output.of(self.folder.name, f"{self.address} {state}", "bold")
