"""Ids of facts and of what facts are about."""

import os
import time
import uuid

_NIL = uuid.UUID(int=0)


def new_fact_id() -> bytes:
    """A UUIDv7 (RFC 9562) as 16 bytes: sortable by time, random in the rest."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10))
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return value.to_bytes(16)


def derived_id(stream: str, seed: str) -> str:
    """The id that `seed` (a request id, a fact id) always gives in `stream`, as UUID text.

    UUIDv5(UUIDv5(nil, stream), seed): a command that is repeated, or a reaction that runs
    again, names the same thing again.
    """
    return str(uuid.uuid5(uuid.uuid5(_NIL, stream), seed))
