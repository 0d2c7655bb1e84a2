"""The command line on a Redis Cluster, and behind sentinels."""

import json
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from topologies import Cluster, Sentinels

from factfold_cli import clients, lag, redis_server, standings
from factfold_cli import log as logs
from factfold_cli.acl_lines import line
from factfold_cli.letters import Asked, Partition, letters
from factfold_cli.rights import VIEWER, operators

from .letters import Owner, client
from .piped import piped
from .running import Command
from .streams import Stream
from .test_dead_letters import GROUP, failing

PARTITIONS = 8
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def stream(cluster: Cluster) -> Stream:
    """All of orders, whose partitions lie on all masters."""
    for node in cluster.masters:
        node.ask("FLUSHALL")
    made = Stream(cluster.url, "orders", PARTITIONS)
    masters = {cluster.master_of(made.keys(at)[0]).port for at in range(PARTITIONS)}
    assert len(masters) == 3
    return made


@pytest.fixture
def run(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("FACTFOLD_REDIS_URL", cluster.url)
    for module in (lag, standings):
        monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.5)
    return lambda *words: piped(*words, at=tmp_path)


def filled(stream: Stream, facts: int) -> list[str]:
    """So many facts in each partition; their positions, in the order they came."""
    for n in range(facts):
        for at in range(PARTITIONS):
            stream.append(at, [(f"{at}-{n}", "T", b"", b"")])
    return [f"orders/{at}:{n}" for n in range(1, facts + 1) for at in range(PARTITIONS)]


# On a cluster.


def test_tail_reads_all_partitions(run: Run, stream: Stream) -> None:
    positions = filled(stream, 3)
    done = run("tail", "orders", "--no-follow")
    shown = [line.split("\t")[1] for line in done.stdout.splitlines()]
    assert sorted(shown) == sorted(positions)
    for at in range(PARTITIONS):
        its = [each for each in shown if each.startswith(f"orders/{at}:")]
        assert its == [f"orders/{at}:{n}" for n in (1, 2, 3)]


def test_tail_finds_the_relatives_of_a_fact(run: Run, stream: Stream) -> None:
    _, cause = stream.add("a", "T", b"")
    raw = bytes.fromhex(cause.replace("-", ""))
    key = next(k for k in map(str, range(99)) if stream.partition(k) != stream.partition("a"))
    effect, _ = stream.add(key, "T", b"", causation_id=raw)
    done = run("tail", "--around", cause, "--format", "json")
    (found,) = json.loads(done.stdout)["effects"]
    assert found["position"] == effect


def test_tail_follows_a_partition_that_moves(
    cluster: Cluster, stream: Stream, factfold: Callable[..., Command]
) -> None:
    filled(stream, 1)
    log = stream.keys(0)[0]
    source = cluster.master_of(log)
    target = next(node for node in cluster.masters if node is not source)
    tail = factfold(
        "tail", "orders", "--from", "beginning", FACTFOLD_REDIS_URL=cluster.url,
        PYTHONUNBUFFERED="1",
    )  # fmt: skip
    tail.line("orders/0:1\t")
    cluster.move(log, target)
    try:
        stream.append(0, [("k", "T", b"", b"")])
        tail.line("orders/0:2\t", seconds=20)
    finally:
        cluster.move(log, source)
    stream.append(0, [("k", "T", b"", b"")])
    tail.line("orders/0:3\t", seconds=20)
    assert not [line for line in tail.lines if "its log" in line or "removed" in line]


def test_dead_letters_are_listed_shown_redriven_and_discarded(
    run: Run, cluster: Cluster, stream: Stream
) -> None:
    owners = [Owner(cluster.url, GROUP, partition=at, count=PARTITIONS) for at in range(3)]
    try:
        places = [failing(owner, f"o-{at}") for at, owner in enumerate(owners)]
        listed = run("dead-letters", "list")
        assert [line.split("\t")[1] for line in listed.stdout.splitlines()] == places
        shown = json.loads(run("dead-letters", "show", GROUP, places[1], "--json").stdout)
        assert shown["key"] == "o-1"
        for owner in owners:
            owner.runs(lambda letter: "")
        done = run("dead-letters", "redrive", GROUP, *places[:2])
        assert done.stdout == f"{places[0]}\tanswered\n{places[1]}\tanswered\n"
        done = run("dead-letters", "discard", GROUP, places[2], "--yes")
        assert done.stdout == f"{places[2]}\tdiscarded\n"
        assert run("dead-letters", "list").stdout == ""
    finally:
        for owner in owners:
            owner.close()


