"""Snapshots: a restart from one equals a rebuild, and none that is wrong is ever served."""

import asyncio
import contextlib
import importlib
import io
import logging
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import redis.asyncio
from conftest import CHASSIS
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.proto import parse_length_prefixed, serialize_length_prefixed
from google.protobuf.wrappers_pb2 import StringValue
from grpc_tools import protoc
from hypothesis import given, settings
from hypothesis import strategies as st
from test_core import Shop, eventually, place, place_all, roll_back, running

from factfold.v1.snapshot_pb2 import SnapshotHeader, SnapshotPart
from factfold_chassis import Service, View, fold, reaction
from factfold_chassis import server as serving
from factfold_chassis.contract import Contract
from factfold_chassis.core import Core
from factfold_chassis.errors import WiringError
from factfold_chassis.log import read, streams
from factfold_chassis.log.read import Anchor, Reader
from factfold_chassis.service import Running
from factfold_chassis.settings import Settings
from factfold_chassis.telemetry import Telemetry
from factfold_chassis.testing import redis_server as servers
from factfold_chassis.views import snapshot as format
from factfold_chassis.views.engine import ViewEngine
from factfold_chassis.views.fingerprint import fingerprint
from factfold_chassis.views.snapshot import Snapshot, Snapshots
from factfold_chassis.views.tables import Rows, Tables

WELL_KNOWN = Path(protoc.__file__).parent / "_proto"
EPOCH = "0123456789abcdef"
LOGGER = "factfold_chassis"


