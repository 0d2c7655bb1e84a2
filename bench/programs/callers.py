"""Callers that append again and again, each as soon as its last append is acknowledged."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from bench.filling import event, keys_of
from bench.programs.turns import Answer
from factfold_chassis.facts import new_meta

KEYS = 4096

Fields = tuple[str, str, bytes, bytes]  # type, key, meta, data: about 200 bytes


def made(type_: str = "bench.v1.ParcelMoved") -> Sequence[Fields]:
    """The same fields for everybody, one for each key, made before the clock runs."""
    meta = new_meta("/parcels").SerializeToString()
    return [(type_, key, meta, event(key, number)) for number, key in enumerate(keys_of(KEYS))]


async def appended(seconds: float, callers: int, append: Callable[[int], Awaitable[int]]) -> Answer:
    """`append(number)` says how many facts it has put into the log."""
    facts, number, began, worked = 0, 0, time.perf_counter(), time.process_time()

    async def call() -> None:
        nonlocal facts, number
        while time.perf_counter() - began < seconds:
            number += 1
            some = await append(number)  # not `facts += await`: that forgets what others add
            facts += some

    await asyncio.gather(*(call() for _ in range(callers)))
    value = facts / (time.perf_counter() - began)
    return {"value": value, "cpu_us": (time.process_time() - worked) / facts * 1e6}
