"""Memory of the log: what `used_memory` of Redis grows by, a fact of a 79-byte event in a trace.

Theirs is the same as CloudEvents, in as many streams. Bytes are counted, not timed, so once is
enough. The series says what other limits of a stream's nodes save, and what they cost: an XADD
copies within a node, and a reader that looks up one entry walks through one.
"""

import time
from collections.abc import Callable

import redis

from bench import peers
from bench.filling import fill
from bench.floor import built
from bench.parts.append import redis_benchmark
from bench.report import Series
from bench.stage import Contender, Ratio, Stage

FACTS, SOME, KEYS, PARTITIONS = 200_000, 40_000, 50_000, 4
EVENT_BYTES = 79
NODES = [(4096, 100), (8192, 100), (16384, 100), (32768, 100), (32768, 1000)]  # bytes, entries


def run(stage: Stage) -> None:
    with stage.redis("--auto-aof-rewrite-percentage", "0") as server:
        stage.say(f"memory: appending {FACTS} facts, and as many CloudEvents")
        ours, theirs = _bytes(server.url, _fill, FACTS), _bytes(server.url, _put, FACTS)
        ratio = theirs / ours
        stage.report.add(
            "memory of the log", "bytes/fact", "CloudEvents", ours, theirs,
            Ratio(ratio, ratio, ratio),
        )  # fmt: skip
        stage.report.series.append(
            Series(
                "Limits of a stream's nodes",
                ["stream-node-max-bytes", "stream-node-max-entries", "bytes/fact",
                 "bytes/CloudEvent", "ours, of the first", "floor: appends/s", "floor: reads/s"],
                _rows(stage, server.url, server.port),
            )
        )  # fmt: skip


def _rows(stage: Stage, url: str, port: int) -> list[list[object]]:
    read = built("rebuild_hiredis", stage.folder)
    write = redis_benchmark()
    rows: list[list[object]] = []
    first = 0.0
    for size, entries in NODES:
        stage.say(f"memory: nodes of {size} bytes and {entries} entries")
        with redis.Redis.from_url(url) as client:
            client.config_set("stream-node-max-bytes", size)
            client.config_set("stream-node-max-entries", entries)
        theirs, ours = _bytes(url, _put, SOME), _bytes(url, _fill, SOME)
        first = first or ours
        reads: object = "?"
        if read is not None:
            command = [str(read), str(port), "parcels", str(PARTITIONS)]
            reads = _rate(stage, Contender("reads", command))
        writes: object = "?"
        if write is not None:
            program = Contender.python("appends", "append_redis_benchmark", write, url)
            writes = _rate(stage, program)
        rows.append([size, entries, ours, theirs, ours / first, writes, reads])
    return rows


def _rate(stage: Stage, contender: Contender) -> float:
    measured = stage.alternate("memory", [contender], rounds=3, seconds=min(stage.seconds, 0.5))
    return measured[contender.name].median


def _bytes(url: str, write: Callable[[str, int], None], facts: int) -> float:
    """Of each fact that `write` writes."""
    with redis.Redis.from_url(url) as client:
        client.flushall()
        before = _used(client)
        write(url, facts)
        return (_used(client) - before) / facts


def _used(client: redis.Redis) -> int:
    time.sleep(0.2)  # the buffers of who has just gone are freed
    used: int = client.info("memory")["used_memory"]
    return used


def _fill(url: str, facts: int) -> None:
    fill(url, facts, KEYS, partitions=PARTITIONS, traced=True, data=_event)


def _put(url: str, facts: int) -> None:
    peers.put_cloudevents(url, "cloudevents", facts, KEYS, PARTITIONS, _event)


def _event(key: str, number: int) -> bytes:
    import bench_pb2

    moved = bench_pb2.ParcelMoved(id=key, place=f"{number:09}", carrier="Nordsee", weight=100_000)
    moved.place += "." * (EVENT_BYTES - moved.ByteSize())
    data: bytes = moved.SerializeToString()
    assert len(data) == EVENT_BYTES
    return data
