"""One connection to Redis, used without redis-py's reply shaping.

redis-py makes the connection (URL, TLS, authentication); commands are packed by hiredis and
replies come as hiredis parsed them. Shaping XREAD replies costs more than the network does.
"""

import asyncio
import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import hiredis
from redis.asyncio import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

CONNECT_TIMEOUT = 2.0
REPLY_TIMEOUT = 5.0

Argument = str | bytes | int

# One command in Redis' protocol.
pack_command = cast(Callable[[tuple[Argument, ...]], bytes], hiredis.pack_command)


class LinkLost(Exception):
    """The connection is gone, or the server cannot answer now; `str(error)` says why."""


class Redis:
    """Where Redis is; opens links to it."""

    def __init__(self, url: str):
        # Retries are ours: redis-py's would send an XADD twice (docs/protocol.md, Append).
        self._pool: Any = ConnectionPool.from_url(
            url,
            protocol=2,
            socket_timeout=None,
            socket_connect_timeout=CONNECT_TIMEOUT,
            retry=Retry(NoBackoff(), 0),
        )

    @asynccontextmanager
    async def link(self) -> AsyncIterator["Link"]:
        """An open link, closed at the end. Raises LinkLost."""
        connection = self._pool.make_connection()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await connection.connect()
        except (RedisError, OSError, TimeoutError) as error:
            raise LinkLost(_reason(error)) from error
        try:
            yield Link(connection)
        finally:
            # Never handed on: a cancelled blocking read leaves a connection out of step.
            with suppress(RedisError, OSError):
                await connection.disconnect(nowait=True)


class Link:
    """Commands go out in order, replies come back in that order."""

    def __init__(self, connection: Any):
        self._connection = connection

    async def send(self, *commands: tuple[Argument, ...]) -> None:
        """Write commands without waiting for replies. Raises LinkLost."""
        await self.send_packed(b"".join(map(pack_command, commands)))

    async def send_packed(self, packed: bytes) -> None:
        """Write what pack_command made. Raises LinkLost."""
        if not self._connection.is_connected:
            raise LinkLost("the connection is closed")  # redis-py would open another one
        try:
            await self._connection.send_packed_command([packed], check_health=False)
        # RuntimeError: uvloop's, until the reader has heard that the connection is gone.
        except (RedisError, OSError, RuntimeError) as error:
            raise LinkLost(_reason(error)) from error

    async def receive(self) -> Any:
        """The next reply: bytes, int, None or lists of them.

        Raises:
            LinkLost: the connection broke.
            ResponseError: the server's error reply; the link goes on.
        """
        try:
            return await self._connection.read_response(disable_decoding=True, timeout=math.inf)
        except ResponseError:
            raise
        except (RedisError, OSError) as error:
            raise LinkLost(_reason(error)) from error

    async def receive_soon(self) -> Any:
        """The next reply; LinkLost if it takes longer than REPLY_TIMEOUT."""
        try:
            async with asyncio.timeout(REPLY_TIMEOUT):
                return await self.receive()
        except TimeoutError:
            raise LinkLost(f"no reply within {REPLY_TIMEOUT:g} s") from None

    async def call(self, *command: Argument) -> Any:
        """Send one command and wait for its reply, REPLY_TIMEOUT at most."""
        await self.send(command)
        return await self.receive_soon()


def _reason(error: BaseException) -> str:
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
        self._on_loss(_reason(error), self._attempt)
        longest = min(1.0, 0.05 * 2 ** min(self._attempt - 1, 6))
        await asyncio.sleep(longest * random.uniform(0.5, 1.0))


async def persist(work: Callable[[], Awaitable[None]], on_loss: Callable[[str, int], None]) -> None:
    """Run `work` until it returns, again after each lost link."""
    loop = asyncio.get_running_loop()
    backoff = Backoff(on_loss)
    while True:
        began = loop.time()
        try:
            return await work()
        except (LinkLost, ResponseError) as error:
            if loop.time() - began > 1.0:
                backoff.reset()
            await backoff.pause(error)
