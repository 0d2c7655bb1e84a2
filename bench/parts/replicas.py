"""What it costs that a replica confirms an append before it is answered.

The replica is there in any case, so that the rows show the waiting alone.
"""

import redis

from bench.filling import SPREAD, fill
from bench.rounds import Contender
from bench.stage import NO_REWRITE, Better, Stage

FACTS, KEYS = 200_000, 100_000
WORKS: list[tuple[str, str, str, Better]] = [
    ("append, one caller", "one", "ms", "less"),
    ("append, 64 callers", "callers", "facts/s", "more"),
    ("append, units of 100", "units", "facts/s", "more"),
    ("reaction", "reaction", "facts/s", "more"),
]


def run(stage: Stage) -> None:
    for title, work, unit, better in WORKS:
        with (
            stage.redis(*NO_REWRITE, "--repl-diskless-sync-delay", "0") as master,
            stage.redis(*NO_REWRITE, "--replicaof", "127.0.0.1", str(master.port)),
        ):
            with redis.Redis.from_url(master.url) as client:
                client.wait(1, 30_000)  # the replica has caught up
            if work == "reaction":
                stage.say(f"replicas: appending {FACTS} facts")
                fill(master.url, FACTS, KEYS, partitions=SPREAD)
            confirmed, alone = (
                Contender.python(name, "servers_factfold", master.url, work, replicas)
                for name, replicas in (("confirmed", 1), ("not confirmed", 0))
            )
            stage.compare(f"{title}, confirmed", unit, confirmed, [alone], better=better)
