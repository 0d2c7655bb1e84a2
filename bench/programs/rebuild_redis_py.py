"""Rebuild with redis-py as its docs show it: `xread` in a loop, parse, put into a dict."""

import sys
import time

import bench_pb2
import redis

from bench.programs.turns import Answer, take_turns

url, stream, partitions = sys.argv[1], sys.argv[2], int(sys.argv[3])
client = redis.Redis.from_url(url)


def turn(seconds: float) -> Answer:
    facts, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        parcels: dict[str, bench_pb2.ParcelMoved] = {}
        for partition in range(partitions):
            key, after = f"{{{stream}/{partition}}}:log", b"0-0"
            while reply := client.xread({key: after}, count=1000):
                entries = reply[0][1]
                for _, fields in entries:
                    event = bench_pb2.ParcelMoved.FromString(fields[b"data"])
                    parcels[fields[b"key"].decode()] = event
                    facts += 1
                after = entries[-1][0]
    return {"value": facts / (time.perf_counter() - began), "keys": len(parcels)}


take_turns(turn)
