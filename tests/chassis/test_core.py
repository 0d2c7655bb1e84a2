"""Views, commands, watches and reactions over a real log."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import redis.asyncio
from faults.proxy import Command as Sent
from faults.proxy import Hook, Link, Proxy, Verdict

import factfold_chassis
from factfold_chassis import Append, Command, InvalidRequest, View, fold, reaction, rpc
from factfold_chassis.boundary import at_least
from factfold_chassis.calls import Watch
from factfold_chassis.contract import Contract
from factfold_chassis.core import Core
from factfold_chassis.errors import (
    ChassisError,
    Draining,
    FailedPrecondition,
    LogUnreachable,
    NotReady,
    OtherEpoch,
    PositionLost,
    PositionNotReached,
    VersionConflict,
    WiringError,
)
from factfold_chassis.facts import partition_of
from factfold_chassis.log.read import START, Batch
from factfold_chassis.log.scripts import CLAIM
from factfold_chassis.log.streams import Keys
from factfold_chassis.reactions.ownership import chosen
from factfold_chassis.settings import Settings
from factfold_chassis.telemetry import Telemetry
from factfold_chassis.views.tables import Rows, Tables

SCRIPTS = Path(factfold_chassis.__file__).parent / "lua"


class Request:
    """As much of a request as a Command looks at."""

    def __init__(self, request_id: str = ""):
        self.request_id = request_id


class Shop:
    """A service that owns `orders` and, if told so, reads `payments`."""

    def __init__(self, shop: ModuleType, bank: ModuleType, *, with_bank: bool = False):
        self.view = View("shop")
        self.orders = self.view.table("orders", shop.Order)
        view, orders = self.view, self.orders

        @fold(shop.OrderPlaced, into=orders)
        def placed(row: Any, event: Any, fact: Any) -> Any:
            return shop.Order(
                id=event.id, name=event.name, customer=event.customer, version=fact.version
            )

        @fold(shop.OrderCancelled, into=orders)
        def cancelled(row: Any, event: Any, fact: Any) -> Any:
            return None

        self.folds: list[Any] = [placed, cancelled]
        self.contract = Contract([shop.DESCRIPTOR], [bank.DESCRIPTOR] if with_bank else [])
        self.totals = view.aggregate(
            "totals",
            source=orders,
            by=lambda row: row.customer or None,
            row=bank.CustomerTotal,
            add=lambda total, row: setattr(total, "orders", total.orders + 1),
            remove=lambda total, row: setattr(total, "orders", total.orders - 1),
        )
        if with_bank:
            self.payments = view.table("payments", bank.PaymentMade)

            @fold(bank.PaymentMade, into=self.payments)
            def paid(row: Any, event: Any, fact: Any) -> Any:
                return event

            self.folds.append(paid)
            self.paid = view.join(
                "paid",
                left=orders,
                right=self.payments,
                on=lambda row: row.id,
                row=bank.PaidOrder,
                combine=lambda order, payment: bank.PaidOrder(
                    id=order.id, name=order.name, amount=payment.amount if payment else 0
                ),
            )
        self.reactions: list[Any] = []

    def core(self, url: str, *, first: bool = True, **settings: Any) -> Core:
        return Core(
            "shop", self.contract, self.folds, self.reactions,
            Settings(redis_url=url, **settings), Telemetry(), first=first,
        )  # fmt: skip


@asynccontextmanager
async def running(core: Core, *, ready: bool = True) -> AsyncIterator[Core]:
    await core.start()
    try:
        if ready:
            async with asyncio.timeout(10):
                await core.wait_ready()
        yield core
    finally:
        await core.close(2.0)


async def eventually(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def place(core: Core, event: Any, expected: int | None = 0, request_id: str = "") -> Any:
    return await Command(core, Request(request_id)).append(event, expected_version=expected)


async def place_all(core: Core, events: list[Any]) -> None:
    """Each the first of its key."""
    for at in range(0, len(events), 500):
        await asyncio.gather(*(place(core, event) for event in events[at : at + 500]))


async def test_a_view_is_the_fold_of_its_stream(server, shop, bank):
    service = Shop(shop, bank)
    async with running(service.core(server.url)) as core:
        for i in range(300):
            await place(core, shop.OrderPlaced(id=f"k{i}", name=f"n{i}", customer=f"c{i % 7}"))
        done = await place(core, shop.OrderCancelled(id="k5"), 1)
        await core.at_least(str(done.position), 2.0)
        rows = core.query().rows(service.orders)
        await eventually(lambda: len(rows) == 299)
        assert rows.get("k5") is None
        assert rows.get("k7") == shop.Order(id="k7", name="n7", customer="c0", version=1)
        totals = core.query().rows(service.totals)
        assert {key: totals.get(key).orders for key in totals} == {
            "c0": 43, "c1": 43, "c2": 43, "c3": 43, "c4": 43, "c5": 42, "c6": 42,
        }  # fmt: skip
        live = {key: rows.get(key) for key in rows}
    async with running(service.core(server.url)) as core:
        rebuilt = core.query().rows(service.orders)
        assert {key: rebuilt.get(key) for key in rebuilt} == live


async def test_a_join_follows_both_sides(server, shop, bank):
    service = Shop(shop, bank, with_bank=True)
    owner = Contract([bank.DESCRIPTOR])
    paying = Core("bank", owner, [], [], Settings(redis_url=server.url), Telemetry())
    async with running(paying), running(service.core(server.url)) as core:
        paid = core.query().rows(service.paid)
        await place(paying, bank.PaymentMade(order_id="a", amount=7), None)
        await place(core, shop.OrderPlaced(id="a", name="first"))
        await place(core, shop.OrderPlaced(id="b", name="second"))
        await eventually(lambda: len(paid) == 2 and paid.get("a").amount == 7)
        assert paid.get("b").amount == 0
        await place(paying, bank.PaymentMade(order_id="b", amount=9), None)
        await eventually(lambda: paid.get("b").amount == 9)
        await place(core, shop.OrderCancelled(id="a"), 1)
        await eventually(lambda: "a" not in paid)


async def test_a_fold_that_fails_leaves_the_other_tables_right(server, shop, bank):
    service = Shop(shop, bank)
    other = service.view.table("other", shop.Order)

    @fold(shop.OrderPlaced, into=service.view.table("broken", shop.Order))
    def broken(row: Any, event: Any, fact: Any) -> Any:
        raise RuntimeError("broken")

    @fold(shop.OrderPlaced, into=other)
    def works(row: Any, event: Any, fact: Any) -> Any:
        return shop.Order(id=event.id)

    service.folds += [broken, works]
    async with running(service.core(server.url)) as core:
        await place(core, shop.OrderPlaced(id="k"))
        await eventually(lambda: "k" in core.query().rows(other))


def failing_on(word: str, by: int) -> Callable[[Any, Any], None]:
    def change(total: Any, row: Any) -> None:
        if row.name == word:
            raise RuntimeError(word)
        total.orders += by

    return change


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 0, 1, 2), (0, 2, 1, 3), (2, 0, 3, 1)])
def test_a_derived_table_that_fails_leaves_the_others_right(shop, bank, order):
    """Whatever the order between keys, the tables are the same."""
    view = View("view")
    orders, payments = view.table("orders", shop.Order), view.table("payments", bank.PaymentMade)
    paid = view.join(
        "paid", left=orders, right=payments, on=lambda row: row.id, row=bank.PaidOrder,
        combine=lambda order, payment: bank.PaidOrder(id=order.id, amount=payment.amount),
    )  # fmt: skip
    totals = view.aggregate(
        "totals", source=orders, by=lambda row: "all", row=bank.CustomerTotal,
        add=failing_on("poison", 1), remove=failing_on("", -1),
    )  # fmt: skip
    tables = Tables(view)
    puts = [
        (orders, "a", shop.Order(id="a", name="good")),
        (payments, "a", bank.PaymentMade(order_id="a", amount=7)),
        (orders, "b", shop.Order(id="b", name="poison")),
        (orders, "c", shop.Order(id="c", name="good")),
    ]
    for at in order:
        table, key, row = puts[at]
        with contextlib.suppress(RuntimeError, AttributeError):
            tables[table].put(key, row)
    for key in "bc":
        with contextlib.suppress(RuntimeError, AttributeError):
            tables[orders].put(key, None)
    assert [*tables[paid]] == ["a"]
    assert tables[totals].get("all").orders == 1


async def test_a_subscriber_that_starts_first_waits_and_gets_all_history(server, shop, bank):
    service = Shop(shop, bank, with_bank=True)
    async with running(service.core(server.url), ready=False) as core:
        await eventually(lambda: "waits for stream payments" in core.status)
        assert not core.ready
        owner = Core(
            "bank", Contract([bank.DESCRIPTOR]), [], [], Settings(redis_url=server.url), Telemetry()
        )
        async with running(owner):
            await place(owner, bank.PaymentMade(order_id="a", amount=7), None)
            await asyncio.wait_for(core.wait_ready(), 10)
            await eventually(lambda: len(core.query().rows(service.payments)) == 1)


async def test_a_service_without_a_stream_of_its_own_reads_those_of_others(server, shop, bank):
    view = View("paid")
    payments = view.table("payments", bank.PaymentMade)

    @fold(bank.PaymentMade, into=payments)
    def paid(row: Any, event: Any, fact: Any) -> Any:
        return event

    settings = Settings(redis_url=server.url)
    owner = Core("bank", Contract([bank.DESCRIPTOR]), [], [], settings, Telemetry())
    reader = Core("reader", Contract([], [bank.DESCRIPTOR]), [paid], [], settings, Telemetry())
    async with running(owner), running(reader):
        await place(owner, bank.PaymentMade(order_id="a", amount=7), None)
        await eventually(lambda: reader.query().rows(payments).get("a"))


async def test_a_repeated_command_gives_one_fact_and_the_first_answer(server, shop, bank):
    service = Shop(shop, bank)
    async with (
        running(service.core(server.url)) as one,
        running(service.core(server.url)) as two,
    ):
        first = await place(one, shop.OrderPlaced(id="k", name="first"), 0, "r1")
        again = await place(two, shop.OrderPlaced(id="k", name="other"), 0, "r1")
        assert not first.repeated
        assert again.repeated
        assert (again.position, again.version) == (first.position, 1)
        assert again.event.name == "first"
        with pytest.raises(VersionConflict):
            await place(two, shop.OrderPlaced(id="k", name="x"), 0, "r2")
        with pytest.raises(InvalidRequest, match="another command has used it"):
            await place(two, shop.OrderCancelled(id="k"), 0, "r1")
        assert Command(one, Request("r1")).new_id() == Command(two, Request("r1")).new_id()


class Late(Hook):
    """What is read at the tail comes late."""

    async def reply(self, link: Link, command: Sent, reply: bytes) -> Verdict:
        if command.name == "XREAD":
            await asyncio.sleep(0.5)
        return Verdict.PASS


async def test_a_repeated_command_waits_for_what_the_view_has_not_seen(server, shop, bank):
    service = Shop(shop, bank)
    async with (
        Proxy([server.port], SCRIPTS) as proxy,
        running(service.core(server.url)) as one,
        running(service.core(proxy.url)) as two,
    ):
        proxy.hooks.append(Late())
        first = await place(one, shop.OrderPlaced(id="k", name="first"), 0, "r1")
        again = await place(two, shop.OrderPlaced(id="k", name="other"), 0, "r1")
        assert (again.repeated, again.position) == (True, first.position)


async def test_a_repeated_command_that_takes_the_version_from_the_view(server, shop, bank):
    service = Shop(shop, bank)
    async with running(service.core(server.url)) as core:
        done = await place(core, shop.OrderPlaced(id="k"))
        for repeated in (False, True):
            await core.at_least(str(done.position), 2)
            version = core.query().rows(service.orders).get("k").version
            done = await place(core, shop.OrderPlaced(id="k", name="new"), version, "r")
            assert (done.repeated, done.version, done.position.n) == (repeated, 2, 2)


async def test_a_fact_with_more_fields_is_found_again_too(server, client, shop, bank):
    """Fields are found by name, and what else there is is passed over."""
    service = Shop(shop, bank)
    async with running(service.core(server.url)) as core:
        done = await place(core, shop.OrderPlaced(id="k"), 0, "r")
        log = f"{{orders/{done.position.partition}}}:log"
        ((entry_id, fields),) = await client.xrange(log)
    await client.delete(log)
    await client.xadd(log, {b"more": b"1", **fields}, id=entry_id)
    async with running(service.core(server.url)) as core:
        assert (await place(core, shop.OrderPlaced(id="k"), 0, "r")).repeated


async def test_a_command_of_two_appends_finds_both_again(server, shop, bank):
    service = Shop(shop, bank)
    async with running(service.core(server.url)) as core:
        for repeated in (False, True, True):
            command = Command(core, Request("r"))
            one = await command.append(shop.OrderPlaced(id="k", name="a"), expected_version=0)
            two = await command.append(shop.OrderPlaced(id="k", name="b"), expected_version=1)
            assert (one.repeated, two.repeated) == (repeated, repeated)
            assert (one.event.name, two.event.name) == ("a", "b")
            assert (one.version, two.version) == (1, 2)


async def test_the_last_64_commands_of_a_key_are_recognised(server, shop, bank):
    async with running(Shop(shop, bank).core(server.url)) as core:
        for n in range(65):
            done = await place(core, shop.OrderPlaced(id="k", name=str(n)), n, f"r{n}")
        await core.at_least(str(done.position), 2)
        again = await place(core, shop.OrderPlaced(id="k"), 1, "r1")
        assert (again.repeated, again.version, again.event.name) == (True, 2, "1")
        with pytest.raises(VersionConflict):
            await place(core, shop.OrderPlaced(id="k"), 0, "r0")


async def test_a_position_not_reached_and_one_of_another_epoch(server, shop, bank):
    service = Shop(shop, bank)
    async with running(service.core(server.url)) as core:
        done = await place(core, shop.OrderPlaced(id="k"))
        ahead = str(done.position).replace("-1", "-9")
        with pytest.raises(PositionNotReached, match="was not reached in time"):
            await core.at_least(ahead, 0.1)
        other = str(done.position).replace(done.position.epoch, "0" * 16)
        with pytest.raises(OtherEpoch):
            await core.at_least(other, 0.1)
        with pytest.raises(FailedPrecondition, match="has no view of stream elsewhere"):
            await core.at_least(f"elsewhere/0@{'0' * 16}:1-1", 0.1)
        for text in ("nonsense", f"{done.position}\n", str(done.position).replace("1", "\u0661")):
            with pytest.raises(InvalidRequest, match="is no position"):
                await core.at_least(text, 0.1)


async def test_who_waits_for_a_view_that_begins_anew_hears_so_at_once(server, client, shop, bank):
    """And not, in the end, a position of a log that is gone."""
    service = Shop(shop, bank)
    async with running(service.core(server.url)) as core:
        done = await place(core, shop.OrderPlaced(id="k"))
        await core.at_least(str(done.position), 2)
        waiting = asyncio.create_task(core.at_least(f"{done.position}9", 60))
        await asyncio.sleep(0.01)
        await client.flushall()
        with pytest.raises(PositionNotReached, match="now at the start"):
            await asyncio.wait_for(waiting, 10)


async def test_a_watch_of_large_facts_takes_little_memory(server, shop, bank):
    service = Shop(shop, bank)
    async with running(service.core(server.url)) as core:
        for i in range(20):
            done = await place(core, shop.OrderPlaced(id="k", name="x" * 500_000), i)
        await core.at_least(str(done.position), 2)
        partition = done.position.partition
        kept = core.journal.recent("orders", partition, 15)
        assert kept is not None
        assert len(kept) == 6
        assert core.journal.recent("orders", partition, 10) is None
        seen = 0
        async for _ in core.watch().changes():
            seen += 1
            if seen == 20:
                break


async def test_a_view_that_begins_anew_while_a_call_waits_for_another_is_not_read(
    server, shop, bank
):
    service = Shop(shop, bank)
    slow = View("slow").table("orders", shop.Order)
    service.folds.append(fold(shop.OrderPlaced, into=slow)(lambda row, event, fact: row))

    class Context:
        def time_remaining(self) -> float:
            return 5

    async with running(service.core(server.url)) as core:
        done = await place(core, shop.OrderPlaced(id="k"))
        await core.at_least(str(done.position), 2)
        at_least.set(str(done.position))
        at = core.view_of(slow).places()[done.position.partition]
        read = rpc._query(
            core, lambda request, call: call.rows(service.orders).get("k"), None, Context()
        )
        reached, at.anchor = at.anchor, START
        reading = asyncio.create_task(read)
        await asyncio.sleep(0.01)
        core.view_of(service.orders)._reset()
        at.advance(Batch([], reached, reached.n))
        with pytest.raises(NotReady):
            await reading


async def test_a_watch_of_large_facts_reads_few_at_once(server, shop, bank, monkeypatch):
    """A caller that is slow, or many of them, must not hold the log in memory."""
    service = Shop(shop, bank)
    real, sizes = Watch._read, []

    async def measured(self: Watch, *args: Any) -> Any:
        entries = await real(self, *args)
        sizes.append(sum(len(fields[-1]) for _, fields in entries))
        return entries

    monkeypatch.setattr(Watch, "_read", measured)
    async with running(service.core(server.url)) as core:
        for i in range(60):
            done = await place(core, shop.OrderPlaced(id="k", name="x" * 500_000), i)
        await core.at_least(str(done.position), 5)
        versions = []
        async for change in core.watch().changes():
            versions.append(change.fact.version)
            if len(versions) == 60:
                break
    assert versions == [*range(1, 61)]
    assert len(sizes) > 3
    assert max(sizes[1:]) < 5 << 20
    assert sizes[0] < 11_000_000


async def test_a_caller_that_leaves_while_it_waits_is_forgotten(server, shop, bank):
    service = Shop(shop, bank)
    async with running(service.core(server.url)) as core:
        done = await place(core, shop.OrderPlaced(id="k"))
        waiting = asyncio.create_task(core.at_least(f"{done.position}9", 5))
        await asyncio.sleep(0)
        assert sum(len(place.waiting) for place in core.owner.places()) == 1
        waiting.cancel()
        await asyncio.wait([waiting])
        assert not any(place.waiting for place in core.owner.places())


async def test_a_watch_resumes_and_misses_nothing(server, shop, bank):
    service = Shop(shop, bank)
    async with running(service.core(server.url)) as core:
        placing = [place(core, shop.OrderPlaced(id=f"k{i}")) for i in range(3000)]
        placed = asyncio.gather(*placing)
        seen: list[str] = []
        token = ""
        while len(seen) < 3000:
            watch = core.watch()
            async for change in watch.changes(token):
                seen.append(change.event.id)
                token = change.position
                if len(seen) % 700 == 0 or len(seen) == 3000:
                    break
        assert len(set(seen)) == 3000
        await placed

        async def follow() -> None:
            async for change in core.watch().changes(token):
                seen.append(change.event.id)

        following = asyncio.create_task(follow())
        await place(core, shop.OrderPlaced(id="new"))
        await eventually(lambda: seen[-1] == "new")
        core.drain()
        with pytest.raises(Draining) as draining:
            await following
        assert "orders/" in draining.value.position


@pytest.mark.parametrize("after", ["\0", "a\nb", "ü", "x" * 9_000, "orders/9@{epoch}:1-1"])
async def test_only_positions_become_a_position_to_resume_from(server, shop, bank, after):
    """It is sent as metadata, which takes no other text."""
    service = Shop(shop, bank)
    async with running(service.core(server.url)) as core:
        done = await place(core, shop.OrderPlaced(id="k"))
        watch = core.watch()
        with pytest.raises(InvalidRequest):
            await anext(watch.changes(after.format(epoch=done.position.epoch)))
        assert watch.last_position == ""
        watch = core.watch()
        token = str(done.position)
        zeros = token.replace("-", "-000")
        following = asyncio.create_task(anext(watch.changes(f"shop/0@{'0' * 16}:1-1,{zeros},,")))
        await eventually(lambda: watch.last_position == token)
        following.cancel()


async def test_a_watch_with_much_to_send_ends_with_the_drain(server, shop, bank):
    service = Shop(shop, bank)
    async with running(service.core(server.url)) as core:
        for i in range(50):
            await place(core, shop.OrderPlaced(id="k"), i)
        await eventually(lambda: core.query().rows(service.orders).get("k").version == 50)
        sent: list[str] = []

        async def follow() -> None:
            async for change in core.watch().changes():
                sent.append(change.event.id)
                core.drain()

        with pytest.raises(Draining) as draining:
            await follow()
        assert len(sent) == 1
        assert draining.value.position.endswith("-1")


async def roll_back(client: redis.asyncio.Redis, partition: int, n: int) -> None:
    """Leave the first `n` facts of a partition of `orders`, as a failover may."""
    log, head, versions = (f"{{orders/{partition}}}:{name}" for name in ("log", "head", "versions"))
    entries = await client.execute_command("XRANGE", log, "-", "+")
    ids = [entry[0] for entry in entries]
    await client.xdel(log, *ids[n:])
    await client.execute_command("XSETID", log, ids[n - 1])
    await client.hset(head, mapping={"n": n, "ms": ids[n - 1].split(b"-")[0]})
    await client.hset(versions, "k", n)


async def test_a_watch_across_a_roll_back_ends(server, client, shop, bank):
    service = Shop(shop, bank)
    async with running(service.core(server.url)) as core:
        for i in range(40):
            done = await place(core, shop.OrderPlaced(id="k"), i)
            if i == 20:
                await core.at_least(str(done.position), 2)
                watching = core.watch().changes()
                await anext(watching)
        await core.at_least(str(done.position), 2)
        before = core.owner.places()
        await roll_back(client, done.position.partition, 10)
        await eventually(lambda: core.ready and core.owner.places()[0] not in before)
        with pytest.raises(NotReady, match="has been rebuilt"):
            async for _ in watching:
                pass


async def test_a_watch_of_a_view_that_refuses_to_go_on_ends(server, client, shop, bank):
    service = Shop(shop, bank)
    async with running(service.core(server.url)) as core:
        done = await place(core, shop.OrderPlaced(id="k"))
        await core.at_least(str(done.position), 2)
        watching = core.watch().changes()
        await anext(watching)
        entry = {"type": "shop.v1.OrderPlaced", "key": "k", "meta": "", "data": ""}
        await client.xadd(f"{{orders/{done.position.partition}}}:log", entry)
        with pytest.raises(NotReady, match="view shop cannot be complete"):
            await asyncio.wait_for(anext(watching), 5)


async def test_a_watch_does_not_resume_behind_a_fact_that_was_rolled_back(
    server, client, shop, bank
):
    service = Shop(shop, bank)
    async with running(service.core(server.url)) as core:
        for i in range(10):
            lost = await place(core, shop.OrderPlaced(id="k"), i)
        await core.at_least(str(lost.position), 2)
        before = core.owner.places()
        await roll_back(client, lost.position.partition, 5)
        await eventually(lambda: core.ready and core.owner.places()[0] not in before)
        for i in range(5, 12):
            done = await place(core, shop.OrderPlaced(id="k"), i)
        await core.at_least(str(done.position), 2)
        with pytest.raises(FailedPrecondition, match="the log does not go on from"):
            await anext(core.watch().changes(str(lost.position)))


def keys_of_one_partition(number: int) -> list[str]:
    keys = [f"k{i}" for i in range(100)]
    return sorted(key for key in keys if partition_of(key, 4) == partition_of("k0", 4))[:number]


async def test_a_reaction_appends_once_per_fact_and_in_key_order(server, shop, bank):
    service = Shop(shop, bank)
    runs: list[str] = []

    @reaction(shop.OrderPlaced)
    async def copy(event: Any, call: Any) -> Any:
        runs.append(event.id)
        if call.fact.cause is None:
            return Append(shop.OrderPlaced(id=call.new_id(), name=event.name), 0)
        return None

    service.reactions.append(copy)
    async with running(service.core(server.url)) as core:
        for i in range(100):
            await place(core, shop.OrderPlaced(id=f"k{i}", name=f"n{i}"))
        await eventually(lambda: len(core.query().rows(service.orders)) == 200)
        await eventually(lambda: core._reactions[0].committed == 200)
    async with redis.asyncio.Redis.from_url(server.url, protocol=2) as client:
        for partition in range(4):
            (group,) = await client.xinfo_groups(f"{{orders/{partition}}}:log")
            assert group["name"] == b"shop.copy"
            state = await client.hgetall(f"{{orders/{partition}}}:group:shop.copy")
            assert state[b"position"] == group["last-delivered-id"]
            assert list(await client.hgetall(f"{{orders/{partition}}}:outbox:shop.copy")) == [b"_"]
    before = len(runs)
    async with running(service.core(server.url)):
        await asyncio.sleep(0.3)
    assert len(runs) == before == 200


async def test_a_reaction_that_fails_is_tried_again_in_order(server, shop, bank):
    service = Shop(shop, bank)
    seen: list[str] = []
    broken = True

    @reaction(shop.OrderPlaced)
    async def note(event: Any, call: Any) -> None:
        if broken:
            raise RuntimeError("not now")
        seen.append(event.name)

    service.reactions.append(note)
    async with running(service.core(server.url)) as core:
        for i in range(5):
            await place(core, shop.OrderPlaced(id="k", name=str(i)), i)
        await asyncio.sleep(0.3)
        assert seen == []
        broken = False
        await eventually(lambda: seen == ["0", "1", "2", "3", "4"])


async def test_the_facts_of_a_key_are_answered_one_after_the_other(server, shop, bank):
    service = Shop(shop, bank)
    async with running(service.core(server.url)) as core:
        for key in keys_of_one_partition(2):
            for i in range(5):
                await place(core, shop.OrderPlaced(id=key, name=str(i)), i)
    running_now: list[str] = []
    together: set[tuple[str, ...]] = set()
    answered: list[tuple[str, str]] = []

    @reaction(shop.OrderPlaced)
    async def note(event: Any, call: Any) -> None:
        running_now.append(event.id)
        together.add(tuple(sorted(running_now)))
        await asyncio.sleep(0.02 if event.name == "0" else 0.01)
        running_now.remove(event.id)
        answered.append((event.id, event.name))

    service.reactions.append(note)
    one, other = keys_of_one_partition(2)
    async with running(service.core(server.url)):
        await eventually(lambda: len(answered) == 10)
    assert together <= {(one,), (other,), (one, other)}
    assert (one, other) in together
    for key in (one, other):
        assert [name for its, name in answered if its == key] == list("01234")


async def test_a_cancellation_inside_a_reaction_is_a_failure_like_others(server, shop, bank):
    service = Shop(shop, bank)
    runs: list[str] = []

    @reaction(shop.OrderPlaced)
    async def note(event: Any, call: Any) -> None:
        runs.append(event.name)
        if len(runs) == 1:
            raise asyncio.CancelledError

    service.reactions.append(note)
    async with running(service.core(server.url)) as core:
        for i in range(3):
            await place(core, shop.OrderPlaced(id="k", name=str(i)), i)
        await eventually(lambda: runs == ["0", "0", "1", "2"])


async def test_a_late_claim_of_the_owner_itself_does_not_end_its_reaction(server, shop, bank):
    service = Shop(shop, bank)
    seen: list[str] = []

    @reaction(shop.OrderPlaced)
    async def note(event: Any, call: Any) -> None:
        seen.append(event.name)

    service.reactions.append(note)
    async with running(service.core(server.url)) as core:
        done = await place(core, shop.OrderPlaced(id="k", name="0"), 0)
        await eventually(lambda: seen == ["0"])
        keys = Keys("orders", done.position.partition)
        async with core.redis.link() as link:
            group = ["group", "outbox", "dead", "dead-keys", "redrive"]
            names = [keys["head"], *(keys[f"{name}:shop.note"] for name in group), keys["log"]]
            epoch = done.position.epoch
            status, *_ = await CLAIM(link, names, "shop.note", epoch, core.instance, "late", "", "")
            assert status == b"OK"
        for i in (1, 2):
            await place(core, shop.OrderPlaced(id="k", name=str(i)), i)
        await eventually(lambda: seen[-1] == "2")


async def test_a_reaction_reads_views_that_have_caught_up(server, shop, bank):
    service = Shop(shop, bank, with_bank=True)
    seen: list[Any] = []

    @reaction(shop.OrderPlaced)
    async def look(event: Any, call: Any) -> None:
        seen.append(call.rows(service.payments).get(event.id))

    async with running(Shop(shop, bank).core(server.url)) as core:
        await place(core, shop.OrderPlaced(id="k"))
    service.reactions.append(look)
    settings = Settings(redis_url=server.url)
    async with running(service.core(server.url), ready=False):
        await asyncio.sleep(0.3)
        assert not seen
        owner = Core("bank", Contract([bank.DESCRIPTOR]), [], [], settings, Telemetry())
        async with running(owner):
            await eventually(lambda: len(seen) == 1)


async def test_a_reaction_does_not_read_a_view_that_has_begun_anew(server, client, shop, bank):
    service = Shop(shop, bank, with_bank=True)
    seen: list[Any] = []

    @reaction(shop.OrderPlaced)
    async def look(event: Any, call: Any) -> None:
        seen.append(call.rows(service.payments).get("a"))

    service.reactions.append(look)
    owner = Core(
        "bank", Contract([bank.DESCRIPTOR]), [], [], Settings(redis_url=server.url), Telemetry()
    )
    async with running(owner), running(service.core(server.url)) as core:
        payment = bank.PaymentMade(order_id="a", amount=7)
        await place(owner, payment, None)
        await eventually(lambda: core.query().rows(service.payments).get("a"))
        await place(core, shop.OrderPlaced(id="a"))
        await eventually(lambda: seen == [payment])
        backup = {key: await client.dump(key) for key in await client.keys("{payments/*")}
        await client.delete(*backup)
        await eventually(lambda: not core.ready)
        await place(core, shop.OrderPlaced(id="b"))
        await asyncio.sleep(0.3)
        assert len(seen) == 1
        for key, value in backup.items():
            # A view may have written its cursor before it noticed.
            await client.restore(key, 0, value, replace=True)
        await eventually(lambda: seen == [payment, payment])


@pytest.mark.parametrize("expected", [-1, 2**53, 2**64 - 1, 2**64])
async def test_a_version_that_no_key_can_have_is_refused_before_it_is_sent(
    server, shop, bank, expected
):
    """The script would refuse the facts of other callers with it."""
    service = Shop(shop, bank)
    async with running(service.core(server.url, append_timeout=5.0)) as core:
        placing = [place(core, shop.OrderPlaced(id=f"k{i}")) for i in range(50)]
        bad = [place(core, shop.OrderPlaced(id="k"), expected) for _ in range(4)]
        async with asyncio.timeout(3):
            *placed, a, b, c, d = await asyncio.gather(*placing, *bad, return_exceptions=True)
        assert [each.version for each in placed] == [1] * 50
        for refusal in (a, b, c, d):
            assert isinstance(refusal, InvalidRequest)
            assert str(refusal) == "expected_version: must be from 0 to 9007199254740991"
        with pytest.raises(VersionConflict):
            await place(core, shop.OrderPlaced(id="k"), 2**53 - 1)


@pytest.mark.parametrize(
    "output",
    [{"id": ""}, {"id": "x" * 513}, {"id": "x", "name": "x" * 999}, {"id": "x", "version": 2**53}],
)
async def test_what_a_reaction_appends_fits_the_wire_format(
    server, client, shop, bank, caplog, output
):
    version = output.pop("version", 0)
    service = Shop(shop, bank)

    @reaction(shop.OrderPlaced)
    async def bad(event: Any, call: Any) -> Any:
        return [Append(shop.OrderPlaced(id="a"), 0), Append(shop.OrderPlaced(**output), version)]

    service.reactions.append(bad)
    async with running(service.core(server.url, max_fact_bytes=900)) as core:
        await place(core, shop.OrderPlaced(id="k"))
        await eventually(lambda: "reaction bad cannot answer the fact at orders/" in caplog.text)
        assert len(core.query().rows(service.orders)) == 1


async def test_a_reaction_appends_many_facts_at_once_in_order(server, client, shop, bank):
    service = Shop(shop, bank)

    @reaction(shop.OrderPlaced)
    async def copy(event: Any, call: Any) -> Any:
        if call.fact.cause is None:
            data = "x" * 3000
            return [Append(shop.OrderPlaced(id=f"{event.id}+", name=data), i) for i in range(300)]
        return None

    service.reactions.append(copy)
    async with running(service.core(server.url)) as core:
        for i in range(5):
            await place(core, shop.OrderPlaced(id=f"k{i}"))
        rows = core.query().rows(service.orders)
        await eventually(lambda: sum(rows.get(key).version for key in rows) == 5 + 5 * 300)


async def test_a_log_whose_head_cannot_be_read_is_said(server, client, shop, bank):
    await client.hset("{orders/0}:head", mapping={"epoch": "0" * 16, "partitions": "four"})
    async with running(Shop(shop, bank).core(server.url), ready=False) as core:
        await eventually(lambda: "a part of the service has failed" in core.status)


async def test_instances_share_the_partitions_of_a_reaction(server, client, shop, bank):
    def service(seen: list[str]) -> Shop:
        made = Shop(shop, bank)

        @reaction(shop.OrderPlaced)
        async def note(event: Any, call: Any) -> Any:
            seen.append(event.id)
            return Append(shop.OrderPlaced(id=f"{event.id}-copy"), 0) if "-" not in event.id else ()

        made.reactions.append(note)
        return made

    async def owners() -> list[str]:
        groups = [f"{{orders/{partition}}}:group:shop.note" for partition in range(4)]
        return [(await client.hget(group, "owner") or b"").decode() for group in groups]

    first: list[str] = []
    second: list[str] = []
    async with running(service(first).core(server.url, lease=1.0)) as one:
        await place(one, shop.OrderPlaced(id="a"))
        await eventually(lambda: "a-copy" in first)
        async with running(service(second).core(server.url, lease=1.0)) as two:
            names = [one.instance, two.instance]
            shared = [chosen(names, partition) for partition in range(4)]
            async with asyncio.timeout(10):
                while await owners() != shared:
                    await asyncio.sleep(0.01)
            for i in range(50):
                await place(one, shop.OrderPlaced(id=f"k{i}"))
            rows = two.query().rows(next(iter(two.owner.view.tables)))
            await eventually(lambda: len(rows) == 102)
            await eventually(lambda: len({*first, *second}) == 102)
        # Who leaves hands over at once.
        loop = asyncio.get_running_loop()
        left = loop.time()
        async with asyncio.timeout(10):
            while await owners() != 4 * [one.instance]:
                await asyncio.sleep(0.01)
        assert loop.time() - left < 0.9
    assert sum([await client.xlen(f"{{orders/{partition}}}:log") for partition in range(4)]) == 102


async def test_a_flushed_log_is_noticed_by_a_running_view(server, client, shop, bank):
    service = Shop(shop, bank, with_bank=True)
    bank_core = Core(
        "bank", Contract([bank.DESCRIPTOR]), [], [], Settings(redis_url=server.url), Telemetry()
    )
    async with running(bank_core), running(service.core(server.url)) as core:
        await place(core, shop.OrderPlaced(id="k"))
        await eventually(lambda: len(core.query().rows(service.orders)) == 1)
        await client.flushall()
        await eventually(lambda: not core.ready)
        await eventually(lambda: core.status == (
            "view shop waits for stream orders, whose log is gone: restore it from a backup, or "
            "begin anew without it: `factfold stream recreate orders`; "
            "view shop waits for stream payments, whose log is gone: "
            "its owner must restore it, or begin it anew"
        ))  # fmt: skip


async def test_a_view_begins_anew_with_a_log_that_was_recreated(server, client, shop, bank, caplog):
    """While it reads the first one: the tail it waits for is the new one's."""
    service = Shop(shop, bank)

    async def log_of(name: str, facts: int) -> dict[bytes, bytes]:
        await client.flushall()
        async with running(service.core(server.url)) as core:
            await place_all(core, [shop.OrderPlaced(id=f"{name}{i}") for i in range(facts)])
        return {key: await client.dump(key) for key in await client.keys("*:[hlpv]*")}

    second = await log_of("new", 6000)
    await log_of("old", 9000)
    core = service.core(server.url)
    real, batches = core.owner.fold, 0

    def fold_and_replace(at: Any, entries: Any) -> None:
        nonlocal batches
        real(at, entries)
        batches += 1
        if batches == 5:
            with redis.Redis.from_url(server.url) as now, now.pipeline() as together:
                together.flushall()
                for key, value in second.items():
                    together.restore(key, 0, value)
                together.execute()

    core.owner.fold = fold_and_replace
    async with running(core):
        assert len(core.query().rows(service.orders)) == 6000
    assert "its epoch was" in caplog.text


