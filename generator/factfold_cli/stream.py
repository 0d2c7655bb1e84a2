"""`factfold stream …`: what an operator does to a whole stream."""

import json
import re
import secrets
import sys
from dataclasses import dataclass
from typing import Any

import click
import redis

from factfold_cli import log as logs
from factfold_cli.contract import contracts
from factfold_cli.errors import Failed, Refused
from factfold_cli.letters import Partition
from factfold_cli.manifest import root_here
from factfold_cli.output import printable

# Of a contract that names no number; the chassis has the same.
_DEFAULT_PARTITIONS = 4
_KEY = re.compile(rf"\{{{logs.STREAM_NAME}(?:/(\d{{1,9}})\}}:([a-z-]+)|\}}:members)(?::(.+))?")


@click.group("stream")
def command() -> None:
    """Look after a whole stream.

    \b
    Example:
      factfold stream recreate orders
    """


@command.command("recreate")
@click.argument("stream")
@click.option(
    "--partitions",
    type=click.IntRange(min=1),
    metavar="NUMBER",
    help="How many; needed if neither what is left nor a contract here says it.",
)
@click.option(
    "--destroy-facts",
    type=click.IntRange(min=1),
    metavar="NUMBER",
    help="Do it although the log is whole: NUMBER is how many facts are lost.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@logs.option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def recreate(
    stream: str,
    partitions: int | None,
    destroy_facts: int | None,
    yes: bool,
    url: str | None,
    as_json: bool,
) -> None:
    """Begin STREAM anew, empty, after its log was lost.

    What is left of it is removed: facts, positions, dead letters. A service that knows the old
    log refuses to write to another one until this is done and it is restarted.

    \b
    Example:
      factfold stream recreate orders
    """
    if not re.fullmatch(logs.STREAM_NAME, stream):
        raise Refused(
            f"{stream!r} is no stream: a name has 1 to 64 characters of a-z, 0-9, '-' and '.'"
        )
    with logs.opened(url) as log:
        left = _survey(log, stream)
        count = _count(left, partitions)
        _check(left, destroy_facts)
        if not yes:
            _ask(left)
        epoch = _begin_anew(log, stream, count)
    if as_json:
        removed = {
            "facts": left.facts,
            "dead_letters": left.dead_letters,
            "groups": left.groups,
        }
        document = {"stream": stream, "partitions": count, "epoch": epoch, "removed": removed}
        click.echo(json.dumps(document, indent=2))
        return
    click.echo(f"removed {left}")
    click.echo(f"{stream} begins anew: {_number(count, 'partition')}, epoch {epoch}")
    click.echo(f"restart every running service that writes or reads {stream}")


@dataclass(frozen=True)
class _Left:
    """What there still is of a stream; `counts` are the numbers of partitions its heads name."""

    stream: str
    counts: set[int]
    whole: bool
    facts: int
    dead_letters: int
    groups: list[str]

    def __str__(self) -> str:
        names = f": {', '.join(map(printable, self.groups))}" if self.groups else ""
        return (
            f"{_number(self.facts, 'fact')}, {_number(self.dead_letters, 'dead letter')}, "
            f"{_number(len(self.groups), 'group')}{names}"
        )


def _survey(log: redis.Redis, stream: str) -> _Left:
    numbers: set[int] = set()
    groups, dead_letters = set(), 0
    for name in _keys(log, stream):
        of, kind, group = _parts(name)
        if of is not None:
            numbers.add(of)
        if group and kind in ("group", "dead"):
            groups.add(group)
        if kind == "dead":
            dead_letters += max(0, _of(log, "HLEN", name) - 1)  # without the placeholder
    counts, sound, facts = set(), set(), 0
    for number in sorted(numbers):
        partition = Partition(stream, number)
        head, entries = partition.key("head"), partition.key("log")
        facts += (length := _of(log, "XLEN", entries))
        if count := _of(log, "HGET", head, "partitions"):
            counts.add(count)
            n, trimmed = _of(log, "HGET", head, "n"), _of(log, "HGET", head, "trimmed")
            if log.exists(entries) and length == n - trimmed:
                sound.add(number)
    whole = [set(range(count)) for count in counts] == [sound]
    return _Left(stream, counts, whole, facts, dead_letters, sorted(groups))


