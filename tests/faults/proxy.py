"""A TCP proxy in front of Redis that knows where commands and replies begin, and breaks things.

Scripts are told apart by the SHA-1 of their text, so it works for a probe in any language.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import hashlib
import re
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Self

from topologies import Node

from factfold_chassis.testing.redis_server import free_port

_STREAM = re.compile(rb"\{([a-z0-9.-]+)(?:/(\d+))?\}")
# An address as a redirection, CLUSTER and SENTINEL have it: all ports have five digits.
_TOLD = re.compile(rb"(127\.0\.0\.1(?::|\r\n:|\r\n\$5\r\n))(\d{5})")
_REDIRECTIONS = (b"-MOVED ", b"-ASK ")
_RESET = struct.pack("ii", 1, 0)  # for SO_LINGER


class Verdict(enum.Enum):
    PASS = enum.auto()
    CUT = enum.auto()  # this and all that follows is lost, in both directions


class Command:
    """One command on its way to Redis; `executed` is set once Redis has answered."""

    def __init__(self, frame: bytes, names: Mapping[str, str]):
        self.frame = frame
        self.executed = asyncio.Event()
        self._names = names

    @cached_property
    def words(self) -> list[bytes]:
        words, at = [], self.frame.index(b"\r\n") + 2
        while at < len(self.frame):
            line = self.frame.index(b"\r\n", at)
            size = int(self.frame[at + 1 : line])
            words.append(self.frame[line + 2 : line + 2 + size])
            at = line + 2 + size + 2
        return words

    @cached_property
    def name(self) -> str:
        """Of the script without its ending (append, settle, …), else Redis' own in capitals."""
        head = self.frame[:160].split(b"\r\n")
        name = head[2].decode().upper()
        return self._names.get(head[4].decode(), name) if name == "EVALSHA" else name

    @property
    def arguments(self) -> list[bytes]:
        """A script's ARGV."""
        return self.words[3 + int(self.words[2]) :]

    @cached_property
    def place(self) -> tuple[str, int]:
        """Stream and partition of the first key; ("", -1) if there is none."""
        found = _STREAM.search(self.frame[:1024])
        return (found[1].decode(), int(found[2] or -1)) if found else ("", -1)


class Hook:
    """Sees what passes, in its order, and decides what becomes of it. Waiting holds it up."""

    async def command(self, link: Link, command: Command) -> Verdict:
        """`command` is about to be sent to Redis."""
        return Verdict.PASS

    async def reply(self, link: Link, command: Command, reply: bytes) -> Verdict:
        """Redis has executed `command`; `reply` is about to be handed on."""
        return Verdict.PASS


class Trap(Hook):
    """Springs once, at the nth command that `matches`: runs `do`, then cuts the connection.

    `executed`: once Redis has executed the command, before its caller hears so; else before Redis
    gets it. `sprung` is set when `do` is done. `then`: PASS hands the command or reply on, late.
    """

    def __init__(
        self,
        matches: Callable[[Command], bool],
        do: Callable[[], Awaitable[None] | None] = lambda: None,
        *,
        nth: int = 1,
        executed: bool = True,
        then: Verdict = Verdict.CUT,
    ):
        self.sprung = asyncio.Event()
        self.caught: Command | None = None
        self._matches = matches
        self._do = do
        self._left = nth
        self._executed = executed
        self._then = then

    async def command(self, link: Link, command: Command) -> Verdict:
        return Verdict.PASS if self._executed else await self._look(command)

    async def reply(self, link: Link, command: Command, reply: bytes) -> Verdict:
        return await self._look(command) if self._executed else Verdict.PASS

    async def _look(self, command: Command) -> Verdict:
        if self._left <= 0 or not self._matches(command):
            return Verdict.PASS
        self._left -= 1
        if self._left:
            return Verdict.PASS
        self.caught = command
        done = self._do()
        if done is not None:
            await done
        self.sprung.set()
        return self._then