@pytest.mark.parametrize("at", ["the next number", "a later number", "a clock's id"])
async def test_an_entry_that_no_appender_wrote_is_a_refusal(server, client, shop, bank, at, caplog):
    """Not a rebuild for ever: the log would say the same each time."""
    service = Shop(shop, bank)
    async with running(service.core(server.url)) as core:
        done = await place(core, shop.OrderPlaced(id="k", name="tea"))
        await core.at_least(str(done.position), 2)
        partition, ms = done.position.partition, done.position.ms
        entry = {"type": "shop.v1.OrderPlaced", "key": "k", "meta": "", "data": ""}
        entry_id = {"the next number": f"{ms}-2", "a later number": f"{ms}-7"}.get(at, "*")
        written = await client.xadd(f"{{orders/{partition}}}:log", entry, id=entry_id)
        await eventually(lambda: not core.ready)
        assert core.status == (
            f"view shop cannot be complete: stream orders, partition {partition}: "
            f"no appender wrote the entry {written.decode()}; remove it with XDEL and restart"
        )
        await asyncio.sleep(0.5)
        assert caplog.text.count("view shop cannot be complete") == 1
        assert core.query().rows(service.orders).get("k").name == "tea"
    async with running(service.core(server.url), ready=False) as core:
        await eventually(lambda: "no appender wrote the entry" in core.status)
    await client.xdel(f"{{orders/{partition}}}:log", written)
    async with running(service.core(server.url)) as core:
        done = await place(core, shop.OrderPlaced(id="k", name="on"), 1)
        await core.at_least(str(done.position), 2)


