"""How things grow: with the facts in the log, its partitions, its readers and their instances."""

import statistics
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from bench.filling import fill
from bench.report import Series
from bench.rounds import Contender, once, started
from bench.stage import Stage

SIZES, LONG_SIZES = (10_000, 100_000), (10_000, 100_000, 1_000_000, 5_000_000)
FACTS, FACTS_A_KEY = 100_000, 10
PARTITIONS = (1, 4, 16, 64)
INSTANCES = (1, 2, 4)
READERS = (0, 1, 10)
RATE = 1_000  # facts a second
RUNS = 3
TURN = 2.0  # seconds


def run(stage: Stage) -> None:
    for work in (_facts, _partitions, _instances, _readers):
        stage.report.series.append(work(stage))


def _facts(stage: Stage) -> Series:
    rows = []
    for facts in LONG_SIZES if stage.long else SIZES:
        with stage.redis() as server:
            stage.say(f"growth: {facts} facts")
            fill(server.url, facts, facts // FACTS_A_KEY)
            made = [once("view_once", server.url, "queries") for _ in range(RUNS)]
        cells = {name: statistics.median(each[name] for each in made) for name in made[0]}
        row = [facts, cells["keys"], cells["value"], 1e6 * cells["value"] / facts, cells["rss"]]
        rows.append([*row, *(cells[f"{of}_{p}"] for of in ("get", "call") for p in ("p50", "p99"))])
    columns = ["facts", "keys", "rebuild, s", "a fact, µs", "RSS, MiB"]
    columns += [f"{of} {p}, µs" for of in ("row", "call") for p in ("p50", "p99")]
    return Series("more facts", columns, rows)


def _partitions(stage: Stage) -> Series:
    rows = []
    for partitions in PARTITIONS:
        with stage.redis() as server:
            stage.say(f"growth: {partitions} partitions")
            fill(server.url, FACTS, FACTS // FACTS_A_KEY, partitions=partitions)
            rebuilds = [once("view_once", server.url, "rebuild") for _ in range(RUNS)]
            owner = once("growth_owner", server.url, min(TURN, stage.seconds), partitions)
        rebuild = FACTS / statistics.median(each["value"] for each in rebuilds)
        rows.append([partitions, rebuild, owner["rate"], owner["commands"]])
    columns = ["partitions", "rebuild, facts/s", "append by 64 callers, facts/s"]
    return Series("more partitions", [*columns, "commands per 1,000 facts"], rows)


def _instances(stage: Stage) -> Series:
    rows = []
    with stage.redis() as server:
        fill(server.url, FACTS, FACTS // FACTS_A_KEY)
        for instances in INSTANCES:
            stage.say(f"growth: {instances} instances that read")
            reader = Contender.python("reader", "rebuild_factfold", server.url)
            answers = _at_once([reader] * instances, min(TURN, stage.seconds))
            rows.append([instances, sum(answers)])
    return Series("more instances that read", ["instances", "facts/s in sum"], rows)


def _at_once(contenders: Sequence[Contender], seconds: float) -> list[float]:
    """What they reach if all of them work at the same time."""
    with ExitStack() as stack, ThreadPoolExecutor(len(contenders)) as pool:
        turns = [stack.enter_context(started(each)) for each in contenders]
        for turn_seconds in (0.1, seconds):
            answers = list(pool.map(lambda turn, s=turn_seconds: turn(s), turns))
    return [float(answer["value"]) for answer in answers]


def _readers(stage: Stage) -> Series:
    rows = []
    for title, paced in ((f"at {RATE} a second", [RATE]), ("64 callers", [])):
        for readers in READERS:
            with stage.redis() as server, ExitStack() as stack:
                stage.say(f"growth: {readers} readers, {title}")
                once("growth_owner", server.url, 0.1, 4)
                reader = Contender.python("reader", "growth_reader", server.url)
                for turn in [stack.enter_context(started(reader)) for _ in range(readers)]:
                    turn(0.0)
                found = once("growth_owner", server.url, min(TURN, stage.seconds), 4, *paced)
            cells = [found[name] for name in ("rate", "p50", "p99", "cpu", "commands")]
            rows.append([title, readers, *cells])
    columns = ["the owner appends", "readers", "facts/s", "p50, ms", "p99, ms"]
    columns += ["its CPU a fact, µs", "its commands per 1,000 facts"]
    return Series("more readers: what the owner notices", columns, rows)
