"""Dead letters as they stand in the log, and what becomes of those that somebody has asked for.

Only the owner of a partition changes them (docs/protocol.md, Reactions); here they are read, and
requests are queued for it.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from google.protobuf.message import DecodeError

from factfold_cli.clients import Log, together
from factfold_cli.contract import STREAM_NAME
from factfold_cli.decoding import stored, text
from factfold_cli.errors import Failed
from factfold_cli.log import keys, pairs, script

GROUP = re.compile(r"[^.\s]\S*\.[^.\s]+")
_POSITION = re.compile(
    rf"({STREAM_NAME})/(\d{{1,9}})(?:@[0-9a-f]{{16}})?:(?:(\d{{1,16}})-)?([1-9]\d{{0,15}})"
)
_DEAD = re.compile(rf"\{{({STREAM_NAME})/(\d{{1,9}})\}}:dead:(.+)")
_REQUEST = re.compile(rb"(redrive|discard):(\d{1,16})")
_FEW = 20


@dataclass(frozen=True, order=True)
class Partition:
    """One partition of a stream."""

    stream: str
    number: int

    def key(self, name: str) -> str:
        return f"{{{self.stream}/{self.number}}}:{name}"


@dataclass(frozen=True, order=True)
class Position:
    """The place of a fact, `stream/partition:n`."""

    partition: Partition
    n: int

    def __str__(self) -> str:
        return f"{self.partition.stream}/{self.partition.number}:{self.n}"


@dataclass(frozen=True)
class Letter:
    """A dead letter without its payload. Its texts are others': escaped where they are shown.

    Attributes:
        raw_key: what its key is called in `dead-keys`.
        state: "held", "retrying", "dead"; or "damaged", if it does not parse.
        tries: how many have failed since it was last redriven.
        failed: time of the last of them, in nanoseconds; 0 if there was none.
        line: the positions of all letters of its key, in order.
        queued: what was asked for it, "redrive" or "discard", and not carried out yet, in order.
    """

    position: Position
    raw_key: bytes
    key: str
    entry_id: str
    type: str
    state: str
    tries: int
    error: str
    failed: int
    line: tuple[Position, ...]
    queued: tuple[str, ...] = ()

    @property
    def behind(self) -> Position | None:
        """The letter that has to go first."""
        return self.line[0] if self.line[0] != self.position else None


def parse_position(words: str) -> tuple[Position, str] | None:
    """A position as `list` prints it, or as a service logs it: `stream/partition@epoch:ms-n`.

    The entry's id comes with it if the text names it; None if it is no position.
    """
    match = _POSITION.fullmatch(words)
    if match is None:
        return None
    stream, partition, ms, n = match.groups()
    position = Position(Partition(stream, int(partition)), int(n))
    return position, f"{ms}-{n}" if ms else ""


def groups(log: Log) -> dict[str, list[Partition]]:
    """Every group that has ever owned a partition, with its partitions, both in order."""
    found: dict[str, list[Partition]] = {}
    for key in keys(log, "{*}:dead:*"):
        if match := _DEAD.fullmatch(key):
            found.setdefault(match[3], []).append(Partition(match[1], int(match[2])))
    return {group: sorted(found[group]) for group in sorted(found)}


def letters(log: Log, group: str, partitions: Iterable[Partition]) -> list[Letter]:
    """The dead letters of a group, in order."""
    return [letter for each in partitions for letter in _of_partition(log, group, each)]


def _of_partition(log: Log, group: str, partition: Partition) -> list[Letter]:
    lines = _lines(log.hgetall(partition.key(f"dead-keys:{group}")), partition)
    key_of = {position: key for key, line in lines.items() for position in line}
    queued = _queued(log.hgetall(partition.key(f"redrive:{group}")))
    found: dict[int, Letter] = {}
    # Each may carry a fact of 1 MiB: a few at a time, and their payloads are not kept.
    for name, raw in log.hscan_iter(partition.key(f"dead:{group}"), count=_FEW):
        if name != b"_":
            position = Position(partition, int(name))
            if position not in key_of:  # it has come since: at the end of its line
                key_of[position] = key = _raw_key(parsed(raw))
                lines[key] = (*lines.get(key, ()), position)
            key = key_of[position]
            letter = _read(position, key, lines[key], raw)
            found[position.n] = replace(letter, queued=queued.get(position.n, ()))
    return [found[n] for n in sorted(found)]


def _raw_key(letter: Any) -> bytes:
    """What the key of a letter is called in `dead-keys`."""
    key = entry_fields(letter).get(b"key", b"") if letter is not None else b""
    return b"" if key == b"_" else key


def _queued(requests: Any) -> dict[int, tuple[str, ...]]:
    """What is asked for, by n."""
    found: dict[int, tuple[str, ...]] = {}
    for _, request in sorted((int(name), raw) for name, raw in requests.items() if name.isdigit()):
        if match := _REQUEST.fullmatch(request):
            n, what = int(match[2]), match[1].decode()
            found[n] = tuple(dict.fromkeys((*found.get(n, ()), what)))
    return found


def _lines(flat: Any, partition: Partition) -> dict[bytes, tuple[Position, ...]]:
    return {
        key: tuple(Position(partition, int(n)) for n in ns.split(b","))
        for key, ns in dict(flat).items()
        if ns is not None and key != b"_"
    }


def _read(position: Position, raw_key: bytes, line: tuple[Position, ...], raw: bytes) -> Letter:
    letter = parsed(raw)
    if letter is None:
        return Letter(
            position, raw_key, text(raw_key), "", "", "damaged", 0, "it does not parse", 0, line
        )
    fields = entry_fields(letter)
    return Letter(
        position,
        raw_key,
        text(fields.get(b"key", b"")),
        text(letter.entry_id),
        text(fields.get(b"type", b"")),
        state(letter),
        letter.attempts,
        letter.error,
        letter.failed_unix_nano,
        line,
    )


def parsed(raw: bytes | None) -> Any:
    """A factfold.v1.DeadLetter; None if there is none, or if it does not parse."""
    try:
        return None if raw is None else stored("DeadLetter").FromString(raw)
    except DecodeError:
        return None


def state(letter: Any) -> str:
    """What a letter waits for: "held", "retrying" or "dead"."""
    return {1: "held", 2: "retrying", 3: "dead"}.get(letter.state, f"state {letter.state}")


def entry_fields(letter: Any) -> dict[bytes, bytes]:
    """The fields of a letter's entry; of two with one name the first, which readers take."""
    return dict(reversed(list(pairs(letter.fields))))


