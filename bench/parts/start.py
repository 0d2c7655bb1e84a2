"""From the start of the process until its health says SERVING."""

import statistics
from dataclasses import replace

from bench.report import Series
from bench.rounds import Contender
from bench.serving import make
from bench.stage import Stage

ROUNDS = 11
# So that ours imports what the minimal server does. Nobody need listen: spans go out later.
TRACED = [f"OTEL_{what}_EXPORTER=otlp" for what in ("TRACES", "METRICS")] + [
    "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1"
]


def run(stage: Stage) -> None:
    root = make(stage.folder, "orders")
    with stage.redis() as redis:
        service = "start", root, redis.url, "service"
        traced = Contender.python("factfold", *service, *TRACED)
        minimal = Contender.python(
            "minimal server", "start", root, redis.url, "bench.programs.minimal"
        )
        measured = stage.compare(
            "start to serving", "ms", traced, [minimal],
            better="less", rounds=max(ROUNDS, stage.rounds),
        )  # fmt: skip
        untraced = Contender.python("factfold, untraced", *service)
        measured |= stage.compare(
            "start to serving, without OTEL_*", "ms", untraced, [minimal],
            better="less", rounds=max(ROUNDS, stage.rounds),
        )  # fmt: skip
        programs = stage.go("start")
        if programs is not None:
            bare = programs.path("rpc_bare")
            in_go = Contender.python("factfold", "start", root, redis.url, programs.service)
            ours = replace(in_go, name="factfold in Go", language="go")
            measured |= stage.compare(
                "start to serving", "ms", ours,
                [Contender.python("bare grpc-go", "start", root, redis.url, bare)],
                better="less", rounds=max(ROUNDS, stage.rounds),
            )  # fmt: skip
    rows = [
        [name, statistics.median(extra["rss"] for extra in each.extras)]
        for name, each in measured.items()
    ]
    stage.report.series.append(Series("memory after the start", ["process", "RSS, MiB"], rows))