@pytest.fixture
def folded(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Facts that views were given, by view."""
    counts: Counter[str] = Counter()
    real = ViewEngine.fold

    def counting(self: ViewEngine, place: Any, entries: Any) -> None:
        counts[self.view.name] += len(entries)
        real(self, place, entries)

    monkeypatch.setattr(ViewEngine, "fold", counting)
    return counts


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "snapshots"


def files(folder: Path, ending: str = "") -> list[Path]:
    """Oldest first."""
    return sorted(folder.glob(f"*.snapshot{ending}"))


def state(core: Core) -> dict[str, Any]:
    """All that a view is; must equal that of a rebuild."""
    view = core.owner
    return {
        "tables": {table.name: dict(view.tables[table].items()) for table in view.view.tables},
        "positions": view.position,
        "requests": core.journal.requests,
    }


async def caught_up(core: Core, client: redis.asyncio.Redis) -> None:
    async with asyncio.timeout(10):
        for at in core.owner.places():
            head = f"{{{at.stream}/{at.partition}}}:head"
            while at.anchor.n != int(await client.hget(head, "n")):
                await asyncio.sleep(0.01)


async def fill(core: Core, shop: ModuleType, first: int, last: int) -> None:
    """Orders, some cancelled, some from commands that can be repeated."""
    await asyncio.gather(
        *(
            place(core, shop.OrderPlaced(id=f"k{n}", name=f"n{n}", customer=f"c{n % 7}"),
                  request_id=f"r{n}" if n % 3 == 0 else "")
            for n in range(first, last)
        )
    )  # fmt: skip
    for n in range(first, last, 10):
        await place(core, shop.OrderCancelled(id=f"k{n}"), 1)


class Kept:
    """A shop whose views are kept in `folder`, its log, and what a rebuild of it gives."""

    def __init__(self, url: str, client: redis.asyncio.Redis, shop: ModuleType, bank: ModuleType,
                 folder: Path):  # fmt: skip
        self.url, self.client, self.shop, self.folder = url, client, shop, folder
        self.service = Shop(shop, bank)

    def core(self, **more: Any) -> Core:
        return self.service.core(self.url, snapshot_dir=str(self.folder), **more)

    async def rebuilt(self) -> dict[str, Any]:
        async with running(self.service.core(self.url)) as core:
            return state(core)

    async def written(self, *facts: int) -> None:
        """Runs it, with a snapshot behind each of these numbers of orders."""
        async with running(self.core()) as core:
            done = 0
            for count in facts:
                await fill(core, self.shop, done, count)
                done = count
                await caught_up(core, self.client)
                await core.owner.save()


@pytest.fixture
async def kept(server, client, shop, bank, folder) -> Kept:
    return Kept(server.url, client, shop, bank, folder)


# From one process to the next.


async def test_a_restart_reads_on_from_the_snapshot(server, client, shop, bank, folder, folded):
    service = Shop(shop, bank, with_bank=True)
    kept = {"snapshot_dir": str(folder)}
    owner = Contract([bank.DESCRIPTOR])
    bank_core = Core("bank", owner, [], [], Settings(redis_url=server.url), Telemetry())
    async with running(bank_core) as paying:
        async with running(service.core(server.url, **kept)) as core:
            await fill(core, shop, 0, 100)
            for n in range(0, 100, 2):
                await place(paying, bank.PaymentMade(order_id=f"k{n}", amount=n), None)
            await caught_up(core, client)
        assert len(files(folder)) == 1
        assert re.fullmatch(r"shop\.shop-\d{20}\.snapshot", files(folder)[0].name)
        folded.clear()
        async with running(service.core(server.url, **kept)) as core:
            assert folded["shop"] == 0
            loaded = state(core)
            await fill(core, shop, 100, 120)
            await place(paying, bank.PaymentMade(order_id="k1", amount=5), None)
            await caught_up(core, client)
            assert folded["shop"] == 23
            again = await place(core, shop.OrderPlaced(id="k3"), 0, "r3")
            assert again.repeated
            changed = state(core)
        async with running(service.core(server.url)) as core:
            rebuilt = state(core)
        assert changed == rebuilt
        assert changed["tables"]["paid"]["k1"].amount == 5
        assert len(changed["tables"]["totals"]) == 7
        assert loaded != changed
        # And from the second one.
        folded.clear()
        async with running(service.core(server.url, **kept)) as core:
            assert state(core) == rebuilt
            assert folded["shop"] == 0


async def test_what_has_not_moved_is_not_written_again(kept):
    async with running(kept.core()) as core:
        await core.owner.save()
        assert files(kept.folder) == []
    assert files(kept.folder) == []
    await kept.written(5)
    (first,) = files(kept.folder)
    async with running(kept.core()):
        pass
    assert files(kept.folder) == [first]
    # A second one, so that the log need not keep what the first one has.
    async with running(kept.core()) as core:
        for _ in range(3):
            await core.owner.save()
    assert len(files(kept.folder)) == 2
    assert files(kept.folder)[0] == first


async def test_one_is_written_every_interval_and_two_are_kept(kept):
    seen: set[str] = set()
    async with running(kept.core(snapshot_interval=0.05)) as core:
        for n in range(8):
            await fill(core, kept.shop, 10 * n, 10 * n + 10)
            await asyncio.sleep(0.1)
            seen.update(path.name for path in files(kept.folder))
            assert len(files(kept.folder)) <= 3  # the oldest is removed once the newest is there
    assert len(seen) > 4
    assert len(files(kept.folder)) == 2
    # The one of the interval, if it is under way at the end, is given up in its own thread.
    await eventually(lambda: not [*kept.folder.glob("*.partial")])
    assert len(files(kept.folder)) == 2


async def test_a_clock_that_was_set_back_does_not_lose_the_newest(kept, folded, monkeypatch):
    await kept.written(10)
    now = time.time_ns()
    monkeypatch.setattr(format.time, "time_ns", lambda: now - 3600 * 10**9)
    async with running(kept.core()) as core:
        await fill(core, kept.shop, 10, 20)
        await caught_up(core, kept.client)
    folded.clear()
    async with running(kept.core()):
        assert folded["shop"] == 0


# Files that cannot be used.


def flip(at: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:at] + bytes([data[at] ^ 1]) + data[at:][1:]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "the magic bytes alone": lambda data: data[:8],
    "cut in the magic bytes": lambda data: data[:5],
    "cut in the header": lambda data: data[:20],
    "cut in the middle": lambda data: data[: len(data) // 2],
    "cut in the checksum": lambda data: data[:-1],
    "without checksum": lambda data: data[:-32],
    "with more behind": lambda data: data + b"\0",
    "other magic bytes": flip(0),
    "another length": flip(8),
    "another header": flip(40),
    "another row": flip(-2000),
    "another checksum": flip(-1),
    "zeros": lambda data: bytes(len(data)),
    "text": lambda data: b"lost+found\n" * 100,
}


@pytest.mark.parametrize("how", DAMAGE)
async def test_a_damaged_one_is_set_aside_and_the_older_one_used(kept, folded, caplog, how):
    await kept.written(50, 60)
    older, newer = files(kept.folder)
    newer.write_bytes(DAMAGE[how](newer.read_bytes()))
    folded.clear()
    async with running(kept.core()) as core:
        assert folded["shop"] == 11
        assert state(core) == await kept.rebuilt()
    assert f"{newer} is damaged" in caplog.text
    assert files(kept.folder, ".damaged") == [newer.with_name(f"{newer.name}.damaged")]
    assert older in files(kept.folder)
    assert newer not in files(kept.folder)


async def test_without_a_good_one_the_view_is_rebuilt(kept, folded):
    await kept.written(50, 60)
    for path in files(kept.folder):
        path.write_bytes(b"FACTFOLD")
    folded.clear()
    async with running(kept.core()) as core:
        assert folded["shop"] == 66
        assert state(core) == await kept.rebuilt()
    assert len(files(kept.folder, ".damaged")) == 2
    for n in range(4):  # and they are not piled up
        (kept.folder / f"shop.shop-{n:020}.snapshot").write_bytes(b"")
    async with running(kept.core()):
        pass
    assert len(files(kept.folder, ".damaged")) == 2


def small(shop: ModuleType, folder: Path) -> tuple[Snapshots, Snapshot]:
    view = View("v")
    table = view.table("orders", shop.Order)
    snapshot = Snapshot(
        {("orders", 1): (EPOCH, Anchor(5, 3, b"id"))},
        {table: {"k": shop.Order(id="k", name="é").SerializeToString(), "": b""}},
        {"orders": {"k": (("r", b"5-3"), ("r", b"5-4")), "j": (("q", b"5-5"),)}},
        7,
    )
    return Snapshots(folder, "s", view, b"f"), snapshot


def test_every_cut_and_every_bit_is_noticed(shop, tmp_path, caplog):
    caplog.set_level(logging.CRITICAL, LOGGER)
    snapshots, snapshot = small(shop, tmp_path)
    snapshots.write(snapshot)
    assert snapshots.load() == snapshot
    (path,) = files(tmp_path)
    good = path.read_bytes()
    assert len(good) < 400
    bad = [good[:end] for end in range(len(good))]
    bad += [
        good[:at] + bytes([good[at] ^ 1 << bit]) + good[at + 1 :]
        for at in range(len(good)) for bit in range(8)
    ]  # fmt: skip
    for data in bad:
        path.write_bytes(data)
        assert snapshots.load() is None
        assert not path.exists()


def forged(*parts: SnapshotPart | bytes) -> bytes:
    """A file with the right checksum."""

    class Sink:
        data = b"FACTFOLD"

        def write(self, more: bytes) -> int:
            self.data += more
            return len(more)

    sink: Any = Sink()
    for part in parts:
        if isinstance(part, bytes):
            sink.write(part)
        else:
            serialize_length_prefixed(part, sink)
    return bytes(sink.data + format.hashlib.sha256(sink.data).digest())


@pytest.mark.parametrize("part", [
    b"", b"\x05\xff\xff\xff\xff\xff", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x7f\x00",
    b"\x80",
    SnapshotPart(rows={"table": "other", "keys": ["k"], "rows": [b""]}),
    SnapshotPart(rows={"table": "orders", "keys": ["k"], "rows": []}),
    SnapshotPart(rows={"table": "orders", "keys": ["k"], "rows": [b"\xff"]}),
    SnapshotPart(requests={"stream": "orders", "keys": ["k"], "counts": []}),
    SnapshotPart(requests={"stream": "orders", "request_ids": ["r"]}),
    SnapshotPart(),
])  # fmt: skip
def test_one_that_is_wrong_in_itself_does_no_harm(shop, tmp_path, part, caplog):
    snapshots, _ = small(shop, tmp_path)
    header = SnapshotHeader(format=1, service="s", view="v", language="python", fingerprint=b"f")
    path = tmp_path / f"s.v-{1:020}.snapshot"
    path.write_bytes(forged(SnapshotPart(header=header), part) if part else forged())
    assert snapshots.load() is None
    assert "is damaged" in caplog.text
    assert not path.exists()


@pytest.mark.parametrize(("field", "value", "said"), [
    ("format", 2, "view v cannot use its snapshot: rebuilding"),
    ("service", "other", "view v cannot use its snapshot: rebuilding"),
    ("language", "go", "view v has changed since its snapshot: rebuilding"),
    ("fingerprint", b"other", "view v has changed since its snapshot: rebuilding"),
])  # fmt: skip
def test_one_of_another_kind_is_left_where_it_is(shop, tmp_path, caplog, field, value, said):
    caplog.set_level(logging.INFO, LOGGER)
    snapshots, snapshot = small(shop, tmp_path)
    for n in (2, 3):
        header = SnapshotHeader(
            format=1, service="s", view="v", language="python", fingerprint=b"f"
        )
        setattr(header, field, value)
        path = tmp_path / f"s.v-{n:020}.snapshot"
        path.write_bytes(forged(SnapshotPart(header=header)))
    assert snapshots.load() is None
    assert [record.message for record in caplog.records] == [said]
    assert len(files(tmp_path)) == 2
    for kept in (3, 2):
        snapshots.write(snapshot)
        snapshots.tidy()
        assert len(files(tmp_path)) == kept
    assert snapshots.load() == snapshot


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_whatever_is_in_a_view_comes_back(shop, bank, tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("any")
    service = Shop(shop, bank, with_bank=True)
    view, tables = service.view, Tables(service.view)
    keys = st.text(max_size=5)
    for _ in range(data.draw(st.integers(0, 40))):
        key = data.draw(keys)
        if data.draw(st.booleans()):
            row = shop.Order(
                id=data.draw(keys), name=data.draw(st.text()), customer=data.draw(keys)
            )
            tables[service.orders].put(key, data.draw(st.sampled_from([row, None])))
        else:
            row = bank.PaymentMade(order_id=key, amount=data.draw(st.integers(-9, 9)))
            tables[service.payments].put(key, data.draw(st.sampled_from([row, None])))
    fact = st.tuples(st.text(max_size=9), st.binary(min_size=3, max_size=20))
    facts = st.lists(fact, min_size=1, max_size=64).map(tuple)
    requests = data.draw(st.dictionaries(st.sampled_from("ab"), st.dictionaries(
        keys, facts, min_size=1), max_size=2))  # fmt: skip
    snapshot = Snapshot({}, {table: tables[table].copy() for table in view.folded}, requests)
    snapshots = Snapshots(folder, "s", view, b"f")
    small, format._PART_KEYS = format._PART_KEYS, data.draw(st.integers(1, 5))
    snapshots.write(snapshot)
    format._PART_KEYS = small
    loaded = snapshots.load()
    assert loaded == snapshot
    again = Tables(view, loaded.rows)
    assert not [error for table in view.folded for error in again[table].derive() if error]
    for table in view.tables:
        assert dict(again[table].items()) == dict(tables[table].items()), table.name


def test_large_rows_go_into_small_parts(shop, tmp_path):
    snapshots, snapshot = small(shop, tmp_path)
    (table,) = snapshot.rows
    row = shop.Order(id="k", name="x" * 400_000).SerializeToString()
    rows = {f"k{n}": row for n in range(20)}
    large = Snapshot(snapshot.positions, {table: rows}, snapshot.requests)
    sizes = [part.ByteSize() for part in format._parts_of(large)]
    assert max(sizes) < 1_300_000
    snapshots.write(large)
    assert snapshots.load() == large


async def test_processes_beside_the_first_one_leave_its_snapshots_alone(kept, folded):
    await kept.written(20, 30)
    written = files(kept.folder)
    folded.clear()
    async with running(kept.core(first=False)) as core:
        assert folded["shop"] == 0
        await fill(core, kept.shop, 30, 40)
        await caught_up(core, kept.client)
        await core.owner.save()
        assert state(core) == await kept.rebuilt()
    await kept.client.flushall()
    async with running(kept.service.core(kept.url)) as other:
        await fill(other, kept.shop, 0, 10)
    async with running(kept.core(first=False)) as core:
        assert state(core) == await kept.rebuilt()
    assert files(kept.folder) == written


# The log is not the one that the snapshot is of.


async def test_of_another_epoch(kept, folded, caplog):
    await kept.written(20, 30)
    await kept.client.flushall()
    other = kept.service.core(kept.url)
    async with running(other) as core:
        await fill(core, kept.shop, 0, 40)
    folded.clear()
    caplog.clear()
    async with running(kept.core()) as core:
        assert state(core) == await kept.rebuilt()
        assert folded["shop"] == 2 * 44
    assert "the log changed: stream orders, partition 0: its epoch was" in caplog.text
    assert len(files(kept.folder, ".outdated")) == 2
    assert len(files(kept.folder)) == 1
    caplog.clear()
    async with running(kept.core()):
        assert "the log changed" not in caplog.text


@pytest.mark.parametrize("then", ["nothing", "others", "more"])
async def test_rolled_back_while_the_service_was_away(kept, folded, caplog, then):
    """A fact is missing, or another one stands there, or the log has grown past the snapshot."""
    async with running(kept.core()) as core:
        for n in range(10):
            done = await place(core, kept.shop.OrderPlaced(id="k", name=f"lost {n}"), n)
        await caught_up(core, kept.client)
        await core.owner.save()
    await roll_back(kept.client, done.position.partition, 5)
    async with running(kept.service.core(kept.url)) as other:
        for n in range(5, {"nothing": 5, "others": 10, "more": 30}[then]):
            await place(other, kept.shop.OrderPlaced(id="k", name=f"new {n}"), n)
    folded.clear()
    caplog.clear()
    core = kept.core()
    wrong: list[str] = []
    core.on_ready_change.append(
        lambda ready: wrong.append(core.owner.tables[kept.service.orders].get("k").name)
    )
    async with running(core):
        assert state(core) == await kept.rebuilt()
    assert "the log changed" in caplog.text
    assert "lost 9" not in wrong
    assert len(files(kept.folder, ".outdated")) == 1
    caplog.clear()
    async with running(kept.core()):
        assert "the log changed" not in caplog.text


async def test_nothing_is_served_before_the_log_has_confirmed_the_snapshot(kept, monkeypatch):
    await kept.written(10)
    real, go = Reader.batches, asyncio.Event()

    async def late(self: Reader) -> AsyncIterator[Any]:
        await go.wait()
        async for batch in real(self):
            yield batch

    monkeypatch.setattr(Reader, "batches", late)
    async with running(kept.core(), ready=False) as core:
        await eventually(lambda: len(core.owner.tables[kept.service.orders]) == 9)
        await asyncio.sleep(0.3)
        assert not core.ready
        go.set()
        await asyncio.wait_for(core.wait_ready(), 5)


@pytest.mark.parametrize(("kept_facts", "complete"), [(4, True), (3, True), (2, True), (1, False)])
async def test_trimmed_before_at_and_past_the_snapshot(kept, folded, kept_facts, complete):
    """The snapshot ends at fact 7 of 10; the log keeps the last ones."""
    async with running(kept.core()) as core:
        for n in range(7):
            done = await place(core, kept.shop.OrderPlaced(id="k", name=str(n)), n)
        await caught_up(core, kept.client)
        await core.owner.save()
    async with running(kept.service.core(kept.url)) as other:
        for n in range(7, 10):
            await place(other, kept.shop.OrderPlaced(id="k", name=str(n)), n)
    log = f"{{orders/{done.position.partition}}}:log"
    trimmed = 6 if kept_facts == 4 else 10 - kept_facts
    await kept.client.xtrim(log, maxlen=10 - trimmed, approximate=False)
    folded.clear()
    async with running(kept.core(), ready=False) as core:
        if kept_facts >= 3:
            await asyncio.wait_for(core.wait_ready(), 5)
            assert core.query().rows(kept.service.orders).get("k").name == "9"
            assert folded["shop"] == 3
        else:
            await eventually(lambda: "cannot be complete" in core.status)
            assert f"facts 8 to {trimmed} were removed before they were read" in core.status


async def test_a_stream_that_is_waited_for_is_not_read_again_from_its_start(
    server, client, shop, bank, folder
):
    """The snapshot that is written meanwhile has its rows, and so where they end."""
    service = Shop(shop, bank, with_bank=True)

    @fold(bank.PaymentMade, into=service.payments)
    def paid(row: Any, event: Any, fact: Any) -> Any:
        return bank.PaymentMade(amount=event.amount + (row.amount if row else 0))

    service.folds[-1] = paid
    owner = Contract([bank.DESCRIPTOR])
    bank_core = Core("bank", owner, [], [], Settings(redis_url=server.url), Telemetry())
    kept = {"snapshot_dir": str(folder)}
    async with running(bank_core) as paying, running(service.core(server.url, **kept)) as core:
        await place(paying, bank.PaymentMade(order_id="k", amount=7), None)
        await fill(core, shop, 0, 10)
        await caught_up(core, client)
    backup = {key: await client.dump(key) for key in await client.keys("{payments/*")}
    await client.delete(*backup)
    async with running(service.core(server.url, **kept), ready=False) as core:
        await eventually(lambda: "waits for stream payments" in core.status)
        async with running(Shop(shop, bank).core(server.url)) as other:
            await place(other, shop.OrderPlaced(id="more"))
        await eventually(lambda: "more" in core.query().rows(service.orders))
    assert len(files(folder)) == 2
    for key, value in backup.items():
        await client.restore(key, 0, value)
    async with running(service.core(server.url, **kept)) as core:
        assert core.query().rows(service.payments).get("k").amount == 7


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Writing a snapshot waits until this is set."""
    real, go = Snapshots.write, threading.Event()

    def late(self: Snapshots, snapshot: Snapshot) -> None:
        go.wait(30)
        real(self, snapshot)

    monkeypatch.setattr(Snapshots, "write", late)
    yield go
    go.set()


async def test_a_write_that_is_overtaken_by_a_roll_back_is_set_aside_too(kept, disk):
    async with running(kept.core()) as core:
        for n in range(10):
            done = await place(core, kept.shop.OrderPlaced(id="k"), n)
        await caught_up(core, kept.client)
        before = core.owner.places()
        saving = asyncio.create_task(core.owner.save())
        await roll_back(kept.client, done.position.partition, 5)
        await eventually(lambda: core.ready and core.owner.places() != before)
        assert not saving.done()  # a slow disk holds nobody up
        disk.set()
        await saving
        await eventually(lambda: len(files(kept.folder, ".outdated")) == 1)
        assert files(kept.folder) == []


def test_where_a_view_reads_again_is_where_the_last_of_two_instances_is(shop, tmp_path):
    """They share a folder, and the one that wrote last is behind in one partition."""
    snapshots, _ = small(shop, tmp_path)
    for anchors in ((8, 3, 5), (6, 4, 5)):
        positions = {("orders", p): (EPOCH, Anchor(1, n)) for p, n in enumerate(anchors)}
        positions["gone", 0] = (EPOCH.replace("0", str(anchors[0])), Anchor(1, 1))
        snapshots.write(Snapshot(positions))
        assert bool(snapshots.tidy()) == (anchors[0] == 6)
    again = {("orders", p): (EPOCH, Anchor(1, n)) for p, n in enumerate((6, 3, 5))}
    assert snapshots.tidy() == again


async def test_a_view_whose_log_changed_is_not_ready_while_its_snapshot_is_written(kept, disk):
    async with running(kept.core()) as core:
        await fill(core, kept.shop, 0, 10)
        await caught_up(core, kept.client)
        saving = asyncio.create_task(core.owner.save())
        await kept.client.flushall()
        await eventually(lambda: not core.ready)
        assert not saving.done()
        assert len(core.owner.tables[kept.service.orders]) == 0
        disk.set()
        await saving


# Who wrote it made the rows otherwise.

VIEW = """
from factfold_chassis import View
import shop_pb2, bank_pb2
from {package}.limits import LONGEST
VIEW = View("v")
ORDERS = VIEW.table("orders", shop_pb2.Order)
"""
FOLD = """
from factfold_chassis import fold
import shop_pb2
from {package}.view import ORDERS
from . import making


@fold(shop_pb2.OrderPlaced, into=ORDERS)
def placed(row, event, fact):
    from {package}.lazy import late
    return making.make(event)
"""
MAKING = """
from {package} import deep
import {package}.sub.below
def make(event): return deep.order(event)
"""
MODULES = {
    "view": VIEW, "limits": "LONGEST = 3\n", "placed": FOLD, "making": MAKING,
    "deep": "import shop_pb2\ndef order(event): return shop_pb2.Order(id=event.id)\n",
    "lazy": "late = 1\n", "sub/__init__": "", "sub/below": "x = 1\n",
    "handler": "from {package} import making\n",
}  # fmt: skip


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., ModuleType]]:
    """`written("name", module="source")`: a fresh package with some modules otherwise."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    made: list[str] = []

    def make(**otherwise: str) -> ModuleType:
        package = "team"
        for name in [name for name in sys.modules if name.split(".")[0] == package]:
            del sys.modules[name]
        root = tmp_path / package
        (root / "sub").mkdir(parents=True, exist_ok=True)
        (root / "__init__.py").write_text("")
        made.append(package)
        for name, source in {**MODULES, **otherwise}.items():
            (root / f"{name}.py").write_text(source.format(package=package))
        importlib.invalidate_caches()
        importlib.import_module(f"{package}.handler")
        return importlib.import_module(f"{package}.placed")

    yield make
    for name in [name for name in sys.modules if name.split(".")[0] in made]:
        del sys.modules[name]


def print_of(module: ModuleType, shop: ModuleType) -> bytes:
    contract = Contract([shop.DESCRIPTOR])
    return fingerprint(module.ORDERS.view, [module.placed], contract, ["orders"], journal=False)


@pytest.mark.parametrize("name", [
    "view", "limits", "placed", "making", "deep", "lazy", "sub/below", "sub/__init__"
])  # fmt: skip
def test_code_that_a_fold_can_reach_counts(shop, bank, written, name):
    before = print_of(written(), shop)
    assert print_of(written(), shop) == before
    assert print_of(written(**{name: MODULES[name] + "\n# otherwise\n"}), shop) != before


def test_code_that_no_fold_can_reach_does_not_count(shop, bank, written):
    before = print_of(written(), shop)
    assert print_of(written(handler=MODULES["handler"] + "x = 1\n"), shop) == before


def test_where_a_fold_is_declared_counts(shop, bank, written):
    """The function comes from a helper; what it does is decided where it is declared."""
    helper = "def keep(field):\n    def put(row, event, fact): return field\n    return put\n"
    declared = (
        "from factfold_chassis import fold\nimport shop_pb2\nfrom {package}.view import ORDERS\n"
        "from {package}.making import keep\n"
        "placed = fold(shop_pb2.OrderPlaced, into=ORDERS)(keep({!r}))\n"
    )
    prints = {
        print_of(written(making=helper, placed=declared.replace("{!r}", repr(name))), shop)
        for name in ("id", "name", "id")
    }
    assert len(prints) == 2


PROTO = """
syntax = "proto3";
package p;
import "factfold/v1/options.proto";
option (factfold.v1.stream) = {{ name: "s" partitions: {partitions} }};
message Made {{
  option (factfold.v1.event) = {{}};
  string id = 1 [(factfold.v1.key) = true];
  repeated Part parts = 2;
  {made}
}}
message Part {{ map<string, Inner> inner = 1; {part} }}
message Inner {{ Kind kind = 1; Part again = 2; {inner} }}
enum Kind {{ ZERO = 0; {kind} }}
message Row {{ string id = 1; {row} }}
message Unrelated {{ string id = 1; {unrelated} }}
service Service {{ {service} }}
"""


def print_of_contract(folder: Path, table: str = "rows", **otherwise: str) -> bytes:
    """In a pool of its own: the same names with other contents."""
    words = dict.fromkeys(["made", "part", "inner", "kind", "row", "unrelated", "service"], "")
    text = PROTO.format(**{"partitions": "4", **words, **otherwise})
    (folder / "p.proto").write_text(text)
    out = folder / "set"
    includes = [f"-I{path}" for path in (folder, CHASSIS / "protos", WELL_KNOWN)]
    command = ["", *includes, "--include_imports", f"--descriptor_set_out={out}", "p.proto"]
    assert protoc.main(command) == 0
    pool = descriptor_pool.DescriptorPool()
    for file in FileDescriptorSet.FromString(out.read_bytes()).file:
        pool.Add(file)
    view = View("v")
    rows = view.table(table, GetMessageClass(pool.FindMessageTypeByName("p.Row")))
    made = fold(GetMessageClass(pool.FindMessageTypeByName("p.Made")), into=rows)(NOTHING)
    contract = Contract([pool.FindFileByName("p.proto")])
    return fingerprint(view, [made], contract, ["s"], journal=False)


def NOTHING(row: Any, event: Any, fact: Any) -> Any:
    return None


@pytest.mark.parametrize("otherwise", [
    {"made": "string more = 3;"}, {"part": "string more = 3;"}, {"inner": "string more = 3;"},
    {"inner": "optional string more = 3;"}, {"kind": "ONE = 1;"}, {"row": "string more = 2;"},
    {"partitions": "8"}, {"table": "others"},
], ids=str)  # fmt: skip
def test_the_contract_of_a_view_counts(tmp_path, otherwise):
    assert print_of_contract(tmp_path, **otherwise) != print_of_contract(tmp_path)


@pytest.mark.parametrize("otherwise", [
    {"unrelated": "string more = 2;"}, {"service": "rpc Get(Row) returns (Row);"},
], ids=str)  # fmt: skip
def test_the_rest_of_the_contract_does_not_count(tmp_path, otherwise):
    assert print_of_contract(tmp_path, **otherwise) == print_of_contract(tmp_path)


async def test_a_changed_view_is_rebuilt(kept, folded, caplog):
    caplog.set_level(logging.INFO, LOGGER)
    await kept.written(20)
    orders = kept.service.orders

    @fold(kept.shop.OrderPlaced, into=orders)
    def otherwise(row: Any, event: Any, fact: Any) -> Any:
        return kept.shop.Order(id=event.id, name="other")

    before = kept.service.folds
    kept.service.folds = [otherwise, *before[1:]]
    folded.clear()
    async with running(kept.core()) as core:
        assert folded["shop"] == 22
        assert core.query().rows(orders).get("k1").name == "other"
    assert caplog.text.count("view shop has changed since its snapshot: rebuilding") == 1
    # The older code finds its own again.
    kept.service.folds = before
    folded.clear()
    async with running(kept.core()) as core:
        assert folded["shop"] == 0
        assert core.query().rows(orders).get("k1").name == "n1"


async def test_a_view_that_becomes_the_owners_is_rebuilt(server, client, shop, bank, folder):
    """Of two views of the own stream the first one remembers request ids, and it may change."""
    kept = {"snapshot_dir": str(folder)}
    service = Shop(shop, bank)
    other = View("other").table("orders", shop.Order)
    second = fold(shop.OrderPlaced, into=other)(NOTHING)
    before = service.folds
    service.folds = [*before, second]
    async with running(service.core(server.url, **kept)) as core:
        await place(core, shop.OrderPlaced(id="k"), 0, "r")
        await caught_up(core, client)
    service.folds = [second, *before]
    async with running(service.core(server.url, **kept)) as core:
        assert (await place(core, shop.OrderPlaced(id="k"), 0, "r")).repeated


async def test_a_derived_table_is_computed_anew(kept, bank):
    """Its code does not count: nothing of it is in the snapshot."""
    await kept.written(20)
    view = kept.service.view
    (total,) = view.derived
    view.derived[0] = type(total)(
        total.table, total.source, lambda row: "all", total.add, total.remove
    )
    async with running(kept.core()) as core:
        assert core.query().rows(kept.service.totals).get("all").orders == 18


async def test_rows_that_cannot_be_derived_from_are_said_once(kept, caplog):
    await kept.written(20)
    view = kept.service.view
    (total,) = view.derived

    def broken(row: Any) -> str:
        raise RuntimeError("broken")

    view.derived[0] = type(total)(total.table, total.source, broken, total.add, total.remove)
    async with running(kept.core()) as core:
        assert len(core.query().rows(kept.service.orders)) == 18
        assert len(core.query().rows(kept.service.totals)) == 0
    assert caplog.text.count("view shop: 18 rows cannot be derived from") == 1


async def test_facts_that_failed_are_said_at_each_start(kept, caplog):
    kept.service.folds.append(
        fold(kept.shop.OrderPlaced, into=kept.service.view.table("broken", kept.shop.Order))(
            lambda row, event, fact: event.absent
        )
    )
    await kept.written(3)
    for _ in range(2):
        caplog.clear()
        async with running(kept.core()) as core:
            assert core.owner.ready
        assert "view shop: 3 facts before its snapshot could not be folded" in caplog.text


def test_names_that_would_be_mixed_up_are_refused(shop, bank, server):
    view = View("v")
    table = view.table("rows", shop.Order)
    with pytest.raises(WiringError, match="view v has two tables rows: rename one"):
        view.table("rows", shop.Order)
    service = Shop(shop, bank)
    other = View("shop").table("orders", shop.Order)
    service.folds.append(fold(shop.OrderPlaced, into=other)(lambda row, event, fact: None))
    with pytest.raises(WiringError, match="2 views are named shop: rename one"):
        service.core(server.url)
    service = Shop(shop, bank)
    service.folds.append(fold(shop.OrderPlaced, into=service.totals)(NOTHING))
    with pytest.raises(WiringError, match="table totals is derived"):
        service.core(server.url)
    assert table.name == "rows"


def test_any_name_of_a_view_is_a_file(shop, tmp_path):
    view = View("../etc/päss *[a-z]")
    snapshots = Snapshots(tmp_path / "here", "s", view, b"f")
    snapshots.write(Snapshot())
    assert snapshots.load() == Snapshot()
    assert [path.name for path in tmp_path.iterdir()] == ["here"]
    assert len(files(tmp_path / "here")) == 1


# Writing that fails, or is cut short.


async def test_a_folder_that_cannot_be_used_is_an_alarm(kept, caplog):
    kept.folder.write_text("a file")
    core = kept.core()
    alarms: list[str] = []
    core.telemetry.count = lambda name, *more, **attributes: alarms.append(name)
    async with running(core):
        await fill(core, kept.shop, 0, 5)
        await caught_up(core, kept.client)
        await core.owner.save()
        assert core.ready
        assert alarms == ["factfold.log.alarms"]
    assert caplog.text.count("no snapshots can be kept") == 1
    assert caplog.text.count("no snapshot of view shop written") == 2
    assert kept.folder.read_text() == "a file"


async def test_a_full_disk_leaves_the_older_one(kept, folded, caplog):
    await kept.written(10)
    older = files(kept.folder)
    async with running(kept.core()) as core:
        for n in range(10, 20):
            await place(core, kept.shop.OrderPlaced(id=f"k{n}", name="x" * 100_000))
        await caught_up(core, kept.client)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
        try:
            await core.owner.save()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert "no snapshot of view shop written: [Errno 27] File too large" in caplog.text
        assert core.ready
        assert sorted(kept.folder.iterdir()) == [kept.folder / "instance", *older]
    assert len(files(kept.folder)) == 2  # there is room again


async def test_a_row_of_another_type_is_a_fold_that_fails(kept, caplog):
    @fold(kept.shop.OrderCancelled, into=kept.service.orders)
    def wrong(row: Any, event: Any, fact: Any) -> Any:
        return event

    kept.service.folds = [kept.service.folds[0], wrong]
    await kept.written(10)
    assert "a row of this table is a Order, not a OrderCancelled" in caplog.text
    async with running(kept.core()) as core:
        assert core.query().rows(kept.service.orders).get("k0").name == "n0"
        assert state(core) == await kept.rebuilt()


async def test_two_instances_share_a_folder(kept, folded):
    async with running(kept.core()) as one, running(kept.core()) as two:
        await fill(one, kept.shop, 0, 50)
        for core in (one, two):
            await caught_up(core, kept.client)
        await asyncio.gather(one.owner.save(), two.owner.save())
        await fill(two, kept.shop, 50, 60)
    assert len(files(kept.folder)) == 2
    assert not files(kept.folder, ".*")
    folded.clear()
    async with running(kept.core()) as core:
        assert folded["shop"] == 0
        assert state(core) == await kept.rebuilt()


KILLED = """
import sys, time
from pathlib import Path
from google.protobuf.wrappers_pb2 import StringValue
from factfold_chassis import View
from factfold_chassis.views.snapshot import Snapshot, Snapshots
row = lambda value: StringValue(value=value).SerializeToString()
view = View("v")
table = view.table("rows", StringValue)
snapshots = Snapshots(Path(sys.argv[1]), "s", view, b"f")
snapshots.write(Snapshot(rows={table: {"k": row("old")}}))
print("ready", flush=True)
rows = {str(n): row("new" * 100) for n in range(500_000)}
while True:
    snapshots.write(Snapshot(rows={table: rows}))
