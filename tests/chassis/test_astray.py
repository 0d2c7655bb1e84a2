"""Servers that hang, that are cut off, that do not know better, or that send elsewhere."""

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import aclosing
from hashlib import sha256
from pathlib import Path

import pytest
from test_append import fact
from test_moving import KEYS, ORDERS, keys_of, traffic
from topologies import Cluster, Node, Sentinels
from topologies.node import begin, port_with_bus
from topologies.sentinels import Sentinel

from factfold_chassis.errors import LogUnreachable, OutcomeUnknown
from factfold_chassis.log.link import REPLY_TIMEOUT, Link, LinkLost
from factfold_chassis.log.read import Reader
from factfold_chassis.log.redis import Redis
from factfold_chassis.log.replicas import Replicas
from factfold_chassis.log.streams import create_stream
from factfold_chassis.reactions.ownership import Membership, Ownership
from factfold_cli.acl_lines import line
from factfold_cli.redis_server import find
from factfold_cli.rights import Needs, Stream, service

NEWER = Path("/usr/bin/redis-server")


@pytest.fixture
def node() -> Iterator[Node]:
    node = begin(lambda port: Node(find(), port))
    yield node
    node.end()


async def linked(redis: Redis, *keys: str) -> Link:
    """A link, which is closed at once, after as many tries as its users make in a while."""
    for _ in range(8):
        try:
            async with redis.link(*keys) as link:
                await link.call("EXISTS", *keys)
                return link
        except LinkLost as lost:
            error = lost
    raise error


async def test_a_head_that_stays_behind_is_found_where_it_is() -> None:
    """The log is on its way, the head is not: an owner that starts must wait, not be alarmed."""
    with Cluster(3, 0) as cluster:
        async with traffic(cluster.url) as its:
            await asyncio.gather(*map(its.append, KEYS))
        source = cluster.master_of("{orders/1}")
        target = next(node for node in cluster.nodes if node is not source)
        migration = cluster.migration("{orders/1}", target)
        migration.begin()
        migration.step(b"{orders/1}:log")
        creating = asyncio.create_task(create_stream(Redis(cluster.url), ORDERS))
        await asyncio.sleep(2)
        assert not creating.done()
        await asyncio.to_thread(migration.run)
        assert await asyncio.wait_for(creating, 10) == its.epochs


async def test_a_key_that_stays_behind_is_written_where_it_is() -> None:
    """That others of its slot have gone ahead says nothing of it: it would be there twice."""
    with Cluster(3, 0) as cluster:
        gone, here = "{orders/1}:log", "{orders/1}:cursors:shop.all"
        redis = Redis(cluster.url)
        for key in (gone, here):
            async with redis.link(key) as link:
                await link.call("HSET", key, "a", "1")
        source = cluster.master_of(gone)
        target = next(node for node in cluster.nodes if node is not source)
        migration = cluster.migration(gone, target)
        migration.begin()
        migration.step(gone.encode())
        with pytest.raises(LinkLost, match=r"slot \d+ of the cluster is on its way to 127"):
            async with redis.link(gone) as link:
                await link.call("HGET", gone, "a")
        async with redis.link(here) as link:
            await link.call("HSET", here, "a", "2")
        assert source.ask("HGET", here, "a") == "2"
        async with redis.link(gone) as link:
            assert await link.call("HGET", gone, "a") == b"1"


async def test_who_may_only_read_finds_what_is_on_its_way() -> None:
    needs = Needs("shipments", [], [Stream("orders", 4)])
    reads = next(role for role in service(needs, apart=True) if role.name == "shipments-reads")
    _, name, *rules = line(reads, [sha256(b"secret").hexdigest()], selectors=False).split()
    with Cluster(3, 0) as cluster:
        async with traffic(cluster.url) as its:
            await asyncio.gather(*map(its.append, KEYS))
        for node in cluster.nodes:
            node.ask("ACL", "SETUSER", name, *rules)
        source = cluster.master_of("{orders/1}")
        target = next(node for node in cluster.nodes if node is not source)
        migration = cluster.migration("{orders/1}", target)
        migration.begin()
        while migration.keys:
            migration.step()
        url = cluster.url.replace("://", f"://{name}:secret@")
        reader = Reader(Redis(url), "orders", 1, its.epochs[1])
        async with aclosing(reader.batches()) as batches:
            batch = await asyncio.wait_for(anext(batches), 10)
        assert len(batch.entries) == len(keys_of(1))


async def test_a_master_that_was_cut_off_is_not_asked_again_and_again() -> None:
    """It is the first one of the URL, and its map of the slots is as old as its replica's rule."""
    with Cluster(3, 1, partitions=True) as cluster:
        isolated = cluster.nodes[0]
        if cluster.master_of("{orders/1}") is not isolated:
            cluster.move("{orders/1}", isolated)
        key = keys_of(1)[0]
        async with traffic(cluster.url) as its:
            await its.append(key)
            successor = cluster.successor_of(isolated)
            await asyncio.to_thread(cluster.isolate, isolated)
            await asyncio.to_thread(successor)
            before = len(its.placed)
            await asyncio.wait_for(its.append(key), 15)
            assert len(its.placed) == before + 1
            await asyncio.to_thread(cluster.rejoin, isolated)


