"""What the families about reactions share."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from cli.piped import piped
from faults.log import Logged, check_reaction, eventually, partition_of
from faults.probe import Probe, contract
from faults.proxy import Trap, Verdict

from .reading import everything
from .stage import Stage

GROUP = "probe.answer"


async def append(probe: Probe, names: Iterable[str], first: int = 1, **fields: Any) -> list[str]:
    """A fact of each key; their positions."""
    units = [
        contract.AppendRequest(**{"stream": "inputs", "key": name, "first": first, **fields})
        for name in names
    ]
    outcomes = await probe.append_many(units)
    assert not any(outcome.code for outcome in outcomes), outcomes
    return [outcome.appended.position for outcome in outcomes]


def committed(stage: Stage, key: str, reaction: str = "answer") -> bool:
    """Whether all facts of a key's partition are."""
    partition = partition_of(key)
    position = stage.log.group("inputs", partition, reaction).get("position", "0-0")
    return position.split("-")[1] == stage.log.head("inputs", partition)["n"]


def answers(stage: Stage, key: str, reaction: str = "answer") -> list[Logged]:
    """The outputs for the inputs of a key, in the order of the log."""
    found = everything(stage, "outputs")
    return [fact for fact in found if (fact.event.of, fact.event.reaction) == (key, reaction)]


async def answered(
    stage: Stage, key: str, numbers: list[int], reaction: str = "answer", seconds: float = 20
) -> None:
    """Wait until these inputs are, and assert that they are in this order, each once."""

    def found() -> list[int]:
        return [fact.event.number for fact in answers(stage, key, reaction)]

    await eventually(lambda: len(found()) >= len(numbers), seconds, lambda: f"{found()}")
    assert found() == numbers


def once(stage: Stage, *reactions: str, keys: Iterable[str] | None = None) -> None:
    """Each input has one complete set of outputs, of one run, in the order of its key."""
    inputs, outputs = everything(stage, "inputs"), everything(stage, "outputs")
    if keys is not None:
        own = set(keys)
        inputs = [fact for fact in inputs if fact.key in own]
        outputs = [fact for fact in outputs if fact.event.of in own]
    for reaction in reactions:
        counts = check_reaction(reaction, inputs, outputs)
        assert counts.clean, counts.findings
        assert counts.facts_out >= counts.facts_in > 0


async def sprung(
    proxy: Any, step: str, *, executed: bool, do: Any, then: Verdict = Verdict.CUT
) -> asyncio.Task[Trap]:
    """`do` once a reaction comes to a step; the trap is set when this returns."""
    ours = b"/inputs/"

    def matches(command: Any) -> bool:
        if command.name != step:
            return False
        return step != "append" or ours in command.arguments[1]  # not that of a process

    trap = Trap(matches, do, executed=executed, then=then)
    task = asyncio.create_task(proxy.spring(trap))
    await asyncio.sleep(0)
    return task


def factfold(stage: Stage, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """The one command line, whatever language has written what it reads."""
    with patch.dict(os.environ, {"FACTFOLD_REDIS_URL": stage.server.url}):
        return piped(*words, at=stage.folder)


def document(stage: Stage, *words: str | Path) -> Any:
    done = factfold(stage, *words, "--json")
    assert done.returncode == 0, done
    return json.loads(done.stdout)
