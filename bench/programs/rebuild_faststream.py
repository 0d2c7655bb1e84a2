"""Rebuild with FastStream: see faststream_backlog.py; parse, and put into a dict."""

import base64
import sys

import bench_pb2
from faststream.redis import RedisBroker

from bench.programs.faststream_backlog import Backlog
from bench.programs.turns import Answer, run, take_turns_async

url, stream, size, mode = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
backlog = Backlog(url, stream, size, batch=mode == "batch")


async def turn(seconds: float) -> Answer:
    parcels: dict[str, bench_pb2.ParcelMoved] = {}

    async def handle(broker: RedisBroker, messages: list[str]) -> None:
        for message in messages:
            event = bench_pb2.ParcelMoved.FromString(base64.b64decode(message))
            parcels[event.id] = event

    answer = await backlog.turn(seconds, handle)
    return {**answer, "keys": len(parcels)}


async def main() -> None:
    await take_turns_async(turn)


run(main)
