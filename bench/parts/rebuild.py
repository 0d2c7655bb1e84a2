"""A view is folded again from the start of its log: 100-byte events, one row a key.

The floor reads and parses nothing. FastStream and Watermill, which have no rebuild, read their
own messages with a new consumer group, as somebody would who has to build state from a stream.
"""

from bench import golang, peers
from bench.filling import fill
from bench.floor import built
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
        try:
            program = golang.built("watermill", stage.folder)
        except golang.NotBuilt as error:
            stage.report.lacks(f"rebuild against watermill: {error}")
        else:
            peers.put_watermill(url, "watermill", MESSAGES, KEYS)
            command = [str(program), f"127.0.0.1:{server.port}", "watermill", str(MESSAGES)]
            others.append(Contender("watermill", command))
        works = {
            "rebuild": Contender.python("factfold", "rebuild_factfold", url),
            "rebuild, own stream": Contender.python("factfold", "rebuild_factfold", url, "own"),
        }
        stage.compare_all("rebuild", "facts/s", works, others)
