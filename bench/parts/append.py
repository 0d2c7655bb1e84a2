"""Facts of four fields and about 200 bytes are appended, and each caller awaits its own.

Ours are in the log once, whatever is retried, in order and with numbers without gaps; nobody
else suppresses duplicates. The target of units too is a multiple of redis-py's 64 callers: they
are what a service has that appends as the docs show it. The floor writes the same bytes and
leaves out all that Python does.
"""

import shutil

from bench.stage import NO_REWRITE, Contender, Stage
from factfold_chassis.testing.redis_server import find


def run(stage: Stage) -> None:
    with stage.redis(*NO_REWRITE) as server:
        url = server.url
        works = {
            "append, 64 callers": Contender.python("", "append_factfold", url, "callers", 64),
            "append, units of 100": Contender.python("", "append_factfold", url, "units"),
            "append, 512 callers": Contender.python("", "append_factfold", url, "callers", 512),
            "append through a command": Contender.python("", "append_factfold", url, "command"),
        }
        others = [
            Contender.python("redis-py", "append_redis_py", url, "callers"),
            Contender.python("redis-py on uvloop", "append_redis_py", url, "callers", "uvloop"),
            Contender.python(
                "redis-py on uvloop, pipeline of 100", "append_redis_py", url, "pipeline", "uvloop"
            ),
            Contender.python("faststream publish", "append_faststream", url),
        ]
        program = redis_benchmark()
        if program is None:
            stage.report.lacks("append against redis-benchmark: it is not installed")
        else:
            others.append(
                Contender.python("redis-benchmark", "append_redis_benchmark", program, url)
            )
        stage.compare_all("append", "facts/s", works, others)
        programs = stage.go("append")
        if programs is not None:
            stage.compare_all(
                "append",
                "facts/s",
                {
                    "append, 64 callers": programs.contender("", "append_factfold", url, "callers"),
                    "append, units of 100": programs.contender("", "append_factfold", url, "units"),
                },
                [
                    programs.contender("go-redis", "append_goredis", url, "callers"),
                    programs.contender(
                        "go-redis, pipeline of 100", "append_goredis", url, "pipeline"
                    ),
                    programs.contender("watermill", "append_watermill", url),
                ],
            )


def redis_benchmark() -> str | None:
    """Beside the server, else on PATH."""
    for name in ("redis-benchmark", "valkey-benchmark"):
        beside = find().with_name(name)
        if beside.exists():
            return str(beside)
        if on_path := shutil.which(name):
            return on_path
    return None
