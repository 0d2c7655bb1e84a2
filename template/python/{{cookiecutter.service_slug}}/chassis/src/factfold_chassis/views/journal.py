"""What an owner remembers of its own streams: request ids, and the newest facts."""

import asyncio
from collections import Counter, deque

from google.protobuf.message import DecodeError

from factfold.v1.fact_pb2 import FactMeta
from factfold_chassis.facts import NAMES, Entry, in_order, split_id

REQUESTS_PER_KEY = 64
RECENT, RECENT_BYTES = 1024, 4 << 20  # of a partition, at most
_REQUEST_ID_TAG = b"\x4a"  # FactMeta.request_id: without this byte there is none

# Request id and entry id of the facts of one key. A tuple, because most keys have few: an empty
# deque takes 600 bytes.
Facts = tuple[tuple[str, bytes], ...]
Requests = dict[str, dict[str, Facts]]  # by stream, by key


def _size(entry: Entry) -> int:
    return len(entry[1][-1])  # data; the other fields are small


class Journal:
    """Fed by the view that folds the service's own streams.

    `answered` makes a repeated command give the original answer; `recent` feeds watches without
    a read for each of them.
    """

    def __init__(self) -> None:
        self._requests: Requests = {}
        self._recent: dict[tuple[str, int], deque[Entry]] = {}
        self._bytes: Counter[tuple[str, int]] = Counter()
        self._watching: set[asyncio.Event] = set()

    @property
    def requests(self) -> Requests:
        """A copy that stays as it is."""
        return {stream: by_key.copy() for stream, by_key in self._requests.items()}

    def reset(self, requests: Requests) -> None:
        """Begin anew, with what a snapshot remembers."""
        self._requests = requests
        self._recent.clear()
        self._bytes.clear()
        self.wake()

    def take(self, stream: str, partition: int, entries: list[Entry]) -> None:
        """Remember a batch. Entries that cannot be read are passed over."""
        requests = self._requests.setdefault(stream, {})
        for entry_id, fields in entries:
            try:
                named = fields if fields[0::2] == NAMES else in_order(fields)
                if _REQUEST_ID_TAG not in named[5]:
                    continue
                request_id = FactMeta.FromString(named[5]).request_id
                key = named[3].decode()
            except (KeyError, ValueError, DecodeError):
                continue
            if request_id:
                known = requests.get(key, ())[1 - REQUESTS_PER_KEY :]
                requests[key] = (*known, (request_id, entry_id))
        place = stream, partition
        recent = self._recent.setdefault(place, deque())
        recent.extend(entries)
        size = self._bytes[place] + sum(map(_size, entries))
        while len(recent) > RECENT or size > RECENT_BYTES:
            size -= _size(recent.popleft())
        self._bytes[place] = size
        self.wake()

    def answered(self, stream: str, key: str, request_id: str) -> list[bytes]:
        """Entry ids of the facts of `key` that the command `request_id` appended, in order."""
        known = self._requests.get(stream, {}).get(key, ())
        return [entry_id for request, entry_id in known if request == request_id]

    def recent(self, stream: str, partition: int, n: int) -> list[Entry] | None:
        """The facts from number `n` on; None if they are not all remembered."""
        recent = self._recent.get((stream, partition))
        if not recent:
            return None
        first = split_id(recent[0][0])[1]
        if first > n:
            return None
        return [recent[at] for at in range(n - first, len(recent))]

    def watch(self, event: asyncio.Event) -> None:
        """Set `event` whenever something new is there, until `unwatch`."""
        self._watching.add(event)

    def unwatch(self, event: asyncio.Event) -> None:
        self._watching.discard(event)

    def wake(self) -> None:
        for event in self._watching:
            event.set()
