"""grpcurl, a client that nobody here wrote, calls a generated service."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.go_tools import go_tool

from factfold_cli.redis_server import RedisServer

from .conftest import Start
from .running import PARTITIONS, Made, facts, xrange

PACKAGE, VERSION = "github.com/fullstorydev/grpcurl/cmd/grpcurl", "v1.9.3"
SERVICE = "acme.orders.v1.OrderService"


@dataclass(frozen=True)
class Answer:
    """`code` as grpcurl names it; `details` are those of the status."""

    code: str
    fields: dict[str, Any] = field(default_factory=dict)
    position: str = ""
    message: str = ""
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Grpcurl:
    """grpcurl against one address."""

    tool: str
    address: str

    def __call__(self, *words: str) -> str:
        command = [self.tool, "-plaintext", self.address, *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def call(self, method: str, at_least: str = "", **fields: object) -> Answer:
        options = ["-H", f"factfold-at-least: {at_least}"] if at_least else []
        done = subprocess.run(
            self._command(method, *options, "-v", **fields), capture_output=True, text=True
        )
        if done.returncode:
            said = re.search(r"^ERROR:\n  Code: (\w+)\n  Message: (.*)", done.stderr)
            assert said, done.stderr
            _, _, details = done.stderr.partition("  1)\t")
            return Answer(said[1], {}, "", said[2], json.loads(details or "{}"))
        _, _, rest = done.stdout.partition("Response contents:\n")
        contents, _, trailers = rest.partition("Response trailers received:\n")
        position = re.search(r"^factfold-position: (.*)$", trailers, re.MULTILINE)
        return Answer("OK", json.loads(contents), position[1] if position else "")

    @contextmanager
    def stream(self, method: str, **fields: object) -> Iterator[Iterator[dict[str, Any]]]:
        """The answers of a call that goes on until it is left, as they come."""
        command = self._command(method, "-max-time", "15", **fields)
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            try:
                yield _documents(process.stdout)
            finally:
                process.terminate()

    def _command(self, method: str, *options: str, **fields: object) -> list[str]:
        what = ["-d", json.dumps(fields), self.address, f"{SERVICE}/{method}"]
        return [self.tool, "-plaintext", *options, *what]


def _documents(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    text = ""
    for line in lines:
        text += line
        if line == "}\n":
            yield json.loads(text)
            text = ""


@pytest.fixture(scope="session")
def tool() -> str:
    return go_tool("grpcurl", PACKAGE, VERSION)


@pytest.fixture
async def grpcurl(tool: str, orders: Made, start: Start) -> Grpcurl:
    return Grpcurl(tool, await start(orders).address())


def shown(server: RedisServer, stream: str) -> list[list[str]]:
    """Each entry of a stream as a person sees it: its id, then names and values in turn."""
    cli = shutil.which("redis-cli") or shutil.which("valkey-cli")
    entries: list[list[str]] = []
    for partition in range(PARTITIONS):
        log = f"{{{stream}/{partition}}}:log"
        if cli is None:
            entries += (
                [entry_id.decode(), *(repr(text)[2:-1] for text in fields)]
                for entry_id, fields in xrange(server, log)
            )
            continue
        command = [cli, "-p", str(server.port), "--no-raw", "XRANGE", log, "-", "+"]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        for line in printed.splitlines():
            text = re.search(r'"((?:[^"\\]|\\.)*)"$', line)
            if text is None:
                continue
            # `1) 1) "1700000000000-1"` begins an entry, what belongs to it is indented.
            if not line.startswith(" "):
                entries.append([])
            entries[-1].append(text[1])
    return entries


def test_lists_and_describes_through_reflection(grpcurl: Grpcurl) -> None:
    assert grpcurl("list").split() == [
        SERVICE,
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    ]
    assert grpcurl("list", SERVICE).split() == [
        f"{SERVICE}.{method}"
        for method in ("CreateOrder", "GetOrder", "ListOrders", "RenameOrder", "WatchOrders")
    ]
    assert "idempotency_level = NO_SIDE_EFFECTS" in grpcurl("describe", f"{SERVICE}.GetOrder")
    assert "string request_id = 1;" in grpcurl("describe", "acme.orders.v1.CreateOrderRequest")


async def test_reads_its_write_back_from_another_instance(
    grpcurl: Grpcurl, orders: Made, start: Start
) -> None:
    other = Grpcurl(grpcurl.tool, await start(orders).address())
    created = grpcurl.call("CreateOrder", name="Tea")
    assert re.fullmatch(r"orders/[0-3]@[0-9a-f]{16}:\d+-1", created.position)
    order = {"id": created.fields["id"], "name": "Tea", "version": "1"}
    got = other.call("GetOrder", at_least=created.position, id=order["id"])
    assert got.fields == {"item": order}

    renamed = other.call("RenameOrder", id=order["id"], name="Green tea", expected_version=1)
    assert renamed.fields == {"id": order["id"], "version": "2"}
    listed = grpcurl.call("ListOrders", at_least=renamed.position)
    assert listed.fields == {
        "items": [order | {"name": "Green tea", "version": "2"}],
        "position": renamed.position,
    }


def test_repeated_request_gets_the_same_answer_and_one_fact(
    grpcurl: Grpcurl, server: RedisServer
) -> None:
    request = {"request_id": "5f0a2a52-6b52-4a2b-9d1a-3c1d2f7c9a10", "name": "Tea"}
    first = grpcurl.call("CreateOrder", **request)
    assert first.code == "OK"
    assert grpcurl.call("CreateOrder", **request) == first
    (entry,) = shown(server, "orders")
    entry_id, *fields = entry
    assert first.position.endswith(f":{entry_id}")
    assert fields[0::2] == ["type", "key", "meta", "data"]
    assert fields[1:4:2] == ["acme.orders.v1.OrderCreated", first.fields["id"]]
    (fact,) = facts(server, "orders")
    assert (fact.position, fact.meta.request_id) == (first.position, request["request_id"])


def test_refusals_have_their_code_and_say_why(grpcurl: Grpcurl, server: RedisServer) -> None:
    created = grpcurl.call("CreateOrder", name="Tea")
    order = created.fields["id"]
    grpcurl.call("RenameOrder", created.position, id=order, name="Green tea", expected_version=1)

    stale = grpcurl.call("RenameOrder", id=order, name="Black tea", expected_version=1)
    assert stale.code == "Aborted"
    assert stale.message.startswith(f"'{order}' of stream orders is at version 2, not 1; ")

    invalid = grpcurl.call("CreateOrder", request_id="one")
    assert invalid.code == "InvalidArgument"
    assert invalid.message == "name: must not be empty"
    assert invalid.details["@type"] == "type.googleapis.com/google.rpc.BadRequest"
    violations = invalid.details.get("field_violations") or invalid.details["fieldViolations"]
    assert violations == [{"field": "name", "description": "must not be empty"}]

    absent = grpcurl.call("GetOrder", id="nothing")
    assert (absent.code, absent.message) == ("NotFound", "there is no Order 'nothing'")
    assert len(facts(server, "orders")) == 2


def test_watch_streams_each_change_and_resumes(grpcurl: Grpcurl) -> None:
    with grpcurl.stream("WatchOrders") as changes:
        created = grpcurl.call("CreateOrder", name="Tea")
        first = next(changes)
        assert first == {
            "position": created.position,
            "created": {"id": created.fields["id"], "name": "Tea"},
        }
        again = grpcurl.call(
            "RenameOrder", id=created.fields["id"], name="Green tea", expected_version=1
        )
        second = {
            "position": again.position,
            "renamed": {"id": created.fields["id"], "name": "Green tea"},
        }
        assert next(changes) == second
    with grpcurl.stream("WatchOrders", after=first["position"]) as changes:
        assert next(changes) == second
