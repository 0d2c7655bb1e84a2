"""docs/scaling.md from its first step to its last and back, under calls all the time."""

import asyncio
import json
import signal
import subprocess
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import redis
from cli.running import FACTFOLD, Command, plain_environment

from .running import Made, Process, channel, eventually, facts
from .walking import Walk

CALLERS = 4
PAUSE = 0.04  # seconds between two calls of one caller
PATIENCE = 30.0  # seconds that a call may take with all its tries; the machine may be busy
SHARDS = {1: "7004", 2: "7005"}  # partition → port in the page
NAMES = ("orders", "shipments")  # services, and their streams
# A view may have read what no replica had confirmed, and nobody was told of.
UNCONFIRMED = ("was rolled back", "the log changed")


class Services:
    """An instance of each: where it is, and how another one takes its place."""

    def __init__(self, orders: Made, shipments: Made) -> None:
        self.made = {"orders": orders, "shipments": shipments}
        self.addresses: dict[str, str] = {}
        self.url = ""  # of the log
        self._running: list[Process] = []

    async def move(self, settings: dict[str, str]) -> None:
        before = self._running
        self.url = settings["FACTFOLD_REDIS_URL"]
        self._running = [Process(made, self.url, **settings) for made in self.made.values()]
        addresses = await asyncio.gather(*(each.address() for each in self._running))
        self.addresses = dict(zip(self.made, addresses, strict=True))
        await self._end(before)

    async def end(self) -> None:
        await self._end(self._running)

    async def _end(self, processes: list[Process]) -> None:
        for process in processes:
            process.terminate()
        for process in processes:
            assert await process.ends() == 0, "\n".join(process.lines)
            process.close()
            errors = [line for line in process.lines if '"level": "ERROR"' in line]
            assert not [e for e in errors if not any(text in e for text in UNCONFIRMED)]

    def kill(self) -> None:
        for process in self._running:
            if process.running:
                process.kill()
            print("\n".join([f"--- {process.name}", *process.lines]))


