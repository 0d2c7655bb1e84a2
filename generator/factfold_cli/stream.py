"""`factfold stream …`: what an operator does to a whole stream."""

import json
import re
import secrets
import sys
from typing import Any, NamedTuple

import click

from factfold_cli import log as logs
from factfold_cli.clients import Log, together
from factfold_cli.contract import DEFAULT_PARTITIONS, STREAM_NAME, contracts
from factfold_cli.errors import Failed, Refused
from factfold_cli.letters import Partition
from factfold_cli.manifest import read, root_here
from factfold_cli.survey import Left, keys, number, parts, streams, survey

# Of a contract that names no number; the chassis has the same.


@click.group("stream")
def command() -> None:
    """Look after a whole stream.

    \b
    Example:
      factfold stream recreate orders
    """


@command.command("recreate", short_help="Begin one anew, empty, after its log was lost.")
@click.argument("stream")
@click.option(
    "--partitions",
    type=click.IntRange(min=1),
    metavar="NUMBER",
    help="How many; by default what the contract here says, or else what is left.",
)
@click.option(
    "--destroy-facts",
    type=click.IntRange(min=1),
    metavar="NUMBER",
    help="Do it although the log is whole, or has another number of partitions: NUMBER is how "
    "many facts are lost.",
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
    log refuses to write to another one until this is done and it is restarted: restart each one
    that writes or reads STREAM.

    \b
    Example:
      factfold stream recreate orders
    """
    if not re.fullmatch(STREAM_NAME, stream):
        raise Refused(
            f"{stream!r} is no stream: a name has 1 to 64 characters of a-z, 0-9, '-' and '.'"
        )
    with logs.opened(url) as log:
        left = survey(log, stream)
        said = _of_contract(stream)
        here = _here(log, left, owned=said is not None and said.own)
        count = _count(left, partitions, said, here)
        _check(left, count, destroy_facts)
        if not yes:
            _ask(left, count, here)
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
    click.echo(f"removed {left}" if str(left) else f"nothing was left of {stream}")
    click.echo(f"{stream} begins anew: {number(count, 'partition')}, epoch {epoch}")
    click.echo(f"restart every running service that writes or reads {stream}")


class Said(NamedTuple):
    """How many partitions the contract in the repository here says that the stream has."""

    partitions: int
    own: bool


def _of_contract(stream: str) -> Said | None:
    """Of the contracts in the repository here, its own or subscribed."""
    try:
        root = root_here()
    except Refused:
        return None
    copied = {path for known in read(root)["subscriptions"] for path in known["contract"]}
    for each in contracts(root):
        if each.stream == stream:
            own = f"protos/{each.path}" not in copied
            return Said(each.partitions or DEFAULT_PARTITIONS, own)
    return None


def _count(left: Left, given: int | None, said: Said | None, here: str) -> int:
    """How many partitions the stream is to have. Raises Refused.

    A copy of a contract may be older than the stream, so it decides only where nothing else does.
    """
    if given is not None:
        return given
    present = next(iter(left.counts)) if len(left.counts) == 1 else None
    if said is None and present is None:
        what = "give --partitions, or run this inside the repository of its service"
        if left.gone:
            raise Refused(f"{here}; to begin it anew, {what}")
        raise Refused(f"nothing says how many partitions {left.stream} has: {what}")
    if said is None or (present == said.partitions and not said.own):
        assert present is not None
        return present
    if not said.own and present is not None:
        raise Refused(
            f"{left.stream} has {number(present, 'partition')}, but {said.partitions} in the copy "
            "of its contract here: give --partitions, or run this inside the repository of its "
            "service"
        )
    return said.partitions


def _check(left: Left, count: int, destroy_facts: int | None) -> None:
    """Facts that are there are only lost by somebody who knows their number. Raises Refused."""
    facts = number(left.facts, "fact")
    if destroy_facts not in (None, left.facts):
        raise Refused(f"{left.stream} has {facts}, not {destroy_facts}: is it the right log?")
    if destroy_facts is not None or not left.facts:
        return
    lose = f"to lose its {facts} for good"
    give = f"give --destroy-facts {left.facts}"
    if len(left.counts) == 1 and count not in left.counts:
        (present,) = left.counts
        raise Refused(
            f"{left.stream} has {number(present, 'partition')}, not {count}: "
            f"{lose} and begin with {count}, {give}"
        )
    if left.whole:
        raise Refused(f"the log of {left.stream} is whole: {lose}, {give}")


def _ask(left: Left, count: int, here: str) -> None:
    """Raises Refused where nobody can be asked, Failed where somebody says no."""
    lost = str(left)
    (present,) = left.counts if len(left.counts) == 1 else (count,)
    instead = f" with {number(count, 'partition')} instead of {present}" * (count != present)
    if not sys.stdin.isatty():
        if lost:
            raise Refused(f"{lost} would be lost: give --yes if that is meant")
        raise Refused(f"{here}; give --yes to begin it anew{instead}")
    about = f"Lost are {lost}" if lost else here[0].upper() + here[1:]
    question = f"{about}. Begin {left.stream} anew{instead}?"
    if not click.confirm(question, err=True):
        raise Failed("nothing was changed")


def _here(log: Log, left: Left, owned: bool) -> str:
    """How a stream stands of which nothing can be lost.

    Outside the repository of its service its name may be mistyped, or the Redis another one.
    """
    if not left.gone:
        return f"{left.stream} is empty"
    if owned:
        return f"nothing is left of {left.stream}"
    others = ", ".join(streams(log)) or "none"
    return f"nothing is left of {left.stream} here; streams here: {others}"


def _begin_anew(log: Log, stream: str, count: int) -> str:
    """Returns the new epoch. Interrupted, it leaves what a second run finishes."""
    epoch = secrets.token_hex(8)
    # Without a head every script refuses, and nothing appears any more while the rest is removed.
    for key in logs.keys(log, f"{{{stream}/*}}:head"):
        log.unlink(key)
    keys_of: dict[int | None, list[str]] = {at: [] for at in range(count)}
    for key in keys(log, stream):
        keys_of.setdefault(parts(key)[0], []).append(key)
    create = logs.script(log, "create")
    for at, its in keys_of.items():
        made: list[str] = []
        if at is not None and at < count:
            partition = Partition(stream, at)
            made = [partition.key(name) for name in ("log", "head", "producers", "versions")]

        # In one step: an owner that is just starting must not create it with another epoch.
        def begin(step: Any, its: list[str] = its, made: list[str] = made) -> None:
            step.unlink(*{*its, *made})
            if made:
                create(keys=made, args=[count, epoch], client=step)

        replies = together(log, [*its, *made][0], begin)
        if made and replies[-1] != [b"OK", epoch.encode(), b"%d" % count]:
            raise Failed(f"partition {at} of {stream} was not created; run this once more")
    return epoch
