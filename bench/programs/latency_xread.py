"""A blocked XREAD, as fast as it goes in a process like ours: says when an entry has come.

usage: latency_xread REDIS_PORT
"""

import asyncio
import os
import sys
from typing import Any, Self

import hiredis

from bench.programs.stopwatch import note
from bench.programs.turns import run
from factfold_chassis.log.link import pack_command

KEY = "floor"


class Connection:
    """To Redis, with nothing around it but the event loop."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._replies = hiredis.Reader()

    @classmethod
    async def to(cls, port: int) -> Self:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def call(self, *command: str | bytes | int) -> Any:
        self._writer.write(pack_command(command))
        while (reply := self._replies.gets()) is False:
            self._replies.feed(await self._reader.read(65_536))
        if isinstance(reply, Exception):
            raise reply
        return reply


async def main() -> None:
    redis = await Connection.to(int(sys.argv[1]))
    await redis.call("DEL", KEY)
    after: bytes | str = "0-0"
    os.write(1, note())
    while True:
        reply = await redis.call("XREAD", "COUNT", 1000, "BLOCK", 0, "STREAMS", KEY, after)
        os.write(1, note())
        after = reply[0][1][-1][0]


if __name__ == "__main__":
    run(main)
