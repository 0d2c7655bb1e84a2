"""A stream's backlog, read by FastStream as its docs show it.

That is `@broker.subscriber(stream=StreamSub(…, group=…, consumer=…))`, message by message or with
`batch=True`; what the handler has returned from is acknowledged. To its favour, it logs no line
per message, and reads 500 messages at once also if it hands them over one by one.
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any

from faststream.redis import RedisBroker, StreamSub

from bench.programs.turns import Answer

READ = 500


class Backlog:
    """`handle(broker, messages)` gets lists if `batch`, else lists of one message.

    Each time that it is read it is by a group of its own, from the start.
    """

    def __init__(self, url: str, stream: str, size: int, *, batch: bool):
        self._url = url
        self._stream = stream
        self._size = size
        self._batch = batch

    async def turn(
        self, seconds: float, handle: Callable[[RedisBroker, list[str]], Awaitable[None]]
    ) -> Answer:
        """Read it for `seconds`, again and again."""
        handled, spent, worked = 0, 0.0, time.process_time()
        while spent < seconds:
            some, so_long = await self._once(seconds - spent, handle)
            handled += some
            spent += so_long
        worked = time.process_time() - worked
        return {"value": handled / spent, "cpu_us": worked / max(1, handled) * 1e6}

    async def _once(
        self, seconds: float, handle: Callable[[RedisBroker, list[str]], Awaitable[None]]
    ) -> tuple[int, float]:
        """Messages, and how long it took."""
        handled, done = 0, asyncio.Event()
        broker = RedisBroker(self._url, logger=None)

        async def many(messages: list[str]) -> None:
            nonlocal handled
            await handle(broker, messages)
            handled += len(messages)
            if handled >= self._size:
                done.set()

        async def one(message: str) -> None:
            await many([message])

        sub: StreamSub[Any] = StreamSub(
            self._stream, group=secrets.token_hex(8), consumer="bench", last_id="0",
            batch=self._batch, max_records=READ,
        )  # fmt: skip
        broker.subscriber(stream=sub)(many if self._batch else one)
        async with broker:
            began = time.perf_counter()
            await broker.start()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await done.wait()
            return handled, time.perf_counter() - began
