"""Services brought up together: with one Redis, one trace receiver, and one end for all."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from factfold_cli import environments
from factfold_cli.discovery import ServiceFolder
from factfold_cli.errors import Failed, Refused
from factfold_cli.given import URL, URL_FILE, given_by
from factfold_cli.output import Output, address_of
from factfold_cli.redis_command import log_server
from factfold_cli.redis_server import free_port
from factfold_cli.services import Service
from factfold_cli.traces import TraceReceiver, TraceStore

_COLLECTORS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


@dataclass(frozen=True)
class Stack:
    """What runs: services by name, and the traces they have sent."""

    services: Mapping[str, Service]
    traces: TraceStore


@asynccontextmanager
async def stack(
    folders: Sequence[ServiceFolder],
    output: Output,
    *,
    data: Path | None = None,
    settings: Mapping[str, str] | None = None,
    silent: bool = False,
) -> AsyncIterator[Stack]:
    """Prepares and starts the services of `folders`, and ends whatever was started.

    `data` keeps the log and snapshots of the views, `settings` are environment variables for
    every service, `silent` keeps their logs back. Raises Refused, Failed.
    """
    for folder in folders:
        if folder.language != "python":
            raise Refused(f"{folder.name} is written in {folder.language}: only python runs here")
        output.name(folder.name)
    async with AsyncExitStack() as ends:
        url = ends.enter_context(log_server(data))
        output.say(_named(url, ends_soon=silent))
        receiver = await ends.enter_async_context(TraceReceiver())
        with output.busy("preparing " + ", ".join(folder.name for folder in folders)) as say:
            pythons = await _together([prepare(folder, say) for folder in folders])
        told = {**_settings(url, receiver.endpoint, data), **(settings or {})}
        services = {f.name: Service(f, free_port(), told, output) for f in folders}
        ends.push_async_callback(_stop, list(services.values()))
        for service, python in zip(services.values(), pythons, strict=True):
            service.silent = silent
            await service.start(python)
        yield Stack(services, receiver.store)


async def prepare(folder: ServiceFolder, say: Callable[[str], None]) -> Path:
    """The Python to run the service with; its stubs are there. Raises Failed."""
    python = await environments.environment(folder, say)
    say(f"{folder.name}: making its stubs")
    await environments.stubs(folder, python)
    return python


def run_until_stopped(work: Coroutine[object, object, None]) -> bool:
    """Runs `work` to its end: True; or until Ctrl-C or SIGTERM, which let it clean up: False."""

    async def main() -> bool:
        task = asyncio.ensure_future(work)
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()
        return not task.cancelled()

    return asyncio.run(main())


def _named(url: str, *, ends_soon: bool) -> str:
    """A line to paste into another shell, unless the log is there already or goes at once."""
    if ends_soon or given_by():
        return f"log at {address_of(url)}"
    return f"log: export {URL}={url}"


def _settings(url: str, endpoint: str, data: Path | None) -> dict[str, str]:
    """For every service; what the user has set stands, but for the addresses."""
    settings = {
        "FACTFOLD_LOG_FORMAT": os.environ.get("FACTFOLD_LOG_FORMAT") or "text",
        URL: url,
        URL_FILE: "",
        "OTEL_SERVICE_NAME": "",
        "OTEL_BSP_SCHEDULE_DELAY": os.environ.get("OTEL_BSP_SCHEDULE_DELAY") or "500",
    }
    if data is not None and not os.environ.get("FACTFOLD_SNAPSHOT_DIR"):
        settings["FACTFOLD_SNAPSHOT_DIR"] = str(data.absolute() / "snapshots")
    if not any(os.environ.get(name) for name in _COLLECTORS):
        settings |= {
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": endpoint,
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc",
            "no_grpc_proxy": _and_loopback("no_grpc_proxy", "no_proxy"),
        }
    return settings


def _and_loopback(*names: str) -> str:
    """gRPC would otherwise ask a proxy for the receiver."""
    present = next(filter(None, map(os.environ.get, names)), "")
    return f"{present},127.0.0.1".lstrip(",")


async def _together(work: Sequence[Coroutine[object, object, Path]]) -> list[Path]:
    """All results in order; the first failure cancels the others."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(part) for part in work]
    except* (Failed, OSError) as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]


async def _stop(services: Sequence[Service]) -> None:
    await asyncio.gather(*(service.stop() for service in services))
