"""Moments in another process, and what is made of many of them."""

import statistics
import subprocess
import sys
import time
from typing import Self

from bench.programs.turns import Answer
from bench.serving import end_with_parent

LINE = 32  # bytes


def note() -> bytes:
    """A line with this moment, which all processes of a machine count alike."""
    return f"{time.monotonic_ns():<{LINE - 1}}\n".encode()


class Clocked:
    """A program of the bench that writes `note()` to its stdout for each thing it has seen.

    It writes one when it is ready.
    """

    def __init__(self, program: str, *arguments: str) -> None:
        self._program = program
        command = [sys.executable, "-m", f"bench.programs.{program}", *arguments]
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, bufsize=0, preexec_fn=end_with_parent
        )

    def __enter__(self) -> Self:
        self.next()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def next(self) -> float:
        """When the next thing was seen, by time.monotonic()."""
        assert self._process.stdout is not None
        line = self._process.stdout.read(LINE)
        if not line:
            raise RuntimeError(f"{self._program} has ended with {self._process.wait()}")
        return int(line) / 1e9


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def answer(took: list[float]) -> Answer:
    """Of seconds: the median in ms, and the 99th percentile."""
    return {
        "value": 1e3 * statistics.median(took),
        "p99": 1e3 * percentile(took, 0.99),
        "samples": len(took),
    }
