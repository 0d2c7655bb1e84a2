"""Contenders are processes that take turns: A B C, A B C, and so on."""

import json
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from bench.pauses import Pauses

Better = Literal["more", "less"]
Language = Literal["python", "go"]

TURN_TIMEOUT = 600.0  # seconds
AGAIN = 4


class Died(Exception):
    """A contender has ended before its work was done; it has said why on stderr."""


@dataclass(frozen=True)
class Contender:
    """A program that waits for `turn SECONDS` on stdin, and answers with one line of JSON."""

    name: str
    command: Sequence[str]
    language: Language = "python"  # of ours

    @classmethod
    def python(cls, name: str, program: str, *arguments: object) -> "Contender":
        """A module of bench.programs."""
        command = [sys.executable, "-m", f"bench.programs.{program}", *map(str, arguments)]
        return cls(name, command)


@dataclass
class Measured:
    """What one contender reached, by round."""

    values: list[float] = field(default_factory=list)
    extras: list[dict[str, Any]] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.values)


@dataclass(frozen=True)
class Ratio:
    """Ours against theirs, more is better: the median over the rounds, and the extremes."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, ours: Measured, theirs: Measured, better: Better) -> "Ratio":
        pairs = zip(ours.values, theirs.values, strict=True)
        ratios = [(a / b) if better == "more" else (b / a) for a, b in pairs]
        return cls(statistics.median(ratios), min(ratios), max(ratios))


def alternate(
    contenders: Sequence[Contender],
    *,
    rounds: int,
    seconds: float,
    say: Callable[[str], None],
) -> dict[str, Measured]:
    """Let each contender work for `seconds` a round, one at a time.

    The first turn of each is not counted: it pays for imports, connections and cold caches.
    """
    measured = {contender.name: Measured() for contender in contenders}
    with Pauses() as pauses, ExitStack() as stack:
        running = {each.name: stack.enter_context(started(each)) for each in contenders}
        for name, turn in running.items():
            say(f"warming up {name}")
            turn(min(seconds, 1.0))
        for number in range(1, rounds + 1):
            # Forwards and backwards, so that nobody always comes after the same one.
            names = list(running) if number % 2 else list(running)[::-1]
            for name in names:
                say(f"round {number} of {rounds}: {name}")
                answer = undisturbed(running[name], pauses, seconds)
                measured[name].values.append(float(answer.pop("value")))
                measured[name].extras.append(answer)
    return measured


def undisturbed(
    turn: Callable[[float], dict[str, Any]], pauses: Pauses, seconds: float
) -> dict[str, Any]:
    """A turn in which the machine did not stand still: else it is taken again, a few times."""
    for _ in range(AGAIN):
        before = pauses.count
        answer = turn(seconds)
        if pauses.count == before:
            break
    return answer


def once(program: str | Path, *arguments: object) -> dict[str, Any]:
    """What a module of bench.programs, or a program, that takes no turns prints in the end."""
    command = (
        [str(program), *map(str, arguments)]
        if isinstance(program, Path)
        else Contender.python("", program, *arguments).command
    )
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise Died(f"{program} has ended with {done.returncode}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


@contextmanager
def started(contender: Contender) -> Iterator[Callable[[float], dict[str, Any]]]:
    """Its turns, `turn(seconds)`, until the block is left."""
    process = subprocess.Popen(
        contender.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout

    def turn(seconds: float) -> dict[str, Any]:
        late = threading.Timer(TURN_TIMEOUT, process.kill)
        late.start()
        try:
            stdin.write(f"turn {seconds}\n")
            stdin.flush()
            line = stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            late.cancel()
        if not line:
            raise Died(f"{contender.name} has ended with {process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    try:
        yield turn
    finally:
        with suppress(BrokenPipeError):
            stdin.close()
        try:
            process.wait(5.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        stdout.close()
