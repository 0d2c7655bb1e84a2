"""Tasks that live and die together."""

import asyncio
import contextlib

import pytest

from factfold_chassis.tasks import side_by_side, together, within


class Broken(Exception):
    pass


async def test_the_first_failure_ends_all_and_is_raised():
    ended = asyncio.Event()

    async def fails() -> None:
        raise Broken

    async def goes_on() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.raises(Broken):
        await together(goes_on(), fails())
    assert ended.is_set()


async def test_a_cancellation_is_not_lost_when_a_part_fails_with_it():
    failing = asyncio.Event()

    async def fails() -> None:
        await failing.wait()
        raise Broken

    async def goes_on() -> None:
        await asyncio.Event().wait()

    async def retries() -> None:
        while True:
            try:
                await together(goes_on(), fails())
            except Broken:
                failing.clear()

    task = asyncio.create_task(retries())
    for _ in range(50):
        await asyncio.sleep(0.01)
        failing.set()
        for _ in range(3):
            await asyncio.sleep(0)
    failing.set()
    await asyncio.sleep(0)
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=2)
    assert done
    assert task.cancelled()


async def test_work_has_its_time_and_its_errors_are_raised():
    ended: list[str] = []

    async def ends(name: str, seconds: float) -> None:
        try:
            await asyncio.sleep(seconds)
        finally:
            ended.append(name)

    async def fails() -> None:
        raise Broken

    await within(5, ends("in time", 0.01))
    await within(0.01, ends("late", 60))
    assert ended == ["in time", "late"]
    with pytest.raises(Broken):
        await within(5, fails())
    waiting = asyncio.create_task(within(5, ends("cancelled", 60)))
    await asyncio.sleep(0.01)
    waiting.cancel()
    await asyncio.wait([waiting])
    await asyncio.sleep(0)
    assert waiting.cancelled()
    assert ended[-1] == "cancelled"


async def test_work_that_will_not_be_cancelled_is_left_behind():
    go = asyncio.Event()

    async def stays() -> None:
        while not go.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await go.wait()

    loop = asyncio.get_running_loop()
    began = loop.time()
    await within(0.05, stays())
    assert loop.time() - began < 1
    go.set()


async def test_works_that_wait_do_so_side_by_side_and_others_share_a_task():
    waiting, go_on = 0, asyncio.Event()
    tasks = set()

    async def work(number: int) -> None:
        nonlocal waiting
        if number % 10:
            tasks.add(asyncio.current_task())
            return
        waiting += 1
        await go_on.wait()
        waiting -= 1

    running = asyncio.create_task(side_by_side(work(number) for number in range(50)))
    async with asyncio.timeout(5.0):
        while waiting < 5:
            await asyncio.sleep(0)
    assert len(tasks) <= 5
    go_on.set()
    await running
    assert not waiting


async def test_the_first_failure_ends_what_works_side_by_side():
    ended = []

    async def work(number: int) -> None:
        if number == 3:
            raise Broken
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(number)

    with pytest.raises(Broken):
        await side_by_side(work(number) for number in range(6))
    assert ended == [0, 1, 2]


async def test_after_a_work_that_keeps_a_cancellation_to_itself_none_starts():
    begun = []

    async def work(number: int) -> None:
        begun.append(number)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0 if number else 5.0)

    works = (work(number) for number in range(4))
    task = asyncio.create_task(side_by_side(works))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert begun[0] == 0
    assert len(begun) < 4


async def test_nothing_side_by_side_is_nothing():
    await side_by_side(iter(()))
