"""`factfold up`: every service below some folders, with Redis and a trace receiver."""

import asyncio
from collections.abc import Collection, Coroutine
from pathlib import Path

import click
from watchfiles import Change, DefaultFilter, awatch

from factfold_cli.discovery import ServiceFolder, discover
from factfold_cli.errors import Failed
from factfold_cli.launching import Launcher
from factfold_cli.output import Output
from factfold_cli.services import Service
from factfold_cli.stack import run_until_stopped, stack
from factfold_cli.trace_tree import tree
from factfold_cli.traces import TraceStore

_QUIET_SECONDS = 1.0


@click.command("up")
@click.argument(
    "folders",
    nargs=-1,
    metavar="[DIR]...",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
)
@click.option("--watch", is_flag=True, help="Restart a service when its files change.")
@click.option("--traces", is_flag=True, help="Print each trace as a tree.")
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder that keeps the log and snapshots; by default they go with `up`.",
)
def command(folders: tuple[Path, ...], watch: bool, traces: bool, data: Path | None) -> None:
    """Runs every service in and below DIR (here by default) until Ctrl-C.

    One in Python gets an environment with what its lock files name, kept in the user's cache; one
    in Go is built into its bin/, by the Go on PATH. They share
    the Redis at FACTFOLD_REDIS_URL, or else one of their own, and send their traces here, or to
    the collector that OTEL_EXPORTER_OTLP_ENDPOINT names.

    \b
    Example:
      factfold up --watch ~/services
    """
    run_until_stopped(_up(discover(folders or (Path(),)), watch, traces, data))


async def _up(folders: list[ServiceFolder], watch: bool, traces: bool, data: Path | None) -> None:
    output = Output()
    async with stack(folders, output, data=data) as up:
        services = up.services.values()
        work: list[Coroutine[object, object, None]]
        if watch:
            work = [
                _restart_on_change(service, up.launchers[name], output)
                for name, service in up.services.items()
            ]
        else:
            work = [_until_all_ended(services)]
        if traces:
            work.append(_print_traces(up.traces, output))
        await asyncio.gather(*work)


async def _until_all_ended(services: Collection[Service]) -> None:
    await asyncio.gather(*(service.ended.wait() for service in services))
    raise Failed("every service has ended: the last lines of each say why")


async def _restart_on_change(service: Service, launcher: Launcher, output: Output) -> None:
    """A change that cannot be prepared, such as half a contract, leaves the service as it is."""
    folder = service.folder
    noise = DefaultFilter()

    def counts(change: Change, path: str) -> bool:
        return noise(change, path) and launcher.runs_from(Path(path))

    async for _ in awatch(*launcher.watched(), watch_filter=counts, debounce=200, step=50):
        try:
            launch = await launcher.prepare(lambda text: output.say(text))
        except Failed as failure:
            output.of(folder.name, str(failure), "red")
            continue
        await service.stop()
        await service.start(launch)


async def _print_traces(traces: TraceStore, output: Output) -> None:
    """Each trace once it has been quiet, and again if more of it comes."""
    sizes: dict[str, int] = {}
    shown: dict[str, int] = {}
    while True:
        await asyncio.sleep(_QUIET_SECONDS)
        present = {trace_id: traces.get(trace_id) for trace_id in traces.trace_ids()}
        for trace_id, trace in present.items():
            size = len(trace.spans)
            if size == sizes.get(trace_id) != shown.get(trace_id):
                output.say(f"trace {trace_id}")
                output.show(tree(trace))
                shown[trace_id] = size
        sizes = {trace_id: len(trace.spans) for trace_id, trace in present.items()}
        shown = {trace_id: size for trace_id, size in shown.items() if trace_id in present}