async def test_a_head_that_was_set_back_by_hand_is_a_refusal(server, client, shop, bank):
    service = Shop(shop, bank)
    async with running(service.core(server.url)) as core:
        for i in range(5):
            done = await place(core, shop.OrderPlaced(id="k"), i)
    await client.hset(f"{{orders/{done.position.partition}}}:head", "n", 3)
    async with running(service.core(server.url), ready=False) as core:
        await eventually(lambda: "no appender wrote the entry" in core.status)


async def test_a_log_that_is_shorter_than_was_read_is_a_roll_back(server, client, shop, bank):
    """Everything in it was trimmed: no entry tells, only the head does."""
    service = Shop(shop, bank)
    async with running(service.core(server.url)) as core:
        for i in range(5):
            done = await place(core, shop.OrderPlaced(id="k"), i)
        await core.at_least(str(done.position), 2)
        partition = done.position.partition
        async with client.pipeline(transaction=True) as at_once:
            at_once.xtrim(f"{{orders/{partition}}}:log", maxlen=0, approximate=False)
            at_once.hset(f"{{orders/{partition}}}:head", "n", 3)
            await at_once.execute()
        await eventually(lambda: "cannot be complete" in core.status)
        assert "facts 1 to 3 were removed before they were read" in core.status


async def test_a_position_that_was_rolled_back_is_not_taken_for_another(server, client, shop, bank):
    """The log has grown past it again, with other facts."""
    service = Shop(shop, bank)
    async with running(service.core(server.url)) as core:
        for i in range(10):
            lost = await place(core, shop.OrderPlaced(id="k", name="lost"), i)
        await core.at_least(str(lost.position), 2)
        await roll_back(client, lost.position.partition, 5)
        await eventually(lambda: len(core.owner.places()) == 4 and all(
            at.anchor.n <= 5 and at.passed for at in core.owner.places()
        ))  # fmt: skip
        waiting = asyncio.create_task(core.at_least(str(lost.position), 5))
        await asyncio.sleep(0.01)
        for i in range(5, 15):
            done = await place(core, shop.OrderPlaced(id="k", name="new"), i)
        await core.at_least(str(done.position), 2)
        with pytest.raises(PositionLost, match="is not in the log, which was rolled back"):
            await waiting
        with pytest.raises(PositionLost):
            await core.at_least(str(lost.position), 1)
        kept = str(lost.position).replace(f"{lost.position.ms}-10", "0-1")
        with pytest.raises(PositionLost):
            await core.at_least(kept, 1)