async def test_a_node_that_has_left_does_not_hide_the_cluster() -> None:
    with Cluster(1, 0) as left, Cluster(1, 0) as cluster:
        left.nodes[0].ask("FLUSHALL")
        left.nodes[0].ask("CLUSTER", "RESET")
        at = [f"127.0.0.1:{each.nodes[0].port}" for each in (left, cluster)]
        await linked(Redis(f"redis+cluster://{','.join(at)}"), "key")


@pytest.mark.skipif(not NEWER.exists(), reason="needs a server that has unknown endpoints, from 7")
async def test_who_is_sent_on_without_a_host_stays_at_the_host() -> None:
    """As behind a load balancer: MOVED and ASK name a port alone."""
    options = ("--bind", "127.0.0.1 127.0.0.3")
    options += ("--cluster-preferred-endpoint-type", "unknown-endpoint")
    with Cluster(3, 0, binary=NEWER, options=options) as cluster:
        redis = Redis(f"redis+cluster://127.0.0.3:{cluster.nodes[0].port}")
        await linked(redis, "key")
        source = cluster.master_of("key")
        cluster.move("key", next(node for node in cluster.nodes if node is not source))
        link = await linked(redis, "key")
        assert link._transport.get_extra_info("peername")[0] == "127.0.0.3"


async def test_who_takes_a_node_of_a_cluster_for_all_of_it_is_told() -> None:
    with Cluster(3, 0) as cluster:
        node = next(node for node in cluster.nodes if node is not cluster.master_of("key"))
        with pytest.raises(LinkLost, match=f":{node.port} is one node of a cluster: begin the URL"):
            await linked(Redis(f"redis://127.0.0.1:{node.port}"), "key")


async def test_a_server_that_takes_no_more_bytes_is_given_up(node: Node) -> None:
    async with Redis(f"redis://127.0.0.1:{node.port}").link() as link:
        node.pause()
        much = ("SET", "key", b"x" * (20 << 20))
        with pytest.raises(LinkLost, match="took nothing more"):
            await asyncio.wait_for(link.send(much), REPLY_TIMEOUT + 2)


async def test_a_server_that_hangs_is_said_to_once(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    async with traffic(f"redis://127.0.0.1:{node.port}", timeout=1.0) as its:
        await asyncio.gather(*map(its.append, KEYS))
        caplog.set_level(logging.WARNING)
        node.pause()
        end = time.monotonic() + 12
        while time.monotonic() < end:
            with pytest.raises((LogUnreachable, OutcomeUnknown)) as error:
                await its.appender.append([fact("a")])
        node.go_on()
        lines = [line for line in caplog.messages if "connection to the log" in line]
        assert len(lines) == 1, lines
        assert f"127.0.0.1:{node.port} did not answer within 2 s" in str(error.value)


async def test_a_sentinel_that_knows_an_old_master_is_not_asked_again_and_again() -> None:
    with Sentinels(1) as sentinels:
        gone = port_with_bus()
        stale = begin(
            lambda port: Sentinel(find(), port, [f"sentinel monitor facts 127.0.0.1 {gone} 2"])
        )
        try:
            url = sentinels.url.replace("://", f"://127.0.0.1:{stale.port},")
            await linked(Redis(url), "key")
            follower = sentinels.replicas()[0]
            stale.ask("SENTINEL", "REMOVE", "facts")
            stale.ask("SENTINEL", "MONITOR", "facts", "127.0.0.1", follower.port, 2)
            await linked(Redis(url), "key")
        finally:
            stale.end()


async def test_too_few_replicas_are_said_however_long_they_are_waited_for(node: Node) -> None:
    replicas = Replicas(1, int(1000 * REPLY_TIMEOUT) + 500)
    async with Redis(f"redis://127.0.0.1:{node.port}").link() as link:
        with pytest.raises(LinkLost, match="0 of 1 replicas have confirmed it"):
            await replicas.confirm(link)


@pytest.mark.parametrize("away", ["hangs", "is gone", "has the members"])
async def test_a_node_that_is_away_does_not_end_the_beats_of_others(away: str) -> None:
    """Where a cluster serves what it has, or before it finds that it has not all."""
    options = ("--cluster-require-full-coverage", "no")
    with Cluster(3, 0, node_timeout=60, options=options) as cluster:
        redis, members = Redis(cluster.url), "{orders}:members:g"
        of = {p: cluster.master_of(f"{{orders/{p}}}:") for p in range(4)}
        victim = cluster.master_of(members)
        if away != "has the members":
            victim = next(node for node in of.values() if node is not victim)
        ownerships = [
            Ownership(p, f"{{orders/{p}}}:group:g", f"{{orders/{p}}}:redrive:g") for p in range(4)
        ]
        seen = {p: asyncio.create_task(ownerships[p].vacancy()) for p in range(4)}
        membership = Membership(redis, "me", members, ownerships, lease=5.0)
        tending = asyncio.create_task(membership.tend())
        await asyncio.wait_for(asyncio.gather(*seen.values()), 5)
        if away == "is gone":
            victim.kill()
        else:
            victim.pause()
        healthy = [p for p in range(4) if of[p] is not victim]
        for _ in range(3):
            again = [asyncio.create_task(ownerships[p].vacancy()) for p in healthy]
            await asyncio.wait_for(asyncio.gather(*again), 10)
        victim.go_on() if victim.away else victim.start_again()
        tending.cancel()
