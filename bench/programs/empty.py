"""What happens between two turns of contenders that write."""

import time

import redis


def empty(url: str) -> None:
    """Begin with an empty Redis and an empty append-only file, at nobody's cost."""
    with redis.Redis.from_url(url) as client:
        client.flushall()
        client.bgrewriteaof()
        while True:
            persistence = client.info("persistence")
            if not (persistence["aof_rewrite_in_progress"] or persistence["aof_rewrite_scheduled"]):
                return
            time.sleep(0.01)