async def test_a_view_that_catches_up_says_how_long_it_will_take(server, shop, bank):
    service = Shop(shop, bank)
    async with running(service.core(server.url)) as core:
        await place_all(core, [shop.OrderPlaced(id=f"k{i}") for i in range(5000)])
    said: set[str] = set()
    core = service.core(server.url)
    core.owner.fold = lambda at, entries: said.add(core.status)
    async with running(core):
        pass
    assert any(
        re.fullmatch(
            r"view shop has read \d+ of 5000 facts of orders, \d+ a second, about \d+ s left", text
        )
        for text in said
    ), said


async def test_trimming_past_the_anchor_is_named_and_before_it_is_not(server, client, shop, bank):
    service = Shop(shop, bank)
    async with running(service.core(server.url)) as core:
        for i in range(10):
            done = await place(core, shop.OrderPlaced(id="k", name=str(i)), i)
        await core.at_least(str(done.position), 2)
        log = f"{{orders/{done.position.partition}}}:log"
        await client.xtrim(log, maxlen=1, approximate=False)
        done = await place(core, shop.OrderPlaced(id="k", name="on"), 10)
        await core.at_least(str(done.position), 3)
        assert core.ready
    async with running(service.core(server.url), ready=False) as core:
        await eventually(lambda: "cannot be complete" in core.status)
        assert "facts 1 to 9 were removed before they were read" in core.status


