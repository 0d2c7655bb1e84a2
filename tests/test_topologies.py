"""The clusters and sentinels that other tests use: what befalls them really happens."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import trustme
from redis.exceptions import AskError, MovedError, TryAgainError
from topologies import Cluster, Sentinels
from topologies.node import until

HERE = Path(__file__).parent
TAG = "{inputs/0}"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(partitions=True) as cluster:
        yield cluster


@pytest.fixture
def client(cluster: Cluster) -> Iterator["redis.RedisCluster"]:
    with redis.RedisCluster.from_url(cluster.url.replace("redis+cluster", "redis").split(",")[0],
                                     protocol=2) as client:  # fmt: skip
        yield client


def test_a_cluster_has_its_nodes(cluster: Cluster, client: "redis.RedisCluster") -> None:
    assert len(cluster.nodes) == 6
    assert len(cluster.masters) == 3
    assert {len(cluster.replicas_of(master)) for master in cluster.masters} == {1}
    for at in range(100):
        client.set(f"key-{at}", at)
    assert {bool(master.ask("DBSIZE")) for master in cluster.masters} == {True}


def test_a_slot_moves_key_by_key(cluster: Cluster, client: "redis.RedisCluster") -> None:
    source = cluster.master_of(f"{TAG}:a")
    target = next(node for node in cluster.masters if node is not source)
    for name in "abc":
        client.set(f"{TAG}:{name}", name)
    move = cluster.migration(f"{TAG}:a", target)
    move.begin()
    move.step(b"{inputs/0}:a")
    assert sorted(move.keys) == [b"{inputs/0}:b", b"{inputs/0}:c"]
    with pytest.raises(AskError):
        source.ask("GET", f"{TAG}:a")
    assert source.ask("GET", f"{TAG}:b") == "b"
    with target.client(single_connection_client=True) as asking:
        asking.execute_command("ASKING")
        with pytest.raises(TryAgainError):
            asking.mget(f"{TAG}:a", f"{TAG}:b")
    while move.keys:
        move.step()
    move.end()
    assert cluster.master_of(f"{TAG}:a") is target
    with pytest.raises(MovedError):
        source.ask("GET", f"{TAG}:a")
    assert client.get(f"{TAG}:a") == b"a"
    cluster.move(f"{TAG}:a", source)
    assert source.ask("GET", f"{TAG}:a") == "a"


def test_a_master_falls_and_comes_back(cluster: Cluster, client: "redis.RedisCluster") -> None:
    before = cluster.master_of(TAG)
    client.set(TAG, "kept")
    after = cluster.fail_over_gently(before)
    assert cluster.replicas_of(after) == [before]
    before.hold_back()
    after.ask("SET", TAG, "lost")
    assert cluster.fail_over(after) is before
    assert before.ask("GET", TAG) == "kept"
    cluster.start_again(after)
    assert cluster.replicas_of(before) == [after]
    before.catch_up()


def test_a_node_is_cut_off_and_comes_back(cluster: Cluster) -> None:
    master = cluster.master_of(TAG)
    (replica,) = cluster.replicas_of(master)
    successor = cluster.successor_of(master)
    cluster.isolate(master)
    assert successor() is replica
    until(lambda: "cluster_state:fail" in master.ask("CLUSTER", "INFO"), "it has noticed")
    cluster.rejoin(master)
    assert cluster.replicas_of(replica) == [master]


def test_a_node_is_paused(cluster: Cluster) -> None:
    master = cluster.master_of(TAG)
    successor = cluster.successor_of(master)
    master.pause()
    after = successor()
    master.go_on()
    cluster.settle()
    assert cluster.replicas_of(after) == [master]


def test_a_cluster_ends_with_the_process_that_runs_it() -> None:
    script = (
        "import time; from topologies import Cluster\n"
        "with Cluster(replicas=0) as cluster:\n"
        "    print(*(node.pid for node in cluster.nodes), flush=True)\n"
        "    time.sleep(60)\n"
    )
    path = os.pathsep.join([str(HERE), *sys.path])
    environment = os.environ | {"PYTHONPATH": path}
    with subprocess.Popen(
        [sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        pids = [int(pid) for pid in process.stdout.readline().split()]
        process.send_signal(signal.SIGKILL)
    assert len(pids) == 3
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "they have ended")


def test_nodes_log_in_at_each_other(tmp_path: Path) -> None:
    acl = tmp_path / "users.acl"
    acl.write_text("user default off\nuser all on >secret ~* &* +@all\n")
    with Cluster(2, options=["--aclfile", str(acl)], user="all", password="secret") as cluster:
        source = cluster.master_of(TAG)
        (target,) = set(cluster.masters) - {source}
        source.ask("SET", TAG, "text")
        cluster.move(TAG, target)
        assert target.ask("GET", TAG) == "text"
        with pytest.raises(redis.AuthenticationError), redis.Redis(port=cluster.nodes[0].port) as r:
            r.ping()


def tls_program() -> Path | None:
    """A server that speaks TLS; the wheel's does not."""
    for folder in ("/usr/bin", "/usr/local/bin", *os.get_exec_path()):
        for program in (Path(folder, "redis-server"), Path(folder, "valkey-server")):
            if program.exists() and b"tls-cluster" in program.read_bytes():
                return program
    return None


def test_nodes_speak_tls(tmp_path: Path) -> None:
    if (program := tls_program()) is None:
        pytest.skip("no server on this machine speaks TLS")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    own = authority.issue_cert("127.0.0.1")
    own.private_key_pem.write_to_path(tmp_path / "key.pem")
    own.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    tls = ["--tls-ca-cert-file", str(tmp_path / "ca.pem")]
    tls += ["--tls-cert-file", str(tmp_path / "cert.pem")]
    tls += ["--tls-key-file", str(tmp_path / "key.pem"), "--tls-auth-clients", "no"]
    with Cluster(2, tls=tls, binary=program) as cluster:
        url = cluster.tls_url.replace("rediss+cluster", "rediss").split(",")[0]
        ca = str(tmp_path / "ca.pem")
        with redis.RedisCluster.from_url(url, ssl_ca_certs=ca, protocol=2) as client:
            client.set("key", "text")
            slot = client.keyslot("key")
            target = next(m for m in cluster.masters if m is not cluster.master_of(slot))
            cluster.move(slot, target)
            assert client.get("key") == b"text"


def test_sentinels_promote_a_replica() -> None:
    # A server that waits for a busy disk, or for a processor, is taken for one that is down.
    with Sentinels(fsync="no", down_after=4) as sentinels:
        before = sentinels.master()
        assert len(sentinels.replicas()) == 2
        asked = redis.Sentinel([("127.0.0.1", each.port) for each in sentinels.sentinels])
        assert asked.discover_master(sentinels.name) == ("127.0.0.1", before.port)
        after = sentinels.fail_over()
        assert after is not before
        assert asked.discover_master(sentinels.name) == ("127.0.0.1", after.port)
        sentinels.start_again(before)
        assert before in sentinels.replicas()
        third = sentinels.fail_over_gently()
        assert third is not after
