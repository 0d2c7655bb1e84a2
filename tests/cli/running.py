"""`factfold` as a user runs it: a process, its lines, and the processes below it."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

FACTFOLD = (sys.executable, "-m", "factfold_cli")


def plain_environment() -> dict[str, str]:
    """Without what the person who runs the tests tells services of their own."""
    return {
        name: text
        for name, text in os.environ.items()
        if not name.startswith(("FACTFOLD_", "OTEL_"))
    }


class Command:
    """`factfold …` in a process of its own, with what it printed so far."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self._process = subprocess.Popen(
            [*FACTFOLD, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=plain_environment() | environment,
        )
        self.pid = self._process.pid
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line.rstrip("\n"))

    def line(self, holds: str, count: int = 1, seconds: float = 120) -> str:
        """The `count`-th line that holds a text, waited for."""
        return self._match(re.escape(holds), count, seconds).string

    def ready(self, name: str, count: int = 1) -> str:
        """The address of a service that has become ready for the `count`-th time, waited for."""
        return self._match(rf"^{name} *\| (127\.0\.0\.1:\d+) ready$", count, 120)[1]

    def _match(self, pattern: str, count: int, seconds: float) -> re.Match[str]:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            ended = self._process.poll() is not None
            found = [match for line in self.lines if (match := re.search(pattern, line))]
            if len(found) >= count:
                return found[count - 1]
            if ended and not self._reader.is_alive():
                break
            time.sleep(0.02)
        pytest.fail(f"no line {pattern!r} in:\n" + "\n".join(self.lines))

    def send(self, number: signal.Signals) -> int:
        """The exit code that follows the signal, unless it has ended already."""
        if self._process.poll() is None:
            self._process.send_signal(number)
        return self.code()

    def code(self) -> int:
        """The exit code, waited for."""
        code = self._process.wait(60)
        self._reader.join(60)
        return code


def ends(pid: int, seconds: float = 30) -> bool:
    """Whether a process that is no child of this one is gone, or soon will be."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


def children(pid: int) -> set[int]:
    """All processes below `pid`, however deep; from /proc, since a slim image has no ps."""
    below: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            # The name may hold spaces and brackets: the last one ends it.
            parent = stat.read_text(errors="replace").rpartition(")")[2].split()[1]
            below.setdefault(int(parent), []).append(int(stat.parent.name))

    def walk(parent: int) -> set[int]:
        return {parent}.union(*(walk(child) for child in below.get(parent, [])))

    return walk(pid) - {pid}
