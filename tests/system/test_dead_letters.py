"""A reaction that fails: its facts are looked at, tried again once it is mended, or given up."""

import asyncio
import json
import shutil
import subprocess
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cli.running import FACTFOLD, plain_environment

from factfold_cli.redis_server import RedisServer

from .conftest import Start
from .running import Made, Process, channel, eventually, facts, xrange

GROUP = "shipments.create_shipment_for_order"
# Gives a fact up after two tries, and beats every tenth of a second.
QUICK = {"FACTFOLD_REACTION_ATTEMPTS": "2", "FACTFOLD_LEASE": "1"}
REACTION = """\
from factfold_chassis import Append, Outputs, Reacting, reaction

import service.subscriptions.orders as theirs
from service import contract


@reaction(theirs.OrderCreated, theirs.OrderRenamed)
async def create_shipment_for_order(
    event: theirs.OrderCreated | theirs.OrderRenamed, call: Reacting
) -> Outputs:
    if {fails}:
        raise ValueError(f"no carrier takes {{event.name}}")
    created = contract.ShipmentCreated(id=call.new_id(), name=event.name)
    return Append(created, expected_version=0)
"""

Code = Callable[[str], Made]


@pytest.fixture
def code(shipments: Made, tmp_path: Path) -> Code:
    """`code(CONDITION)` is shipments with a reaction that fails for such events."""

    def write(fails: str) -> Made:
        root = tmp_path / "shipments"
        shutil.copytree(shipments.root, root, dirs_exist_ok=True)
        reaction = root / "src" / "service" / "reactions" / "create_shipment_for_order.py"
        reaction.write_text(REACTION.format(fails=fails))
        return replace(shipments, root=root)

    return write


