"""The contenders' side of bench.rounds."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop

from factfold_chassis import collector

Answer = dict[str, Any]  # "value", and whatever else is worth keeping


def take_turns(turn: Callable[[float], Answer]) -> None:
    """`turn(seconds)` works for so long."""
    for line in sys.stdin:
        print(json.dumps(turn(float(line.split()[1]))), flush=True)


async def take_turns_async(turn: Callable[[float], Awaitable[Answer]]) -> None:
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        answer = await turn(float(line.split()[1]))
        print(json.dumps(answer), flush=True)


def run(
    main: Callable[[], Awaitable[None]], *, as_service: bool = False, on_uvloop: bool = True
) -> None:
    """Everybody gets the event loop that the services have, but for who is measured without.

    `as_service`: it is ours, and sets the garbage collector as a service does.
    """

    async def wait() -> None:
        await main()

    if as_service:
        collector.spare()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop if on_uvloop else None) as runner:
        runner.run(wait())
