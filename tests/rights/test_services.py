"""Whole services under the users that `factfold acl` has written."""

import asyncio
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli.running import FACTFOLD, plain_environment
from system.running import Made, Process, channel
from system.test_dead_letters import GROUP, QUICK, REACTION

from factfold_cli.log_audit import faults

from .conftest import Held

CREATED = 12


@pytest.fixture
def running() -> Iterator[list[Process]]:
    started: list[Process] = []
    yield started
    for process in started:
        process.close()
        print("\n".join([f"--- {process.name}", *process.lines]))


async def create(orders: Made, process: Process, *names: str) -> None:
    async with channel(await process.address()) as there:
        stub = orders.contract.OrderServiceStub(there)
        for name in names:
            made = await stub.CreateOrder(orders.contract.CreateOrderRequest(name=name), timeout=10)
            await stub.GetOrder(orders.contract.GetOrderRequest(id=made.id), timeout=10)


async def shipped(shipments: Made, process: Process) -> int:
    async with channel(await process.address()) as there:
        stub = shipments.contract.ShipmentServiceStub(there)
        listed = await stub.ListShipments(shipments.contract.ListShipmentsRequest(), timeout=10)
        return len(listed.items)


async def asked(held: Held, user: str, *words: str) -> str:
    """What `factfold …` says as one of the operators."""
    return await said(held.url(user), *words)


async def said(url: str, *words: str) -> str:
    done = await asyncio.to_thread(
        lambda: subprocess.run(
            [*FACTFOLD, *words],
            env=plain_environment() | {"FACTFOLD_REDIS_URL": url},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
        )
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("held", [("--trims", "orders"), ()], indirect=True, ids=["may", "not"])
async def test_a_service_trims_its_own_streams_if_it_may(
    held: Held, request: pytest.FixtureRequest, orders: Made, running: list[Process], tmp_path: Path
) -> None:
    settings = held.settings("orders") | {"FACTFOLD_SNAPSHOT_DIR": str(tmp_path / "kept")}
    url = settings.pop("FACTFOLD_REDIS_URL")
    policy = {"FACTFOLD_KEEP_FACTS": "1", "FACTFOLD_SNAPSHOT_INTERVAL": "0.5"}
    running.append(owner := Process(orders, url, **settings, **policy))
    may = "may" in request.node.callspec.id
    with held.client("factfold-viewer") as viewer:
        for at in range(60):
            await create(orders, owner, f"order {at}")
            facts = sum(viewer.xlen(f"{{orders/{partition}}}:log") for partition in range(4))
            if may and at > 20 and facts < at:
                break
            if not may and any("was not trimmed" in line for line in owner.lines):
                break
            await asyncio.sleep(0.1)
        else:
            pytest.fail(f"{facts} facts")
        assert faults(viewer, "orders") == []
    denied = [
        each for each in held.denied() if each.startswith("orders: ") and "client" not in each
    ]
    assert bool(denied) != may


async def test_services_need_no_more_than_their_rights(
    held: Held, orders: Made, shipments: Made, running: list[Process], tmp_path: Path
) -> None:
    def start(made: Made, **given: str) -> Process:
        kept = str(tmp_path / made.root.name)
        settings = {**held.settings(made.root.name), "FACTFOLD_SNAPSHOT_DIR": kept, **QUICK}
        url = settings.pop("FACTFOLD_REDIS_URL")
        running.append(Process(made, url, FACTFOLD_SNAPSHOT_INTERVAL="1", **settings, **given))
        return running[-1]

    # The subscriber first: it waits for a stream that is not there.
    reaction = shipments.root / "src/service/reactions/create_shipment_for_order.py"
    written = reaction.read_text()
    reaction.write_text(REACTION.format(fails="event.name == 'bad'"))
    try:
        theirs = start(shipments)
        owner = start(orders)
        await create(orders, owner, *(f"order {at}" for at in range(CREATED)), "bad")
        await theirs.address()

        async def are(number: int, process: Process) -> None:
            for _ in range(500):
                if await shipped(shipments, process) == number:
                    return
                await asyncio.sleep(0.03)
            pytest.fail(f"there are {await shipped(shipments, process)} shipments, not {number}")

        await are(CREATED, theirs)

        # Dead letters, as the operators see and redrive them.
        async def letters() -> list[dict[str, str]]:
            text = await asked(held, "factfold-viewer", "dead-letters", "list", "--json")
            found: list[dict[str, str]] = json.loads(text)["letters"]
            return found

        while not (dead := [each for each in await letters() if each["state"] == "dead"]):
            await asyncio.sleep(0.1)
        assert len(dead) == 1
        reaction.write_text(REACTION.format(fails="False"))
        # A take-over: who owned the partitions is killed, and with its snapshots another begins.
        await asyncio.sleep(1.5)
        theirs.kill()
        again = start(shipments)
        await again.address()
        assert any("view shipments begins with a snapshot" in line for line in again.lines)
        await asked(held, "factfold-operator", "dead-letters", "redrive", GROUP, "--all")
        await are(CREATED + 1, again)

        # Ended in order: members leave, groups are released, cursors written.
        again.terminate()
        assert await again.ends() == 0
        owner.terminate()
        assert await owner.ends() == 0
    finally:
        reaction.write_text(written)
    await asked(held, "factfold-viewer", "lag")
    await asked(held, "factfold-operator", "trim", "orders", "--register", "bills.bills")
    await asked(held, "factfold-operator", "trim", "orders", "--drop", "bills.bills", "--yes")
    tail = await asked(held, "factfold-viewer", "tail", "orders", "--no-follow")
    assert len(tail.splitlines()) == CREATED + 1
    text = await asked(held, "factfold-viewer", "doctor", "--json")
    streams = [each for each in json.loads(text)["findings"] if each["name"].startswith("stream")]
    assert [each["state"] for each in streams] == ["ok", "ok"]
    for process in running:
        warned = [line for line in process.lines if '"level": "WARNING"' in line]
        assert [line for line in warned if "permission" in line or "can't" in line] == []
    # redis-py names itself, and doctor asks how the server syncs: both go on without.
    assert [each for each in held.denied() if " client" not in each and " config" not in each] == []
