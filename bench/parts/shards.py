"""One server, and clusters of one, two and three masters, under the same load.

With two cores, the process that works and the servers take each other's: rates that hardly grow
there say nothing about machines with a core for each. So what a fact costs each of them is shown,
too, and the rate at which the first core of these would be full.
"""

import statistics
from contextlib import ExitStack
from typing import TYPE_CHECKING

from bench.filling import SPREAD, fill
from bench.report import Series
from bench.rounds import Contender
from bench.stage import NO_REWRITE, Stage

if TYPE_CHECKING:
    from topologies import Cluster

SERVERS = {"one server": 0, "1 shard": 1, "2 shards": 2, "3 shards": 3}  # masters of a cluster
FACTS, KEYS = 200_000, 100_000
WORKS = {
    "append, 64 callers": "callers",
    "append, units of 100": "units",
    "rebuild": "rebuild",
    "reaction": "reaction",
}
STREAMS = ("parcels", "charges")
FIGURES = ("own_us", "servers_us", "busiest_us")


def run(stage: Stage) -> None:
    rows = []
    for title, work in WORKS.items():
        with ExitStack() as stack:
            contenders = []
            for name, masters in SERVERS.items():
                url = _url(stage, stack, masters)
                if work in ("rebuild", "reaction"):
                    stage.say(f"shards: appending {FACTS} facts to {name}")
                    fill(url, FACTS, KEYS, partitions=SPREAD)
                contenders.append(Contender.python(name, "servers_factfold", url, work))
            measured = stage.alternate(title, contenders)
        for name in ("2 shards", "3 shards"):
            pair = {each: measured[each] for each in (name, "1 shard")}
            stage.report.compared(f"{title}, {name}", "facts/s", name, pair, "more")
        pair = {each: measured[each] for each in ("1 shard", "one server")}
        stage.report.compared(f"{title}, 1 shard", "facts/s", "1 shard", pair, "more")
        for name, each in measured.items():
            cells = [statistics.median(extra[of] for extra in each.extras) for of in FIGURES]
            full = 1e6 / max(cells[0], cells[2])
            rows.append([f"{title}, {name}", each.median, *cells, full])
    columns = ["work and servers", "facts/s", "CPU of the process a fact, µs"]
    columns += ["of all servers, µs", "of the busiest one, µs", "facts/s with a core for each"]
    stage.report.series.append(Series("shards", columns, rows))


def _url(stage: Stage, stack: ExitStack, masters: int) -> str:
    if not masters:
        return stack.enter_context(stage.redis(*NO_REWRITE)).url
    cluster = stack.enter_context(stage.cluster(masters))
    _share_out(cluster)
    return cluster.url


def _share_out(cluster: "Cluster") -> None:
    """Each master gets as many partitions as any other."""
    for stream in STREAMS:
        for partition in range(SPREAD):
            tag = f"{{{stream}/{partition}}}"
            to = cluster.nodes[partition % len(cluster.nodes)]
            if cluster.master_of(tag) is not to:
                cluster.move(tag, to)
