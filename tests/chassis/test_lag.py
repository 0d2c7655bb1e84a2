"""How far behind readers are: as metrics, in cursors, and in Redis' own groups."""

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator, Iterator
from types import ModuleType
from typing import Any

import pytest
import redis.asyncio
from faults.servers import Kind, kinds
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from test_core import Shop, eventually, place, running
from topologies import Cluster

from factfold_chassis import reaction
from factfold_chassis.core import Core
from factfold_chassis.facts import partition_of
from factfold_chassis.settings import Settings
from factfold_chassis.telemetry import Telemetry
from factfold_chassis.testing import redis_server as servers
from factfold_chassis.views import cursors
from factfold_chassis.views.engine import ViewEngine

KEY = "k0"
PARTITION = partition_of(KEY, 4)


class Gate:
    """A shop with a reaction that answers once it is let."""

    def __init__(self, shop: ModuleType, bank: ModuleType):
        self.shop = shop
        self.service = Shop(shop, bank)
        self.open = asyncio.Event()

        @reaction(shop.OrderPlaced)
        async def wait(event: Any, call: Any) -> None:
            await self.open.wait()

        self.service.reactions.append(wait)

    async def fill(self, core: Core, first: int, last: int) -> None:
        for n in range(first, last):
            await place(core, self.shop.OrderPlaced(id=KEY, name=f"n{n}"), n)


# Redis' own groups.


@pytest.fixture(
    params=kinds("redis-6.2,redis-7.0,valkey-8"), ids=lambda kind: getattr(kind, "name", kind)
)
def any_server(request: pytest.FixtureRequest) -> Iterator[servers.RedisServer]:
    kind: Kind | str = request.param
    if isinstance(kind, str):
        pytest.skip(f"there is no {kind} on this machine")
    with kind.start() as server:
        yield server  # type: ignore[misc]


async def test_redis_own_groups_show_where_a_reaction_is(any_server, shop, bank):
    gate = Gate(shop, bank)
    gate.open.set()
    async with (
        running(gate.service.core(any_server.url)) as core,
        redis.asyncio.Redis.from_url(any_server.url, protocol=2) as client,
    ):

        async def group() -> dict[str, Any]:
            (found,) = await client.xinfo_groups(f"{{orders/{PARTITION}}}:log")
            return dict(found)

        await gate.fill(core, 0, 30)
        await eventually(lambda: core._reactions[0].committed == 30)
        gate.open.clear()
        await gate.fill(core, 30, 37)
        known = await client.hgetall(f"{{orders/{PARTITION}}}:group:shop.wait")
        head = await client.hgetall(f"{{orders/{PARTITION}}}:head")
        found = await group()
        assert (found["name"], found["last-delivered-id"]) == (b"shop.wait", known[b"position"])
        server = await client.info("server")
        if tuple(map(int, server["redis_version"].split(".")[:2])) >= (7, 0):
            assert (found["entries-read"], found["lag"]) == (30, int(head[b"n"]) - 30)
            # Redis alone cannot tell, once an entry is gone from the middle.
            entries = await client.xrange(f"{{orders/{PARTITION}}}:log", count=2)
            await client.xdel(f"{{orders/{PARTITION}}}:log", entries[1][0])
            gate.open.set()
            await eventually(lambda: core._reactions[0].committed == 37)
            assert (await group())["lag"] == 0
        gate.open.set()


# Cursors.


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cursors, "PAUSE", 0.05)


async def values(client: redis.asyncio.Redis) -> list[list[str]]:
    """`again`, time and `present` of each instance."""
    raw = await client.hgetall(f"{{orders/{PARTITION}}}:cursors:shop.shop")
    return [value.decode().split(" ") for name, value in raw.items() if name != b"_"]


async def sets(client: redis.asyncio.Redis) -> int:
    stats = await client.info("commandstats")
    return int(stats.get("cmdstat_hset", {}).get("calls", 0))


@pytest.mark.usefixtures("quick")
async def test_a_cursor_says_where_the_view_is(server, client, shop, bank):
    gate = Gate(shop, bank)
    gate.open.set()
    async with running(gate.service.core(server.url, lease=60.0)) as core:
        assert [(again, present) for again, _, present in await values(client)] == [("0-0", "0-0")]
        for last in (5, 9):
            await gate.fill(core, 0 if last == 5 else 5, last)
            (entry,) = await client.xrevrange(f"{{orders/{PARTITION}}}:log", count=1)
            async with asyncio.timeout(5):
                while (found := await values(client))[0][2] != entry[0].decode():
                    await asyncio.sleep(0.01)
            ((again, written, _),) = found
            assert again == "0-0"
            assert abs(int(written) - time.time() * 1000) < 5000


