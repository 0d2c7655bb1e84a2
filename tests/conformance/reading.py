"""What stands in the log now, read while others go on writing."""

from __future__ import annotations

from faults.log import PARTITIONS, Logged, partition_of

from .entries import has_key
from .stage import Stage


def keyed(stage: Stage, stream: str, key: str) -> list[Logged]:
    """The facts of one key; others of its partition may be anything."""
    return _read(stage, stream, partition_of(key), key)


def everything(stage: Stage, stream: str) -> list[Logged]:
    """All facts, partition by partition; none may be anything else."""
    return [fact for p in range(PARTITIONS) for fact in _read(stage, stream, p)]


def _read(stage: Stage, stream: str, partition: int, key: str | None = None) -> list[Logged]:
    epoch = stage.log.head(stream, partition)["epoch"]
    return [
        Logged.of(stream, partition, epoch, entry_id.decode(), fields[1::2])
        for entry_id, fields in stage.log.entries(stream, partition)
        if key is None or has_key(fields, key)
    ]
