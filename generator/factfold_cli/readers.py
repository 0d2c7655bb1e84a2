"""Who reads the log, and how far each one is: views by their cursors, reactions by their groups.

A look takes what stands in the log at one moment. How fast a reader goes, and whether an instance
of a reaction is alive, is what two looks have different.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from factfold_cli import log as logs
from factfold_cli.contract import STREAM_NAME
from factfold_cli.decoding import text
from factfold_cli.facts import split_id
from factfold_cli.lanes import whole
from factfold_cli.letters import Partition

_KEY = re.compile(rf"\{{({STREAM_NAME})/(\d{{1,9}})\}}:(cursors|group):(.+)")
_CURSOR = re.compile(rb"\d{1,16}-\d{1,16} (\d{1,16})(?: (\d{1,16}-\d{1,16}))?")
_POSITION = re.compile(rb"\d{1,16}-\d{1,16}")

View, Reaction = "view", "reaction"


class Reader(NamedTuple):
    """A view or a reaction of one stream; `name` is `service.name`."""

    kind: str
    name: str
    stream: str


class Spot(NamedTuple):
    """How far somebody was in one partition.

    entry_id    of the last fact that is done; empty if it is not known
    seen        when that was so, in seconds
    """

    entry_id: bytes
    seen: float

    @property
    def n(self) -> int | None:
        return split_id(self.entry_id)[1] if self.entry_id else None


class Group(NamedTuple):
    """A reaction in one partition."""

    epoch: str
    owner: str
    beat: tuple[bytes, bytes]  # changes as long as the owner lives
    dead_letters: int


@dataclass
class Look:
    """What stands in the log.

    Attributes:
        when: in seconds, by the log's clock.
        heads: epoch and n of each partition; None for one whose log is gone.
        spots: by reader, instance and partition. One instance, without a name, stands for a
            reaction, and for a view that nobody has.
        members: beats of the instances of a reaction.
    """

    when: float
    heads: dict[Partition, tuple[str, int] | None] = field(default_factory=dict)
    spots: dict[Reader, dict[str, dict[Partition, Spot]]] = field(default_factory=dict)
    groups: dict[Reader, dict[Partition, Group]] = field(default_factory=dict)
    members: dict[Reader, dict[str, bytes]] = field(default_factory=dict)


def readers(log: Any, streams: Iterable[str] = ()) -> dict[Reader, list[Partition]]:
    """All that have left a trace, of `streams` or of all, with their partitions in order."""
    chosen = set(streams)
    found: dict[Reader, list[Partition]] = {}
    for key in logs.keys(log, "{*/*}:*"):
        match = _KEY.fullmatch(key)
        if match is None or (chosen and match[1] not in chosen):
            continue
        kind = View if match[3] == "cursors" else Reaction
        partition = Partition(match[1], int(match[2]))
        found.setdefault(Reader(kind, match[4], match[1]), []).append(partition)
    return {reader: sorted(found[reader]) for reader in sorted(found)}


def look(log: Any, known: Mapping[Reader, Iterable[Partition]]) -> Look:
    """How `known` readers are now."""
    asked: list[tuple[Reader, Partition]] = [
        (reader, partition) for reader, its in known.items() for partition in its
    ]
    partitions = sorted({partition for _, partition in asked})
    with log.pipeline(transaction=False) as ask:
        for reader, partition in asked:
            if reader.kind == View:
                ask.hgetall(partition.key(f"cursors:{reader.name}"))
            else:
                names = ["epoch", "position", "owner", "token", "beat"]
                ask.hmget(partition.key(f"group:{reader.name}"), names)
                ask.hlen(partition.key(f"dead:{reader.name}"))
        for reader in known:
            if reader.kind == Reaction:
                ask.hgetall(f"{{{reader.stream}}}:members:{reader.name}")
        replies = iter(ask.execute())
    now = logs.now(log)
    found = Look(now)
    for reader, partition in asked:
        if reader.kind == View:
            _take_cursors(found, reader, partition, next(replies))
        else:
            _take_group(found, reader, partition, next(replies), next(replies))
    for reader in known:
        if reader.kind == Reaction:
            its = next(replies).items()
            found.members[reader] = {text(name): beat for name, beat in its if name != b"_"}
    # Behind the readers: so none seems to be ahead of its log.
    with log.pipeline(transaction=False) as ask:
        for partition in partitions:
            ask.hmget(partition.key("head"), ["epoch", "n"])
        for partition, (epoch, n) in zip(partitions, ask.execute(), strict=True):
            found.heads[partition] = (text(epoch), whole(n)) if epoch else None
    return found


def _take_cursors(found: Look, reader: Reader, partition: Partition, fields: Any) -> None:
    spots = {
        text(instance): Spot(match[2] or b"", int(match[1]) / 1000)
        for instance, value in fields.items()
        if instance != b"_" and (match := _CURSOR.fullmatch(value))
    }
    if fields and not spots:
        spots = {"": Spot(b"", 0.0)}
    for instance, spot in spots.items():
        found.spots.setdefault(reader, {}).setdefault(instance, {})[partition] = spot


def _take_group(
    found: Look, reader: Reader, partition: Partition, fields: Any, letters: int
) -> None:
    epoch, position, owner, token, beat = (value or b"" for value in fields)
    known = position if _POSITION.fullmatch(position) else b""
    found.spots.setdefault(reader, {}).setdefault("", {})[partition] = Spot(known, found.when)
    dead = max(0, letters - 1)  # without the placeholder
    found.groups.setdefault(reader, {})[partition] = Group(
        text(epoch), text(owner), (token, beat), dead
    )


def oldest(
    log: Any, behind: Iterable[tuple[Partition, bytes]]
) -> dict[tuple[Partition, bytes], float]:
    """By partition and entry id, when the first fact behind that one was appended, in seconds."""
    asked = sorted(behind)
    with log.pipeline(transaction=False) as ask:
        for partition, after in asked:
            ask.xrange(partition.key("log"), f"({after.decode()}", count=1)
        replies = ask.execute()
    return {
        each: split_id(entries[0][0])[0] / 1000
        for each, entries in zip(asked, replies, strict=True)
        if entries
    }
