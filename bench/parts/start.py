"""From the start of the process until its health says SERVING."""

import statistics

from bench.report import Series
from bench.rounds import Contender
from bench.serving import make
from bench.stage import Stage

ROUNDS = 11


def run(stage: Stage) -> None:
    root = make(stage.folder, "orders")
    with stage.redis() as redis:
        ours = Contender.python("factfold", "start", root, redis.url, "service")
        minimal = Contender.python(
            "minimal server", "start", root, redis.url, "bench.programs.minimal"
        )
        measured = stage.compare(
            "start to serving", "ms", ours, [minimal],
            better="less", rounds=max(ROUNDS, stage.rounds),
        )  # fmt: skip
    rows = [
        [name, statistics.median(extra["rss"] for extra in each.extras)]
        for name, each in measured.items()
    ]
    stage.report.series.append(Series("memory after the start", ["process", "RSS, MiB"], rows))