"""


def test_a_kill_while_writing_leaves_the_old_one(tmp_path):
    """And a later one removes what it left, once it is old."""
    source = Path(format.__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, tmp_path], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(source)},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        deadline = time.monotonic() + 60
        while not any(path.stat().st_size > 1 << 20 for path in tmp_path.glob("*.partial")):
            assert time.monotonic() < deadline
            time.sleep(0.001)
    finally:
        process.kill()
        process.communicate()
    (partial,) = tmp_path.glob("*.partial")
    view = View("v")
    table = view.table("rows", StringValue)
    snapshots = Snapshots(tmp_path, "s", view, b"f")
    loaded = snapshots.load()
    assert loaded is not None
    assert loaded.rows[table] == {"k": StringValue(value="old").SerializeToString()}
    snapshots.tidy()
    assert partial.exists()
    os.utime(partial, (time.time() - 4000,) * 2)
    snapshots.tidy()
    assert not partial.exists()
    assert len(files(tmp_path)) == 1


async def test_the_event_loop_goes_on_while_200_000_rows_are_written(kept):
    async with running(kept.core()) as core:
        await fill(core, kept.shop, 0, 5)
        await caught_up(core, kept.client)
        rows = core.owner.tables[kept.service.orders]
        rows._listeners.clear()
        for n in range(200_000):
            rows.put(f"k{n}", kept.shop.Order(id=f"k{n}", name="name", customer="customer"))
        pauses: list[float] = []

        async def beat() -> None:
            while True:
                began = time.perf_counter()
                await asyncio.sleep(0.001)
                pauses.append(time.perf_counter() - began)

        beating = asyncio.create_task(beat())
        await asyncio.sleep(0)
        began = time.perf_counter()
        await core.owner.save()
        took = time.perf_counter() - began
        beating.cancel()
    # Written in the loop, it would be one pause; the machine may be busy with other things.
    assert len(pauses) > 50
    assert sorted(pauses)[-5] < 0.05
    assert max(pauses) < max(0.05, took / 2)
    assert files(kept.folder)[-1].stat().st_size > 5_000_000


async def test_what_was_cut_does_not_change_while_it_is_written(kept, disk):
    """Facts go on being folded, into rows of keys that the cut has, and of new ones."""
    async with running(kept.core()) as core:
        await fill(core, kept.shop, 0, 50)
        await caught_up(core, kept.client)
        then = state(core)
        saving = asyncio.create_task(core.owner.save())
        await asyncio.sleep(0)
        await fill(core, kept.shop, 50, 80)
        for n in range(1, 50, 7):
            await place(core, kept.shop.OrderPlaced(id=f"k{n}", name="later"), 1, request_id="x")
        await caught_up(core, kept.client)
        assert state(core) != then
        disk.set()
        await saving
        (path,) = files(kept.folder)
        fingerprint = header_of(path.read_bytes()).fingerprint
        snapshot = Snapshots(kept.folder, "shop", kept.service.view, fingerprint).load()
    assert snapshot is not None
    rows = dict(Rows(kept.shop.Order, snapshot.rows[kept.service.orders]).items())
    assert rows == then["tables"]["orders"]
    assert snapshot.requests == then["requests"]


def header_of(data: bytes) -> SnapshotHeader:
    part = parse_length_prefixed(SnapshotPart, io.BytesIO(data[8:]))
    assert part is not None
    return part.header


# The drain.

SERVICE = """
import sys, types
import shop_pb2
from factfold_chassis import Service, View, fold, reaction
from factfold_chassis.service import run
from factfold_chassis.views.engine import ViewEngine

