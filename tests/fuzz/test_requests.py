"""A generated service as it runs, and calls that nobody should send: each gets an answer that the
documents allow, and neither the service, nor its log, nor its view is the worse for it.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import grpc
import pytest
from cli.running import FACTFOLD, children, plain_environment
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2
from system.running import SERVING, Logged, Made, Process, channel, eventually, facts, health

from factfold_cli import redis_server

from .calls import HEALTH, POSITION, SERVICE, STREAM, Call, Code, World, sent
from .conftest import BATCH

AT_ONCE, CHANNELS = 64, 4
LONGEST = 30.0  # seconds for a call: it hangs
LONGEST_MESSAGE, LONGEST_TRAILERS = 600, 8 << 10  # bytes
ROOM, PER_INPUT = 64 << 20, 1 << 10  # bytes that the service may grow by
# gRPC's own words, once in a great while, for a caller that left just as its answer was sent.
TOO_LATE = "ExecuteBatchError raised in core by servicer method"
REMEMBERED = 64  # facts of a key whose request ids are remembered


@pytest.fixture(scope="module")
def orders(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The starter, as `factfold new` makes it."""
    folder = tmp_path_factory.mktemp("requests")
    root = folder / STREAM
    new = ["new", STREAM, "--language", "python", "--no-input", "--output", str(folder)]
    for command in ([*FACTFOLD, *new], [sys.executable, str(root / "hatch_build.py")]):
        done = subprocess.run(command, env=plain_environment(), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    sys.path.append(str(root / "gen"))
    contract = import_module("acme.orders.v1.contract_pb2")
    stubs: Any = import_module("acme.orders.v1.contract_pb2_grpc")
    vars(contract)["OrderServiceStub"] = stubs.OrderServiceStub
    return Made(root, Path(sys.executable), contract)


@dataclass(slots=True)
class Answer:
    code: Code
    details: str = ""
    trailers: tuple[tuple[str, str | bytes], ...] = ()
    messages: list[bytes] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Done:
    """A command that was acknowledged."""

    id: str
    version: int
    position: str
    request_id: str


class Caller:
    """Sends calls to one instance, and looks at each answer."""

    def __init__(self, process: Process, channels: list[grpc.aio.Channel], made: Made) -> None:
        self.process = process
        self.world = World(made.contract)
        self.done: list[Done] = []
        self.codes: Counter[str] = Counter()
        self._channels = channels
        self._contract = made.contract
        self._lines = 0
        self.too_late = 0

    async def batch(self, dice: random.Random, count: int) -> None:
        calls = [sent(dice, self.world) for _ in range(count)]
        room = asyncio.Semaphore(AT_ONCE)

        async def one(at: int, call: Call) -> tuple[Call, Answer]:
            async with room:
                try:
                    async with asyncio.timeout(LONGEST):
                        answer = await ask(self._channels[at % len(self._channels)], call)
                except TimeoutError:
                    raise AssertionError(f"no answer to {call}") from None
            expect(call, answer)
            return call, answer

        for call, answer in await asyncio.gather(*(one(*each) for each in enumerate(calls))):
            self.codes[answer.code.name] += 1
            self._learn(dice, call, answer)
        self.expect_quiet()
        await self.good(dice)

    def _learn(self, dice: random.Random, call: Call, answer: Answer) -> None:
        world, asked = self.world, call.request
        if asked is None or not answer.messages:
            return
        name = call.path.rpartition("/")[2]
        kind = getattr(self._contract, f"{name}Response")
        for message in map(kind.FromString, answer.messages):
            if name in ("CreateOrder", "RenameOrder"):
                place = str(dict(answer.trailers)["factfold-position"])
                self.done.append(Done(message.id, message.version, place, asked.request_id))
                if len(world.versions) < 300 or message.id in world.versions:
                    world.versions[message.id] = message.version
                world.remember(dice, world.positions, place)
                world.remember(dice, world.request_ids, asked.request_id)
            elif name == "ListOrders":
                world.remember(dice, world.tokens, message.next_page_token)
            elif name == "WatchOrders":
                assert message.WhichOneof("change")
                world.remember(dice, world.positions, message.position)

    async def good(self, dice: random.Random) -> None:
        """It serves, and does what it is asked."""
        check = health_pb2.HealthCheckRequest(service=SERVICE).SerializeToString()
        to_service, contract = self._channels[0], self._contract
        answer = await to_service.unary_unary(f"/{HEALTH}/Check")(check, timeout=10)
        assert health_pb2.HealthCheckResponse.FromString(answer).status == SERVING
        stub = contract.OrderServiceStub(to_service)
        create = contract.CreateOrderRequest(request_id=str(dice.getrandbits(128)), name="good")
        call = stub.CreateOrder(create, timeout=10)
        made = await call
        place = str(dict(await call.trailing_metadata())["factfold-position"])
        self.done.append(Done(made.id, made.version, place, create.request_id))
        self.world.remember(dice, self.world.positions, place)
        metadata = (("factfold-at-least", place),)
        get = contract.GetOrderRequest(id=made.id)
        found = await stub.GetOrder(get, timeout=10, metadata=metadata)
        assert (found.item.name, found.item.version) == ("good", 1)

    def expect_quiet(self) -> None:
        """Nothing that a caller does is worth an operator's look."""
        lines = self.process.lines[self._lines :]
        self._lines += len(lines)
        for line in lines:
            said = json.loads(line) if line.startswith("{") else {"level": "no JSON"}
            if said.get("message", "").startswith(TOO_LATE):
                self.too_late += 1
                continue
            assert said["level"] == "INFO", line[:4_000]
            assert "exception" not in said, line[:4_000]
        assert self.too_late <= 2 + len(self.process.lines) // 1_000

    @property
    def _pid(self) -> int:
        (pid,) = children(self.process._process.pid)
        return pid

    @property
    def memory(self) -> int:
        text = Path(f"/proc/{self._pid}/statm").read_text()
        return int(text.split()[1]) * os.sysconf("SC_PAGE_SIZE")

    @property
    def open_files(self) -> int:
        return len(os.listdir(f"/proc/{self._pid}/fd"))


async def ask(to_service: grpc.aio.Channel, call: Call) -> Answer:
    options: dict[str, Any] = {
        "timeout": call.timeout, "metadata": call.metadata, "compression": call.compression
    }  # fmt: skip
    loop = asyncio.get_running_loop()
    found: list[bytes] = []
    if not call.streams:
        running: Any = to_service.unary_unary(call.path)(call.messages[0], **options)
    elif "reflection" in call.path:
        running = to_service.stream_stream(call.path)(iter(call.messages), **options)
    else:
        running = to_service.unary_stream(call.path)(call.messages[0], **options)
    timer = call.patience is not None and loop.call_later(call.patience, running.cancel)
    try:
        if call.streams:
            while (
                len(found) < call.answers and (answer := await running.read()) is not grpc.aio.EOF
            ):
                found.append(answer)
            if len(found) == call.answers:
                running.cancel()
        else:
            found.append(await running)
    except grpc.aio.AioRpcError as error:
        trailers: Any = error.trailing_metadata() or ()
        if "reflection" in call.path and error.details() == "Internal error from Core":
            # What grpc.aio makes of a call that ends while its requests are still being sent.
            return Answer(Code.CANCELLED, "", (), found)
        return Answer(error.code(), error.details() or "", tuple(trailers), found)
    except asyncio.CancelledError:
        if not running.cancelled():
            raise
        return Answer(Code.CANCELLED, "", (), found)
    finally:
        if timer:
            timer.cancel()
    code = await running.code() if len(found) < call.answers else Code.OK
    return Answer(code, "", tuple(await running.trailing_metadata() or ()), found)


def expect(call: Call, answer: Answer) -> None:
    told = f"{answer.code} {answer.details[:1_000]!r} {str(answer.trailers)[:1_000]} to {call}"
    allowed = {code.name for code in call.allowed}
    assert answer.code in call.allowed, f"not of {sorted(allowed)}: {told}"
    assert len(answer.details.encode()) <= LONGEST_MESSAGE, told
    assert answer.details.isprintable(), told
    trailers = dict(answer.trailers)
    assert sum(len(name) + len(value) + 32 for name, value in answer.trailers) < LONGEST_TRAILERS, (
        told
    )
    place = str(trailers.get("factfold-position", ""))
    assert all(POSITION.fullmatch(part) for part in place.split(",") if part), told
    if answer.code is Code.INVALID_ARGUMENT:
        status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
        request = error_details_pb2.BadRequest()
        assert status.details[0].Unpack(request), told
        assert all(each.field and each.description for each in request.field_violations), told
        assert request.field_violations, told


# The log and the view.


def expect_log(logged: list[Logged], done: list[Done], contract: Any) -> dict[str, tuple[str, int]]:
    """Each fact is whole, what was acknowledged is there once; what a view of it is."""
    rows: dict[str, tuple[str, int]] = {}
    asked: dict[tuple[str, str], int] = {}
    assert len({fact.meta.id for fact in logged}) == len(logged)
    for fact in logged:
        package, _, name = fact.type.rpartition(".")
        assert package == "acme.orders.v1"
        event = getattr(contract, name).FromString(fact.data)
        version = rows.get(fact.key, ("", 0))[1] + 1
        assert (event.id, fact.meta.version) == (fact.key, version)
        assert (name == "OrderCreated") == (version == 1)
        if request_id := fact.meta.request_id:
            before = asked.get((fact.key, request_id))
            assert before is None or version - before >= REMEMBERED, fact
            asked[fact.key, request_id] = version
        rows[fact.key] = event.name, version
    at = {fact.position: fact for fact in logged}
    answered: dict[str, Done] = {}
    for each in done:
        fact = at[each.position]
        assert (fact.key, fact.meta.version) == (each.id, each.version)
        assert fact.meta.request_id == each.request_id
        before_it = answered.setdefault(each.position, each)
        assert each.request_id or before_it is each, f"two commands were given {each}"
    return rows


async def view(process: Process, made: Made, positions: list[str]) -> dict[str, tuple[str, int]]:
    """All rows, page by page, once they are there."""
    contract = made.contract
    rows: dict[str, tuple[str, int]] = {}
    async with channel(await process.address()) as to_service:
        stub = contract.OrderServiceStub(to_service)
        token, metadata = "", tuple(("factfold-at-least", place) for place in positions)
        while True:
            asked = contract.ListOrdersRequest(page_size=1_000, page_token=token)
            page = await stub.ListOrders(asked, timeout=20, metadata=metadata)
            rows |= {item.id: (item.name, item.version) for item in page.items}
            if not (token := page.next_page_token):
                return rows


# The test.


@asynccontextmanager
async def collector() -> AsyncIterator[str]:
    """Takes all spans and keeps none."""

    class Taken(grpc.GenericRpcHandler):
        def service(self, details: grpc.HandlerCallDetails) -> Any:
            async def export(request: bytes, context: Any) -> bytes:
                return b""

            return grpc.unary_unary_rpc_method_handler(export)

    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
    server.add_generic_rpc_handlers((Taken(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"http://127.0.0.1:{port}"
    await server.stop(None)


@asynccontextmanager
async def started(made: Made, redis_url: str, **settings: str) -> AsyncIterator[Process]:
    process = Process(made, redis_url, **settings)
    try:
        yield process
    finally:
        await asyncio.to_thread(process.close)
        print(
            "\n".join(
                ["--- the service's last lines", *(line[:1_000] for line in process.lines[-20:])]
            )
        )


async def test_whatever_is_sent(orders: Made, batches: Iterator[random.Random]) -> None:
    with redis_server.start(fsync="no") as server:
        async with collector() as endpoint:
            settings = {"FACTFOLD_READ_TIMEOUT": "0.1", "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}
            async with started(orders, server.url, **settings) as process:
                await everything(process, orders, server, batches)


async def everything(
    process: Process, made: Made, server: redis_server.RedisServer, batches: Iterator[random.Random]
) -> None:
    address = await process.address()
    # Channels to one address share a connection unless their options differ.
    channels = [
        grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
        for _ in range(CHANNELS)
    ]
    caller = Caller(process, channels, made)
    for number in range(20):
        await caller.good(random.Random(number))
    await asyncio.sleep(3)  # by then each view has the connection on which it says where it is
    memory, files, sent_so_far = caller.memory, caller.open_files, 0
    for dice in batches:
        await caller.batch(dice, BATCH)
        sent_so_far += BATCH
        grown = caller.memory - memory
        assert grown < ROOM + sent_so_far * PER_INPUT, f"{grown >> 20} MiB after {sent_so_far}"
    for each in channels:
        await each.close()
    await eventually(lambda: caller.open_files <= files)
    print(f"\n{sent_so_far} inputs, {grown >> 20} MiB more, {dict(caller.codes)}")
    logged = facts(server, STREAM)
    rows = expect_log(logged, caller.done, made.contract)
    print(f"{len(logged)} facts, {len(caller.done)} acknowledgements, {len(rows)} rows")
    tails = {fact.position.rpartition(":")[0]: fact.position for fact in logged}
    assert await view(process, made, list(tails.values())) == rows
    async with started(made, server.url) as second:
        assert await view(second, made, list(tails.values())) == rows
    assert await health(address) == SERVING
    caller.expect_quiet()
