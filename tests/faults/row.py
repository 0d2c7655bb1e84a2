"""One row of the table: what a test injects, and what it counts."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from topologies import Node

from .log import Counts, Log, Sent, check_reaction
from .probe import Made, Probe
from .proxy import Proxy
from .servers import Kind, Server

COUNTED = ("injected", "facts in", "facts out", "lost", "doubled", "out of order")
COLUMNS = ("server", "fault", *COUNTED)


@dataclass(frozen=True)
class Line:
    """A row as it is printed."""

    server: str
    fault: str
    counts: Counts
    passed: bool

    @property
    def cells(self) -> list[str]:
        numbers = [getattr(self.counts, name.replace(" ", "_")) for name in COUNTED]
        fault = self.fault if self.passed else f"{self.fault} (failed)"
        return [self.server, fault, *(f"{number:,}" for number in numbers)]


def markdown(lines: Sequence[Line]) -> str:
    rows = [list(COLUMNS), *(line.cells for line in lines)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(COLUMNS))]
    right = range(2, len(COLUMNS))

    def shown(row: list[str]) -> str:
        cells = (
            cell.rjust(width) if at in right else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        return f"| {' | '.join(cells)} |"

    rule = "|".join(
        "-" * (width + 1) + (":" if at in right else "-") for at, width in enumerate(widths)
    )
    return "\n".join([shown(rows[0]), f"|{rule}|", *map(shown, rows[1:])]) + "\n"


class Row:
    """What a test is given: its dice, its processes, and where it counts.

    times    how many faults to inject, at least
    random   the dice; `--seed` repeats them
    kind     the kind of server
    counts   the line of the table
    """

    def __init__(self, kind: Kind, made: Made, folder: Path, times: int, seed: int):
        self.kind = kind
        self.made = made
        self.folder = folder
        self.times = times
        self.seed = seed
        self.random = random.Random(seed)
        self.counts = Counts()
        self._tries = 0
        self.label = ""  # beside the name, for a test with several cases
        self._ends = AsyncExitStack()
        self._probes: list[Probe] = []
        self._servers: list[Server] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: Any) -> None:
        # Probes first: they would wait for their servers.
        await asyncio.gather(*(probe.close() for probe in self._probes))
        await self._ends.aclose()
        for server in self._servers:
            await asyncio.to_thread(server.stop)

    # Processes; all end with the test.

    def redis(self, *options: str, **how: Any) -> Any:
        """A server of the row's kind, or several: append-only file, synced at each write.

        `how`: see Kind.start.
        """
        server = self.kind.start(*options, **how)
        self._servers.append(server)
        return server

    async def proxy(self, server: Server, made: Made | None = None) -> Proxy:
        """In front of each server that a client may be sent to."""
        proxy = Proxy(server.ports, (made or self.made).scripts)
        proxy.url = server.through(proxy.doors)
        return await self._ends.enter_async_context(proxy)

    async def replica(self, primary: Node, **how: Any) -> tuple[Node, Proxy]:
        """One more server that follows `primary` through a proxy: cut that, and it lags."""
        wire = await self._ends.enter_async_context(Proxy(primary.ports, None))
        options = ("--replicaof", "127.0.0.1", str(wire.port))
        return await asyncio.to_thread(self.redis, *options, **how), wire

    def probe(
        self,
        at: Server | Proxy,
        *,
        made: Made | None = None,
        reactions: str = "",
        folder: Path | None = None,
        **settings: str,
    ) -> Probe:
        """One more instance, not ready yet.

        `reactions` are the names of those it runs, comma-separated; `folder` is its working
        folder, by default a new one; `settings` are environment variables.
        """
        shared = self.folder / "shared"
        shared.mkdir(exist_ok=True)
        told = {"PROBE_FOLDER": str(shared), "PROBE_REACTIONS": reactions or ",", **settings}
        place = folder or self.folder / f"probe-{len(self._probes)}"
        self._probes.append(Probe(made or self.made, at.url, place, told))
        return self._probes[-1]

    def patched(self, script: str, old: str, new: str) -> Made:
        """A probe with `old` replaced by `new` in one of its Lua scripts."""
        return self.made.with_script(script, old, new, self.folder / f"patched-{script}")

    # Counting.

    def count(self, counts: Counts) -> None:
        """Add what a check found; nothing may be lost, doubled or out of order."""
        self.counts += counts
        assert counts.clean, "\n".join(counts.findings)

    def injected(self, number: int = 1) -> None:
        self.counts.injected += number

    @property
    def more(self) -> bool:
        """Whether more faults are to be injected; tries that do not count are bounded."""
        self._tries += 1
        if self._tries > 10 * (self.times + 1):
            raise AssertionError(f"of {self._tries} tries {self.counts.injected} count")
        return self.counts.injected < self.times

    def appended(self, log: Log, *sent: Sent) -> None:
        """Count what was appended against what is there."""
        for each in sent:
            self.count(each.check(log.facts(each.stream)))

    def answered(self, log: Log, *reactions: str) -> None:
        """Count the outputs of each reaction, all of whose inputs are committed."""
        inputs, outputs = log.facts("inputs"), log.facts("outputs")
        for reaction in reactions:
            self.count(check_reaction(reaction, inputs, outputs))

    async def view_is_rebuild(self, log: Log, *probes: Probe, at: Server) -> None:
        """The view of each probe equals that of an instance that folds all from the start."""
        fresh = await self.probe(at).ready()
        tail = log.tail()
        rebuilt = await fresh.dump(tail)
        for probe in probes:
            dumped = await probe.dump(tail)
            for each in (dumped, rebuilt):
                each.position = ",".join(sorted(each.position.split(",")))
            if dumped != rebuilt:
                raise AssertionError(_differences(dumped, rebuilt))


def _differences(dumped: Any, rebuilt: Any) -> str:
    lines = []
    if dumped.position != rebuilt.position:
        lines.append(f"the view is at {dumped.position}, its rebuild at {rebuilt.position}")
    for one, other in zip(dumped.tables, rebuilt.tables, strict=True):
        rows, again = ({row.key: row.value for row in table.row} for table in (one, other))
        for key in sorted(rows.keys() | again.keys()):
            if rows.get(key) != again.get(key):
                lines.append(f"{one.name}[{key}] is {rows.get(key)!r}, rebuilt {again.get(key)!r}")
    return "\n".join(lines[:20]) or "the hashes differ"
