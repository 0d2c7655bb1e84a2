"""Callers who append all the time, and note what they are told."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Self

import grpc

from .log import Sent, eventually
from .probe import Probe
from .row import Row


class Load:
    """`async with Load(row, probe, sent, KEYS) as load:` callers side by side, each with keys
    of its own, so that the facts of a key are asked for one after the other.

    Args:
        probe: may be exchanged while it runs: calls that are under way still go to the old one.
        size: units of one call.
        pause: seconds between two calls of a caller.
        fields: (key) → further fields of its AppendRequest.
    """

    def __init__(
        self,
        row: Row,
        probe: Probe,
        sent: Sent,
        keys: Sequence[str],
        *,
        callers: int = 4,
        size: int = 25,
        timeout: float = 10,
        pause: float = 0,
        fields: Callable[[str], dict[str, Any]] = lambda key: {},
    ):
        self.probe = probe
        self.under_way = 0  # calls
        self._row = row
        self._sent = sent
        self._shares = [keys[at::callers] for at in range(callers)]
        self._size = size
        self._timeout = timeout
        self._pause = pause
        self._fields = fields
        self._stopping = False

    async def __aenter__(self) -> Self:
        self._callers = [asyncio.create_task(self._call(share)) for share in self._shares]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """No more calls; returns when each has its answer."""
        self._stopping = True
        await asyncio.gather(*self._callers)

    async def acknowledged(self, facts: int, seconds: float = 30) -> None:
        """Wait until so many more have been."""
        enough = len(self._sent.acknowledged) + facts
        await eventually(
            lambda: len(self._sent.acknowledged) >= enough,
            seconds,
            lambda: f"{enough - len(self._sent.acknowledged)} of {facts} are not acknowledged",
        )

    async def _call(self, share: Sequence[str]) -> None:
        while not self._stopping:
            some = self._row.random.sample(share, min(self._size, len(share)))
            units = [self._sent.unit(key, **self._fields(key)) for key in some]
            self.under_way += 1
            try:
                outcomes = await self.probe.append_many(units, self._timeout)
            except grpc.aio.AioRpcError as error:
                self._sent.failed(units, error.details() or "")
                await asyncio.sleep(0.05)
            else:
                self._sent.answered(units, outcomes)
                if any(outcome.code for outcome in outcomes):
                    await asyncio.sleep(0.05)
            finally:
                self.under_way -= 1
            await asyncio.sleep(self._pause)