class Calls:
    """Callers that create orders all the time, and repeat each until it is answered."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self.answered: set[str] = set()  # request_id, which is the name, too
        self.codes: set[grpc.StatusCode] = set()
        self.longest = 0.0  # seconds that a call took with all its tries

    @asynccontextmanager
    async def going_on(self) -> AsyncIterator[None]:
        enough = asyncio.Event()
        callers = [asyncio.create_task(self._call(enough)) for _ in range(CALLERS)]
        try:
            yield
        finally:
            enough.set()
            await asyncio.gather(*callers)

    async def more(self, number: int) -> None:
        wanted = len(self.answered) + number
        await eventually(lambda: len(self.answered) >= wanted, PATIENCE)

    async def _call(self, enough: asyncio.Event) -> None:
        while not enough.is_set():
            began = time.monotonic()
            request_id = str(uuid.uuid4())
            while not await self._created(request_id):
                assert time.monotonic() - began < PATIENCE
                await asyncio.sleep(PAUSE)
            self.longest = max(self.longest, time.monotonic() - began)
            self.answered.add(request_id)
            await asyncio.sleep(PAUSE)

    async def _created(self, request_id: str) -> bool:
        contract = self._services.made["orders"].contract
        request = contract.CreateOrderRequest(request_id=request_id, name=request_id)
        async with channel(self._services.addresses["orders"]) as to_service:
            try:
                await contract.OrderServiceStub(to_service).CreateOrder(request, timeout=5)
            except grpc.aio.AioRpcError as error:
                self.codes.add(error.code())
                return False
        return True

    async def each_has_one_shipment(self) -> None:
        """In the view of the subscriber."""
        async with asyncio.timeout(PATIENCE):
            while not (names := await self._shipped()).keys() >= self.answered:
                await asyncio.sleep(0.1)
        assert names == Counter(self.answered)

    async def _shipped(self) -> Counter[str]:
        contract = self._services.made["shipments"].contract
        names: Counter[str] = Counter()
        request = contract.ListShipmentsRequest(page_size=1000)
        async with channel(self._services.addresses["shipments"]) as to_service:
            stub = contract.ShipmentServiceStub(to_service)
            while True:
                page = await stub.ListShipments(request, timeout=5)
                names.update(item.name for item in page.items)
                if not (token := page.next_page_token):
                    return names
                request.page_token = token


async def factfold(command: str, url: str) -> dict[str, list[dict[str, Any]]]:
    """What a command says about the log."""
    done = await asyncio.to_thread(
        lambda: subprocess.run(
            [*FACTFOLD, command, "--redis", url, "--json"],
            env=plain_environment(),
            capture_output=True,
            text=True,
        )
    )
    assert done.stdout, done.stderr
    return dict(json.loads(done.stdout))


async def well(url: str) -> None:
    """Doctor finds nothing wrong; servers that have just begun get to know each other first."""
    until = time.monotonic() + PATIENCE
    while True:
        found = (await factfold("doctor", url))["findings"]
        states = {each["state"]: each for each in found if each["part"] == "log"}
        if states and states.keys() <= {"ok", "warning"}:
            return
        assert time.monotonic() < until, states
        await asyncio.sleep(1)


async def caught_up(url: str) -> None:
    """No reaction is behind."""
    readers = (await factfold("lag", url))["readers"]
    behind = {each["reader"]: each["facts"] for each in readers if each["kind"] == "reaction"}
    assert "shipments.create_shipment_for_order" in behind
    assert not any(behind.values()), behind


def facts_on(port: int, partition: int) -> int:
    """How many facts of orders that server has taken."""
    with redis.Redis(port=port, decode_responses=True) as client:
        return int(client.hget(f"{{orders/{partition}}}:head", "n") or 0)


async def test_from_the_embedded_server_to_a_cluster_and_back(
    orders: Made, shipments: Made, tmp_path: Path
) -> None:
    services = Services(orders, shipments)
    calls = Calls(services)

    @asynccontextmanager
    async def step(name: str) -> AsyncIterator[None]:
        calls.longest, before, began = 0.0, len(calls.answered), time.monotonic()
        async with calls.going_on():
            yield
            await calls.more(20)
        await calls.each_has_one_shipment()
        if services.url:
            await well(services.url)
        took, new = time.monotonic() - began, len(calls.answered) - before
        print(f"{name}: {took:.1f} s, {new} orders, the longest took {calls.longest:.1f} s")

    with Walk(tmp_path) as walk:

        async def do(name: str) -> None:
            await asyncio.to_thread(walk.do, name)

        async def say(command: str) -> None:
            await asyncio.to_thread(walk.shell, command)

        try:
            up = Command("up", *(str(made.root) for made in services.made.values()), *walk.data)
            try:
                for name in NAMES:
                    services.addresses[name] = await asyncio.to_thread(up.ready, name)
                async with step("1"):
                    pass
            finally:
                up.send(signal.SIGINT)

            await do("take over the log")
            alone = walk.settings("services, step 2")
            await services.move(alone)
            async with step("2"):
                pass

            async with step("3"):
                await do("replicas and sentinels")
                await do("no facts for a master that is alone")
                await services.move(walk.settings("services, step 3"))
            async with step("3, the master fails"):
                await do("the master fails")
                await calls.more(20)
                await say(walk.command("redis-server $M.conf"))

            async with step("4"):
                await do("who has which slot")
                await do("the master becomes a node")
                await services.move(walk.settings("services, step 4"))
            async with step("4, replicas"):
                await do("its replicas become nodes")

            async with step("5"):
                await do("two more shards")
                await do("partitions move")
                before = {p: facts_on(walk.port(port), p) for p, port in SHARDS.items()}
                await calls.more(50)
                for partition, port in SHARDS.items():
                    assert facts_on(walk.port(port), partition) > before[partition] > 0
            await caught_up(services.url)

            async with step("back"):
                for partition, port in SHARDS.items():
                    for stream in NAMES:
                        there = f"orders/1 {walk.port('7004')}"
                        move = walk.command(f"sh -eu move.sh {there}")
                        here = f"{stream}/{partition} {walk.port(port)}"
                        await say(move.replace(there, here))
                alone["FACTFOLD_REDIS_URL"] = f"redis://127.0.0.1:{walk.master}/0"
                await services.move(alone)
                await do("the node becomes a server")
            await services.end()
            server: Any = SimpleNamespace(url=alone["FACTFOLD_REDIS_URL"])
            ids = Counter(fact.meta.request_id for fact in facts(server, "orders"))
            assert ids == Counter(calls.answered)
            assert len(facts(server, "shipments")) == len(calls.answered)
        finally:
            services.kill()
    assert calls.codes <= {grpc.StatusCode.UNAVAILABLE}
