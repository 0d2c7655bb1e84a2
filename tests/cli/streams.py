"""A stream in a real log, appended to by the script that services use."""

import time
import uuid
from typing import Any

from factfold.v1.fact_pb2 import FactMeta
from factfold_cli.facts import id_text, partition_of

from .letters import EPOCH, client, script

NAMES = ("log", "head", "producers", "versions")


class Stream:
    """All partitions of one stream."""

    def __init__(self, url: str, name: str = "orders", count: int = 4, epoch: str = EPOCH) -> None:
        self.log = client(url)
        self.name = name
        self.count = count
        self.epoch = epoch
        for partition in range(count):
            script(self.log, "create", self.keys(partition), count, epoch)

    def keys(self, partition: int) -> list[str]:
        return [f"{{{self.name}/{partition}}}:{kind}" for kind in NAMES]

    def partition(self, key: str) -> int:
        return partition_of(key.encode(), self.count)

    def add(
        self, key: str, type: str, data: bytes, *, raw_meta: bytes | None = None, **meta: Any
    ) -> tuple[str, str]:
        """Appends one fact; returns its position and its id, as texts."""
        now = time.time_ns() // 1_000_000
        id = uuid.UUID(int=now << 80 | 0x7 << 76 | 0x2 << 62 | uuid.uuid4().int & (1 << 62) - 1)
        known: dict[str, Any] = {
            "id": id.bytes,
            "source": f"/{self.name}",
            "time_unix_nano": 1_700_000_000_000_000_000,
        }
        given = FactMeta(**(known | meta)).SerializeToString() if raw_meta is None else raw_meta
        partition = self.partition(key)
        ms, n = self.append(partition, [(key, type, given, data)])
        position = f"{self.name}/{partition}@{self.epoch}:{ms}-{n}"
        # The next one has another time: the order of two in one millisecond is anybody's.
        time.sleep(0.002)
        return position, id_text((known | meta)["id"])

    def append(self, partition: int, facts: list[tuple[str, str, bytes, bytes]]) -> tuple[int, int]:
        """Appends facts of one partition; returns ms and n of the last."""
        args: list[Any] = ["batch", 1, 0, "", ""]
        for key, type, meta, data in facts:
            args += [type, key, meta, data]
        producer = uuid.uuid4().hex
        reply = script(self.log, "append", self.keys(partition), self.epoch, producer, *args)
        assert reply[0] == b"OK", reply
        return int(reply[1]), int(reply[2]) + len(facts) - 1
