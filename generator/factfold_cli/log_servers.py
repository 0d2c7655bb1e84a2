"""The servers of a log that has several: what they are to each other, and whether all is well."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import redis

from factfold_cli.clients import Log, sharded
from factfold_cli.findings import OK, WARNING, WRONG, Finding
from factfold_cli.letters import Partition
from factfold_cli.log import reason
from factfold_cli.server_checks import finding
from factfold_cli.survey import number

_SLOTS = 16_384


@dataclass(frozen=True)
class Server:
    """One server.

    Attributes:
        name: how it is told from others; empty of one that is alone.
        where: its address, as redis-cli takes it.
        master: it has facts that no other one is the master of.
        has: whether a partition is on it.
    """

    name: str
    where: str
    client: Log
    master: bool = True
    has: Callable[[Partition], bool] = lambda partition: True

    def named(self, found: Finding) -> Finding:
        return replace(found, name=f"{found.name} {self.name}") if self.name else found


def servers(log: Log, where: str) -> list[Server]:
    """All that are known, masters first; `where`: the log's address."""
    if not sharded(log):
        return [Server("", _found_at(log, where), log)]
    scheme = where.partition("+")[0]

    def server(node: Any) -> Server:
        def has(partition: Partition) -> bool:
            return bool(log.get_node_from_key(partition.key("log")) == node)

        client, master = log.get_redis_connection(node), node.server_type == "primary"
        return Server(node.name, f"{scheme}://{node.name}", client, master, has)

    found = [server(node) for node in log.get_nodes()]
    return sorted(found, key=lambda each: (not each.master, each.name))


def _found_at(log: Log, where: str) -> str:
    """Of the server that sentinels have named, its own address."""
    address = getattr(log.connection_pool, "master_address", None)
    if address is None:
        return where
    host, port = address
    return f"{where.partition('+')[0]}://{host}:{port}"


def topology(log: Log) -> Iterator[Finding]:
    """What holds the servers together; nothing of one that is alone."""
    if sharded(log):
        yield _cluster(log)
    elif sentinels := getattr(log.connection_pool, "sentinel_manager", None):
        yield _sentinels(sentinels.sentinels, log.connection_pool.service_name)


def _cluster(log: Log) -> Finding:
    """As the first node says that answers."""
    why = ""
    for node in log.get_nodes():
        try:
            info = dict(log.get_redis_connection(node).execute_command("CLUSTER INFO"))
        except redis.ResponseError as error:
            found = f"not known: this user may not ask for CLUSTER INFO ({reason(error)})"
            return finding("cluster", WARNING, found)
        except redis.RedisError as error:
            why = reason(error)
            continue
        served = int(info["cluster_slots_ok"])
        nodes = f"{number(int(info['cluster_size']), 'master')} with slots, "
        nodes += f"{number(int(info['cluster_known_nodes']), 'node')}"
        if info["cluster_state"] == "ok" and served == _SLOTS:
            return finding("cluster", OK, f"{nodes}; all slots are served")
        mend = f"redis-cli --cluster check {node.name}, and start the nodes that are gone"
        found = f"{nodes}; {served:,} of {_SLOTS:,} slots are served, its state is "
        return finding("cluster", WRONG, found + str(info["cluster_state"]), mend)
    return finding("cluster", WRONG, f"no node answers: {why}", "start them")


def _sentinels(its: Sequence[Any], name: str) -> Finding:
    there, quorum = 0, ""
    for each in its:
        try:
            each.execute_command("SENTINEL CKQUORUM", name)
        except redis.ResponseError as error:
            quorum = reason(error)
        except redis.RedisError:
            continue
        there += 1
    found = f"{there} of {number(len(its), 'sentinel')} answer"
    if quorum:
        return finding("sentinels", WRONG, f"{found}: {quorum}", "start those that are gone")
    if there < len(its):
        mend = "start those that are gone, or take them out of the URL"
        return finding("sentinels", WARNING, found, mend)
    return finding("sentinels", OK, f"{found}; they can have another server take over")


def followers(info: dict[str, Any], server: Server, log: Log) -> Iterator[Finding]:
    """Whether a server among several is followed, or follows; nothing of one that is alone."""
    if not sharded(log) and getattr(log.connection_pool, "sentinel_manager", None) is None:
        return
    if info.get("role") != "master":
        if info.get("master_link_status") != "up":
            master = f"{info.get('master_host')}:{info.get('master_port')}"
            found = f"it is cut off from its master {master}, and does not have its latest facts"
            yield finding("replication", WARNING, found, "look at the network and the server's log")
        return
    states = [its.get("state") for name, its in info.items() if re.fullmatch(r"slave\d+", name)]
    in_step = states.count("online")
    if in_step:
        yield finding("replicas", OK, f"{number(in_step, 'replica')} in step")
    else:
        found = "no replica is in step: facts of this server are lost with it"
        yield finding("replicas", WARNING, found, "give it a replica")
