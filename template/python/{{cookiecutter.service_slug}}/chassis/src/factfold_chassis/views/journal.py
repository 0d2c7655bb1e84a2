"""What an owner remembers of its own streams: request ids, and the newest facts."""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from itertools import chain

from google.protobuf.message import DecodeError

from factfold.v1.fact_pb2 import FactMeta
from factfold_chassis.facts import Entry, in_order, split_id

REQUESTS_PER_KEY = 64
RECENT, RECENT_BYTES = 1024, 4 << 20  # of a partition, at most
_REQUEST_ID_TAG = b"\x4a"  # FactMeta.request_id: without this byte there is none
# FactMeta begins with an id of 16 bytes, a source, and a time: in these, the byte says nothing, and
# a time has it for minutes on end.
_ID, _SOURCE_TAG, _TIME_TAG, _REST = b"\x0a\x10", 0x12, 0x19, 29

# Request id and entry id of the facts of one key. A tuple, because most keys have few: an empty
# deque takes 600 bytes.
Facts = tuple[tuple[str, bytes], ...]
Requests = dict[str, dict[str, Facts]]  # by stream, by key


@dataclass(slots=True)
class _Recent:
    """The newest facts of a partition, by batch."""

    batches: deque[tuple[list[Entry], int]] = field(default_factory=deque)
    facts: int = 0
    bytes: int = 0

    def take(self, entries: list[Entry], size: int) -> None:
        self.batches.append((entries, size))
        self.facts += len(entries)
        self.bytes += size
        while self.facts > RECENT or self.bytes > RECENT_BYTES:
            oldest, size = self.batches.popleft()
            self.facts -= len(oldest)
            self.bytes -= size

    def since(self, n: int) -> list[Entry] | None:
        found: list[list[Entry]] = []
        for entries, _ in reversed(self.batches):
            first = split_id(entries[0][0])[1]
            found.append(entries[max(0, n - first) :])
            if first <= n:
                return list(chain.from_iterable(reversed(found)))
        return None


class Journal:
    """Fed by the view that folds the service's own streams.

    `answered` makes a repeated command give the original answer; `recent` feeds watches without
    a read for each of them.
    """

    def __init__(self) -> None:
        self._requests: Requests = {}
        self._recent: dict[tuple[str, int], _Recent] = {}
        self._watching: set[asyncio.Event] = set()

    @property
    def requests(self) -> Requests:
        """A copy that stays as it is."""
        return {stream: by_key.copy() for stream, by_key in self._requests.items()}

    def reset(self, requests: Requests) -> None:
        """Begin anew, with what a snapshot remembers."""
        self._requests = requests
        self._recent.clear()
        self.wake()

    def take(self, stream: str, partition: int, entries: list[Entry], size: int) -> None:
        """Remember a batch, of `size` bytes. Entries that cannot be read are passed over."""
        requests = self._requests.setdefault(stream, {})
        for entry_id, fields in entries:
            try:
                match fields:
                    case [b"type", _, b"key", raw_key, b"meta", meta, b"data", _]:
                        pass
                    case _:
                        _, _, _, raw_key, _, meta, _, _ = in_order(fields)
                if _REQUEST_ID_TAG not in meta or (
                    meta[:2] == _ID
                    and meta[18] == _SOURCE_TAG
                    and (source := meta[19]) < 128
                    and meta[20 + source] == _TIME_TAG
                    and _REQUEST_ID_TAG not in meta[_REST + source :]
                ):
                    continue
                request_id = FactMeta.FromString(meta).request_id
                key = raw_key.decode()
            except (KeyError, ValueError, IndexError, DecodeError):
                continue
            if request_id:
                known = requests.get(key, ())[1 - REQUESTS_PER_KEY :]
                requests[key] = (*known, (request_id, entry_id))
        if entries:
            self._recent.setdefault((stream, partition), _Recent()).take(entries, size)
        self.wake()

    def answered(self, stream: str, key: str, request_id: str) -> list[bytes]:
        """Entry ids of the facts of `key` that the command `request_id` appended, in order."""
        known = self._requests.get(stream, {}).get(key, ())
        return [entry_id for request, entry_id in known if request == request_id]

    def recent(self, stream: str, partition: int, n: int) -> list[Entry] | None:
        """The facts from number `n` on; None if they are not all remembered."""
        recent = self._recent.get((stream, partition))
        return recent.since(n) if recent else None

    def watch(self, event: asyncio.Event) -> None:
        """Set `event` whenever something new is there, until `unwatch`."""
        self._watching.add(event)

    def unwatch(self, event: asyncio.Event) -> None:
        self._watching.discard(event)

    def wake(self) -> None:
        for event in self._watching:
            event.set()
