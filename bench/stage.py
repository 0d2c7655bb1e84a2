"""What every part of the bench works with: stubs, servers, what to say and where results go."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from grpc_tools import protoc

from bench.report import Report
from bench.rounds import Better, Contender, Measured, Ratio, alternate
from factfold_chassis.testing.redis_server import RedisServer, find, start

if TYPE_CHECKING:
    from topologies import Cluster

    from bench.golang import Programs

HERE = Path(__file__).parent
ROOT = HERE.parent
CHASSIS = ROOT / "template/python/{{cookiecutter.service_slug}}/chassis"
GOOGLE = Path(protoc.__file__).parent / "_proto"
# Turns empty the append-only file themselves; a rewrite in one would meet who writes the most.
NO_REWRITE = ("--auto-aof-rewrite-percentage", "0")
INCLUDES = [f"-I{path}" for path in (HERE / "protos", CHASSIS / "protos", GOOGLE)]


def compile_stubs(out: Path) -> None:
    """Make bench_pb2 and answers_pb2, here and for the contenders."""
    protos = [path.name for path in (HERE / "protos").iterdir()]
    if protoc.main(["", *INCLUDES, f"--python_out={out}", *protos]):
        raise SystemExit("bench/protos do not compile")
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

    @contextmanager
    def cluster(self, masters: int) -> "Iterator[Cluster]":
        """Without replicas; as the tests have them."""
        sys.path += [str(ROOT / "tests"), str(ROOT / "generator")]
        from topologies import Cluster

        with Cluster(
            masters, 0, options=NO_REWRITE, fsync="everysec", binary=find(), node_timeout=15
        ) as cluster:
            yield cluster

    def go(self, part: str) -> "Programs | None":
        """The programs in Go; without them the part lacks those rows, and says why."""
        from bench.golang import NotBuilt, built

        self.say(f"{part}: building the programs in Go")
        try:
            return built(self.folder)
        except NotBuilt as error:
            self.report.lacks(f"{part} in Go: {error}")
            return None

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
        measured = self.alternate(work, [ours, *others], rounds=rounds, seconds=seconds)
        self.report.compared(work, unit, ours.name, measured, better, ours.language)
        return measured

    def compare_all(
        self, part: str, unit: str, works: Mapping[str, Contender], others: Sequence[Contender]
    ) -> None:
        """Several works of ours against the same others, whose turns count for each of them."""
        ours = [replace(contender, name=work) for work, contender in works.items()]
        measured = self.alternate(part, [*ours, *others])
        theirs = {other.name: measured[other.name] for other in others}
        for work, contender in works.items():
            both = {work: measured[work], **theirs}
            self.report.compared(work, unit, work, both, "more", contender.language)

    def alternate(
        self,
        what: str,
        contenders: Sequence[Contender],
        *,
        rounds: int | None = None,
        seconds: float | None = None,
    ) -> dict[str, Measured]:
        return alternate(
            contenders,
            rounds=rounds or self.rounds,
            seconds=seconds or self.seconds,
            say=lambda text: self.say(f"{what}: {text}"),
        )


__all__ = ["Better", "Contender", "Measured", "Ratio", "Stage", "compile_stubs"]