@pytest.mark.parametrize("kept", [0, 3])
async def test_a_log_without_the_facts_it_counts_is_named(server, client, shop, bank, kept):
    service = Shop(shop, bank)
    async with running(service.core(server.url)) as core:
        for i in range(5):
            done = await place(core, shop.OrderPlaced(id="k"), i)
    log = f"{{orders/{done.position.partition}}}:log"
    for entry_id in [*await client.xrange(log)][kept:]:
        await client.xdel(log, entry_id[0])
    async with running(service.core(server.url), ready=False) as core:
        missing = f"facts {kept + 1} to 5 were removed before they were read"
        await eventually(lambda: missing in core.status)


async def test_another_fact_at_the_anchor_is_a_roll_back(server, client, shop, bank, caplog):
    service = Shop(shop, bank)
    async with running(service.core(server.url)) as core:
        for i in range(3):
            done = await place(core, shop.OrderPlaced(id="k", name=str(i)), i)
        await core.at_least(str(done.position), 2)
        log = f"{{orders/{done.position.partition}}}:log"
        last = f"{done.position.ms}-{done.position.n}"
        ((_, fields),) = await client.xrange(log, last, last)
        # What a failover leaves: the same place, another fact, and more behind it.
        rest = await client.execute_command("XRANGE", log, "-", f"({last}")
        await client.execute_command("COPY", log, log + "-old")
        await client.delete(log)
        await client.delete(log + "-old")
        for entry_id, values in [*rest.items()] if isinstance(rest, dict) else rest:
            await client.xadd(log, dict(values), id=entry_id)
        await client.xadd(log, {**fields, b"meta": b""}, id=last)
        await eventually(lambda: "another fact stands at" in caplog.text)
        await eventually(lambda: core.ready)


