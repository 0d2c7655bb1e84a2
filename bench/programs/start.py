"""One start of a server a turn, with a Redis that runs and is empty.

usage: start ROOT REDIS_URL MODULE|PROGRAM [VARIABLE=TEXT…]
"""

import sys
import time
from pathlib import Path

import redis

from bench.programs.turns import Answer, take_turns
from bench.serving import serving

root, url, name, *more = sys.argv[1:]
what = Path(name) if "/" in name else ["-m", name]
variables = dict(each.split("=", 1) for each in more)
client = redis.Redis.from_url(url)


def turn(seconds: float) -> Answer:
    client.flushall()
    with serving(Path(root), what, FACTFOLD_REDIS_URL=url, **variables) as server:
        answer = {"value": 1e3 * (time.monotonic() - server.began), "rss": server.rss()}
        server.kill()
    return answer


take_turns(turn)
