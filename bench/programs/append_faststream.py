"""Appends with FastStream, as its docs show it: `await broker.publish(…, stream=…)`.

64 callers, each awaits its publish, again and again. The event is the message; type and key are
headers, and FastStream's correlation id takes the place of our metadata.
"""

import sys

from faststream.redis import RedisBroker

from bench.programs.callers import KEYS, appended, made
from bench.programs.empty import empty
from bench.programs.turns import Answer, run, take_turns_async

url = sys.argv[1]
MESSAGES = [(data, {"type": type_, "key": key}) for type_, key, _, data in made()]


async def main() -> None:
    async with RedisBroker(url, logger=None) as broker:
        await broker.start()

        async def append(number: int) -> int:
            data, headers = MESSAGES[number % KEYS]
            await broker.publish(data, stream="parcels", headers=headers)
            return 1

        async def turn(seconds: float) -> Answer:
            empty(url)
            return await appended(seconds, 64, append)

        await take_turns_async(turn)


run(main)
