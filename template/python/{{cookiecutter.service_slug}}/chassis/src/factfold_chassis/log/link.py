"""One connection to Redis, used without redis-py's reply shaping.

Commands are packed by hiredis, and replies come as hiredis parsed them: shaping XREAD replies, and
asyncio's streams, cost more than the network does.
"""

import asyncio
import itertools
import random
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

import hiredis
from redis.asyncio.connection import DefaultParser
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)

CONNECT_TIMEOUT = 2.0
REPLY_TIMEOUT = 5.0

_CLOSED = "the connection is closed"
_NOTHING: Any = object()
_numbers = itertools.count(1)
# What a server answers that does not have what it is asked for: it is elsewhere, or on its way.
_ELSEWHERE = (AskError, TryAgainError, ClusterDownError, ReadOnlyError)  # MOVED is an ASK

Argument = str | bytes | int

# One command in Redis' protocol.
pack_command = cast(Callable[[tuple[Argument, ...]], bytes], hiredis.pack_command)


class LinkLost(Exception):
    """The connection is gone, or its server cannot answer now; `str(error)` says why."""


class NoLink(LinkLost):
    """There was no connection in the first place."""


class Link(asyncio.Protocol):
    """Commands go out in order, replies come back in that order.

    Args:
        transport: of a connection with nothing under way; taken over.
        redirected: told of an answer by which what was asked for is not there.
        asking: the server is asked for keys of a slot that is not its own yet.

    Attributes:
        number: no other connection of this process has it.
        received: bytes of replies so far.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        redirected: Callable[[ResponseError], None] = lambda error: None,
        *,
        asking: bool = False,
    ):
        parse_error: Any = DefaultParser.parse_error  # the server's errors, as redis-py knows them
        self._parser = hiredis.Reader(replyError=parse_error, notEnoughData=_NOTHING)
        self._replies: deque[Any] = deque()
        self._arrival: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None  # None: there is room for more commands
        self._loop = asyncio.get_running_loop()
        self._lost = ""
        self._redirected = redirected
        self._asking = asking
        self.number = next(_numbers)
        self.received = 0
        self._transport = transport
        transport.set_protocol(self)
        if transport.is_closing():
            self._lost = _CLOSED

    # What asyncio tells.

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        self._parser.feed(data)
        try:
            while (reply := self._parser.gets()) is not _NOTHING:
                self._replies.append(reply)
        except hiredis.ProtocolError as error:
            self._lost = f"not Redis' protocol: {error}"
            self._transport.abort()
        _wake(self._arrival)

    def connection_lost(self, error: Exception | None) -> None:
        self._lost = self._lost or (reason_of(error) if error else _CLOSED)
        _wake(self._arrival)
        _wake(self._room)

    def pause_writing(self) -> None:
        self._room = self._loop.create_future()

    def resume_writing(self) -> None:
        _wake(self._room)
        self._room = None

    # What the chassis uses.

    async def send(self, *commands: tuple[Argument, ...]) -> None:
        """Write commands without waiting for replies. Raises LinkLost."""
        await self.send_packed(*map(pack_command, commands))

    async def send_packed(self, *packed: bytes) -> None:
        """Write commands that pack_command made. Raises LinkLost."""
        if self._lost or self._transport.is_closing():
            raise LinkLost(self._lost or _CLOSED)
        self._write(packed)
        if self._room is not None:
            why = f"it took nothing more for {REPLY_TIMEOUT:g} s"
            late = self._loop.call_later(REPLY_TIMEOUT, self._give_up, why)
            try:
                await asyncio.shield(self._room)
            finally:
                late.cancel()
            if self._lost:
                raise LinkLost(self._lost)

    def send_soon(self, *commands: tuple[Argument, ...]) -> None:
        """Write commands, few and small, once whoever runs now has paused.

        If they cannot be sent, there are no replies.
        """
        self._loop.call_soon(self._send_now, commands)

    def _send_now(self, commands: Sequence[tuple[Argument, ...]]) -> None:
        if not (self._lost or self._transport.is_closing()):
            self._write([*map(pack_command, commands)])

    def _write(self, packed: Sequence[bytes]) -> None:
        if self._asking:  # it is asked anew for each command
            packed = [part for command in packed for part in (_ASKING, command)]
        self._transport.write(b"".join(packed))

    async def receive(self) -> Any:
        """The next reply: bytes, int, None or lists of them.

        Raises:
            LinkLost: the connection broke.
            ResponseError: the server's error reply; the link goes on.
        """
        if self._asking:
            await self._next()
        reply = await self._next()
        if isinstance(reply, RedisError):
            if isinstance(reply, _ELSEWHERE):
                self._redirected(reply)
                raise LinkLost(_elsewhere(reply)) from reply
            if isinstance(reply, ResponseError):
                raise reply
            raise LinkLost(reason_of(reply)) from reply
        return reply

    async def _next(self) -> Any:
        while not self._replies:
            if self._lost:
                raise LinkLost(self._lost)
            self._arrival = self._loop.create_future()
            await self._arrival
        return self._replies.popleft()

    async def receive_soon(self, within: float = REPLY_TIMEOUT) -> Any:
        """The next reply; LinkLost, from then on, if it takes longer than `within` seconds."""
        if self._replies and not self._asking:
            return await self.receive()
        # Not by asyncio.timeout, which takes as long as all else that is done for a reply.
        late = self._loop.call_later(within, self._give_up, f"no reply within {within:g} s")
        try:
            return await self.receive()
        finally:
            late.cancel()

    def _give_up(self, reason: str) -> None:
        self._lost = self._lost or reason
        _wake(self._arrival)
        _wake(self._room)

    async def call(self, *command: Argument) -> Any:
        """Send one command and wait for its reply, REPLY_TIMEOUT at most."""
        await self.send(command)
        return await self.receive_soon()


def _elsewhere(error: ResponseError) -> str:
    """Why a server does not have what it is asked for, as one clause."""
    if not isinstance(error, AskError):
        return f"{type(error).__name__}: {reason_of(error)}"
    how = "has moved" if isinstance(error, MovedError) else "is on its way"
    return f"slot {error.slot_id} of the cluster {how} to {error.host}:{error.port}"


_ASKING = pack_command(("ASKING",))


def _wake(waiting: asyncio.Future[None] | None) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)


def reason_of(error: BaseException) -> str:
    """In one clause."""
    return str(error).strip() or type(error).__name__


class Backoff:
    """Pauses that grow from 50 ms to 1 s, with jitter.

    Args:
        on_loss: told (reason, attempt) before each pause; attempts count from 1.
    """

    def __init__(self, on_loss: Callable[[str, int], None]):
        self._on_loss = on_loss
        self._attempt = 0

    def reset(self) -> None:
        """Something worked: the next pause is short again."""
        self._attempt = 0

    async def pause(self, error: Exception) -> None:
        self._attempt += 1
        self._on_loss(reason_of(error), self._attempt)
        longest = min(1.0, 0.05 * 2 ** min(self._attempt - 1, 6))
        await asyncio.sleep(longest * random.uniform(0.5, 1.0))


async def persist(work: Callable[[], Awaitable[None]], on_loss: Callable[[str, int], None]) -> None:
    """Run `work` until it returns, again after each lost link.

    Pauses are short again after a link that lasted: not if none was made, however long that took.
    """
    loop = asyncio.get_running_loop()
    backoff = Backoff(on_loss)
    while True:
        began = loop.time()
        try:
            return await work()
        except (LinkLost, ResponseError) as error:
            if loop.time() - began > 1.0 and not isinstance(error, NoLink):
                backoff.reset()
            await backoff.pause(error)
