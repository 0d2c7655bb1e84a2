"""Tasks that live and die together."""

import asyncio
from collections.abc import Coroutine, Iterable, Iterator
from typing import Any

_LAST = 0.1  # seconds that what is cancelled has to end


async def together(*works: Coroutine[Any, Any, None]) -> None:
    """Run all of `works` until they have returned, or one raises: then that is raised.

    No asyncio.TaskGroup: before Python 3.13 it loses a cancellation that arrives while one of
    its tasks fails, and who retries that failure then runs for ever.
    """
    tasks = [asyncio.create_task(work) for work in works]
    if not tasks:
        return
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    finally:
        await cancel(tasks)


async def side_by_side(works: Iterator[Coroutine[Any, Any, None]]) -> None:
    """As `together`, for many works that seldom wait: those that do not share one task.

    The next one starts once the one before has ended or waits. After one that keeps a cancellation
    to itself none does.
    """
    tasks: list[asyncio.Task[None]] = []
    try:
        while not tasks or not tasks[-1].done():  # the last one: nothing is left, or it failed
            tasks.append(asyncio.create_task(_one_by_one(works)))
            await asyncio.sleep(0)
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    finally:
        await cancel(tasks)


async def _one_by_one(works: Iterator[Coroutine[Any, Any, None]]) -> None:
    task = asyncio.current_task()
    for work in works:
        await work
        if task is not None and task.cancelling():
            raise asyncio.CancelledError


def cancelled() -> bool:
    """Whether the present task was asked to end; code may also raise CancelledError by itself."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def within(seconds: float, work: Coroutine[Any, Any, None]) -> None:
    """Run `work`, for so long at most; it is left behind if it does not let itself be cancelled."""
    task = asyncio.create_task(work)
    try:
        await asyncio.wait({task}, timeout=max(0.0, seconds))
    finally:
        task.cancel()
    await asyncio.wait({task}, timeout=_LAST)
    if task.done() and not task.cancelled():
        task.result()


async def cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel tasks and wait until they have ended, however they end."""
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