def test_a_stream_begins_anew_on_all_nodes(run: Run, cluster: Cluster, stream: Stream) -> None:
    filled(stream, 2)
    log = client(cluster.url)
    log.delete(stream.keys(3)[0])
    log.hset("{orders}:members:billing.charge", "_", "1")
    done = run("stream", "recreate", "orders", "--yes")
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout.startswith("removed 14 facts\norders begins anew: 8 partitions, epoch ")
    epochs = {log.hget(stream.keys(at)[1], "epoch") for at in range(PARTITIONS)}
    assert len(epochs) == 1
    assert {log.xlen(stream.keys(at)[0]) for at in range(PARTITIONS)} == {0}
    assert not log.exists("{orders}:members:billing.charge")


def test_lag_is_of_all_partitions(run: Run, cluster: Cluster, stream: Stream) -> None:
    filled(stream, 5)
    log = client(cluster.url)
    for at in range(PARTITIONS):
        entry_id, _ = log.xrange(stream.keys(at)[0], count=3)[-1]
        value = f"0-0 {time.time_ns() // 1_000_000} {entry_id.decode()}"
        log.hset(f"{{orders/{at}}}:cursors:shop.orders", mapping={"_": "1", "0" * 16: value})
    owner = Owner(cluster.url, GROUP, partition=1, count=PARTITIONS)
    owner.close()
    found = json.loads(run("lag", "--json").stdout)["readers"]
    assert [(each["reader"], each["facts"], each["state"]) for each in found] == [
        ("shop.orders", 2 * PARTITIONS, None),
        (GROUP, 5, "away"),
    ]
    assert found[0]["seconds"] > 0


def test_a_reader_is_trimmed_and_dropped(run: Run, cluster: Cluster, stream: Stream) -> None:
    filled(stream, 5)
    owner = Owner(cluster.url, GROUP, partition=1, count=PARTITIONS)
    owner.close()
    done = run("trim", "orders", "--before", ",".join(f"orders/{at}:4" for at in range(8)))
    assert (done.returncode, f"{GROUP}" in done.stderr) == (1, True), done.stderr
    done = run("trim", "orders", "--drop", GROUP, "--yes")
    assert done.returncode == 0, done.stderr
    done = run("trim", "orders", "--before", ",".join(f"orders/{at}:4" for at in range(8)), "--yes")
    assert done.returncode == 0, done.stderr
    assert {stream.log.xlen(stream.keys(at)[0]) for at in range(PARTITIONS)} == {2}


