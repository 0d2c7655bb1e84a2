"""One service as several processes behind one port, with a caller that leaves the cores to them."""

import statistics
from dataclasses import fields

from bench.report import Series
from bench.rounds import Contender
from bench.serving import make
from bench.stage import Stage
from factfold_chassis.settings import Settings

TURN = 2.0  # seconds


def run(stage: Stage) -> None:
    if all(field.name != "processes" for field in fields(Settings)):
        stage.report.lacks("2 processes against 1: this chassis has no FACTFOLD_PROCESSES")
        return
    root = make(stage.folder, "orders")
    with stage.redis() as one, stage.redis() as two:
        contenders = [
            Contender.python("2 processes", "processes_load", root, two.url, 2),
            Contender.python("1 process", "processes_load", root, one.url, 1),
        ]
        measured = stage.compare(
            "query, 2 processes", "requests/s", contenders[0], contenders[1:],
            seconds=min(TURN, stage.seconds),
        )  # fmt: skip
    rows = []
    for name, each in reversed(measured.items()):
        cells = [statistics.median(extra[of] for extra in each.extras) for of in ("cpu", "rss")]
        rows.append([name, each.median, *cells])
    columns = ["server", "requests/s", "its CPU a call, µs", "its RSS, MiB"]
    stage.report.series.append(Series("more processes", columns, rows))
