"""How a case becomes a test."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from .cases import Case
from .stage import Stage
from .steps import Steps

LONGEST = 60.0  # seconds: a case that hangs must not hold up the others

Scene = Callable[[Stage, Case], Awaitable[None]]


class Scenes:
    """The cases of one family that are code; the others are steps in its file."""

    def __init__(self) -> None:
        self.by_name: dict[str, Scene] = {}

    def __call__(self, scene: Scene) -> Scene:
        """Declare one; the case says `play = "its name"`."""
        self.by_name[scene.__name__] = scene
        return scene

    async def play(self, stage: Stage, case: Case) -> None:
        try:
            async with asyncio.timeout(LONGEST):
                if case.play:
                    await self.by_name[case.play](stage, case)
                else:
                    assert case.steps, "a case has steps, or names a scene"
                    await Steps(stage, case).play()
        except BaseException:
            stage.tell()
            raise