class Link:
    """One client's connection, and the proxy's own one to the server at the port `target`."""

    def __init__(
        self,
        proxy: Proxy,
        target: int,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ):
        self._proxy = proxy
        self.target = target
        self._from_client, self._to_client = client
        self._from_server, self._to_server = server
        self._unanswered: deque[Command] = deque()
        self._replies: asyncio.Queue[tuple[Command, bytes]] = asyncio.Queue()
        self._ended: set[asyncio.StreamWriter] = set()

    async def run(self) -> None:
        ways = [self._up, self._hear, self._down]
        if not self._proxy.speaks:
            ways = [self._up_raw, self._down_raw]
        works = [asyncio.create_task(way()) for way in ways]
        try:
            await asyncio.wait(works, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in works:
                task.cancel()
            await asyncio.wait(works)
            self.cut()
        for task in works:
            if not task.cancelled() and not isinstance(task.exception(), OSError | None):
                raise task.exception() or AssertionError

    def cut(self) -> None:
        """Both sides see the connection end; what is on its way is lost."""
        for writer in (self._to_client, self._to_server):
            # Both sides are told at once: what they write next already fails.
            if (sock := writer.get_extra_info("socket")) is not None:
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()

    def end_for_client(self) -> None:
        """Half-closed: the client reads the end of the connection, what it writes still arrives."""
        self._end(self._to_client)

    def end_for_server(self) -> None:
        """Half-closed: Redis reads the end of the connection, its replies still arrive."""
        self._end(self._to_server)

    def _end(self, writer: asyncio.StreamWriter) -> None:
        self._ended.add(writer)
        with contextlib.suppress(OSError):
            writer.write_eof()

    async def _write(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        if writer not in self._ended and not writer.transport.is_closing():
            writer.write(data)
            await writer.drain()

    async def move(self, target: int) -> None:
        """The client's connection goes on at another server; with replies due it ends."""
        if self._unanswered or not self._replies.empty():
            self.cut()
            return
        gone, self.target = self._to_server, target
        self._from_server, self._to_server = await asyncio.open_connection("127.0.0.1", target)
        gone.transport.abort()

    async def _up(self) -> None:
        async for frame in _frames(self._from_client):
            command = Command(frame, self._proxy.names)
            for hook in list(self._proxy.hooks):
                if await hook.command(self, command) is Verdict.CUT:
                    return
            await self._proxy.flowing.wait()
            self._unanswered.append(command)
            await self._write(self._to_server, frame)

    async def _hear(self) -> None:
        """Also while a hook holds up the replies before."""
        server = None
        while server is not self._from_server:  # moved
            server = self._from_server
            async for frame in _frames(server):
                command = self._unanswered.popleft()
                command.executed.set()
                self._replies.put_nowait((command, frame))

    async def _down(self) -> None:
        while True:
            command, frame = await self._replies.get()
            for hook in list(self._proxy.hooks):
                if await hook.reply(self, command, frame) is Verdict.CUT:
                    return
            if self._proxy.delay:
                await asyncio.sleep(self._proxy.delay)
            await self._proxy.flowing.wait()
            await self._write(self._to_client, self._proxy.rewritten(command, frame))

    async def hand_on(self, part: bytes) -> None:
        """To the client: for a hook that cuts in the middle of a reply."""
        await self._write(self._to_client, part)

    async def _up_raw(self) -> None:
        await self._copy(self._from_client, self._to_server)

    async def _down_raw(self) -> None:
        await self._copy(self._from_server, self._to_client)

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(1 << 16):
            await self._proxy.flowing.wait()
            writer.write(chunk)
            await writer.drain()


class Proxy:
    """`async with Proxy(ports, scripts) as proxy:` has a door in front of each of these ports.

    `doors` tells which: port of a server → port of the proxy. Where servers tell a client of each
    other, in redirections and when they are asked where they are, it hears of the doors. Without
    scripts it is for a replica, whose protocol has no replies, and no hook sees anything.

    target   port of the server behind the only door; may be changed, for new connections
    delay    seconds that each reply is held up
    flowing  cleared: nothing passes, and no connection ends
    refusing true: new connections are closed at once
    hooks    see everything that passes
    """

    def __init__(self, ports: Iterable[int], scripts: Path | None):
        self.speaks = scripts is not None
        self.doors = {port: free_port() for port in ports}
        # Of several doors whoever knows what is behind them says it.
        self.url = "".join(f"redis://127.0.0.1:{door}/0" for door in [*self.doors.values()][:1])
        self.names = {
            hashlib.sha1(path.read_bytes()).hexdigest(): path.stem
            for path in (scripts.glob("*.lua") if scripts else ())
        }
        self.delay = 0.0
        self.refusing = False
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.hooks: list[Hook] = []
        self.links: set[Link] = set()
        self._targets = {door: port for port, door in self.doors.items()}
        self._tasks: set[asyncio.Task[None]] = set()
        self._failures: list[BaseException] = []

    async def __aenter__(self) -> Self:
        self._servers = [
            await asyncio.start_server(partial(self._serve, door), "127.0.0.1", door)
            for door in self.doors.values()
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        for server in self._servers:
            server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        assert not self._failures, self._failures

    @property
    def port(self) -> int:
        (port,) = self._targets
        return port

    @property
    def target(self) -> int:
        return self._targets[self.port]

    @target.setter
    def target(self, port: int) -> None:
        self._targets[self.port] = port

    def cut(self) -> None:
        """Every connection, now."""
        for link in self.links:
            link.cut()

    async def move(self, server: Node) -> None:
        """Everything goes to another server, as through a proxy that keeps its clients."""
        self.target = server.port
        await asyncio.gather(*(link.move(server.port) for link in list(self.links)))

    async def divert(self, server: Node, to: Node) -> None:
        """What is connected to one server goes on at another one; who comes anew does not."""
        diverted = [link for link in self.links if link.target == server.port]
        await asyncio.gather(*(link.move(to.port) for link in diverted))

    async def spring(self, trap: Trap, seconds: float = 20) -> Trap:
        """Sets a trap and waits until it has sprung."""
        self.hooks.append(trap)
        try:
            async with asyncio.timeout(seconds):
                await trap.sprung.wait()
        finally:
            self.hooks.remove(trap)
        return trap

    def rewritten(self, command: Command, reply: bytes) -> bytes:
        """With the doors instead of the servers' ports."""
        if not (
            reply.startswith((b"-MOVED ", b"-ASK ")) or command.name in ("CLUSTER", "SENTINEL")
        ):
            return reply
        return _TOLD.sub(lambda it: it[1] + b"%d" % self.doors.get(int(it[2]), int(it[2])), reply)

    async def _serve(
        self, door: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            target = self._targets[door]
            if self.refusing:
                return
            server = await asyncio.open_connection("127.0.0.1", target)
            link = Link(self, target, (reader, writer), server)
            self.links.add(link)
            try:
                await link.run()
            finally:
                self.links.discard(link)
        except OSError:
            pass  # no server: the client sees the connection end
        except asyncio.CancelledError:
            pass
        except Exception as error:
            self._failures.append(error)
        finally:
            self._tasks.discard(task)
            writer.transport.abort()


async def _frames(reader: asyncio.StreamReader):
    """Whole commands or replies of Redis' protocol, as they come."""
    buffer = bytearray()
    while chunk := await reader.read(1 << 18):
        buffer += chunk
        at = 0
        while (end := _end(buffer, at)) >= 0:
            yield bytes(buffer[at:end])
            at = end
        del buffer[:at]


def _end(buffer: bytearray, at: int) -> int:
    """Where the frame that begins at `at` ends; -1 if it is not complete."""
    left = 1
    while left:
        line = buffer.find(b"\r\n", at)
        if line < 0:
            return -1
        kind = buffer[at]
        at, first = line + 2, at
        if kind == 0x24:  # $
            size = int(buffer[first + 1 : line])
            if size >= 0:
                at += size + 2
        elif kind == 0x2A:  # *
            left += max(0, int(buffer[first + 1 : line]))
        left -= 1
    return at if at <= len(buffer) else -1
