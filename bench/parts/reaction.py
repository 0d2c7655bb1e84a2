"""Each fact of another service's stream is answered with one event of the own one.

That is to consume, handle, append one and commit.
Ours is a service with a reaction: answered exactly once, facts of one key in order. FastStream
does the same without these, at least once.
"""

from bench import peers
from bench.filling import fill
from bench.stage import NO_REWRITE, Contender, Stage

FACTS, MESSAGES, KEYS = 200_000, 100_000, 100_000


def run(stage: Stage) -> None:
    with stage.redis(*NO_REWRITE) as server:
        url = server.url
        stage.say(f"reaction: appending {FACTS} facts")
        fill(url, FACTS, KEYS)
        peers.put_faststream(url, "faststream", MESSAGES, KEYS)
        others = [
            Contender.python(
                f"faststream {work}", "reaction_faststream", url, "faststream", MESSAGES, work
            )
            for work in ("batch", "together", "pipeline", "single")
        ]
        ours = Contender.python("factfold", "reaction_factfold", url, FACTS)
        stage.compare("reaction", "facts/s", ours, others)
        programs = stage.go("reaction")
        if programs is not None:
            peers.put_watermill(url, "watermill", MESSAGES, KEYS)
            router = programs.contender(
                "watermill router", "reaction_watermill", url, "watermill", MESSAGES
            )
            ours = programs.contender("factfold", "reaction_factfold", url, FACTS)
            stage.compare("reaction", "facts/s", ours, [router])
