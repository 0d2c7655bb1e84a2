"""Services brought up together: with one Redis, one trace receiver, and one end for all."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from factfold_cli.discovery import ServiceFolder
from factfold_cli.errors import Failed
from factfold_cli.given import READ_URL, READ_URL_FILE, URL, URL_FILE, given_by
from factfold_cli.launchers import launcher
from factfold_cli.launching import Launch, Launcher
from factfold_cli.output import Output, address_of
from factfold_cli.redis_command import log_server
from factfold_cli.redis_server import free_port
from factfold_cli.services import Service
from factfold_cli.traces import TraceReceiver, TraceStore

_COLLECTORS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


@dataclass(frozen=True)
class Stack:
    """What runs: services by name, with what prepares them, and the traces they have sent."""

    services: Mapping[str, Service]
    launchers: Mapping[str, Launcher]
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
    launchers = {folder.name: launcher(folder) for folder in folders}
    for folder in folders:
        output.name(folder.name)
    async with AsyncExitStack() as ends:
        url = ends.enter_context(log_server(data))
        output.say(_named(url, ends_soon=silent))
        receiver = await ends.enter_async_context(TraceReceiver())
        with output.busy("preparing " + ", ".join(folder.name for folder in folders)) as say:
            launches = await _together([each.prepare(say) for each in launchers.values()])
        told = {**_settings(url, receiver.endpoint, data), **(settings or {})}
        services = {f.name: Service(f, free_port(), told, output) for f in folders}
        ends.push_async_callback(_stop, list(services.values()))
        for service, launch in zip(services.values(), launches, strict=True):
            service.silent = silent
            await service.start(launch)
        yield Stack(services, launchers, receiver.store)


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
        # What they read of others must be in the same log.
        **({} if given_by() else {READ_URL: "", READ_URL_FILE: ""}),
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


async def _together(work: Sequence[Coroutine[object, object, Launch]]) -> list[Launch]:
    """All results in order; the first failure cancels the others."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(part) for part in work]
    except* (Failed, OSError) as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]


async def _stop(services: Sequence[Service]) -> None:
    await asyncio.gather(*(service.stop() for service in services))
