"""Where cases are played: one server, and probes of one or two languages that share it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

from faults.log import Log
from faults.probe import Made, Probe
from faults.proxy import Proxy
from topologies import Node
from topologies.node import begin

from factfold_cli.redis_server import find
from factfold_cli.traces import TraceReceiver

LEASE = 1.0
_LINES = 40


class Stage:
    """A server and its probes; all end with it.

    languages   one, or an ordered pair
    log         what stands in Redis
    shared      a folder that all probes know as PROBE_FOLDER
    receiver    gets spans, where a family has one

    Cases share probes, so each keeps to keys of its own. What breaks the log, or more than its own
    keys, is played `apart`.
    """

    receiver: TraceReceiver

    def __init__(self, made: Sequence[Made], folder: Path, *options: str) -> None:
        self.made = made
        self.languages = tuple(each.language for each in made)
        self.folder = folder
        self.shared = folder / "shared"
        self.shared.mkdir(parents=True)
        # No case is about a machine that fails, so nothing need reach the disk.
        self.server = begin(lambda port: Node(find(), port, options, fsync="no"))
        self.log = Log(self.server)
        self._probes: dict[object, Probe] = {}
        self._proxies: list[Proxy] = []
        self._numbers = count()

    async def close(self) -> None:
        # Probes first: they would wait for their server.
        await asyncio.gather(*(probe.close() for probe in self._probes.values()))
        for proxy in self._proxies:
            await proxy.__aexit__(None, None, None)
        await asyncio.to_thread(self.server.stop)

    @asynccontextmanager
    async def apart(self, *options: str) -> AsyncIterator[Stage]:
        """A stage of the same languages, for one case alone."""
        folder = self.folder / f"apart-{next(self._numbers)}"
        stage = Stage(self.made, folder, *options)
        try:
            yield stage
        except BaseException:
            stage.tell()
            raise
        finally:
            await stage.close()

    # Processes.

    async def probe(self, at: int = 0, /, **settings: str) -> Probe:
        """A probe of the first or the second language, ready; cases that ask alike share it."""
        name = at, tuple(sorted(settings.items()))
        if name not in self._probes or not self._probes[name].running:
            self._probes[name] = self._begun(at, **settings)
        return await self._probes[name].ready()

    def start(self, at: int = 0, /, *, of: Any = None, **settings: str) -> Probe:
        """One more probe for one case, not ready yet. `of`: the server, or a proxy before it."""
        probe = self._begun(at, of=of, **settings)
        self._probes[probe] = probe
        return probe

    def _begun(self, at: int, /, of: Any = None, folder: str = "", **settings: str) -> Probe:
        told = {
            "PROBE_FOLDER": str(self.shared),
            "PROBE_REACTIONS": ",",
            "FACTFOLD_LEASE": str(LEASE),
            **settings,
        }
        place = self.folder / (folder or f"probe-{next(self._numbers)}")
        return Probe(self.made[at], (of or self.server).url, place, told)

    async def proxy(self, at: int = 0) -> Proxy:
        """In front of the server, for one probe."""
        proxy = Proxy(self.server.ports, self.made[at].scripts)
        proxy.url = self.server.through(proxy.doors)
        await proxy.__aenter__()
        self._proxies.append(proxy)
        return proxy

    def tell(self) -> None:
        """What the probes have logged, for a case that failed."""
        for probe in self._probes.values():
            print("\n".join([f"--- {probe.address}", *probe.lines[-_LINES:]]))
