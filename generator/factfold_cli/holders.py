"""Who reads a stream, and how much of it each one still needs (docs/protocol.md, Trimming)."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from factfold_cli import log as logs
from factfold_cli.ages import duration
from factfold_cli.clients import Log
from factfold_cli.errors import Failed
from factfold_cli.facts import split_id
from factfold_cli.lanes import whole
from factfold_cli.letters import Partition
from factfold_cli.starts import partitions

_ID = re.compile(r"\d{1,16}-\d{1,16}")
START = "0-0"


@dataclass(frozen=True)
class Holder:
    """One instance of a view, or the group of a reaction, in one partition.

    Attributes:
        name: service.view or service.reaction.
        instance: of a view; empty if the reader has none, and for a group.
        position: `ms-n` of the first fact that it needs, which it has read; `0-0` if it needs all.
        n: what the position counts as: 0 if its fact should be there and is not.
        at: n of the last fact that it has read, as far as that is known.
        seen: when an instance last said so, in Unix milliseconds; 0 if it does not say.
    """

    partition: Partition
    kind: str  # view or reaction
    name: str
    instance: str
    position: str
    n: int
    at: int
    seen: int

    def __str__(self) -> str:
        return f"{self.name}/{self.instance}" if self.instance else self.name


@dataclass(frozen=True)
class State:
    """One partition as it is now.

    Attributes:
        n: facts that were ever appended.
        trimmed: n up to which they were removed on purpose.
        now: the log's time, in Unix milliseconds.
        holders: all that have ever read it.
    """

    partition: Partition
    epoch: str
    n: int
    trimmed: int
    now: int
    holders: Sequence[Holder]
    keys: Sequence[Sequence[str]]  # of cursors and of groups

    def __str__(self) -> str:
        return f"{self.partition.stream}/{self.partition.number}"

    def ago(self, holder: Holder) -> str:
        """How long ago an instance was seen."""
        return f"{duration((self.now - holder.seen) / 1000)} ago"

    @property
    def facts(self) -> int:
        return self.n - self.trimmed

    @property
    def first(self) -> int:
        """n of the first fact that somebody needs; behind the last one if nobody does."""
        return max(min((each.n for each in self.holders), default=self.n + 1), self.trimmed + 1)

    @property
    def holder(self) -> Holder | None:
        """Who needs the most; None if nobody needs anything that it has not read."""
        found = min(self.holders, key=lambda each: each.n, default=None)
        return found if found is not None and found.n < self.n else None


def states(log: Log, stream: str) -> list[State]:
    """All partitions of a stream. Raises Failed if it is not there."""
    its = [Partition(stream, at) for at in range(partitions(log, stream))]
    now = int(logs.now(log) * 1000)
    return [_state(log, each, now) for each in its]


def _state(log: Log, partition: Partition, now: int) -> State:
    raw: Any = log.hmget(partition.key("head"), ["epoch", "n", "trimmed"])
    epoch, n, trimmed = (raw[0] or b"").decode(errors="replace"), whole(raw[1]), whole(raw[2])
    if not epoch:
        raise Failed(
            f"partition {partition.number} of {partition.stream} is not there: look with "
            "`factfold doctor`"
        )
    cursors, groups = reader_keys(log, partition)
    holders: list[Holder] = []
    for key in cursors:
        name, fields = _name(key), dict[Any, Any](log.hgetall(key))
        found = [
            _holder(log, partition, trimmed, "view", name, field.decode(errors="replace"), value)
            for field, value in sorted(fields.items())
            if field != b"_"
        ]
        if fields and not found:
            found = [Holder(partition, "view", name, "", START, 0, 0, 0)]
        holders += found
    for key in groups:
        state: Any = log.hmget(key, ["position", "epoch"])
        if state[0]:
            its = _holder(log, partition, trimmed, "reaction", _name(key), "", state[0])
            other = (state[1] or b"").decode(errors="replace") != epoch
            holders.append(replace(its, n=0, position=START) if other else its)
    return State(partition, epoch, n, trimmed, now, holders, (cursors, groups))


def reader_keys(log: Log, partition: Partition) -> tuple[list[str], list[str]]:
    """The keys of cursors and of groups."""
    place = partition.key("")
    return logs.keys(log, f"{place}cursors:*"), logs.keys(log, f"{place}group:*")


def _name(key: str) -> str:
    return key.partition("}:")[2].partition(":")[2]


def _holder(
    log: Any, partition: Partition, trimmed: int, kind: str, name: str, instance: str, raw: bytes
) -> Holder:
    position, seen, present = [*raw.decode(errors="replace").split(" "), "", ""][:3]
    if not _ID.fullmatch(position):
        position = START
    n = split_id(position.encode())[1]
    if n > trimmed and not log.xrange(partition.key("log"), position, position):
        n, position = 0, START  # of another log, or of one that was rolled back: it may need all
    at = split_id(present.encode())[1] if _ID.fullmatch(present) else n
    return Holder(
        partition, kind, name, instance, position, n, at, int(seen) if seen.isdigit() else 0
    )


@dataclass(frozen=True)
class Trimmed:
    """What one call of the script has done, or would do.

    Attributes:
        trimmed: n up to which facts are gone now.
        first: n of the first fact that is to be kept.
        holder: what the reader is called that keeps it from going further; empty if nobody does.
        held: nothing may go, as not all that was asked for may.
    """

    trimmed: int
    first: int
    holder: str = ""
    held: bool = False


def trim(
    log: Log,
    state: State,
    first: int,
    *,
    everything: bool,
    most: int,
    keys: Sequence[Sequence[str]] | None = None,
) -> Trimmed:
    """Removes up to `most` of the facts before `first`, as far as that is allowed.

    Args:
        everything: or nothing at all.
        keys: of the readers; those of `state` if it is not given.

    Raises:
        Failed: the log was replaced, or has other entries than its head counts.
    """
    cursors, groups = state.keys if keys is None else keys
    # Nobody is never there: so a cluster refuses while it moves the slot, and hides readers.
    its = [state.partition.key(name) for name in ("log", "head", "nobody")]
    args = [state.epoch, len(cursors), first, "all" if everything else "most", most]
    status, *reply = logs.script(log, "trim")(keys=[*its, *cursors, *groups], args=args)
    if status == b"EPOCH":
        raise Failed(f"{state} was replaced meanwhile: look again")
    if status == b"GAP":
        entries, facts = map(int, reply)
        raise Failed(
            f"{state} has {entries} entries, and its head counts {facts}: facts were removed or "
            "added by hand, and it is not trimmed before that is mended; see `factfold doctor`"
        )
    trimmed, first, key, instance, _ = (part.decode(errors="replace") for part in reply)
    holder = _name(key) + (f"/{instance}" if instance else "")
    return Trimmed(int(trimmed), int(first), holder, status == b"HELD")


def of_name(states: Iterable[State], name: str, instance: str = "") -> list[Holder]:
    """The places of a reader, or of one instance of it, or of a group."""
    return [
        each
        for state in states
        for each in state.holders
        if each.name == name and instance in ("", each.instance)
    ]
