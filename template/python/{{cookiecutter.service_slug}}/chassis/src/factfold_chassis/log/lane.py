"""What is on its way into one partition: facts, units, batches, the window in flight."""

import asyncio
import secrets
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field

from factfold_chassis.errors import InvalidRequest
from factfold_chassis.facts import MAX_KEY_BYTES, Position, id_in
from factfold_chassis.log.link import Argument, pack_command
from factfold_chassis.log.lost import Memory
from factfold_chassis.log.scripts import APPEND

MAX_BATCH_FACTS = 256
MAX_BATCH_BYTES = 1 << 20
MAX_VERSION = 2**53 - 1  # above it, Lua's numbers round


@dataclass(slots=True, eq=False)
class NewFact:
    """A fact on its way into the log."""

    key: str
    type: str
    meta: bytes
    data: bytes
    expected_version: int | None = None

    @property
    def fact_id(self) -> bytes:
        return id_in(self.meta)

    @property
    def size(self) -> int:
        key = len(self.key.encode())
        return key + len(self.type) + len(self.meta) + len(self.data) + 32


def check_key(key: str) -> None:
    """Raises InvalidRequest if no fact can have this key."""
    length = len(key.encode())
    if not 1 <= length <= MAX_KEY_BYTES:
        raise InvalidRequest("key", f"a key has 1 to {MAX_KEY_BYTES} bytes, this one {length}")
    if key == "_":
        raise InvalidRequest("key", "'_' is no key: every hash in Redis has a field of this name")


def check_size(type_: str, size: int, max_bytes: int) -> None:
    """Raises InvalidRequest if a fact of this type is too large."""
    if size > max_bytes:
        raise InvalidRequest(type_, f"a fact has at most {max_bytes} bytes, not {size}")


def check_version(expected: int) -> None:
    """Raises InvalidRequest if no key can be at this version.

    The script would refuse the whole batch for it, with the facts of other callers.
    """
    if not 0 <= expected <= MAX_VERSION:
        raise InvalidRequest("expected_version", f"must be from 0 to {MAX_VERSION}")


def listed_versions(expected: Sequence[int | None]) -> str:
    """As the append script takes them, of facts that follow each other."""
    if expected.count(None) == len(expected):
        return ""
    return ",".join(["" if version is None else str(version) for version in expected])


@dataclass(slots=True, eq=False)
class Unit:
    """The facts of one append call: all or nothing."""

    facts: Sequence[NewFact]
    deadline: float
    done: asyncio.Future[Position]
    size: int


@dataclass(slots=True, eq=False)
class Batch:
    """Sent as it is until its outcome is known: never regrouped, never renumbered."""

    sequence: int
    units: list[Unit]
    packed: bytes
    sent: int = 0
    confirming: int = 0  # replies that come behind its own
    lane: "Lane | None" = None


@dataclass(slots=True, eq=False)
class Lane:
    """One partition: what waits, and the window of batches in flight."""

    stream: str
    partition: int
    epoch: str
    keys: list[str]
    memory: Memory
    producer: str = dataclass_field(default_factory=lambda: secrets.token_hex(16))
    sequence: int = 0
    pending: deque[Unit] = dataclass_field(default_factory=deque)
    window: deque[Batch] = dataclass_field(default_factory=deque)
    unanswered: int = 0
    resend: bool = False
    answered: float = 0.0  # when the last batch was
    wake: asyncio.Event = dataclass_field(default_factory=asyncio.Event)  # something is to be sent
    last: int = 0  # its turn, among those of all lanes
    dead: str = ""

    def renew_producer(self) -> None:
        self.producer, self.sequence = secrets.token_hex(16), 0

    def next_batch(self, gone: Callable[[Unit], None]) -> list[Batch]:
        """What waits, as one more batch of the window; none if nobody waits any more.

        `gone` is told of units whose callers have left: they are not sent.
        """
        units: list[Unit] = []
        facts = size = 0
        while self.pending:
            unit = self.pending[0]
            if unit.done.cancelled():
                gone(self.pending.popleft())
                continue
            facts += len(unit.facts)
            size += unit.size
            if units and (facts > MAX_BATCH_FACTS or size > MAX_BATCH_BYTES):
                break
            units.append(self.pending.popleft())
        batches = [self.pack(units)] if units else []
        self.window.extend(batches)
        return batches

    def pack(self, units: list[Unit]) -> Batch:
        predecessor, self.sequence = self.sequence, self.sequence + 1
        facts = [fact for unit in units for fact in unit.facts]
        sizes = ""
        if len(facts) > len(units):
            sizes = ",".join([str(len(unit.facts)) for unit in units])
        versions = listed_versions([fact.expected_version for fact in facts])
        args: list[Argument] = [
            self.epoch, self.producer, "batch", self.sequence, predecessor, sizes, versions
        ]  # fmt: skip
        for fact in facts:
            args += (fact.type, fact.key, fact.meta, fact.data)
        packed = pack_command(APPEND.command(self.keys, *args))
        return Batch(self.sequence, units, packed, lane=self)
