"""A view is folded again from the start of its log: 100-byte events, one row a key."""

from bench.filling import fill
from bench.floor import built
from bench.stage import Contender, Stage

FACTS, KEYS, PARTITIONS = 200_000, 100_000, 4


def run(stage: Stage) -> None:
    with stage.redis() as server:
        stage.say(f"rebuild: appending {FACTS} facts")
        fill(server.url, FACTS, KEYS)
        others = [
            Contender.python("redis-py", "rebuild_redis_py", server.url, "parcels", PARTITIONS)
        ]
        program = built("rebuild_hiredis", stage.folder)
        if program is None:
            stage.report.lacks("rebuild against hiredis: there is no C compiler")
        else:
            command = [str(program), str(server.port), "parcels", str(PARTITIONS)]
            others.append(Contender("hiredis", command))
        ours = Contender.python("factfold", "rebuild_factfold", server.url)
        stage.compare("rebuild", "facts/s", ours, others)
        own = Contender.python("factfold", "rebuild_factfold", server.url, "own")
        stage.compare("rebuild, own stream", "facts/s", own, others)