async def dead_letters(
    server: RedisServer, at: Made, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """`factfold dead-letters …` inside a repository."""
    return await asyncio.to_thread(
        lambda: subprocess.run(
            [*FACTFOLD, "dead-letters", *arguments],
            cwd=at.root,
            env=plain_environment() | {"FACTFOLD_REDIS_URL": server.url},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
    )


async def listed(server: RedisServer, at: Made) -> list[dict[str, Any]]:
    done = await dead_letters(server, at, "list", "--json")
    assert done.returncode == 0, done.stderr
    letters: list[dict[str, Any]] = json.loads(done.stdout)["letters"]
    return letters


async def order(orders: Made, process: Process, *names: str) -> str:
    """The id of an order that was created with the first name and then renamed."""
    contract = orders.contract
    async with channel(await process.address()) as to_service:
        stub = contract.OrderServiceStub(to_service)
        request = contract.CreateOrderRequest(name=names[0])
        made = await stub.CreateOrder(request, timeout=10)
        for version, name in enumerate(names[1:], start=1):
            request = contract.RenameOrderRequest(id=made.id, name=name, expected_version=version)
            await stub.RenameOrder(request, timeout=10)
    return str(made.id)


def shipped(shipments: Made, server: RedisServer) -> list[str]:
    """The names of all shipments in the order in which they came into the log."""
    event = shipments.contract.ShipmentCreated
    made = sorted(facts(server, "shipments"), key=lambda fact: fact.meta.id)
    return [event.FromString(fact.data).name for fact in made]


async def given_up(server: RedisServer, at: Made, key: str) -> list[dict[str, Any]]:
    """The letters of a key, once the first one is dead."""
    for _ in range(60):
        found = [letter for letter in await listed(server, at) if letter["key"] == key]
        if found and found[0]["state"] == "dead":
            return found
    pytest.fail(f"not given up: {found}")


async def test_a_failing_fact_holds_its_key_until_it_is_mended_and_redriven(
    orders: Made, code: Code, start: Start, server: RedisServer
) -> None:
    owner = start(orders)
    failing = code("'bad' in event.name")
    instance = start(failing, **QUICK)
    key = await order(orders, owner, "bad", "then", "last")
    await order(orders, owner, "good")
    await eventually(lambda: shipped(failing, server) == ["good"])
    letters = await given_up(server, failing, key)
    assert [letter["state"] for letter in letters] == ["dead", "held", "held"]
    assert [letter["type"].rpartition(".")[2] for letter in letters] == [
        "OrderCreated",
        "OrderRenamed",
        "OrderRenamed",
    ]
    assert letters[0]["error"] == "ValueError: no carrier takes bad"
    assert letters[0]["tries"] == 2
    (position, *rest) = [letter["position"] for letter in letters]
    assert [letter["behind"] for letter in letters] == [None, position, position]

    shown = json.loads(
        (await dead_letters(server, failing, "show", GROUP, position, "--json")).stdout
    )
    assert shown["data"] == {"id": key, "name": "bad"}
    assert shown["holds_back"] == rest
    (created,) = [
        fact for fact in facts(server, "orders") if fact.position.endswith(shown["entry_id"])
    ]
    assert shown["meta"]["id"] == str(uuid.UUID(bytes=created.meta.id))
    assert shown["meta"]["source"] == "/orders"

    again = await dead_letters(server, failing, "redrive", GROUP, position)
    assert again.returncode == 1
    # After one try, or the second one, which is the last.
    assert again.stdout in {
        f"{position}\tfailed again\t{then}: ValueError: no carrier takes bad\n"
        for then in ("the service goes on trying", "given up")
    }

    instance.terminate()
    assert await instance.ends() == 0
    alone = await dead_letters(server, failing, "redrive", GROUP, position, "--wait", "0.5")
    assert alone.stdout == (
        f"{position}\tqueued\t"
        "no instance of shipments has taken it up yet, after 0.5 s; one that runs will\n"
    )
    (first, *_) = await listed(server, failing)
    assert first["queued"] == ["redrive"]

    mended = code("False")
    start(mended, **QUICK)
    await eventually(lambda: shipped(mended, server) == ["good", "bad", "then", "last"])
    done = await dead_letters(server, mended, "list")
    assert (done.returncode, done.stdout) == (0, "")


async def test_a_key_is_answered_in_order_once_its_first_letter_is_redriven(
    orders: Made, code: Code, start: Start, server: RedisServer, tmp_path: Path
) -> None:
    """Without a restart: what was wrong is outside the service."""
    down = tmp_path / "carrier is down"
    down.touch()
    made = code(f"event.name != 'good' and __import__('os').path.exists({str(down)!r})")
    owner = start(orders)
    start(made, **QUICK)
    keys = [await order(orders, owner, f"{n}a", f"{n}b", f"{n}c") for n in range(5)]
    for key in keys:
        await given_up(server, made, key)
    down.unlink()
    done = await dead_letters(server, made, "redrive", GROUP, "--type", "OrderCreated")
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split("\t")[1:] for line in done.stdout.splitlines()] == [["answered"]] * 5
    await eventually(lambda: len(shipped(made, server)) == 15)
    names = shipped(made, server)
    for n in range(5):
        assert [name for name in names if name[0] == str(n)] == [f"{n}a", f"{n}b", f"{n}c"]
    assert await listed(server, made) == []


async def test_what_is_discarded_is_never_answered_and_its_key_goes_on(
    orders: Made, code: Code, start: Start, server: RedisServer
) -> None:
    owner = start(orders)
    made = code("'bad' in event.name")
    start(made, **QUICK)
    key = await order(orders, owner, "bad", "then")
    lost = await order(orders, owner, "bad too", "lost")
    (first, _) = await given_up(server, made, key)
    await given_up(server, made, lost)
    done = await dead_letters(server, made, "discard", GROUP, first["position"], "--yes")
    assert (done.returncode, done.stdout) == (0, f"{first['position']}\tdiscarded\n")
    await eventually(lambda: shipped(made, server) == ["then"])
    done = await dead_letters(server, made, "discard", GROUP, "--key", lost, "--yes")
    assert done.returncode == 0, done.stderr
    assert [line.split("\t")[1] for line in done.stdout.splitlines()] == ["discarded"] * 2
    assert await listed(server, made) == []
    await asyncio.sleep(1)
    assert shipped(made, server) == ["then"]
    # The facts themselves stay.
    assert sum(len(xrange(server, f"{{orders/{number}}}:log")) for number in range(4)) == 4
