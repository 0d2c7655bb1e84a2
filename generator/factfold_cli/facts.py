"""Facts as they stand in the log: entries of which the names, the metadata and the data are read.

What a fact is, and what an entry that is none: docs/wire-format.md, Entries.
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any
from uuid import UUID

from google.protobuf.message import DecodeError

from factfold_cli.decoding import stored, text
from factfold_cli.letters import Partition, Position

NAMES = (b"type", b"key", b"meta", b"data")
_MAX_KEY_BYTES = 512
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key: CRC-32 (IEEE 802.3) of its bytes, modulo `partitions`."""
    return zlib.crc32(key) % partitions


def split_id(entry_id: bytes) -> tuple[int, int]:
    """An entry's id as its milliseconds and its n."""
    ms, _, n = entry_id.partition(b"-")
    return int(ms), int(n)


def fields_of(flat: list[bytes]) -> dict[bytes, bytes]:
    """Names and values that come in turn; of two with one name the first, which readers take."""
    found: dict[bytes, bytes] = {}
    for name, value in zip(flat[::2], flat[1::2], strict=True):
        found.setdefault(name, value)
    return found


@dataclass(frozen=True)
class Fact:
    """One entry, whatever it is. Its texts are others': escaped where they are shown.

    `foreign` says why no appender can have written it; it is empty for what one has.
    """

    partition: Partition
    epoch: str
    entry_id: bytes
    fields: Mapping[bytes, bytes]
    foreign: str = ""

    @cached_property
    def _numbers(self) -> tuple[int, int]:
        return split_id(self.entry_id)

    @property
    def ms(self) -> int:
        """When it was appended, by the log's clock."""
        return self._numbers[0]

    @property
    def n(self) -> int:
        return self._numbers[1]

    @property
    def short_position(self) -> str:
        """As `dead-letters` prints it."""
        return str(Position(self.partition, self.n))

    @property
    def position(self) -> str:
        return f"{self.partition.stream}/{self.partition.number}@{self.epoch}:{text(self.entry_id)}"

    @property
    def raw_key(self) -> bytes:
        return self.fields.get(b"key", b"")

    @property
    def key(self) -> str:
        return text(self.raw_key)

    @property
    def type(self) -> str:
        return text(self.fields.get(b"type", b""))

    @cached_property
    def meta(self) -> Any:
        """A factfold.v1.FactMeta; None if there is none, or if it does not parse."""
        try:
            return stored("FactMeta").FromString(self.fields[b"meta"])
        except (KeyError, DecodeError):
            return None

    @property
    def id(self) -> bytes:
        """16 bytes, or empty if it has none."""
        return self._id("id")

    @property
    def cause(self) -> bytes:
        """The id of the fact that this one answers: 16 bytes, or empty."""
        return self._id("causation_id")

    def _id(self, name: str) -> bytes:
        raw: bytes = getattr(self.meta, name, b"")
        return raw if len(raw) == 16 else b""

    @cached_property
    def flaw(self) -> str:
        """Why the entry is no fact, in one clause; empty if it is one."""
        if self.foreign:
            return self.foreign
        if missing := [name.decode() for name in NAMES if name not in self.fields]:
            return f"the entry has no {' and no '.join(missing)}"
        if not _is_key(self.raw_key):
            return f"its key is not 1 to {_MAX_KEY_BYTES} bytes of UTF-8, or is '_'"
        if self.meta is None:
            return "its meta does not parse"
        return "" if self.id else "it has no id of 16 bytes"


def _is_key(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return 1 <= len(raw) <= _MAX_KEY_BYTES and raw != b"_"


def id_text(raw: bytes) -> str:
    """An id as UUID text, or in hex if it is none."""
    return str(UUID(bytes=raw)) if len(raw) == 16 else raw.hex()


def instant(nanoseconds: int) -> str:
    """UTC, with as many digits as needed; empty for no time, and for none of a calendar."""
    if not nanoseconds:
        return ""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    try:
        at = (_EPOCH + timedelta(seconds=seconds)).replace(tzinfo=None).isoformat()
    except OverflowError:
        return ""
    return at + (f".{rest:09d}".rstrip("0") if rest else "") + "Z"


def known_meta(meta: Any) -> dict[str, Any]:
    """What a factfold.v1.FactMeta says, as JSON values, without what it leaves out."""
    known = {
        "id": id_text(meta.id),
        "source": meta.source,
        "time": instant(meta.time_unix_nano),
        "trace_id": meta.trace_id.hex(),
        "span_id": meta.span_id.hex(),
        "trace_flags": meta.trace_flags,
        "trace_state": meta.trace_state,
        "causation_id": id_text(meta.causation_id),
        "request_id": meta.request_id,
        "version": meta.version,
        "extensions": {name: meta.extensions[name] for name in sorted(meta.extensions)},
    }
    return {name: value for name, value in known.items() if value}
