"""Rebuild with redis-py's asyncio client as its docs show it: `await xread`, parse, into a dict."""

import sys
import time

import bench_pb2
import redis.asyncio

from bench.programs.turns import Answer, run, take_turns_async

url, stream, partitions = sys.argv[1], sys.argv[2], int(sys.argv[3])


async def main() -> None:
    client = redis.asyncio.Redis.from_url(url)

    async def turn(seconds: float) -> Answer:
        facts, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            parcels: dict[str, bench_pb2.ParcelMoved] = {}
            for partition in range(partitions):
                key, after = f"{{{stream}/{partition}}}:log", b"0-0"
                while reply := await client.xread({key: after}, count=1000):
                    entries = reply[0][1]
                    for _, fields in entries:
                        event = bench_pb2.ParcelMoved.FromString(fields[b"data"])
                        parcels[fields[b"key"].decode()] = event
                        facts += 1
                    after = entries[-1][0]
        return {"value": facts / (time.perf_counter() - began), "keys": len(parcels)}

    await take_turns_async(turn)


run(main)