@pytest.mark.usefixtures("quick")
async def test_a_cursor_that_has_not_changed_is_written_now_and_then(
    server, client, shop, bank, monkeypatch
):
    async with running(Shop(shop, bank).core(server.url)):
        before, calls = await values(client), await sets(client)
        await asyncio.sleep(0.5)
        assert (await values(client), await sets(client)) == (before, calls)
        monkeypatch.setattr(cursors, "REFRESH", 0.2)
        await asyncio.sleep(0.5)
        assert await values(client) != before
        assert calls + 4 <= await sets(client) <= calls + 4 * 3


async def test_cursors_of_many_facts_are_few_writes_and_one_connection(
    server, client, shop, bank, monkeypatch
):
    monkeypatch.setattr(cursors, "PAUSE", 0.3)
    service = Shop(shop, bank)
    async with running(service.core(server.url)) as core:
        calls, began = await sets(client), time.monotonic()
        connections = int((await client.info("stats"))["total_connections_received"])
        for n in range(100):
            await place(core, shop.OrderPlaced(id=f"k{n}"))
            await asyncio.sleep(0.01)
        took = time.monotonic() - began
        # A batch of the append script has three of its own.
        own = await sets(client) - calls - 3 * 100
        assert 4 <= own <= 4 * (took / 0.3 + 1)
        there = int((await client.info("stats"))["total_connections_received"])
        assert there - connections <= 4 + 1  # an appender's for each partition, and the cursors'


@pytest.mark.usefixtures("quick")
async def test_a_redis_that_is_away_is_one_line(shop, bank, caplog, monkeypatch):
    monkeypatch.setattr(cursors, "REFRESH", 0.1)
    with servers.start() as server:
        async with running(Shop(shop, bank).core(server.url)) as core:
            for away in (1, 2):
                server.kill()
                await asyncio.sleep(0.8)
                lines = [line for line in caplog.messages if "the cursors of view shop" in line]
                assert len(lines) == away
                server.start_again()
                await place(core, shop.OrderPlaced(id=f"k{away}"))
                async with redis.asyncio.Redis.from_url(server.url, protocol=2) as client:
                    await eventually_present(client, f"k{away}")


async def eventually_present(client: redis.asyncio.Redis, key: str) -> None:
    place = f"{{orders/{partition_of(key, 4)}}}"
    (entry,) = await client.xrevrange(f"{place}:log", count=1)
    async with asyncio.timeout(10):
        while True:
            raw = await client.hgetall(f"{place}:cursors:shop.shop")
            if any(value.endswith(b" " + entry[0]) for value in raw.values()):
                return
            await asyncio.sleep(0.02)


@pytest.mark.usefixtures("quick")
async def test_what_has_left_writes_no_cursor_behind_itself(server, client, shop, bank):
    async with running(Shop(shop, bank).core(server.url)) as core:
        await place(core, shop.OrderPlaced(id=KEY))
        await core.owner.end()
        await place(core, shop.OrderPlaced(id=KEY, name="more"), 1)
        await asyncio.sleep(0.3)
        assert await values(client) == []


# Metrics.


@contextlib.asynccontextmanager
async def measured(gate: Gate, url: str) -> AsyncIterator[tuple[Core, InMemoryMetricReader]]:
    reader = InMemoryMetricReader()
    telemetry = Telemetry(meter_provider=MeterProvider([reader]))
    service = gate.service
    core = Core(
        "shop", service.contract, service.folds, service.reactions,
        Settings(redis_url=url), telemetry,
    )  # fmt: skip
    async with running(core):
        yield core, reader


def gauge(reader: InMemoryMetricReader, name: str) -> dict[int, float]:
    """What is observed, by partition."""
    data = reader.get_metrics_data()
    assert data is not None
    return {
        int(str((point.attributes or {})["messaging.destination.partition.id"])): point.value
        for scope in data.resource_metrics[0].scope_metrics
        for metric in scope.metrics
        if metric.name == name
        for point in metric.data.data_points
    }


async def test_the_lag_of_a_reaction_is_of_what_is_not_committed(server, shop, bank):
    gate = Gate(shop, bank)
    async with measured(gate, server.url) as (core, reader):
        await eventually(lambda: len(gauge(reader, "factfold.reaction.lag")) == 4)
        assert set(gauge(reader, "factfold.reaction.lag").values()) == {0}
        assert set(gauge(reader, "factfold.reaction.delay").values()) == {0.0}
        began = time.time()
        await gate.fill(core, 0, 1)
        await eventually(lambda: gauge(reader, "factfold.reaction.lag")[PARTITION] == 1)
        # It hangs on the first one, and cannot have seen more; but it is ever longer behind.
        await asyncio.sleep(0.5)
        delay = gauge(reader, "factfold.reaction.delay")
        assert 0.4 < delay.pop(PARTITION) < time.time() - began + 0.2
        assert set(delay.values()) == {0.0}
        gate.open.set()
        await eventually(lambda: not any(gauge(reader, "factfold.reaction.lag").values()))
        assert set(gauge(reader, "factfold.reaction.delay").values()) == {0.0}