async def test_entries_that_nobody_should_write_do_not_stop_a_view(server, client, shop, bank):
    service = Shop(shop, bank)
    async with running(service.core(server.url)) as core:
        done = await place(core, shop.OrderPlaced(id="k"))
        log = f"{{orders/{done.position.partition}}}:log"
        head = f"{{orders/{done.position.partition}}}:head"
        for n, fields in enumerate(
            [
                {"type": "shop.v1.OrderPlaced", "key": "x", "meta": "", "data": b"\xff\xff"},
                {"type": "shop.v1.OrderPlaced"},
                {"type": "no.such.Type", "key": "x", "meta": b"\xff", "data": ""},
                {"data": shop.OrderPlaced(id="k", name="y").SerializeToString(),
                 "meta": "", "key": "k", "type": "shop.v1.OrderPlaced"},
            ],
            start=done.position.n + 1,
        ):  # fmt: skip
            async with client.pipeline() as both:
                both.xadd(log, fields, id=f"{done.position.ms}-{n}").hset(head, "n", n)
                await both.execute()
        rows = core.query().rows(service.orders)
        await eventually(lambda: rows.get("k").name == "y")
        assert core.ready


async def test_the_journal_is_about_own_streams_alone(server, shop, bank):
    service = Shop(shop, bank, with_bank=True)
    settings = Settings(redis_url=server.url)
    owner = Core("bank", Contract([bank.DESCRIPTOR]), [], [], settings, Telemetry())
    async with running(owner), running(service.core(server.url)) as core:
        done = await place(owner, bank.PaymentMade(order_id="a"), None, "r")
        await core.at_least(str(done.position), 2)
        assert owner.journal.recent("payments", done.position.partition, 1)
        assert core.journal.recent("payments", done.position.partition, 1) is None
        assert core.journal.answered("payments", "a", "r") == []


