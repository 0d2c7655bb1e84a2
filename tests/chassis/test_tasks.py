"""Tasks that live and die together."""

import asyncio

import pytest

from factfold_chassis.tasks import together


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
