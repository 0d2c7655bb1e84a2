"""`factfold demo`: two services made and run, and one trace across both."""

import asyncio
import json
import os
import shlex
import sys
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from factfold_cli import go_builds
from factfold_cli.demo_calls import SERVICE, Answer, Client
from factfold_cli.discovery import discover
from factfold_cli.errors import Failed
from factfold_cli.output import Output
from factfold_cli.processes import run
from factfold_cli.services import Service
from factfold_cli.stack import Stack, run_until_stopped, stack
from factfold_cli.trace_tree import tree
from factfold_cli.traces import Trace, TraceStore

# What is typed, and in which folder. Each of the two reads the other's facts: so a trace goes from
# one to the other and comes back.
_COMMANDS = (
    ("", "factfold new orders --language python --no-input"),
    ("", "factfold new shipments --language {second} --no-input --subscribe orders"),
    ("orders", "factfold add subscription ../shipments"),
)
_READY_SECONDS = 60.0
_TRACE_SECONDS = 20.0
# Spans leave a service in batches this often; a trace is quiet after several of them.
_BATCH_SECONDS = 0.1
_QUIET_SECONDS = 0.5
_SETTINGS = {"OTEL_BSP_SCHEDULE_DELAY": str(round(_BATCH_SECONDS * 1000))}
_KEPT = ("FACTFOLD_REDIS_URL", "FACTFOLD_REDIS_URL_FILE")

# Service, kind and name of a span.
Expected = tuple[str, str, str]


@dataclass(frozen=True)
class Step:
    """A call that was made, and the spans that its trace must have."""

    answer: Answer
    expected: set[Expected]


@click.command("demo")
@click.option("--exit", "ends", is_flag=True, help="End after the traces; so it does when piped.")
@click.option("--json", "as_json", is_flag=True, help="Print the traces as one JSON document.")
def command(ends: bool, as_json: bool) -> None:
    """Makes two services, runs them, calls them, and shows each call's trace.

    The services are made in a temporary folder by `factfold new`, and are not edited. The second
    one is in Go if Go 1.26 or newer is on PATH, which compiles its packages once. A person who
    watches can go on calling them until Ctrl-C.

    \b
    Example:
      factfold demo --exit
    """
    # The demo shows what the services do by themselves, not what this shell tells others.
    for name in list(os.environ):
        if name.startswith(("OTEL_", "FACTFOLD_")) and name not in _KEPT:
            del os.environ[name]
    stays = not ends and sys.stdout.isatty()
    done = asyncio.Event()
    finished = run_until_stopped(_demo(Output(to_stderr=as_json), as_json, stays, done))
    if not finished and not done.is_set():
        raise click.Abort


