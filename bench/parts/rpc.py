"""Calls of a generated service, against a bare grpc.aio server that answers with as many bytes.

Traced ones send their spans to a receiver that throws them away; callers bring no trace.
"""

import statistics
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from bench.report import Series
from bench.rounds import Contender
from bench.serving import make, serving
from bench.stage import Measured, Stage

SHARES = {"1 %": "0.01", "all": "1"}
OFF = {"OTEL_SDK_DISABLED": "true"}
TURN = 1.5  # seconds

BARE, STOCK = "bare grpc.aio", "stock interceptor"
BARE_GO = "bare grpc-go"


def run(stage: Stage) -> None:
    root = make(stage.folder, "orders")
    table: list[list[str | float]] = []
    with (
        stage.redis() as redis,
        serving(root, ["-m", "bench.programs.trash"]) as receiver,
    ):
        for work, settings in _works(f"http://{receiver.address}"):
            against = [BARE, STOCK] if work.endswith(" traced") else [BARE]
            settings |= {"FACTFOLD_REDIS_URL": redis.url}
            table.append([work, *_compare(stage, work, root, settings, against)])
    # Its caller shares the cores with it, so calls a second say less about the server than this.
    columns = ["CPU of the server a call, µs", "factfold", BARE, "ratio", STOCK, "ratio"]
    stage.report.series.append(Series("CPU of a call", columns, table))
    _compare_go(stage, root)
    stage.report.lacks("metrics against the stock interceptor: it measures none")


def _works(endpoint: str) -> Iterable[tuple[str, dict[str, str]]]:
    sent = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}
    for with_metrics in ("", ", metrics"):
        metrics = {"OTEL_METRICS_EXPORTER": "otlp" if with_metrics else "none"}
        untraced = {"OTEL_TRACES_EXPORTER": "none", **metrics, **sent} if with_metrics else OFF
        yield f"query, tracing off{with_metrics}", {**untraced}
        for share, argument in SHARES.items():
            traced = {
                "OTEL_TRACES_EXPORTER": "otlp",
                "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
                "OTEL_TRACES_SAMPLER_ARG": argument,
            }
            yield f"query, {share} traced{with_metrics}", {**traced, **metrics, **sent}
    yield "command", {**OFF}


def _compare(
    stage: Stage, work: str, root: Path, settings: dict[str, str], against: list[str]
) -> list[str | float]:
    """Cells on the CPU that was used."""
    told = [f"{name}={text}" for name, text in settings.items()]
    load = ("rpc_load", work.partition(",")[0], root)
    others = [Contender.python(BARE, *load, "bare")]
    if STOCK in against:
        others.append(Contender.python(STOCK, *load, "stock", *told))
    ours = Contender.python("factfold", *load, "ours", *told)
    measured = stage.compare(work, "requests/s", ours, others, seconds=min(TURN, stage.seconds))
    mine = _micros(measured["factfold"])
    cells: list[str | float] = [statistics.median(mine)]
    for name in (BARE, STOCK):
        theirs = _micros(measured[name]) if name in against else []
        ratios = [b / a for a, b in zip(mine, theirs, strict=False)]
        cells += [statistics.median(theirs), statistics.median(ratios)] if theirs else ["", ""]
    return cells


def _compare_go(stage: Stage, root: Path) -> None:
    """A service in Go. Its caller costs a fraction of it: one in gRPC would cost as much."""
    programs = stage.go("rpc")
    if programs is None:
        return
    table: list[list[str | float]] = []
    with (
        stage.redis() as redis,
        serving(root, ["-m", "bench.programs.trash"]) as receiver,
    ):
        for work, settings in _works(f"http://{receiver.address}"):
            if "metrics" in work or work == "command":
                continue
            told = [f"{name}={text}" for name, text in settings.items()]
            told.append(f"FACTFOLD_REDIS_URL={redis.url}")
            load = Contender.python("factfold", "calls_load", root, programs.service, *told)
            bare = Contender.python(BARE_GO, "calls_load", root, programs.path("rpc_bare"))
            measured = stage.compare(
                work, "requests/s", replace(load, language="go"), [bare],
                seconds=min(TURN, stage.seconds),
            )  # fmt: skip
            mine, theirs = _micros(measured["factfold"]), _micros(measured[BARE_GO])
            ratios = [b / a for a, b in zip(mine, theirs, strict=True)]
            table.append([work, *map(statistics.median, (mine, theirs, ratios))])
    columns = ["CPU of the server a call, µs", "factfold", BARE_GO, "ratio"]
    stage.report.series.append(Series("CPU of a call in Go", columns, table))


def _micros(measured: Measured) -> list[float]:
    return [1e6 / extra["a_cpu_second"] for extra in measured.extras]
