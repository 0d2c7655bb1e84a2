"""What each user of the log may do: commands, and the keys that these may touch.

Exactly what the chassis and its scripts do (docs/protocol.md, Rights). A script that meets a
command without its right ends there, in the middle: what is missing here is a fault.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

# Of every user: to connect, to find out what the server is, and to move about in a cluster.
_CONNECT = (
    "ping", "select", "info", "role", "time",
    "cluster|slots", "cluster|shards", "cluster|myid", "asking",
)  # fmt: skip
_READ = ("hget", "hmget", "hgetall", "hrandfield", "exists", "xread", "xrange")
_LOOK = (
    *_READ, "hlen", "hscan", "type", "xlen", "xrevrange", "xinfo|stream", "xinfo|groups",
    "xinfo|consumers", "memory|usage",
)  # fmt: skip
# Not CONFIG GET, which tells the password that a replica has.
_LOOK_AROUND = (
    *_CONNECT, "cluster|info", "command", "scan", "multi", "exec", "discard", "wait",
)  # fmt: skip

VIEWER, OPERATOR, ADMIN, NOBODY = (
    "factfold-viewer", "factfold-operator", "factfold-admin", "default",
)  # fmt: skip


@dataclass(frozen=True)
class Keys:
    """Keys as patterns, and the same written out as far as the contract and the code name them."""

    patterns: tuple[str, ...] = ()
    exact: tuple[str, ...] = ()

    def __add__(self, other: "Keys") -> "Keys":
        patterns = dict.fromkeys(self.patterns + other.patterns)
        return Keys(tuple(patterns), self.exact + other.exact)


@dataclass(frozen=True)
class Right:
    """`commands` (`name`, or `name|subcommand`) on `keys`.

    `held`: Redis 6.2 can hold them to `keys.exact` too, as their first argument is the key.
    """

    commands: tuple[str, ...]
    keys: Keys
    held: bool = False


@dataclass(frozen=True)
class Role:
    """One user.

    Attributes:
        what: what it is for, in one clause.
        keyless: commands that name no key.
        reads: commands that change nothing, on keys that match `readable`.
        writes: others, each on keys of its own.
        everything: no rule holds it back.
        off: nobody can be this user.
    """

    name: str
    what: str
    keyless: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    readable: tuple[str, ...] = ()
    writes: tuple[Right, ...] = ()
    everything: bool = False
    off: bool = False


@dataclass(frozen=True)
class Stream:
    """A stream that a service writes or reads."""

    name: str
    partitions: int


@dataclass(frozen=True)
class Needs:
    """What the rights of one service follow from: its streams, those that it subscribes to, and
    the names of its views and reactions.
    """

    service: str
    own: Sequence[Stream]
    foreign: Sequence[Stream]
    views: Sequence[str] = ()
    reactions: Sequence[str] = ()

    def named(self, streams: Sequence[Stream], kind: str) -> Keys:
        """`{S/p}:kind` of all partitions."""
        exact = [
            f"{{{each.name}/{at}}}:{kind}" for each in streams for at in range(each.partitions)
        ]
        return Keys(tuple(f"{{{each.name}/*}}:{kind}" for each in streams), tuple(exact))

    def of_mine(self, kind: str, names: Sequence[str]) -> Keys:
        """`{S/p}:kind:service.name` in all streams."""
        streams = [*self.own, *self.foreign]
        patterns = self.named(streams, f"{kind}:{self.service}.*").patterns
        exact = [self.named(streams, f"{kind}:{self.service}.{name}").exact for name in names]
        return Keys(patterns, sum(exact, ()))

    @property
    def members(self) -> Keys:
        names = [each.name for each in (*self.own, *self.foreign)]
        prefixes = [f"{{{name}}}:members:{self.service}." for name in names]
        exact = [f"{prefix}{reaction}" for prefix in prefixes for reaction in self.reactions]
        return Keys(tuple(f"{prefix}*" for prefix in prefixes), tuple(exact))


def service(needs: Needs, *, apart: bool, trims: bool = False) -> list[Role]:
    """The users of one service: one; or where reading is kept `apart` a second one, which reads.

    With `trims` it may remove the oldest facts of its own streams.
    """
    log, head, producers, versions = (
        needs.named(needs.own, kind) for kind in ("log", "head", "producers", "versions")
    )
    foreign_log, foreign_head = (needs.named(needs.foreign, kind) for kind in ("log", "head"))
    cursors, members = needs.of_mine("cursors", needs.views), needs.members
    group, *beside = (
        needs.of_mine(kind, needs.reactions)
        for kind in ("group", "outbox", "dead", "dead-keys", "redrive")
    )
    aside = reduce(Keys.__add__, beside)
    # Who reads its streams is found by looking; `nobody` is never there.
    theirs = [needs.named(needs.own, kind) for kind in ("nobody", "cursors:*", "group:*")]
    held_back_by = Keys(sum((each.patterns for each in theirs), ())) if trims else Keys()
    hashes = head + producers + versions + group + aside
    writes = (
        # claim.lua reads the head of a stream that may be another service's.
        Right(("evalsha",), log + hashes + members + foreign_head + held_back_by),
        Right(("xadd", *["xtrim"] * trims), log, held=True),
        Right(("xgroup|create", "xgroup|destroy", "xgroup|setid"), log),
        Right(("hset",), hashes + cursors, held=True),
        Right(("hdel",), producers + cursors + aside + members, held=True),
        Right(("hsetnx", "hincrby"), group + members, held=True),
    )
    readable = log + hashes + cursors + members + foreign_head + held_back_by
    if not apart:
        readable += foreign_log
    writer = Role(
        needs.service, f"the service {needs.service}",
        (*_CONNECT, "wait", "script|load", *["scan"] * trims),
        (*_READ, *["xlen"] * trims), readable.patterns, writes,
    )  # fmt: skip
    if not apart or not needs.foreign:
        return [writer]
    reader = Role(
        f"{needs.service}-reads", f"the service {needs.service}, reading streams of others",
        _CONNECT, ("exists", "hmget", "xread", "xrange"), (foreign_head + foreign_log).patterns,
    )  # fmt: skip
    return [writer, reader]


def operators() -> list[Role]:
    """The users of the command line, the one who may do all, and Redis' own, who is nobody."""

    def keys(*kinds: str) -> Keys:
        return Keys(tuple(f"{{*}}:{kind}" for kind in kinds))

    does = (
        Right(("evalsha", "del", "unlink"), keys("*")),
        Right(("hset",), keys("head", "producers", "versions", "redrive:*", "cursors:*")),
        Right(("hincrby",), keys("redrive:*")),
        Right(("hdel",), keys("cursors:*")),
        Right(("xgroup|create", "xgroup|destroy", "xtrim"), keys("log")),
    )
    scripts = ("script|load", "script|exists")
    return [
        Role(
            VIEWER, "tail, lag, doctor, dead-letters list and show",
            _LOOK_AROUND, _LOOK, keys("*").patterns,
        ),
        Role(
            OPERATOR, "the same, dead-letters redrive and discard, trim, stream recreate",
            (*_LOOK_AROUND, *scripts), _LOOK, keys("*").patterns, does,
        ),
        Role(ADMIN, "everything else: backups, settings, users, other nodes", everything=True),
        Role(NOBODY, "whoever names no user: refused", off=True),
    ]  # fmt: skip
