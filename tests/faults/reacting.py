"""Reacting instances, each behind a proxy of its own: what befalls a command befalls its sender."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial

from .log import PARTITIONS, Log
from .probe import Probe
from .proxy import Proxy, Trap, Verdict
from .row import Row
from .servers import Server

LEASE = 1.0

# What an owner does with a batch; executed: its caller does not know yet.
Step = tuple[str, bool]
STEPS: list[Step] = [
    (name, executed) for name in ("settle", "append", "commit") for executed in (False, True)
]


@dataclass(eq=False)
class Instance:
    """A probe that reacts; once it is ready, `name` is what stands in `owner` of the groups."""

    probe: Probe
    proxy: Proxy
    name: str = ""

    @classmethod
    async def start(
        cls, row: Row, server: Server, *reactions: str, lease: float = LEASE
    ) -> Instance:
        return await (await cls.begin(row, server, *reactions, lease=lease)).ready()

    @classmethod
    async def begin(
        cls, row: Row, server: Server, *reactions: str, lease: float = LEASE
    ) -> Instance:
        """It has come no further than to Python, let alone to a step."""
        proxy = await row.proxy(server)
        settings = {"FACTFOLD_LEASE": str(lease)}
        return cls(row.probe(proxy, reactions=",".join(reactions), **settings), proxy)

    async def ready(self) -> Instance:
        await self.probe.ready()
        self.name = (await self.probe.status()).instance
        return self


def owners(log: Log, *reactions: str) -> dict[tuple[str, int], str]:
    """Instance names, by reaction and partition; empty: nobody."""
    return {
        (reaction, partition): log.group("inputs", partition, reaction).get("owner", "")
        for reaction in reactions
        for partition in range(PARTITIONS)
    }


async def first_at(
    instances: Iterable[Instance],
    step: Step,
    do: Callable[[Instance], Awaitable[None] | None],
    *,
    nth: int = 1,
    then: Verdict = Verdict.CUT,
    seconds: float = 20,
) -> Instance:
    """The first one who comes to a step for the nth time, once `do` with it has begun."""
    name, executed = step
    came: asyncio.Future[Instance] = asyncio.get_running_loop().create_future()

    def begin(instance: Instance) -> Awaitable[None] | None:
        came.set_result(instance)
        return do(instance)

    traps = [
        (
            instance.proxy.hooks,
            Trap(
                lambda command: command.name == name and not came.done(),
                partial(begin, instance), nth=nth, executed=executed, then=then,
            ),
        )
        for instance in instances
    ]  # fmt: skip
    for hooks, trap in traps:
        hooks.append(trap)
    try:
        return await asyncio.wait_for(came, seconds)
    except TimeoutError:
        raise AssertionError(f"nobody has come to {name} within {seconds:g} s") from None
    finally:
        for hooks, trap in traps:
            hooks.remove(trap)
