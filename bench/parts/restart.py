"""A view is there again after a restart: from its snapshot, or folded again from the log.

In a fresh process each time; what that takes to start is not in it, see `start`.
"""

import statistics
from dataclasses import replace
from pathlib import Path

from bench.filling import fill
from bench.report import Series
from bench.rounds import Contender, Language, once
from bench.stage import Stage

KEYS, LONG_KEYS = 50_000, 1_000_000
FACTS_A_KEY = 10
ROUNDS = 3


def run(stage: Stage) -> None:
    keys = LONG_KEYS if stage.long else KEYS
    with stage.redis() as server:
        stage.say(f"restart: appending {FACTS_A_KEY} facts of each of {keys} keys")
        fill(server.url, FACTS_A_KEY * keys, keys)
        rows = _compare(stage, "view_once", server.url)
        programs = stage.go("restart")
        if programs is not None:
            rows += _compare(stage, programs.path("view_once"), server.url)
    columns = ["view of 100-byte rows", "keys", "RSS of the process, MiB", "bytes a key"]
    stage.report.series.append(Series("memory per key", columns, rows))


def _compare(stage: Stage, program: str | Path, url: str) -> list[list[object]]:
    """A row on the memory of each; `program` is a module, or a path of one in Go."""
    language: Language = "go" if isinstance(program, Path) else "python"
    snapshots = stage.folder / f"snapshots-{language}"
    once(program, url, "save", snapshots)
    restore = Contender.python("factfold", "fresh", program, url, "restore", snapshots)
    rebuild = Contender.python("rebuild", "fresh", program, url, "rebuild")
    measured = stage.compare(
        "restart", "s", replace(restore, language=language), [rebuild],
        better="less", rounds=min(ROUNDS, stage.rounds),
    )  # fmt: skip
    rows: list[list[object]] = []
    for name, source in (("factfold", "its snapshot"), ("rebuild", "the log")):
        extras = measured[name].extras
        cells = [
            statistics.median(extra[what] for extra in extras)
            for what in ("keys", "rss", "bytes_a_key")
        ]
        rows.append([f"{language.capitalize()}, from {source}", *cells])
    return rows
