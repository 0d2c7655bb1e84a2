"""Ids of facts and of what facts are about."""

import os
import time
import uuid
from functools import lru_cache

_NIL = uuid.UUID(int=0)
_MARKS = 0x7 << 76 | 0x2 << 62  # version and variant
_FREE = (1 << 80) - 1 & ~(0xF << 76 | 0x3 << 62)
_POOL = 256  # how many ids' random bytes are fetched at once

_random: list[int] = []  # 80 bits each, used once
os.register_at_fork(after_in_child=_random.clear)


def new_fact_id() -> bytes:
    """A UUIDv7 (RFC 9562) as 16 bytes: sortable by time, random in the rest."""
    if not _random:
        some = os.urandom(10 * _POOL)
        _random.extend(int.from_bytes(some[at : at + 10]) for at in range(0, len(some), 10))
    value = time.time_ns() // 1_000_000 << 80 | _random.pop() & _FREE | _MARKS
    return value.to_bytes(16)


def derived_id(stream: str, seed: str) -> str:
    """The id that `seed` (a request id, a fact id) always gives in `stream`, as UUID text.

    UUIDv5(UUIDv5(nil, stream), seed): a command that is repeated, or a reaction that runs
    again, names the same thing again.
    """
    return str(uuid.uuid5(_namespace(stream), seed))


@lru_cache(1024)
def _namespace(stream: str) -> uuid.UUID:
    return uuid.uuid5(_NIL, stream)
