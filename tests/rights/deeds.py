"""What nobody should do to the log, by class: real commands, on keys that are there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

ORDERS_LOG, ORDERS_HEAD = "{orders/0}:log", "{orders/0}:head"
THEIRS = "create_shipment_for_order"  # of shipments, in orders
LAST = "18446744073709551615-18446744073709551615"
CHANGES = (
    ("HSET", "f", "v"), ("HSETNX", "f", "v"), ("HINCRBY", "f", "1"), ("HDEL", "f"), ("DEL",),
    ("UNLINK",), ("EXPIRE", "1"), ("PERSIST",), ("RENAME", "{x}:y"), ("SET", "v"), ("GETDEL",),
    ("HINCRBYFLOAT", "f", "1"), ("RESTORE", "0", "x"), ("MOVE", "1"),
)  # fmt: skip
LOG_CHANGES = (
    ("XADD", "*", "f", "v"), ("XADD", "MAXLEN", "0", "*", "f", "v"), ("XADD", LAST, "f", "v"),
    ("XTRIM", "MAXLEN", "0"), ("XDEL", "1-1"), ("XSETID", "9-9"), ("XACK", "g", "1-1"),
    ("XAUTOCLAIM", "g", "c", "0", "0"),
)  # fmt: skip
GROUP_CHANGES = (
    ("XGROUP", "CREATE", "g", "0"), ("XGROUP", "SETID", "g", "0"), ("XGROUP", "DESTROY", "g"),
    ("XGROUP", "CREATECONSUMER", "g", "c"), ("XGROUP", "DELCONSUMER", "g", "c"),
)  # fmt: skip
STATE = ("group", "outbox", "dead", "dead-keys", "redrive")
Command = tuple[str, ...]


@dataclass(frozen=True)
class Deed:
    """One command; `lua`: carried out by a script, too, which has no more rights than its user."""

    what: str
    command: Command
    lua: bool = True


def on(key: str, command: Command) -> Command:
    """A command of which the key is left out."""
    if command[0] == "XGROUP":
        return (*command[:2], key, *command[2:])
    return (command[0], key, *command[1:])


def to_stream(what: str, stream: str, *, states: bool = True) -> Iterator[Deed]:
    """Everything that changes a stream whose owner is somebody else."""
    place = f"{{{stream}/0}}"
    for command in (*LOG_CHANGES, *GROUP_CHANGES, *CHANGES):
        yield Deed(what, on(f"{place}:log", command))
    for kind in ("head", "producers", "versions") if states else ():
        for command in CHANGES:
            yield Deed(what, on(f"{place}:{kind}", command))
    # A partition that is not there: who makes its keys keeps its owner from it.
    yield Deed(what, ("XADD", f"{{{stream}/9}}:log", "*", "f", "v"))
    yield Deed(what, ("HSET", f"{{{stream}/9}}:head", "f", "v"))
    yield Deed(what, ("XGROUP", "CREATE", f"{{{stream}/9}}:log", "g", "0", "MKSTREAM"))


def to_state(what: str, stream: str, service: str, part: str) -> Iterator[Deed]:
    """Reading and changing what another service keeps beside a stream."""
    place = f"{{{stream}/0}}"
    keys = [f"{place}:{kind}:{service}.{part}" for kind in STATE]
    keys += [f"{place}:cursors:{service}.{part}", f"{{{stream}}}:members:{service}.{part}"]
    for key in keys:
        for command in (("HGETALL",), ("HGET", "f"), ("HSCAN", "0"), ("DUMP",), *CHANGES):
            yield Deed(what, on(key, command))


def to_other_keys(what: str) -> Iterator[Deed]:
    for key in ("session:17", "{elsewhere}:hash"):
        for command in (("GET",), ("HGETALL",), *CHANGES):
            yield Deed(what, on(key, command))


def to_own(what: str, stream: str) -> Iterator[Deed]:
    """Changes of one's own stream that no script makes."""
    place = f"{{{stream}/0}}"
    needed = {"log": {"XADD", "XGROUP"}, "head": {"HSET"}, "producers": {"HSET", "HDEL"}}
    for kind in ("log", "head", "producers", "versions"):
        allowed = needed.get(kind, {"HSET"})
        for command in (*LOG_CHANGES, *CHANGES) if kind == "log" else CHANGES:
            if command[0] not in allowed:
                yield Deed(what, on(f"{place}:{kind}", command))


def to_read(what: str, stream: str) -> Iterator[Deed]:
    """Facts of a stream that the service does not subscribe to."""
    place = f"{{{stream}/0}}"
    yield Deed(what, ("XRANGE", f"{place}:log", "-", "+"))
    yield Deed(what, ("XREAD", "STREAMS", f"{place}:log", "0"), lua=False)
    yield Deed(what, ("HGETALL", f"{place}:head"))
    yield Deed(what, ("XREADGROUP", "GROUP", "g", "c", "STREAMS", f"{place}:log", ">"), lua=False)


# What a right to append cannot be parted from, and what the audit notices.
def self_damage(stream: str, ms: int, n: int) -> list[Deed]:
    what = "damage its own log with what it needs"
    log, head = f"{{{stream}/0}}:log", f"{{{stream}/0}}:head"
    later = f"{ms}-{n + 1}"
    return [
        Deed(what, ("XADD", log, "MAXLEN", "0", later, "f", "v")),
        Deed(what, ("XADD", log, "MINID", later, later, "f", "v")),
        Deed(what, ("XADD", log, LAST, "f", "v")),
        Deed(what, ("XADD", log, f"{ms + 86_400_000}-{n + 1}", "f", "v")),
        Deed(what, ("XADD", log, later, "f", "v")),
        Deed(what, ("XADD", log, "*", "f", "v")),
        Deed(what, ("HSET", head, "n", "1")),
        Deed(what, ("HSET", head, "trimmed", "2")),
        Deed(what, ("HSET", head, "epoch", "f" * 16)),
        Deed(what, ("HSET", head, "partitions", "9")),
    ]