@dataclass(frozen=True)
class Fate:
    """What has become of a letter.

    `result` is "answered", "failed" (again), "waits" (behind another letter), "tried" (now, or
    about to be), "discarded", "queued" (nobody has carried out what was asked). It is `final` if
    nothing is to be expected soon.
    """

    letter: Letter
    result: str
    final: bool
    error: str = ""
    tries: int = 0
    given_up: bool = False
    behind: Position | None = None


@dataclass
class Asked:
    """What was asked of the owners, and what came of it."""

    log: Log
    group: str
    what: str
    letters: Sequence[Letter]
    _sequences: dict[Position, int] = field(default_factory=dict)
    _beats: dict[Partition, list[Any]] = field(default_factory=dict)
    _alive: set[Partition] = field(default_factory=set)

    def queue(self) -> list[Fate]:
        """Queues a request for each letter that needs one. Raises Failed."""
        ask = script(self.log, "ask")
        for partition, its in self._by_partition().items():
            if self.what == "redrive":
                # Those that are held follow by themselves, once the first of their key is gone.
                asked = [each for each in its if each.state != "held"]
            else:
                # The last one first: as soon as the first of a key is gone, the next is tried.
                asked = its[::-1]
            if not asked:
                continue
            status, *last = ask(
                keys=[partition.key(f"redrive:{self.group}")],
                args=[f"{self.what}:{each.position.n}" for each in asked],
            )
            if status != b"OK":
                raise self._gone(partition)
            first = int(last[0]) - len(asked) + 1
            self._sequences |= {each.position: first + at for at, each in enumerate(asked)}
        return [
            Fate(each, "queued", final=False)
            if each.position in self._sequences
            else Fate(each, "waits", final=False, behind=each.behind)
            for each in self.letters
        ]

    def fates(self) -> list[Fate]:
        """What has become of each letter by now, in their order."""
        found: dict[Position, Fate] = {}
        for partition, its in self._by_partition().items():
            found |= self._look(partition, its)
        return [found[each.position] for each in self.letters]

    def owned(self, letter: Letter) -> bool:
        """Whether the owner of its partition was seen to be alive."""
        return letter.position.partition in self._alive

    def _gone(self, partition: Partition) -> Failed:
        return Failed(
            f"{self.group} is gone from stream {partition.stream}, and its dead letters with it: "
            "the log was lost or begun anew"
        )

    def _by_partition(self) -> Mapping[Partition, list[Letter]]:
        found: dict[Partition, list[Letter]] = {}
        for letter in sorted(self.letters, key=lambda each: each.position):
            found.setdefault(letter.position.partition, []).append(letter)
        return found

    def _look(self, partition: Partition, its: list[Letter]) -> dict[Position, Fate]:
        sequences = {
            each.position: self._sequences[each.position]
            for each in its
            if each.position in self._sequences
        }
        raw_keys = sorted({each.raw_key for each in its})

        # First what is queued still, then the letters: a request goes in one step with its effect.
        def read(step: Any) -> None:
            step.hmget(partition.key(f"group:{self.group}"), ["token", "beat"])
            step.hmget(partition.key(f"redrive:{self.group}"), [*sequences.values(), "last"])
            step.hmget(partition.key(f"dead-keys:{self.group}"), raw_keys)

        beat, requests, ns = together(self.log, partition.key("log"), read)
        if beat[0] is None:
            raise self._gone(partition)
        if beat != self._beats.setdefault(partition, beat):
            self._alive.add(partition)
        queued = {
            position
            for position, request in zip(sequences, requests, strict=False)
            if request is not None
        }
        lines = _lines(zip(raw_keys, ns, strict=True), partition)
        heads = self._heads(partition, [line[0] for line in lines.values()])
        return {
            each.position: self._fate(each, lines.get(each.raw_key, ()), queued, heads)
            for each in its
        }

    def _heads(self, partition: Partition, positions: list[Position]) -> dict[Position, Any]:
        if not positions:
            return {}
        ns = [position.n for position in positions]
        raw: Any = self.log.hmget(partition.key(f"dead:{self.group}"), ns)
        return {
            position: letter
            for position, each in zip(positions, raw, strict=True)
            if (letter := parsed(each)) is not None
        }

    def _fate(
        self,
        letter: Letter,
        line: tuple[Position, ...],
        queued: set[Position],
        heads: Mapping[Position, Any],
    ) -> Fate:
        position = letter.position
        if position not in line:
            # An owner that discards a letter takes the request away in the same step.
            discarded = self.what == "discard" and position not in queued
            return Fate(letter, "discarded" if discarded else "answered", final=True)
        if position in queued or self.what == "discard":
            return Fate(letter, "queued", final=position not in queued)
        head = heads.get(line[0])
        rests = (
            head is not None
            and line[0] not in queued
            and not head.HasField("outcome")
            and (head.attempts > 0 or state(head) == "dead")
        )
        if position != line[0]:
            return Fate(letter, "waits", final=rests, behind=line[0])
        if head is None or not rests:
            return Fate(letter, "tried", final=False)
        return Fate(
            letter,
            "failed",
            final=True,
            error=head.error,
            tries=head.attempts,
            given_up=state(head) == "dead",
        )
