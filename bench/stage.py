"""What every part of the bench works with: stubs, servers, what to say and where results go."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

from grpc_tools import protoc

from bench.report import Report
from bench.rounds import Better, Contender, Measured, Ratio, alternate
from factfold_chassis.testing.redis_server import RedisServer, start

HERE = Path(__file__).parent
ROOT = HERE.parent
CHASSIS = ROOT / "template/python/{{cookiecutter.service_slug}}/chassis"


def compile_stubs(out: Path) -> None:
    """Make bench_pb2, here and for the contenders."""
    google = Path(protoc.__file__).parent / "_proto"
    includes = [f"-I{path}" for path in (HERE / "protos", CHASSIS / "protos", google)]
    if protoc.main(["", *includes, f"--python_out={out}", "bench.proto"]):
        raise SystemExit("bench/protos/bench.proto does not compile")
    paths = [str(ROOT), str(CHASSIS / "src"), str(out)]
    sys.path[:0] = paths
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    import_module("bench_pb2")


@dataclass
class Stage:
    """One run of the bench.

    Args:
        folder: for what parts need on disk; removed at the end.
        long: the sizes of `--long`.
        rounds, seconds: how often each contender works, and how long each time.
    """

    folder: Path
    report: Report
    long: bool
    rounds: int
    seconds: float
    said: bool = field(default=False, init=False)

    def say(self, text: str) -> None:
        """Progress, on stderr: one line that changes if a person watches."""
        if sys.stderr.isatty():
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
        else:
            print(text, file=sys.stderr, flush=True)

    @contextmanager
    def redis(self, *options: str) -> Iterator[RedisServer]:
        with start(extra=options) as server:
            yield server

    def compare(
        self,
        work: str,
        unit: str,
        ours: Contender,
        others: Sequence[Contender],
        *,
        better: Better = "more",
        rounds: int | None = None,
        seconds: float | None = None,
    ) -> dict[str, Measured]:
        """Let them alternate, and report ours against each of the others."""
        measured = alternate(
            [ours, *others],
            rounds=rounds or self.rounds,
            seconds=seconds or self.seconds,
            say=lambda text: self.say(f"{work}: {text}"),
        )
        self.report.compared(work, unit, ours.name, measured, better)
        return measured


__all__ = ["Better", "Contender", "Measured", "Ratio", "Stage", "compile_stubs"]