async def test_wiring_that_cannot_work_is_refused(server, shop, bank):
    service = Shop(shop, bank, with_bank=True)

    @fold(bank.PaymentMade, into=service.orders)
    def wrong(row: Any, event: Any, fact: Any) -> Any:
        return row

    service.folds.append(wrong)
    with pytest.raises(WiringError, match=r"join them with View\.join"):
        service.core(server.url)
    service = Shop(shop, bank)
    async with running(service.core(server.url)) as core:
        with pytest.raises(WiringError, match="pass expected_version"):
            await place(core, shop.OrderPlaced(id="k"), None)
        with pytest.raises(WiringError, match="is not an event of a stream"):
            await place(core, shop.Order(id="k"))


async def test_expecting_a_log_that_is_not_there(server, client, shop, bank):
    async with running(Shop(shop, bank).core(server.url, expect_log=True), ready=False) as core:
        await eventually(lambda: "FACTFOLD_EXPECT_LOG is set" in core.status)
    assert await client.dbsize() == 0


async def test_a_contract_with_another_partition_count(server, client, shop, bank):
    async with running(Shop(shop, bank).core(server.url)):
        pass
    for partition in range(4):
        await client.hset(f"{{orders/{partition}}}:head", "partitions", 8)
    async with running(Shop(shop, bank).core(server.url), ready=False) as core:
        await eventually(lambda: "has 8 partitions and the contract says 4" in core.status)