async def test_the_lag_of_a_reaction_is_told_by_the_owner_alone(server, shop, bank):
    """Who does not own a partition does not know how far its owner is."""
    gate = Gate(shop, bank)
    gate.open.set()
    async with measured(gate, server.url) as (first, one):
        await gate.fill(first, 0, 20)
        await eventually(lambda: first._reactions[0].committed == 20)
        async with measured(gate, server.url) as (_, other):

            def told() -> list[int]:
                return sorted(
                    at for each in (one, other) for at in gauge(each, "factfold.reaction.lag")
                )

            # Some are handed over meanwhile, or none: that is up to the dice.
            for _ in range(40):
                assert len(told()) == len(set(told()))
                await asyncio.sleep(0.05)
            await eventually(lambda: told() == [0, 1, 2, 3])
            lags = [gauge(each, "factfold.reaction.lag").values() for each in (one, other)]
            assert not any(map(any, lags))


async def test_the_lag_of_a_view_is_of_what_is_not_folded(server, shop, bank, monkeypatch):
    gate = Gate(shop, bank)
    async with running(gate.service.core(server.url)) as core:
        await gate.fill(core, 0, 300)
    seen: list[tuple[int, float | None]] = []
    real = ViewEngine.fold

    def looking(self: ViewEngine, place: Any, entries: Any) -> None:
        real(self, place, entries)
        if place.partition == PARTITION:
            seen.append((self.lag()[PARTITION].facts, self.lag()[PARTITION].seconds))

    monkeypatch.setattr(ViewEngine, "fold", looking)
    async with measured(gate, server.url) as (_, reader):
        assert gauge(reader, "factfold.view.lag") == dict.fromkeys(range(4), 0)
        assert gauge(reader, "factfold.view.delay") == dict.fromkeys(range(4), 0.0)
    # Before its first fact nothing is known of the age of what it lacks.
    assert seen[0] == (300, None)
    assert 0 < seen[1][0] < 300
    assert seen[1][1] is not None
    assert 0 < seen[1][1] < 60


# The command line, of a service that runs.


async def lag_of(url: str, *options: str) -> list[dict[str, Any]]:
    words = [sys.executable, "-m", "factfold_cli", "lag", "--json", "--redis", url, *options]
    process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
    out, _ = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0
    return list(json.loads(out)["readers"])


@pytest.mark.usefixtures("quick")
async def test_the_command_line_shows_what_a_service_does(server, shop, bank, tmp_path):
    gate = Gate(shop, bank)
    async with running(gate.service.core(server.url, snapshot_dir=str(tmp_path))) as core:
        await gate.fill(core, 0, 12)
        await eventually(lambda: core.owner.lag()[PARTITION].facts == 0)
        await asyncio.sleep(0.3)
        reaction, view = await lag_of(server.url)
        assert (reaction["reader"], reaction["facts"]) == ("shop.wait", 12)
        assert (reaction["state"], reaction["instances"], reaction["who"]) == (
            None, 1, core.instance,
        )  # fmt: skip
        assert reaction["seconds"] > 3.0
        assert (view["reader"], view["facts"], view["seconds"]) == ("shop.shop", 0, 0.0)
        assert view["who"] == (tmp_path / "instance").read_text()
        first, *rest = await lag_of(server.url, "--partitions", "--reader", "shop.wait")
        assert (first["partition"], first["facts"]) == (PARTITION, 12)
        assert [each["facts"] for each in rest] == [0, 0, 0]
        gate.open.set()
        await eventually(lambda: not any(each.facts for each in core._reactions[0].lag()))
    reaction, _ = sorted(await lag_of(server.url), key=lambda each: str(each["reader"]))[::-1]
    assert (reaction["reader"], reaction["facts"], reaction["state"]) == ("shop.wait", 0, "away")


@pytest.mark.usefixtures("quick")
async def test_cursors_lie_with_their_partitions(shop, bank):
    with Cluster(3, 0) as cluster:
        service = Shop(shop, bank)
        async with running(service.core(cluster.url)) as core:
            masters = {cluster.master_of(f"{{orders/{at}}}:log").port for at in range(4)}
            assert len(masters) > 1
            for n in range(40):
                await place(core, shop.OrderPlaced(id=f"k{n}"))
            await asyncio.sleep(0.5)
            with cluster.client() as client:
                for at in core.owner.places():
                    found = client.hgetall(f"{{orders/{at.partition}}}:cursors:shop.shop")
                    ((_, value),) = [each for each in found.items() if each[0] != b"_"]
                    assert value.decode().split(" ")[2] == at.anchor.entry_id
                    assert at.anchor.n > 0
