"""Reading the partitions of a stream for somebody who watches: it goes on whatever it meets.

As a reader of the chassis does (docs/protocol.md, Reading), each read is compared with the head
and with the last fact that was read. What does not fit is told in a `Note`, in its place among
the facts, and reading goes on with what there is.
"""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import redis

from factfold_cli.clients import AWAY, Log, sharded
from factfold_cli.facts import Fact, fields_of, split_id
from factfold_cli.lanes import Lane, Note, at_end, meta_of, whole
from factfold_cli.log import reason

# A reader blocked for longer is not woken by a deleted key (redis#6887).
_BLOCK_MS = 2000
# How many entries of each partition a read takes: at first, at most, and the bytes aimed at.
_FIRST, _MOST, _BYTES = 16, 250, 4 << 20
_POLL_SECONDS = 0.25
_PAUSE_SECONDS, _LONGEST_PAUSE = 0.05, 1.0


class Follower:
    """Reads lanes side by side, in the order of the log's clock as far as that can be known."""

    def __init__(self, log: Log, lanes: Sequence[Lane]) -> None:
        self._log: Any = log
        self._lanes = lanes
        self._count = _FIRST

    def present(self) -> Iterator[list[Fact | Note]]:
        """What is there now, in batches. Raises redis.RedisError."""
        while any(lane.more for lane in self._lanes):
            self._read([lane for lane in self._lanes if lane.more and not lane.waiting], False)
            yield list(self._merged())

    def everything(self) -> Iterator[list[Fact | Note]]:
        """The same, and then what comes, for ever; an empty batch each two seconds at least."""
        pause = _PAUSE_SECONDS
        while True:
            behind = any(lane.more or lane.waiting for lane in self._lanes)
            try:
                self._read([lane for lane in self._lanes if not lane.waiting], not behind)
            except redis.AuthenticationError:
                raise
            except AWAY as error:
                if pause == _PAUSE_SECONDS:
                    yield [Note(f"the log does not answer: {reason(error)}; trying until it does")]
                yield []
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
                continue
            if pause > _PAUSE_SECONDS:
                yield [Note("the log answers again; going on where it was left")]
                pause = _PAUSE_SECONDS
            yield list(self._merged())

    def _merged(self) -> Iterator[Fact | Note]:
        """What is sure to be next: not what a lane that has more in the log may come before."""
        while not any(lane.more and not lane.waiting for lane in self._lanes):
            full = [lane for lane in self._lanes if lane.waiting]
            if not full:
                return
            yield min(full, key=lambda lane: lane.waiting[0][0]).waiting.popleft()[1]

    def _read(self, lanes: Sequence[Lane], block: bool) -> None:
        if not lanes:
            return
        found = self._found(lanes, block)
        # Behind the read, so that the heads count all that it found.
        with self._log.pipeline(transaction=False) as ask:
            for lane in lanes:
                ask.hmget(lane.partition.key("head"), ["epoch", "n"])
                anchor = lane.anchor[0] if lane.anchor else b"0-0"
                ask.xrange(lane.partition.key("log"), anchor, anchor)
            replies = ask.execute()
        size = 0
        for lane, head, anchored in zip(lanes, replies[::2], replies[1::2], strict=True):
            entries = found.get(lane.partition.key("log")) or []
            size += sum(len(value) for _, fields in entries for value in fields)
            self._take(lane, entries, head, anchored)
        if number := sum(map(len, found.values())):
            self._count = max(1, min(_MOST, number * _BYTES // (size + 1)))

    def _found(self, lanes: Sequence[Lane], block: bool) -> dict[str, Any]:
        """What comes behind each lane, by the key of its log."""
        if sharded(self._log):
            with self._log.pipeline(transaction=False) as ask:
                for lane in lanes:
                    after = f"({lane.after.decode()}"
                    ask.xrange(lane.partition.key("log"), after, count=self._count)
                replies = ask.execute()
            if block and not any(replies):
                time.sleep(_POLL_SECONDS)  # nobody can be blocked at several servers
            return {
                lane.partition.key("log"): entries
                for lane, entries in zip(lanes, replies, strict=True)
            }
        command: list[Any] = ["XREAD", "COUNT", self._count]
        command += ["BLOCK", _BLOCK_MS] if block else []
        command += ["STREAMS", *(lane.partition.key("log") for lane in lanes)]
        command += [lane.after for lane in lanes]
        reply: Any = self._log.execute_command(*command) or ()
        return {name.decode(): entries for name, entries in reply}

    def _take(self, lane: Lane, entries: Any, head: Any, anchored: Any) -> None:
        epoch, n = head[0], whole(head[1])
        lane.more = False
        if epoch is None:
            if not lane.gone:
                lane.say("its log is gone; waiting for another one")
            lane.gone = True
            return
        if lane.gone or epoch.decode() != lane.epoch:
            if epoch.decode() != lane.epoch:
                lane.say(f"its log was replaced, the epoch is {epoch.decode()}; from its beginning")
                lane.begin(epoch.decode())
            lane.gone, lane.more = False, True
            return
        if why := self._rolled_back(lane, n, anchored):
            self._rewind(lane, why)
            return
        if entries:
            lane.due = 0
            self._sort_in(lane, entries, n)
            lane.more = len(entries) >= self._count
        elif lane.n is not None and lane.due > lane.n:
            self._missing(lane, lane.due)
        else:
            # Counted and not found: appended in between, or gone. The next read tells.
            lane.due = n if lane.n is not None and n > lane.n else 0
            lane.more = bool(lane.due)
        if lane.until is not None and (lane.n or 0) > lane.until:
            lane.more = False

    def _rolled_back(self, lane: Lane, n: int, anchored: Any) -> str:
        if lane.n is not None and n < lane.n:
            return f"it ends at fact {n}, and fact {lane.n} was read"
        if lane.anchor is None:
            return ""
        entry_id, meta = lane.anchor
        if anchored:
            there = meta_of(anchored[0][1])
            return f"another fact stands at {entry_id.decode()}" * (meta not in (b"", there))
        first: Any = self._log.xrange(lane.partition.key("log"), count=1)
        if first and split_id(first[0][0]) < split_id(entry_id):
            return f"the fact at {entry_id.decode()} is gone, older ones are not"
        # Trimmed past the anchor: if facts were lost behind it, their numbers will tell.
        lane.anchor = None
        return ""

    def _rewind(self, lane: Lane, why: str) -> None:
        """Back to the last fact that was read and is there still; without one, to the end."""
        key = lane.partition.key("log")
        lane.due = 0
        while lane.recent:
            entry_id, meta = lane.recent[-1]
            there: Any = self._log.xrange(key, entry_id, entry_id)
            if there and meta_of(there[0][1]) == meta:
                lane.after, lane.anchor = entry_id, (entry_id, meta)
                lane.n = split_id(entry_id)[1]
                lane.say(f"its log was rolled back: {why}; going on behind fact {lane.n}")
                lane.more = True
                return
            lane.recent.pop()
        at_end(self._log, lane)
        lane.say(f"its log was rolled back: {why}; going on behind its end")

    def _sort_in(self, lane: Lane, entries: Any, last: int) -> None:
        for entry_id, fields in entries:
            ms, n = split_id(entry_id)
            lane.after = entry_id
            if not (lane.n or 0) < n <= last:
                why = "no appender wrote this entry"
                lane.waiting.append((ms, self._fact(lane, entry_id, fields, why)))
                continue
            if lane.n is not None and n > lane.n + 1:
                self._missing(lane, n - 1)
            fact = self._fact(lane, entry_id, fields)
            if lane.until is None or n <= lane.until:
                lane.waiting.append((ms, fact))
            lane.n, lane.anchor = n, (entry_id, fact.fields.get(b"meta", b""))
            lane.recent.append(lane.anchor)

    def _missing(self, lane: Lane, last: int) -> None:
        first = (lane.n or 0) + 1
        if last > first:
            lane.say(f"facts {first} to {last} were removed before they were read")
        else:
            lane.say(f"fact {first} was removed before it was read")
        lane.n = last

    @staticmethod
    def _fact(lane: Lane, entry_id: bytes, fields: list[bytes], foreign: str = "") -> Fact:
        return Fact(lane.partition, lane.epoch, entry_id, fields_of(fields), foreign)
