"""Forwarders in front of the ports by which a cluster's nodes speak to each other.

Each message says who sends it, so that one node can be cut off: both the links that it opens and
those that are opened to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Self

from factfold_cli.redis_server import free_port

_HEAD = 80  # bytes of a message up to the end of its sender
_SENDER = slice(40, 80)  # 40 hex digits

Writer = asyncio.StreamWriter


class Bus:
    """`with Bus() as bus:` runs in a thread of its own, over what has been cut by node ids."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._cut: set[str] = set()
        self._owners: dict[int, str] = {}  # forwarder's port → id of the node behind it
        self._links: dict[Writer, tuple[str, str]] = {}  # both sides of a link → its ends
        self._tasks: set[asyncio.Task[None]] = set()
        self._servers: list[asyncio.Server] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def forward(self, target: int) -> int:
        """The port to announce for a bus at `target`."""
        return asyncio.run_coroutine_threadsafe(self._forward(target), self._loop).result(10)

    def is_of(self, port: int, node: str) -> None:
        """Which node is behind a forwarder."""
        self._owners[port] = node

    def cut(self, node: str) -> None:
        """It hears nobody and nobody hears it, until `mend`."""
        self._loop.call_soon_threadsafe(self._do_cut, node)

    def mend(self, node: str) -> None:
        self._loop.call_soon_threadsafe(self._cut.discard, node)

    def _do_cut(self, node: str) -> None:
        self._cut.add(node)
        for writer, ends in self._links.items():
            if node in ends:
                writer.transport.abort()

    async def _forward(self, target: int) -> int:
        while True:
            port = free_port()

            async def serve(reader: asyncio.StreamReader, writer: Writer, port: int = port) -> None:
                task = asyncio.current_task()
                assert task is not None
                self._tasks.add(task)
                with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                    await self._link(port, target, reader, writer)
                writer.transport.abort()
                self._tasks.discard(task)

            with contextlib.suppress(OSError):
                self._servers.append(await asyncio.start_server(serve, "127.0.0.1", port))
                return port

    async def _link(
        self, port: int, target: int, reader: asyncio.StreamReader, writer: Writer
    ) -> None:
        head = await reader.readexactly(_HEAD)
        ends = head[_SENDER].decode(), self._owners.get(port, "")
        if self._cut & set(ends):
            return
        from_node, to_node = await asyncio.open_connection("127.0.0.1", target)
        self._links |= {writer: ends, to_node: ends}
        try:
            to_node.write(head)
            ways = [_copy(reader, to_node), _copy(from_node, writer)]
            tasks = [asyncio.ensure_future(way) for way in ways]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for each in tasks:
                each.cancel()
            await asyncio.wait(tasks)
        finally:
            to_node.transport.abort()
            del self._links[writer], self._links[to_node]

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)


async def _copy(reader: asyncio.StreamReader, writer: Writer) -> None:
    with contextlib.suppress(OSError):
        while chunk := await reader.read(1 << 16):
            writer.write(chunk)
            await writer.drain()
