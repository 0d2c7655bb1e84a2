"""Facts and positions, and how they look on the wire (docs/wire-format.md)."""

import re
import time
import uuid
import zlib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

from google.protobuf.message import DecodeError, Message

from factfold.v1.fact_pb2 import FactMeta
from factfold_chassis.errors import InvalidRequest
from factfold_chassis.ids import new_fact_id

AT_LEAST = "factfold-at-least"
POSITION = "factfold-position"
MAX_KEY_BYTES = 512
NAMES = [b"type", b"key", b"meta", b"data"]  # of an entry's fields, as they are written
_POSITION = re.compile(
    r"([a-z0-9.-]{1,64})/(\d{1,9})@([0-9a-f]{16}):(\d{1,16})-(\d{1,16})", re.ASCII
)

Event = TypeVar("Event", bound=Message)

# A raw entry as Redis returns it: its id, then names and values in turn.
Entry = tuple[bytes, list[bytes]]


def partition_of(key: str, partitions: int) -> int:
    """The partition of `key`: CRC-32 (IEEE 802.3) of its UTF-8 bytes, modulo `partitions`."""
    return zlib.crc32(key.encode()) % partitions


def key_of(raw: bytes) -> str:
    """The key as it stands in an entry. Raises ValueError if a fact can have no such key."""
    if not 1 <= len(raw) <= MAX_KEY_BYTES or raw == b"_":
        raise ValueError(f"a key has 1 to {MAX_KEY_BYTES} bytes, and is not '_'")
    return raw.decode()


def in_order(fields: list[bytes]) -> list[bytes]:
    """The fields of NAMES alone, in that order. Raises KeyError if one is missing."""
    values = dict(zip(fields[-2::-2], fields[-1::-2], strict=True))  # the first of each name
    return [part for name in NAMES for part in (name, values[name])]


class Position(NamedTuple):
    """The place of a fact in one partition of one log."""

    stream: str
    partition: int
    epoch: str  # 16 hex digits
    ms: int
    n: int  # from 1, without gaps

    def __str__(self) -> str:
        return f"{self.stream}/{self.partition}@{self.epoch}:{self.ms}-{self.n}"


def format_positions(positions: Iterable[Position]) -> str:
    """The text of trailers, headers and tokens: comma-separated."""
    return ",".join(map(str, positions))


def parse_positions(text: str, field: str) -> list[Position]:
    """The positions in a header or token; `field` is what an error names.

    Raises:
        InvalidRequest: the text is none that this project writes.
    """
    positions = []
    for part in filter(None, text.split(",")):
        match = _POSITION.fullmatch(part)
        if not match:
            raise InvalidRequest(
                field, f"{part[:80]!r} is no position; send back one that a service returned"
            )
        stream, partition, epoch, ms, n = match.groups()
        positions.append(Position(stream, int(partition), epoch, int(ms), int(n)))
    return positions


def split_id(entry_id: bytes) -> tuple[int, int]:
    """An entry id as its milliseconds and its n."""
    ms, _, n = entry_id.partition(b"-")
    return int(ms), int(n)


def id_in(meta: bytes) -> bytes:
    """The fact id of a serialized FactMeta, which begins with it; 16 bytes."""
    return meta[2:18]


def new_meta(
    source: str,
    *,
    request_id: str = "",
    cause: bytes = b"",
    version: int = 0,
    extensions: Mapping[str, str] | None = None,
) -> FactMeta:
    """The metadata of a fact made now, without its trace context."""
    # Not as arguments: empty ones would cost more than all the others together.
    meta = FactMeta()
    meta.id, meta.source, meta.time_unix_nano = new_fact_id(), source, time.time_ns()
    if cause:
        meta.causation_id = cause
    if request_id:
        meta.request_id = request_id
    if version:
        meta.version = version
    if extensions:
        meta.extensions.update(extensions)
    return meta


class Fact:
    """One immutable entry of a stream. Its metadata is parsed when first asked for."""

    __slots__ = ("_meta", "entry", "place")
    _meta: FactMeta

    def __init__(self, stream: str, partition: int, epoch: str, entry: Entry):
        self.place = stream, partition, epoch
        self.entry = entry

    def __repr__(self) -> str:
        return f"<Fact {self.position}>"  # its type and key need not be text

    def _field(self, name: bytes) -> bytes:
        entry_id, fields = self.entry
        try:
            return fields[2 * fields[::2].index(name) + 1]
        except (ValueError, IndexError):
            raise ValueError(
                f"the entry {entry_id.decode()} has no field {name.decode()}"
            ) from None

    def read(self, message: type[Event]) -> Event:
        """Its event, after a look at all else that a fact has.

        Raises:
            ValueError: the entry is no fact.
        """
        key_of(self._field(b"key"))
        try:
            if len(self.meta.id) != 16:
                raise ValueError("it has no id")
            return message.FromString(self.data)
        except DecodeError as error:
            raise ValueError(str(error)) from None

    @property
    def position(self) -> Position:
        return Position(*self.place, *split_id(self.entry[0]))

    @property
    def stream(self) -> str:
        return self.place[0]

    @property
    def partition(self) -> int:
        return self.place[1]

    @property
    def epoch(self) -> str:
        return self.place[2]

    @property
    def n(self) -> int:
        return split_id(self.entry[0])[1]

    @property
    def type(self) -> str:
        return self._field(b"type").decode()

    @property
    def key(self) -> str:
        return self._field(b"key").decode()

    @property
    def raw_key(self) -> bytes:
        """The key as it stands in the entry; empty if there is none that a fact may have."""
        try:
            key = self._field(b"key")
        except ValueError:
            return b""
        return b"" if key == b"_" else key

    @property
    def data(self) -> bytes:
        """The serialized event."""
        return self._field(b"data")

    @property
    def meta(self) -> FactMeta:
        """Raises google.protobuf.message.DecodeError if it does not parse."""
        try:
            return self._meta
        except AttributeError:
            self._meta = FactMeta.FromString(self._field(b"meta"))
            return self._meta

    @property
    def id(self) -> uuid.UUID:
        return uuid.UUID(bytes=self.meta.id)

    @property
    def source(self) -> str:
        return self.meta.source

    @property
    def time(self) -> datetime:
        return datetime.fromtimestamp(self.meta.time_unix_nano / 1e9, UTC)

    @property
    def version(self) -> int:
        """Version of the key once this fact is applied, from 1; 0 without versions."""
        return self.meta.version

    @property
    def cause(self) -> uuid.UUID | None:
        """Id of the fact that this one answers."""
        return uuid.UUID(bytes=self.meta.causation_id) if self.meta.causation_id else None

    @property
    def request_id(self) -> str:
        return self.meta.request_id

    @property
    def extensions(self) -> Mapping[str, str]:
        extensions: Any = self.meta.extensions
        return dict(extensions)


class BareFact(Fact):
    """A Fact whose `place` and `entry` are set by whoever makes it: half the cost in a loop."""

    __slots__ = ()
    __init__ = object.__init__
