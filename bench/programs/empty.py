"""What happens between two turns of contenders that write."""

import time

import redis


def empty(url: str) -> None:
    """Begin with an empty Redis and an empty append-only file, at nobody's cost."""
    with redis.Redis.from_url(url) as client:
        client.flushall()
        _wait(client)
        client.bgrewriteaof()
        _wait(client)


def _wait(client: redis.Redis) -> None:
    while True:
        found = client.info("persistence")
        if not (found["aof_rewrite_in_progress"] or found["aof_rewrite_scheduled"]):
            return
        time.sleep(0.01)
