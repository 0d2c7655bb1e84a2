"""A view is folded again from the start of its log: 100-byte events, one row a key.

The floor reads and parses nothing. FastStream and Watermill, which have no rebuild, read their
own messages with a new consumer group, as somebody would who has to build state from a stream.
"""

from pathlib import Path

from bench import peers
from bench.filling import fill
from bench.floor import built
from bench.parts.append import redis_benchmark
from bench.stage import Contender, Stage

FACTS, KEYS, PARTITIONS = 200_000, 100_000, 4
MESSAGES = 100_000  # of each peer, which is read again and again


def run(stage: Stage) -> None:
    with stage.redis() as server:
        url = server.url
        stage.say(f"rebuild: appending {FACTS} facts")
        fill(url, FACTS, KEYS)
        peers.put_faststream(url, "faststream", MESSAGES, KEYS)
        message_by_message = [url, "faststream", MESSAGES]
        others = [
            Contender.python("redis-py", "rebuild_redis_py", url, "parcels", PARTITIONS),
            Contender.python(
                "redis-py asyncio", "rebuild_redis_asyncio", url, "parcels", PARTITIONS
            ),
            Contender.python(
                "faststream batch", "rebuild_faststream", *message_by_message, "batch"
            ),
            Contender.python(
                "faststream single", "rebuild_faststream", *message_by_message, "single"
            ),
        ]
        program = built("rebuild_hiredis", stage.folder)
        if program is None:
            stage.report.lacks("rebuild against hiredis: there is no C compiler")
        else:
            command = [str(program), str(server.port), "parcels", str(PARTITIONS)]
            others.append(Contender("hiredis", command))
        programs = stage.go("rebuild")
        if programs is not None:
            peers.put_watermill(url, "watermill", MESSAGES, KEYS)
            watermill = programs.contender(
                "watermill", "rebuild_watermill", url, "watermill", MESSAGES
            )
            others.append(watermill)
        works = {
            "rebuild": Contender.python("factfold", "rebuild_factfold", url),
            "rebuild, own stream": Contender.python("factfold", "rebuild_factfold", url, "own"),
        }
        stage.compare_all("rebuild", "facts/s", works, others)
        if programs is None:
            return
        theirs = [
            programs.contender("go-redis", "rebuild_goredis", url, "parcels", PARTITIONS),
            watermill,
            *_floor(url, "parcels", program, server.port),
        ]
        ours = programs.contender("factfold", "rebuild_factfold", url)
        stage.compare("rebuild", "facts/s", ours, theirs)


def _floor(url: str, stream: str, hiredis: Path | None, port: int) -> list[Contender]:
    """redis-benchmark, else the floor in C under a name that says so."""
    benchmark = redis_benchmark()
    if benchmark is not None:
        arguments = "rebuild_redis_benchmark", benchmark, url, stream
        return [Contender.python("redis-benchmark", *arguments)]
    if hiredis is not None:
        command = [str(hiredis), str(port), stream, str(PARTITIONS)]
        return [Contender("hiredis, for redis-benchmark", command)]
    return []
