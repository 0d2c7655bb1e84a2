"""Trimming on a Redis Cluster: readers of a slot that is on its way are not overlooked."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from test_append import Alarms, fact
from topologies import Cluster

from factfold_chassis.contract import StreamSpec
from factfold_chassis.facts import partition_of
from factfold_chassis.log.append import Appender
from factfold_chassis.log.redis import Redis
from factfold_chassis.log.streams import Keys, create_stream
from factfold_chassis.log.trim import Policy, Trimmer

ORDERS = StreamSpec("orders", 4, versioned=False, own=True)
AT = partition_of("k", 4)
KEYS = Keys("orders", AT)
CURSORS = KEYS["cursors:billing.orders"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(3, 0) as cluster:
        yield cluster


def at(cluster: Cluster, *command: Any) -> Any:
    """Asks the master that has the partition."""
    with cluster.master_of(KEYS["log"]).client() as client:
        return client.execute_command(*command)


def left(cluster: Cluster) -> int:
    return int(at(cluster, "XLEN", KEYS["log"]))


async def test_a_partition_is_trimmed_where_it_lies_and_not_while_it_moves(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    redis = Redis(cluster.url)
    epochs = await create_stream(redis, ORDERS)
    appender = Appender(
        redis, "orders", epochs, timeout=10.0, limit=1000, max_fact_bytes=1 << 20, alarm=Alarms()
    )
    running = asyncio.create_task(appender.run())
    placed = [await appender.append([fact("k")]) for _ in range(20)]
    await appender.flush(2)
    running.cancel()

    def cursor(n: int) -> None:
        place = placed[n - 1]
        at(cluster, "HSET", CURSORS, "_", "1", "00", f"{place.ms}-{place.n} 1795490001000")

    async def trim(facts: int) -> int:
        trimmer = Trimmer(redis, Policy(facts=facts), print)
        await trimmer.trim({"orders": epochs})
        return trimmer.held_back["orders", AT]

    cursor(5)
    assert await trim(4) == 12
    assert left(cluster) == 16
    target = next(node for node in cluster.masters if node is not cluster.master_of(KEYS["log"]))
    migration = cluster.migration(KEYS["log"], target)
    migration.begin()
    # The reader is on the one node, and the log on the other.
    migration.step(CURSORS.encode())
    await trim(4)
    assert left(cluster) == 16
    migration.step(KEYS["log"].encode())
    migration.step(KEYS["head"].encode())
    for _ in range(3):  # the second one asks the target
        await trim(4)
    with target.client() as client:
        client.execute_command("ASKING")
        assert client.execute_command("XLEN", KEYS["log"]) == 16
    assert [line for line in caplog.messages if line.startswith("stream orders was not trimmed")]
    while migration.keys:
        migration.step()
    migration.end()
    for _ in range(3):  # the first one is told where it is
        held = await trim(4)
    assert (held, left(cluster)) == (12, 16)
    cursor(19)
    assert await trim(4) == 0
    assert left(cluster) == 4
    assert at(cluster, "HGET", KEYS["head"], "trimmed") == b"16"