async def _demo(output: Output, as_json: bool, stays: bool, done: asyncio.Event) -> None:
    with TemporaryDirectory(prefix="factfold-demo-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        second = _second(output)
        for place, line in _COMMANDS:
            await _type(line.format(second=second), folder, place, output)
        async with stack(discover([folder]), output, settings=_SETTINGS, silent=True) as up:
            try:
                await _until_ready(up)
                traces = await _show(up, output)
            except Failed:
                _tell_last_lines(up, output)
                raise
            if as_json:
                document = {"traces": [trace.document() for trace in traces]}
                click.echo(json.dumps(document, indent=2, ensure_ascii=False))
            done.set()
            if stays:
                await _stay(up, output)


def _second(output: Output) -> str:
    """The language of the service that answers the other's facts: Go, if it can be built here."""
    if go_builds.found():
        return "go"
    oldest = ".".join(map(str, go_builds.OLDEST))
    output.say(f"no Go {oldest} or newer is on PATH: both services are in Python")
    return "python"


async def _type(line: str, folder: Path, place: str, output: Output) -> None:
    output.say(f"{place}$ {line}", "bold")
    words = shlex.split(line)
    command = [sys.executable, "-m", "factfold_cli", *words[1:]]
    said = await run(command, folder / place, f"`{line}` failed", environment=os.environ)
    # A heading of a list says nothing alone.
    if said and not said[0].endswith(":"):
        output.say(said[0])


async def _until_ready(up: Stack) -> None:
    async def one(service: Service) -> None:
        ready = asyncio.create_task(service.ready.wait())
        ended = asyncio.create_task(service.ended.wait())
        done, waiting = await asyncio.wait(
            [ready, ended], timeout=_READY_SECONDS, return_when=asyncio.FIRST_COMPLETED
        )
        for task in waiting:
            task.cancel()
        if ready not in done:
            what = "ended before it was ready" if done else f"not ready in {_READY_SECONDS:.0f} s"
            raise Failed(f"{service.folder.name} {what}: its last lines are above")

    await asyncio.gather(*(one(service) for service in up.services.values()))


async def _show(up: Stack, output: Output) -> list[Trace]:
    """Makes the calls, and shows the trace of each."""
    traces = []
    for step in await asyncio.to_thread(_call, up, output.say):
        trace = await _complete(up.traces, step)
        output.say(f"\n{step.answer.method}, trace {trace.trace_id}", "bold")
        output.show(tree(trace))
        traces.append(trace)
    return traces


def _call(up: Stack, say: Callable[[str], None]) -> list[Step]:
    steps: list[Step] = []
    with ExitStack() as ends:
        clients = {
            name: ends.enter_context(closing(Client(service.address, up.traces)))
            for name, service in up.services.items()
        }

        def call(
            service: str, method: str, *more: Expected, at_least: str = "", **fields: object
        ) -> Answer:
            answer = clients[service].call(method, fields, at_least)
            say(f"{method} {json.dumps(fields)} -> {json.dumps(answer.fields)}")
            both = {(SERVICE, "CLIENT", answer.method), (service, "SERVER", answer.method)}
            steps.append(Step(answer, both.union(more)))
            return answer

        sent = ("orders", "PRODUCER", "send orders")
        processed = ("shipments", "CONSUMER", "process orders")
        answered = ("shipments", "PRODUCER", "send shipments")
        back = ("orders", "CONSUMER", "process shipments")
        tea = {"request_id": str(uuid.uuid4()), "name": "Tea"}
        created = call("orders", "CreateOrder", sent, processed, answered, back, **tea)
        order = created.fields["id"]
        got = call("orders", "GetOrder", at_least=created.position, id=order)
        _same(got.fields["item"]["name"], "Tea", "GetOrder at the position of the write")
        green = {"request_id": str(uuid.uuid4()), "id": order, "name": "Green tea"}
        call("orders", "RenameOrder", sent, **green, expected_version=1)
        again = call("orders", "CreateOrder", **tea)
        _same(again.fields, created.fields, "CreateOrder repeated with its request_id")
        _wait_for_shipment(clients["shipments"])
        call("shipments", "ListShipments", page_size=10)
    return steps


def _same(found: object, wanted: object, what: str) -> None:
    if found != wanted:
        raise Failed(f"{what} answered {found!r} instead of {wanted!r}: this is a bug, report it")


def _wait_for_shipment(shipments: Client) -> None:
    """The other service's reaction makes it, a moment after the order."""
    deadline = time.monotonic() + _TRACE_SECONDS
    while not shipments.peek("ListShipments", {"page_size": 1}).get("items"):
        if time.monotonic() > deadline:
            raise Failed("no shipment was made for the order: the services' last lines are above")
        time.sleep(0.02)


async def _complete(store: TraceStore, step: Step) -> Trace:
    """The trace when all of it has come: no parent missing, the expected there, then quiet."""
    deadline = time.monotonic() + _TRACE_SECONDS
    size, since = -1, 0.0
    while True:
        trace = store.get(step.answer.trace_id)
        if len(trace.spans) != size:
            size, since = len(trace.spans), time.monotonic()
        present = {(span.service, span.kind, span.name) for span in trace.spans.values()}
        whole = step.expected <= present and not trace.orphans()
        if whole and time.monotonic() - since > _QUIET_SECONDS:
            return trace
        if time.monotonic() > deadline:
            lacking = [" ".join(words) for words in sorted(step.expected - present)]
            what = ", ".join(lacking) or "the parent of a span"
            raise Failed(f"the trace of {step.answer.method} lacks {what}: run the demo again")
        await asyncio.sleep(0.05)


def _tell_last_lines(up: Stack, output: Output) -> None:
    for name, service in up.services.items():
        for line in service.last_lines:
            output.of(name, line)


async def _stay(up: Stack, output: Output) -> None:
    output.say("")
    for name, service in up.services.items():
        service.silent = False
        output.of(name, f"at {service.address}, with server reflection")
    output.say("Ctrl-C ends both and removes them.")
    await asyncio.gather(*(service.ended.wait() for service in up.services.values()))
