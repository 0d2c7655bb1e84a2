"""A view is there again after a restart: from its snapshot, or folded again from the log.

In a fresh process each time; what that takes to start is not in it, see `start`.
"""

import statistics

from bench.filling import fill
from bench.report import Series
from bench.rounds import Contender, once
from bench.stage import Stage

KEYS, LONG_KEYS = 50_000, 1_000_000
FACTS_A_KEY = 10
ROUNDS = 3


def run(stage: Stage) -> None:
    keys = LONG_KEYS if stage.long else KEYS
    snapshots = stage.folder / "snapshots"
    with stage.redis() as server:
        stage.say(f"restart: appending {FACTS_A_KEY} facts of each of {keys} keys")
        fill(server.url, FACTS_A_KEY * keys, keys)
        once("view_once", server.url, "save", snapshots)
        ours = Contender.python("factfold", "fresh", "view_once", server.url, "restore", snapshots)
        rebuild = Contender.python("rebuild", "fresh", "view_once", server.url, "rebuild")
        measured = stage.compare(
            "restart", "s", ours, [rebuild], better="less", rounds=min(ROUNDS, stage.rounds)
        )
    rows = []
    for name, title in (("factfold", "from its snapshot"), ("rebuild", "from the log")):
        extras = measured[name].extras
        cells = [statistics.median(extra[what] for extra in extras) for what in ("keys", "rss")]
        each = statistics.median(extra["bytes_a_key"] for extra in extras)
        rows.append([title, *cells, each])
    columns = ["view of 100-byte rows", "keys", "RSS of the process, MiB", "bytes a key"]
    stage.report.series.append(Series("memory per key", columns, rows))