async def test_closing_finishes_what_was_accepted(server, shop, bank):
    service = Shop(shop, bank)
    core = service.core(server.url)
    await core.start()
    await core.wait_ready()
    appends = [asyncio.ensure_future(place(core, shop.OrderPlaced(id=f"k{i}"))) for i in range(500)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await core.close(2.0)
    async with asyncio.timeout(5):
        results = await asyncio.gather(*appends, return_exceptions=True)
        assert not [result for result in results if isinstance(result, ChassisError)]
        with pytest.raises(LogUnreachable, match="the service is shutting down"):
            await place(core, shop.OrderPlaced(id="late"))


def test_keys_that_come_and_go_leave_nothing_behind_once_a_page_was_read(shop):
    rows: Rows[Any] = Rows(shop.Order)
    rows.put("k", shop.Order(id="k"))
    assert rows.page(9).rows == [shop.Order(id="k")]
    for n in range(5000):
        rows.put(str(n), shop.Order(id=str(n)))
        rows.put(str(n), None)
    assert len(rows._unordered) < 1100
    rows.put("j", shop.Order(id="j"))
    assert rows.page(9).rows == [shop.Order(id="j"), shop.Order(id="k")]


async def test_closing_ends_the_batch_that_a_reaction_works_on(server, client, shop, bank):
    service = Shop(shop, bank)
    began, ended = asyncio.Event(), asyncio.Event()

    @reaction(shop.OrderPlaced)
    async def note(event: Any, call: Any) -> None:
        began.set()
        await asyncio.sleep(0.2)
        ended.set()

    service.reactions.append(note)
    async with running(service.core(server.url)) as core:
        done = await place(core, shop.OrderPlaced(id="k"))
        await began.wait()
    assert ended.is_set()
    group = await client.hgetall(f"{{orders/{done.position.partition}}}:group:shop.note")
    assert group[b"position"].decode() == f"{done.position.ms}-{done.position.n}"
    assert group[b"owner"] == b""


async def test_changing_a_row_that_was_read_changes_no_state(server, shop, bank):
    service = Shop(shop, bank)
    async with running(service.core(server.url)) as core:
        done = await place(core, shop.OrderPlaced(id="k", name="tea"))
        await core.at_least(str(done.position), 2)
        rows = core.query().rows(service.orders)
        rows.get("k").name = "changed"
        rows.page(1).rows[0].name = "changed"
        dict(rows.items())["k"].name = "changed"
        assert rows.get("k").name == "tea"


async def test_a_command_knows_that_it_comes_again(server, shop, bank):
    service = Shop(shop, bank)
    async with running(service.core(server.url)) as core:
        first = Command(core, Request("r"))
        assert not first.repeats("k")
        done = await first.append(shop.OrderPlaced(id="k"), expected_version=0)
        await core.at_least(str(done.position), 2)
        assert Command(core, Request("r")).repeats("k")
        assert not Command(core, Request("other")).repeats("k")
        assert not Command(core, Request()).repeats("k")


async def test_a_type_that_the_contract_has_lost_is_said_once(server, client, shop, bank, caplog):
    service = Shop(shop, bank)
    async with running(service.core(server.url)) as core:
        done = await place(core, shop.OrderPlaced(id="k"))
        log, head = (f"{{orders/{done.position.partition}}}:{name}" for name in ("log", "head"))
        fields = {"type": "shop.v1.OrderLost", "key": "k", "meta": "", "data": ""}
        for n in (2, 3):
            async with client.pipeline() as both:
                both.xadd(log, fields, id=f"{done.position.ms}-{n}").hset(head, "n", n)
                await both.execute()
        await eventually(lambda: core.owner.places()[done.position.partition].anchor.n == 3)
    assert caplog.text.count("facts of type shop.v1.OrderLost") == 1


async def test_a_reaction_that_cannot_work_stops_and_says_so(server, shop, bank):
    service = Shop(shop, bank)

    @reaction(shop.OrderPlaced)
    async def forgot_the_version(event: Any, call: Any) -> Any:
        return Append(shop.OrderPlaced(id="other"))

    service.reactions.append(forgot_the_version)
    async with running(service.core(server.url)) as core:
        await place(core, shop.OrderPlaced(id="k"))
        await eventually(lambda: not core.ready)
        assert "reaction forgot_the_version has stopped: stream orders is versioned" in core.status


async def test_a_silent_owner_is_replaced_after_the_lease_and_not_before(
    server, client, shop, bank
):
    service = Shop(shop, bank)
    seen: list[str] = []

    @reaction(shop.OrderPlaced)
    async def note(event: Any, call: Any) -> None:
        seen.append(event.id)

    async with running(service.core(server.url)) as core:
        for n in range(20):
            await place(core, shop.OrderPlaced(id=f"k{n}"))
    service.reactions.append(note)
    async with core.redis.link() as link:
        for partition in range(4):
            keys = Keys("orders", partition)
            group = ["group", "outbox", "dead", "dead-keys", "redrive"]
            names = [keys["head"], *(keys[f"{name}:shop.note"] for name in group), keys["log"]]
            epoch = await client.hget(keys["head"], "epoch")
            status, *_ = await CLAIM(link, names, "shop.note", epoch, "silent", "nonce", "", "")
            assert status == b"OK"
    loop = asyncio.get_running_loop()
    async with running(service.core(server.url, lease=1.0)) as core:
        began = loop.time()
        async with asyncio.timeout(10):
            while not seen:
                await asyncio.sleep(0.01)
        assert 0.7 < loop.time() - began < 2.5
        await eventually(lambda: len(seen) == 20)


async def test_commands_that_all_come_again_share_few_connections(server, shop, bank, monkeypatch):
    service = Shop(shop, bank)
    async with running(service.core(server.url)) as core:
        first = await asyncio.gather(
            *(place(core, shop.OrderPlaced(id=f"k{at}"), 0, f"r{at}") for at in range(200))
        )
        real, present, most = core.redis.link, 0, 0

        @asynccontextmanager
        async def counted(*keys: str) -> AsyncIterator[Any]:
            nonlocal present, most
            present += 1
            most = max(most, present)
            try:
                async with real(*keys) as link:
                    yield link
            finally:
                present -= 1

        monkeypatch.setattr(core.redis, "link", counted)
        again = await asyncio.gather(
            *(place(core, shop.OrderPlaced(id=f"k{at}"), 0, f"r{at}") for at in range(200))
        )
    assert [each.position for each in again] == [each.position for each in first]
    assert 1 < most <= 16


async def test_a_repeated_command_that_decides_otherwise_appends_nothing(server, shop, bank):
    service = Shop(shop, bank)
    async with running(service.core(server.url)) as core:
        done = await place(core, shop.OrderPlaced(id="k"), 0, "r")
        await core.at_least(str(done.position), 2)
        with pytest.raises(InvalidRequest, match="another command has used it"):
            await place(core, shop.OrderCancelled(id="k"), 1, "r")
        assert core.query().rows(service.orders).get("k").version == 1


class Noting(Shop):
    """Notes the names of the orders that its reaction has answered."""

    def __init__(self, shop: ModuleType, bank: ModuleType):
        super().__init__(shop, bank)
        self.seen: list[str] = []

        @reaction(shop.OrderPlaced)
        async def note(event: Any, call: Any) -> None:
            self.seen.append(event.name)

        self.note = note

    async def place(self, core: Core, names: list[str], version: int, shop: Any) -> Any:
        for at, name in enumerate(names, version):
            done = await place(core, shop.OrderPlaced(id="k", name=name), at)
        return done.position


async def committed(client: redis.asyncio.Redis, position: Any) -> str:
    """The reaction's group, once it is at `position`."""
    group = f"{{orders/{position.partition}}}:group:shop.note"
    async with asyncio.timeout(10):
        while await client.hget(group, "position") != f"{position.ms}-{position.n}".encode():
            await asyncio.sleep(0.01)
    return group


async def test_a_reaction_goes_on_in_a_log_that_was_rolled_back(server, client, shop, bank):
    """Its position lies beside the log, and was rolled back with it; its token was not."""
    service = Noting(shop, bank)
    service.reactions.append(service.note)
    async with running(service.core(server.url)) as core:
        early = await service.place(core, list("abcde"), 0, shop)
        group = await committed(client, early)
        before = await client.hmget(group, "position", "fact", "settled")
        lost = await service.place(core, list("fghij"), 5, shop)
        await committed(client, lost)
        await client.hset(
            group, mapping=dict(zip(["position", "fact", "settled"], before, strict=True))
        )
        await roll_back(client, early.partition, 5)
        await eventually(lambda: core.ready and core.owner.places()[early.partition].anchor.n == 5)
        after = await service.place(core, list("uvwxyz"), 5, shop)
        await committed(client, after)
        assert core.ready
    assert service.seen == list("abcdefghijuvwxyz")


async def test_a_reaction_stops_where_its_position_is_another_fact(server, client, shop, bank):
    """The log was rolled back and has grown again, with the same ids; the position was not."""
    service = Noting(shop, bank)
    service.reactions.append(service.note)
    head = f"{{orders/{partition_of('k', 4)}}}:head"
    async with running(service.core(server.url)) as core:
        await service.place(core, ["a"], 0, shop)
        later = int(await client.hget(head, "ms")) + 60_000
        await client.hset(head, "ms", later)
        lost = await service.place(core, ["lost"], 1, shop)
        await committed(client, lost)
    await roll_back(client, lost.partition, 1)
    await client.hset(head, "ms", later)
    service.reactions.clear()
    async with running(service.core(server.url)) as core:
        other = await service.place(core, ["other"], 1, shop)
        assert (other.ms, other.n) == (lost.ms, lost.n)
    service.reactions.append(service.note)
    async with running(service.core(server.url), ready=False) as core:
        await eventually(lambda: "reaction note has stopped" in core.status)
        assert f"another fact stands at {lost.ms}-{lost.n}" in core.status
    assert service.seen == ["a", "lost"]


async def test_a_reaction_that_stops_leaves_no_handler_running(server, shop, bank):
    service = Shop(shop, bank)
    tries: list[str] = []

    @reaction(shop.OrderPlaced)
    async def mixed(event: Any, call: Any) -> Any:
        tries.append(event.id)
        if event.id == "hopeless":
            return Append(shop.OrderPlaced(id="other"))
        raise RuntimeError("not now")

    async with running(service.core(server.url)) as core:
        keys = [f"k{n}" for n in range(200)]
        partition = partition_of("hopeless", 4)
        failing = [key for key in keys if partition_of(key, 4) == partition]
        for key in [*failing[:5], "hopeless"]:
            await place(core, shop.OrderPlaced(id=key))
    service.reactions.append(mixed)
    async with running(service.core(server.url), ready=False) as core:
        await eventually(lambda: "has stopped" in core.status)
        await asyncio.sleep(0.1)
        before = len(tries)
        await asyncio.sleep(0.6)
        assert len(tries) == before
