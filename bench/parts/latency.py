"""How long a command takes to another process' view, one at a time on idle machines.

Against what nobody can go below: a bare gRPC round trip, and an XADD to a blocked XREAD.
"""

import statistics

from bench.golang import Programs
from bench.report import Series
from bench.rounds import Contender
from bench.serving import make
from bench.stage import Stage

TURN = 1.0  # seconds


def run(stage: Stage) -> None:
    root = make(stage.folder, "orders")
    with stage.redis() as redis:
        ours = Contender.python("factfold", "latency_factfold", root, redis.url)
        floor = Contender.python("its two round trips", "latency_floor", root, redis.port)
        measured = stage.compare(
            "command to folded elsewhere", "ms", ours, [floor],
            better="less", seconds=min(TURN, stage.seconds),
        )  # fmt: skip

        programs = stage.go("latency")
        if programs is not None:
            _compare_go(stage, programs, redis.url)

    def median(name: str, what: str) -> float:
        return float(statistics.median(extra[what] for extra in measured[name].extras))

    rows = [
        [name, measured[name].median, median(name, "p99"), median(name, "samples")]
        for name in measured
    ]
    for what, title in (("rpc", "of these: gRPC"), ("log", "of these: XADD to XREAD")):
        rows.append([title, median(floor.name, what), "", ""])
    columns = ["from a command to another process, ms", "median", "p99", "samples a round"]
    stage.report.series.append(Series("latency", columns, rows))


def _compare_go(stage: Stage, programs: Programs, url: str) -> None:
    """The caller's process is the one that folds."""
    ours = programs.contender("factfold", "latency_factfold", programs.service, url)
    bare = programs.path("rpc_bare")
    floor = programs.contender("its two round trips", "latency_floor", bare, url)
    stage.compare(
        "command to folded elsewhere", "ms", ours, [floor],
        better="less", seconds=min(TURN, stage.seconds),
    )  # fmt: skip