ORDERS = View("orders").table("orders", shop_pb2.Order)

@fold(shop_pb2.OrderPlaced, into=ORDERS)
def placed(row, event, fact):
    return shop_pb2.Order(id=event.id, name=event.name)

folded, real = [0], ViewEngine.fold
def counting(self, place, entries):
    folded[0] += len(entries)
    real(self, place, entries)
ViewEngine.fold = counting
try:
    run(Service(name="shop", contract=[shop_pb2.DESCRIPTOR], parts=[sys.modules[__name__]]))
finally:
    print("folded", folded[0])
"""


async def test_sigterm_leaves_a_snapshot_and_the_next_one_reads_on(
    server, client, shop, bank, folder, tmp_path
):
    (tmp_path / "app.py").write_text(SERVICE)
    source = Path(format.__file__).parents[2]
    stubs = Path(shop.__file__).parent
    environment = {
        **{name: text for name, text in os.environ.items() if not name.startswith("FACTFOLD_")},
        "PYTHONPATH": os.pathsep.join(map(str, [tmp_path, source, stubs])),
        "FACTFOLD_REDIS_URL": server.url, "FACTFOLD_LISTEN": "127.0.0.1:0",
        "FACTFOLD_SNAPSHOT_DIR": str(folder), "FACTFOLD_LOG_FORMAT": "text",
    }  # fmt: skip

    async def one_life(facts: int) -> str:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "import app", env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        said = ""
        try:
            assert process.stdout is not None
            async with asyncio.timeout(20):
                while "serving" not in said:
                    line = await process.stdout.readline()
                    assert line, said
                    said += line.decode()
                async with running(Shop(shop, bank).core(server.url)) as core:
                    await fill(core, shop, facts, facts + 20)
                await asyncio.sleep(0.3)
                process.send_signal(signal.SIGTERM)
                said += (await process.stdout.read()).decode()
                assert await process.wait() == 0, said
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return said

    first = await one_life(0)
    assert "folded 22" in first
    assert len(files(folder)) == 1
    second = await one_life(20)
    assert "view orders begins with a snapshot of 20 rows" in second
    assert "folded 22" in second
    third = await one_life(40)
    assert "view orders begins with a snapshot of 40 rows" in third
    assert len(files(folder)) == 2


@pytest.mark.parametrize("hangs", ["the reaction", "Redis"])
async def test_what_hangs_in_a_drain_does_not_cost_the_snapshot(
    shop, bank, folder, tmp_path, hangs
):
    service, entered = Shop(shop, bank), asyncio.Event()

    @reaction(shop.OrderPlaced)
    async def answer(event: Any, call: Any) -> None:
        entered.set()
        await asyncio.sleep(60 if hangs == "the reaction" else 0)

    service.reactions.append(answer)
    with servers.start(tmp_path / "data") as server:
        core = service.core(server.url, snapshot_dir=str(folder))
        await core.start()
        await core.wait_ready()
        done = await place(core, shop.OrderPlaced(id="k"))
        await core.at_least(str(done.position), 2)
        await entered.wait()
        if hangs == "Redis":
            os.kill(server.pid, signal.SIGSTOP)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.5):
                    await core.close(1.0)
        finally:
            os.kill(server.pid, signal.SIGCONT)
    assert len(files(folder)) == 1


async def test_a_drain_that_is_over_gives_the_writing_up(kept, monkeypatch):
    """The threads of a process that ends must not hold it up."""
    entered = threading.Event()
    ended = threading.Event()
    real = format.serialize_length_prefixed

    def slow(part: Any, sink: Any) -> None:
        entered.set()
        time.sleep(0.05)
        real(part, sink)

    monkeypatch.setattr(format, "_PART_KEYS", 1)
    monkeypatch.setattr(format, "serialize_length_prefixed", slow)
    write = Snapshots.write

    def watched(self: Snapshots, snapshot: Snapshot) -> None:
        try:
            write(self, snapshot)
        finally:
            ended.set()

    monkeypatch.setattr(Snapshots, "write", watched)
    core = kept.core()
    await core.start()
    await core.wait_ready()
    await fill(core, kept.shop, 0, 200)
    await caught_up(core, kept.client)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await core.close(0.1)
    assert entered.is_set()
    assert await asyncio.to_thread(ended.wait, 1)
    assert files(kept.folder) == []
    assert not [*kept.folder.glob("*.partial")]


async def test_how_far_a_view_is_is_said_now_and_then(server, shop, bank, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "factfold.server")
    service = Shop(shop, bank)
    async with running(service.core(server.url)) as core:
        await place_all(core, [shop.OrderPlaced(id=f"k{n}") for n in range(3000)])
    part = ModuleType("part")
    vars(part).update({f"fold{n}": each for n, each in enumerate(service.folds)})
    app = Service(name="shop", contract=[shop.DESCRIPTOR], parts=[part])
    settings = Settings(redis_url=server.url, listen="127.0.0.1:0", drain_timeout=1.0)
    monkeypatch.setattr(serving, "_LOOK_EVERY", 0.02)
    monkeypatch.setattr(serving, "_SAY_EVERY", 0.4)
    real = ViewEngine.fold

    def slow(self: ViewEngine, at: Any, entries: Any) -> None:
        real(self, at, entries)
        time.sleep(len(entries) / 1500)

    monkeypatch.setattr(ViewEngine, "fold", slow)
    monkeypatch.setattr(read, "FIRST", 10)
    monkeypatch.setattr(read, "BATCH_BYTES", 200)
    began = time.monotonic()
    async with Running(app, settings, Telemetry()) as process:
        await asyncio.wait_for(process.core.wait_ready(), 20)
        took = time.monotonic() - began
    reasons = [vars(record).get("reason", "") for record in caplog.records]
    said = [reason for reason in reasons if "facts of orders" in reason]
    assert took > 2
    assert 3 <= len(said) <= took / 0.4 + 3
    assert re.fullmatch(
        r"view shop has read \d+ of 3000 facts of orders, \d+ a second, about \d+ s left", said[-1]
    )


# Cursors in the log, for who trims it.


async def cursors(client: redis.asyncio.Redis, partition: int = 0) -> dict[str, str]:
    raw = await client.hgetall(f"{{orders/{partition}}}:cursors:shop.shop")
    return {field.decode(): value.decode() for field, value in raw.items()}


async def test_cursors_say_where_an_instance_would_read_again(kept):
    """Behind the older of two snapshots: the newer one may turn out to be damaged."""
    ends: list[dict[int, str]] = []
    began = time.time() * 1000
    async with running(kept.core()) as core:
        for count in range(3):
            found = await cursors(kept.client, 1)
            assert found.pop("_") == "1"
            ((instance, value),) = found.items()
            position, written, _ = value.split(" ")
            assert began - 1000 < int(written) < time.time() * 1000 + 1000
            assert position == ("0-0" if count < 2 else ends[count - 2][1])
            await fill(core, kept.shop, 10 * count, 10 * count + 10)
            await caught_up(core, kept.client)
            await core.owner.save()
            ends.append({at.partition: at.anchor.entry_id for at in core.owner.places()})
    assert re.fullmatch("[0-9a-f]{16}", instance)
    assert (kept.folder / "instance").read_text() == instance
    assert instance in await cursors(kept.client, 1)
    # It comes back under the same name, with the same files.
    async with running(kept.core()):
        found = await cursors(kept.client, 1)
        assert found.keys() == {"_", instance}
        assert found[instance].partition(" ")[0] == ends[1][1]


async def test_a_cursor_is_not_of_a_log_that_was_there_before(kept):
    await kept.written(10, 20)
    async with running(kept.core()) as core:
        await kept.client.flushall()
        await eventually(lambda: "whose log is gone" in core.status)
        async with running(kept.service.core(kept.url)):
            await asyncio.wait_for(core.wait_ready(), 10)
            await core.owner.save()
            found = await cursors(kept.client)
            assert found[(kept.folder / "instance").read_text()].partition(" ")[0] == "0-0"


async def test_cursors_of_a_process_without_a_folder_go_with_it(server, client, shop, bank):
    async with running(Shop(shop, bank).core(server.url)) as core:
        await fill(core, shop, 0, 10)
        for partition in range(4):
            found = await cursors(client, partition)
            assert found.pop("_") == "1"
            assert [value.partition(" ")[0] for value in found.values()] == ["0-0"]
    for partition in range(4):
        assert await cursors(client, partition) == {"_": "1"}


async def test_cursors_are_refreshed(server, client, shop, bank):
    async with running(Shop(shop, bank).core(server.url, snapshot_interval=0.05)):
        before = await cursors(client)
        await asyncio.sleep(0.2)
        assert before != await cursors(client)


async def test_who_may_not_write_cursors_is_served_all_the_same(server, client, shop, bank, caplog):
    async with running(Shop(shop, bank).core(server.url)) as core:
        await fill(core, shop, 0, 10)
    await client.acl_setuser(
        "reader", enabled=True, passwords=["+secret"], keys=["*"],
        commands=["+@all", "-hset"], reset=True,
    )  # fmt: skip
    try:
        url = server.url.replace("//", "//reader:secret@").replace("default:", "")
        async with running(Shop(shop, bank).core(url)) as core:
            assert len(core.query().rows(next(iter(core.owner.view.tables)))) == 9
        assert "the cursors of view shop were not written" in caplog.text
    finally:
        await client.acl_deluser("reader")


# An owner whose log is lost.


async def test_an_owner_with_a_snapshot_does_not_create_its_log_anew(kept):
    await kept.written(10)
    await kept.client.flushall()
    async with running(kept.core(), ready=False) as core:
        await eventually(lambda: "is absent" in core.status)
        assert core.status == (
            "the log of stream orders was lost or replaced (partition 0 is absent, and "
            f"{files(kept.folder)[-1].name} is a snapshot of it); restore it from a backup, or "
            "begin anew without it: `factfold stream recreate orders`; then restart the service"
        )
        assert not core.ready
    assert await kept.client.dbsize() == 0


async def test_a_snapshot_of_older_code_tells_of_the_log_too(kept):
    await kept.written(10)
    await kept.client.flushall()
    kept.service.folds.pop()
    async with running(kept.core(), ready=False) as core:
        await eventually(lambda: "is a snapshot of it" in core.status)
    assert await kept.client.dbsize() == 0


async def test_a_log_that_is_lost_under_a_running_owner_is_missed_by_the_next_one(kept):
    await kept.written(10)
    async with running(kept.core()) as core:
        await kept.client.flushall()
        await eventually(lambda: "whose log is gone" in core.status)
    async with running(kept.core(), ready=False) as core:
        await eventually(lambda: "is a snapshot of it" in core.status)
    assert await kept.client.dbsize() == 0


async def test_a_log_that_comes_back_as_it_was_needs_no_rebuild(kept, folded):
    await kept.written(10, 20)
    keys = await kept.client.keys("*")
    backup = {key: await kept.client.dump(key) for key in keys}
    async with running(kept.core()) as core:
        await kept.client.flushall()
        await eventually(lambda: "whose log is gone" in core.status)
    for key, value in backup.items():
        await kept.client.restore(key, 0, value)
    folded.clear()
    async with running(kept.core()):
        assert folded["shop"] == 0


async def test_a_snapshot_that_was_set_aside_tells_of_the_log_too(kept):
    await kept.written(10)
    for path in files(kept.folder):
        path.rename(f"{path}.outdated")
    await kept.client.flushall()
    async with running(kept.core(), ready=False) as core:
        await eventually(lambda: ".outdated is a snapshot of it" in core.status)
    assert await kept.client.dbsize() == 0


@pytest.mark.parametrize("lost", [0, 2, 3])
async def test_a_log_of_which_a_part_is_lost_is_not_mended_silently(
    server, client, shop, bank, lost
):
    async with running(Shop(shop, bank).core(server.url)) as core:
        await fill(core, shop, 0, 20)
    await client.delete(*await client.keys(f"{{orders/{lost}}}:*"))
    async with running(Shop(shop, bank).core(server.url), ready=False) as core:
        await eventually(
            lambda: f"partition {lost} is absent, and others hold facts" in core.status
        )
    assert not await client.exists(f"{{orders/{lost}}}:head")


async def test_a_stream_that_is_created_meanwhile_is_not_taken_for_lost(
    server, shop, bank, monkeypatch
):
    async with running(Shop(shop, bank).core(server.url)) as core:
        await fill(core, shop, 0, 20)
    real, asked = streams.read_head, Counter[int]()

    async def too_early(link: Any, stream: str, partition: int) -> Any:
        asked[partition] += 1
        early = partition == 3 and asked[partition] == 1
        return None if early else await real(link, stream, partition)

    monkeypatch.setattr(streams, "read_head", too_early)
    async with running(Shop(shop, bank).core(server.url)):
        assert asked[3] == 3


async def test_a_creation_that_was_cut_short_is_finished(server, client, shop, bank):
    async with running(Shop(shop, bank).core(server.url)):
        pass
    await client.delete(*await client.keys("{orders/3}:*"))
    async with running(Shop(shop, bank).core(server.url)) as core:
        await fill(core, shop, 0, 20)
    assert await client.exists("{orders/3}:head")