def test_what_is_asked_for_is_sent_once(
    cluster: Cluster, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that answers late has carried it out: sent again, it would be carried out twice."""
    owner = Owner(cluster.url, GROUP, partition=1, count=PARTITIONS)
    failing(owner, "o-1")
    monkeypatch.setitem(clients._HOW, "socket_timeout", 0.4)
    log_of_key = stream.keys(1)[0]
    node = cluster.master_of(log_of_key)
    with logs.opened(cluster.url) as log:
        asked = Asked(log, GROUP, "redrive", letters(log, GROUP, [Partition("orders", 1)]))
        logs.script(log, "ask")(keys=["{orders/1}:redrive:nobody"], args=["redrive:1"])
        node.pause()
        going_on = threading.Timer(0.6, node.go_on)
        going_on.start()
        try:
            with pytest.raises(redis.TimeoutError):
                asked.queue()
        finally:
            going_on.join()
        cluster.settle()
        requests = log.hgetall(f"{{orders/1}}:redrive:{GROUP}")
    assert requests == {b"_": b"1", b"last": b"1", b"1": b"redrive:1"}
    owner.close()


@pytest.mark.parametrize("server", ["6.2", "7"])
def test_who_may_only_look_looks_at_a_cluster(
    run: Run, cluster: Cluster, stream: Stream, server: str
) -> None:
    filled(stream, 1)
    version = cluster.nodes[0].ask("INFO", "server")["redis_version"]
    if (server == "7") != (version >= "7"):
        pytest.skip(f"the servers here are {version}")
    (viewer,) = [role for role in operators() if role.name == VIEWER]
    for node in cluster.nodes:
        _, name, *words = line(viewer, [], selectors=server == "7").split()
        node.ask("ACL", "SETUSER", name, "reset", "nopass", *words)
    url = cluster.url.replace("://", f"://{VIEWER}:any@")
    try:
        for words in (
            ("lag", "orders"),
            ("tail", "orders", "--no-follow"),
            ("tail", "--around", "orders/1:1"),
            ("dead-letters", "list"),
        ):
            done = run(*words, "--redis", url)
            assert done.returncode == 0, done.stderr
        rows = [each.split("\t") for each in run("doctor", "--redis", url).stdout.splitlines()]
    finally:
        for node in cluster.nodes:
            node.ask("ACL", "DELUSER", VIEWER)
    assert ["ok", "log", "cluster"] in [row[:3] for row in rows]
    assert not [row for row in rows if row[1] == "log" and row[0] in ("wrong", "warning")]


def examined(run: Run) -> dict[str, tuple[str, str, str]]:
    """By name, state, what was found and what mends it."""
    split = [line.split("\t") for line in run("doctor").stdout.splitlines()]
    return {name: (state, found, mend) for state, part, name, found, mend in split if part == "log"}


def test_doctor_looks_at_each_node(run: Run, cluster: Cluster, stream: Stream) -> None:
    filled(stream, 2)
    node, *_ = cluster.masters
    rows = examined(run)
    assert rows["cluster"] == ("ok", "3 masters with slots, 6 nodes; all slots are served", "")
    assert rows["stream orders"][1].startswith("16 facts in 8 partitions")
    for each in cluster.nodes:
        where = f"127.0.0.1:{each.port}"
        assert rows[f"server {where}"][1].startswith(f"redis://{where} answers: ")
        assert rows[f"append-only {where}"][0] == "ok"
        assert (f"memory {where}" in rows) == (each in cluster.masters)
    where = f"127.0.0.1:{node.port}"
    assert rows[f"replicas {where}"] == ("ok", "1 replica in step", "")
    node.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    replica = cluster.replicas_of(node)[0]
    replica.hold_back()
    try:
        rows = examined(run)
    finally:
        node.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
        replica.catch_up()
        cluster.settle()
    state, _, mend = rows[f"eviction {where}"]
    assert state == "wrong"
    assert mend == f"redis-cli -u redis://{where} CONFIG SET maxmemory-policy noeviction"
    assert rows[f"replicas {where}"][0] == "warning"
    assert rows[f"replication 127.0.0.1:{replica.port}"] == (
        "warning",
        f"it is cut off from its master {where}, and does not have its latest facts",
        "look at the network and the server's log",
    )
    assert {name for name, row in rows.items() if row[0] == "wrong"} == {f"eviction {where}"}


def test_a_node_that_is_gone_is_named(run: Run, cluster: Cluster, stream: Stream) -> None:
    filled(stream, 1)
    master = cluster.masters[0]
    where = f"127.0.0.1:{master.port}"
    replicas = cluster.replicas_of(master)
    # Nobody takes its place, so that it is missed for as long as this looks.
    for replica in replicas:
        replica.ask("CONFIG", "SET", "cluster-replica-no-failover", "yes")
    master.kill()
    try:
        done = run("dead-letters", "list")
        rows = examined(run)
    finally:
        for replica in replicas:
            replica.ask("CONFIG", "SET", "cluster-replica-no-failover", "no")
        cluster.start_again(master)
    assert done.returncode == 1
    assert done.stderr.startswith(f"factfold: no log at {cluster.url}: ")
    assert done.stderr.count("\n") == 1
    assert where.rpartition(":")[2] in done.stderr.removeprefix(
        f"factfold: no log at {cluster.url}"
    )
    assert rows[f"server {where}"][0] == "wrong"
    assert rows[f"server {where}"][1].startswith("it does not answer: ")


def test_what_cannot_be_reached_is_one_line(run: Run, cluster: Cluster) -> None:
    nobody = "Error 111 connecting to 127.0.0.1:1. Connection refused"
    node = f"127.0.0.1:{cluster.nodes[0].port}"
    otherwise = "start it, or name another one with --redis or FACTFOLD_REDIS_URL"
    for url, said in (
        (
            "redis+cluster://me:s3cret@127.0.0.1:1",
            f"no log at redis+cluster://127.0.0.1:1: {nobody}; {otherwise}",
        ),
        (
            "redis+sentinel://me:s3cret@127.0.0.1:1/facts?sentinel_password=s3cret",
            "no log at redis+sentinel://127.0.0.1:1/facts: a sentinel does not answer: "
            f"{nobody}; {otherwise}",
        ),
        (
            f"redis://{node}/0",
            f"redis://{node}/0 is a node of a cluster: name it as redis+cluster://",
        ),
    ):
        done = run("lag", "--redis", url)
        assert (done.stderr, done.returncode > 0) == (f"factfold: {said}\n", True)
    for wrong in (
        "redis+cluster://127.0.0.1:1/3",
        "redis+cluster://",
        "redis+sentinel://127.0.0.1:1",
        "redis+other://127.0.0.1:1",
        "redis+cluster://me:s3/cret@127.0.0.1:1",
    ):
        done = run("lag", "--redis", wrong)
        assert (done.returncode, done.stderr.startswith("factfold: the log's URL must be")) == (
            2,
            True,
        )
        assert "s3" not in done.stderr


def test_a_cluster_that_has_no_slots_yet_is_one_line(run: Run) -> None:
    with redis_server.start(extra=("--cluster-enabled", "yes")) as server:
        url = f"redis+cluster://127.0.0.1:{server.port}"
        for words in (("lag",), ("trim", "orders"), ("tail", "orders")):
            done = run(*words, "--redis", url)
            assert (done.stderr, done.returncode) == (
                f"factfold: no log at {url}: no node of the cluster has slots; start it, or name "
                "another one with --redis or FACTFOLD_REDIS_URL\n",
                1,
            )


# Behind sentinels.


def test_sentinels_name_the_server(
    run: Run, sentinels: Sentinels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACTFOLD_REDIS_URL", sentinels.url)
    master = sentinels.master()
    stream = Stream(master.url, "orders", 2)
    stream.append(0, [("k", "T", b"", b"")])
    assert len(run("tail", "orders", "--no-follow").stdout.splitlines()) == 1
    owner = Owner(master.url, GROUP, partition=1, count=2)
    owner.close()
    assert json.loads(run("lag", "--json").stdout)["readers"][0]["reader"] == GROUP
    rows = examined(run)
    assert rows["server"][1].startswith(f"redis://127.0.0.1:{master.port} answers: ")
    assert rows["sentinels"] == (
        "ok", "3 of 3 sentinels answer; they can have another server take over", "",
    )  # fmt: skip
    assert rows["replicas"] == ("ok", "1 replica in step", "")
    done = run("stream", "recreate", "orders", "--destroy-facts", "1", "--yes")
    assert done.returncode == 0, done.stderr
    done = run("lag", "--redis", f"{sentinels.url}-other")
    assert "the sentinels know no facts-other, but facts; " in done.stderr
    sentinel = f"redis://127.0.0.1:{sentinels.sentinels[0].port}/0"
    assert run("lag", "--redis", sentinel).stderr == (
        f"factfold: {sentinel} is a sentinel: name it as redis+sentinel://, and the server behind "
        "the last /\n"
    )
    server = f"redis+sentinel://127.0.0.1:{master.port}/facts"
    assert run("lag", "--redis", server).stderr == (
        f"factfold: {server} answers that it is no sentinel: name it as redis://\n"
    )


def test_tail_goes_on_with_the_server_that_takes_over(
    sentinels: Sentinels, factfold: Callable[..., Command]
) -> None:
    master = sentinels.master()
    with redis.Redis.from_url(master.url) as log:
        log.flushall()
    stream = Stream(master.url, "orders", 1)
    stream.append(0, [("k", "T", b"", b"")])
    tail = factfold(
        "tail", "orders", "--from", "beginning", FACTFOLD_REDIS_URL=sentinels.url,
        PYTHONUNBUFFERED="1",
    )  # fmt: skip
    tail.line("orders/0:1\t")
    successor = sentinels.fail_over()
    tail.line("the log does not answer: ")
    after = Stream(successor.url, "orders", 1)
    after.append(0, [("k", "T", b"", b"")])
    tail.line("orders/0:2\t", seconds=30)
    assert [line for line in tail.lines if "the log answers again" in line]
    assert not [line for line in tail.lines if "its log" in line]
    sentinels.start_again(master)
