"""Readers that hold a stream back: dropped when they will not come back, registered before."""

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import click
import redis

from factfold_cli import log as logs
from factfold_cli.ages import duration
from factfold_cli.clients import Log, together
from factfold_cli.errors import Failed, Refused
from factfold_cli.holders import Holder, State, of_name, states
from factfold_cli.letters import Partition
from factfold_cli.printable import printable
from factfold_cli.standings import AWAY_SECONDS
from factfold_cli.survey import number

# An owner beats ten times in a lease, of five seconds unless it is told otherwise.
_LOOK_SECONDS = 2.0
_OF_GROUP = ("group", "outbox", "dead", "dead-keys", "redrive")


def drop(
    log: Log, stream: str, name: str, instance: str, *, dry_run: bool, yes: int,
    as_json: bool,
) -> None:  # fmt: skip
    """Forgets a reader, one instance of it, or a group. Raises Failed, Refused."""
    known = states(log, stream)
    its = of_name(known, name, instance)
    if not its:
        raise _nobody(stream, known, f"{name}/{instance}" if instance else name)
    what = f"{name}/{instance}" if instance else name
    lost = _letters(log, its)
    alive = _alive(log, its)
    if not dry_run:
        _agree(what, stream, lost, alive, yes)
        for each in its:
            _remove(log, each, instance)
    rest = of_name(states(log, stream), name) if not dry_run else []
    if as_json:
        document = {
            "stream": stream,
            "dropped": what,
            "dry_run": dry_run,
            "partitions": sorted({each.partition.number for each in its}),
            "dead_letters": lost,
            "alive": alive or None,
        }
        click.echo(json.dumps(document, indent=2))
        return
    partitions = number(len({each.partition for each in its}), "partition")
    letters = f" and {number(lost, 'dead letter')}" if lost else ""
    verb = "would be dropped" if dry_run else "dropped"
    click.echo(f"{printable(what)} {verb}: its place in {partitions} of {stream}{letters}")
    if alive and dry_run:
        click.echo(f"{alive}: --yes is to be given twice")
    if instance and rest and not any(each.instance for each in rest):
        click.echo(
            f"{name} has no instance left, and may come back and need all facts; if it will not: "
            f"factfold trim {stream} --drop {name}"
        )


def _nobody(stream: str, known: Sequence[State], what: str) -> Failed:
    names = sorted({str(each) for state in known for each in state.holders})
    there = f"there are {', '.join(map(printable, names))}" if names else "it has no readers"
    return Failed(f"{stream} has no reader {what!r}: {there}")


def _letters(log: Log, its: Sequence[Holder]) -> int:
    """Dead letters that go with a group, without the placeholder."""
    counted: Any = [
        log.hlen(each.partition.key(f"dead:{each.name}")) for each in its if each.kind == "reaction"
    ]
    return sum(max(0, count - 1) for count in counted)


def _alive(log: Log, its: Sequence[Holder]) -> str:
    """Why it seems to be, as a clause; empty if it does not."""
    newest = max(its, key=lambda each: each.seen)
    silent = logs.now(log) - newest.seen / 1000
    if silent < AWAY_SECONDS:
        return f"{newest} was seen {duration(silent)} ago"
    groups = [each for each in its if each.kind == "reaction"]
    owned = {each: owner for each in groups if (owner := _beat(log, each))[0]}
    if owned:
        time.sleep(_LOOK_SECONDS)
        for each, before in owned.items():
            if _beat(log, each) != before:
                return f"{before[0].decode(errors='replace')} runs {each.name}"
    return ""


def _beat(log: Any, holder: Holder) -> list[bytes]:
    """Owner, token and beat."""
    key = holder.partition.key(f"group:{holder.name}")
    return [part or b"" for part in log.hmget(key, ["owner", "token", "beat"])]


def _agree(what: str, stream: str, lost: int, alive: str, yes: int) -> None:
    """Raises Refused where nobody can be asked, Failed where somebody says no."""
    if alive and yes < 2:
        if yes or not sys.stdin.isatty():
            raise Failed(
                f"{alive}: it would begin to need facts that may be gone; end it first, or give "
                "--yes twice"
            )
        _ask(f"{alive}, and may need facts again that are gone by then. Drop it all the same?")
    if yes:
        return
    letters = f"{number(lost, 'dead letter')} would be lost, and " if lost else ""
    if not sys.stdin.isatty():
        raise Refused(
            f"{letters}facts that {what} has not read could be trimmed: give --yes if that is meant"
        )
    _ask(f"{letters}facts of {stream} that {what} has not read could be trimmed. Drop it?")


def _ask(question: str) -> None:
    question = printable(question)
    if not click.confirm(question[0].upper() + question[1:], err=True):
        raise Failed("nothing was dropped")


def _remove(log: Log, holder: Holder, instance: str) -> None:
    key = holder.partition.key
    if holder.kind == "view":
        if instance:
            log.hdel(key(f"cursors:{holder.name}"), instance)
        else:
            log.delete(key(f"cursors:{holder.name}"))
        return

    def drop(step: Any) -> None:
        step.delete(*(key(f"{name}:{holder.name}") for name in _OF_GROUP))
        # In the service's own streams, Redis' own tools show it.
        step.xgroup_destroy(key("log"), holder.name)

    removed, _ = together(log, key("log"), drop, raise_on_error=False)
    if isinstance(removed, redis.RedisError):
        raise removed


def register(log: Log, stream: str, name: str, *, dry_run: bool, as_json: bool) -> None:
    """Keeps all facts that are there for a view that comes later."""
    known = states(log, stream)
    its = of_name(known, name)
    if any(each.kind == "reaction" for each in its):
        raise Failed(f"{name} is a reaction, which has its place in {stream} already")
    new = [state for state in known if name not in {each.name for each in state.holders}]
    missing = [state for state in new if state.trimmed]
    if not dry_run:
        for state in new:
            log.hset(_cursors(state.partition, name), "_", "1")
    if as_json:
        document = {
            "stream": stream,
            "registered": name,
            "dry_run": dry_run,
            "partitions": [state.partition.number for state in new],
            "trimmed": {str(state.partition.number): state.trimmed for state in missing},
        }
        click.echo(json.dumps(document, indent=2))
        return
    if new:
        verb = "would be registered" if dry_run else "is registered"
        click.echo(f"{name} {verb}: all facts of {stream} that are there are kept for it")
    else:
        click.echo(f"{name} is known already: what it needs is kept")
    for state in missing:
        facts = f"facts 1 to {state.trimmed}" if state.trimmed > 1 else "fact 1"
        click.echo(f"{facts} of {state} went before that, and it will not find them")


def _cursors(partition: Partition, name: str) -> str:
    return partition.key(f"cursors:{name}")
