"""Entries that the suite writes itself, as any appender might have."""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from faults.log import Log, partition_of

from factfold.v1.fact_pb2 import FactMeta

# As the append script does: a dense id, counted in the head, never earlier than the last one.
_WRITE = """
if redis.replicate_commands then redis.replicate_commands() end
local time, head = redis.call('TIME'), redis.call('HMGET', KEYS[2], 'n', 'ms')
local ms = math.max(time[1] * 1000 + math.floor(time[2] / 1000), head[2])
ms = string.format('%.0f', ms)
local n = string.format('%.0f', head[1] + 1)
redis.call('XADD', KEYS[1], ms .. '-' .. n, unpack(ARGV))
redis.call('HSET', KEYS[2], 'n', n, 'ms', ms)
return ms .. '-' .. n
"""


def new_id() -> bytes:
    """A UUIDv7."""
    ms = time.time_ns() // 1_000_000
    number = (ms << 80) | (7 << 76) | (secrets.randbits(12) << 64) | (2 << 62)
    return uuid.UUID(int=number | secrets.randbits(62)).bytes


def new_meta(**fields: Any) -> FactMeta:
    told: dict[str, Any] = {
        "id": new_id(), "source": "/somebody", "time_unix_nano": time.time_ns(), **fields
    }  # fmt: skip
    return FactMeta(**told)


def pairs(event: Any, key: str, meta: FactMeta) -> list[tuple[bytes, bytes]]:
    """The four fields of an entry."""
    return [
        (b"type", event.DESCRIPTOR.full_name.encode()),
        (b"key", key.encode()),
        (b"meta", meta.SerializeToString(deterministic=True)),
        (b"data", event.SerializeToString(deterministic=True)),
    ]


def write(
    log: Log, stream: str, fields: Iterable[tuple[bytes, bytes]], partition: int
) -> tuple[str, str]:
    """Append an entry past every service; its position, and its id."""
    place = f"{{{stream}/{partition}}}"
    flat = [part for pair in fields for part in pair]
    with log.redis() as client:
        entry_id = client.eval(_WRITE, 2, f"{place}:log", f"{place}:head", *flat).decode()
    return f"{stream}/{partition}@{log.head(stream, partition)['epoch']}:{entry_id}", entry_id


def write_event(log: Log, stream: str, event: Any, meta: FactMeta | None = None) -> str:
    """Append a whole fact in the partition of its key; its position."""
    key = event.key
    return write(log, stream, pairs(event, key, meta or new_meta()), partition_of(key))[0]


def first(fields: Sequence[bytes], name: bytes) -> bytes:
    """The value of the first field of a name."""
    return fields[2 * fields[::2].index(name) + 1]


def has_key(fields: Sequence[bytes], key: str) -> bool:
    return b"key" in fields[::2] and first(fields, b"key") == key.encode()