def _of(log: Any, *words: str) -> int:
    """The reply as a number; 0 for none, and for a key that somebody has used for other things."""
    try:
        return int(log.execute_command(*words) or 0)
    except (redis.ResponseError, ValueError):
        return 0


def _keys(log: redis.Redis, stream: str) -> list[str]:
    return logs.keys(log, f"{{{stream}/*}}:*") + logs.keys(log, f"{{{stream}}}:members:*")


def _parts(key: str) -> tuple[int | None, str, str]:
    """Partition, kind and group."""
    match = _KEY.fullmatch(key)
    if match is None:
        return None, "", ""
    number = None if match[1] is None else int(match[1])
    return number, match[2] or "", match[3] or ""


def _count(left: _Left, given: int | None) -> int:
    """How many partitions the stream is to have. Raises Refused."""
    if len(left.counts) == 1:
        (count,) = left.counts
        if given not in (None, count):
            raise Refused(f"{left.stream} has {count} partitions: leave --partitions out")
        return count
    if said := given or _of_contract(left.stream):
        return said
    raise Refused(
        f"nothing says how many partitions {left.stream} has: give --partitions, or run this "
        "inside the repository of its service"
    )


def _of_contract(stream: str) -> int | None:
    """What the contracts in the repository here say, its own or subscribed."""
    try:
        found = contracts(root_here())
    except Refused:
        return None
    return next(
        (each.partitions or _DEFAULT_PARTITIONS for each in found if each.stream == stream), None
    )


def _check(left: _Left, destroy_facts: int | None) -> None:
    """Facts that are there are only lost by somebody who knows their number. Raises Refused."""
    facts = _number(left.facts, "fact")
    if left.whole and left.facts and destroy_facts is None:
        raise Refused(
            f"the log of {left.stream} is whole: to lose its {facts} for good, "
            f"give --destroy-facts {left.facts}"
        )
    if destroy_facts not in (None, left.facts):
        raise Refused(f"{left.stream} has {facts}, not {destroy_facts}: is it the right log?")


def _ask(left: _Left) -> None:
    """Raises Refused where nobody can be asked, Failed where somebody says no."""
    if not sys.stdin.isatty():
        raise Refused(f"{left} would be lost: give --yes if that is meant")
    if not click.confirm(f"Begin {left.stream} anew? Lost are {left}", err=True):
        raise Failed("nothing was changed")


def _begin_anew(log: redis.Redis, stream: str, count: int) -> str:
    """Returns the new epoch. Interrupted, it leaves what a second run finishes."""
    epoch = secrets.token_hex(8)
    # Without a head every script refuses, and nothing appears any more while the rest is removed.
    for key in logs.keys(log, f"{{{stream}/*}}:head"):
        log.unlink(key)
    keys_of: dict[int | None, list[str]] = {at: [] for at in range(count)}
    for key in _keys(log, stream):
        keys_of.setdefault(_parts(key)[0], []).append(key)
    create = logs.script(log, "create")
    for at, its in keys_of.items():
        made: list[str] = []
        if at is not None and at < count:
            partition = Partition(stream, at)
            made = [partition.key(name) for name in ("log", "head", "producers", "versions")]
        # In one step: an owner that is just starting must not create it with another epoch.
        with log.pipeline(transaction=True) as step:
            step.unlink(*{*its, *made})
            if made:
                create(keys=made, args=[count, epoch], client=step)
            replies: list[Any] = step.execute()
        if made and replies[-1] != [b"OK", epoch.encode(), b"%d" % count]:
            raise Failed(f"partition {at} of {stream} was not created; run this once more")
    return epoch


def _number(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")
