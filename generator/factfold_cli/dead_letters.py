"""`factfold dead-letters …`: facts that a reaction could not answer."""

import json
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from factfold_cli import log as logs
from factfold_cli.clients import Log
from factfold_cli.decoding import Events, repositories
from factfold_cli.errors import Failed, Refused
from factfold_cli.letter_sheets import detail, line_of, sheet, show_tables, summary
from factfold_cli.letters import (
    GROUP,
    Asked,
    Fate,
    Letter,
    Position,
    groups,
    letters,
    parse_position,
    parsed,
)
from factfold_cli.manifest import read, root_here
from factfold_cli.output import Output
from factfold_cli.printable import printable

_POLL_SECONDS = 0.1
_STATES = ("held", "retrying", "dead")


def _read_group(_: click.Context, parameter: click.Parameter, group: str | None) -> str | None:
    if group is not None and not GROUP.fullmatch(group):
        raise click.BadParameter(
            f"{group!r} is no group; give SERVICE.REACTION, as `list` prints it", param=parameter
        )
    return group


def _read_position(_: click.Context, parameter: click.Parameter, words: Any) -> Any:
    """For one or for many."""
    if isinstance(words, tuple):
        return tuple(_read_position(_, parameter, each) for each in words)
    if (position := parse_position(words)) is None:
        raise click.BadParameter(
            f"{words!r} is no position; give STREAM/PARTITION:N, as `list` prints it",
            param=parameter,
        )
    return position


_group = click.argument("group", callback=_read_group)
_positions = click.argument("positions", metavar="[POSITION]...", nargs=-1, callback=_read_position)
_key = click.option("--key", metavar="KEY", help="Those of one key.")
_type = click.option("--type", "kind", metavar="TYPE", help="Those of one event type.")
_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
_wait = click.option(
    "--wait",
    "seconds",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for what comes of it; 0: not at all.",
)


@click.group("dead-letters")
def command() -> None:
    """Look at the facts that a reaction could not answer, and have them tried again.

    A dead letter holds back the later facts of its key. It is retrying (the service tries it
    again by itself), dead (given up: it waits for you) or held (it waits behind an earlier one).

    \b
    Example:
      factfold dead-letters list
    """


@command.command("list", short_help="List those of the service here, or of all services.")
@click.argument("group", required=False, callback=_read_group)
@click.option("--all", "everywhere", is_flag=True, help="Of all services, also inside one's own.")
@_key
@_type
@click.option("--state", type=click.Choice(_STATES), help="Those in one state.")
@logs.option
@_json
def list_(
    group: str | None,
    everywhere: bool,
    key: str | None,
    kind: str | None,
    state: str | None,
    url: str | None,
    as_json: bool,
) -> None:
    """List the dead letters of GROUP; without it, of the service whose repository this is, or all.

    Piped, a line has group, position, key, type, state, tries, time of the last one and error,
    with tabs between them.

    \b
    Example:
      factfold dead-letters list shipments.create_shipment_for_order --state dead
    """
    prefix = "" if group or everywhere else _own_groups()
    with logs.opened(url) as log:
        known = groups(log)
        if group is not None and group not in known:
            raise _no_group(group, list(known))
        found = {
            name: [each for each in letters(log, name, known[name]) if _fits(each, key, kind)]
            for name in known
            if name == group or (group is None and name.startswith(prefix))
        }
    chosen = [
        (name, letter)
        for name, its in found.items()
        for letter in its
        if state is None or letter.state == state
    ]
    if as_json:
        _print_document([summary(*each) for each in chosen])
    elif sys.stdout.isatty():
        show_tables(chosen, Output())
        if not chosen:
            click.echo("no dead letters")
    else:
        for each in chosen:
            click.echo(line_of(*each))


@command.command("show", short_help="Show all of one: fact, payload, error, what waits for it.")
@_group
@click.argument("position", callback=_read_position)
@click.option(
    "--contract",
    "directory",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The repository whose contracts decode it, or the folder that several are in; by default "
    "where this is run.",
)
@logs.option
@_json
def show(
    group: str, position: tuple[Position, str], directory: Path | None, url: str | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Show all of the dead letter of GROUP at POSITION: fact, payload, error, what waits for it.

    The payload is decoded with the contract of the service, or of one that subscribes to it.

    \b
    Example:
      factfold dead-letters show shipments.create_shipment_for_order orders/2:17
    """
    with logs.opened(url) as log:
        (found,) = _at(log, group, [position])
        raw: Any = log.hget(position[0].partition.key(f"dead:{group}"), str(position[0].n))
    letter = parsed(raw)
    if letter is None:
        raise Failed(f"the dead letter at {position[0]} does not parse: {(raw or b'').hex()}")
    shown = detail(group, found, letter, Events(repositories(directory)))
    click.echo(json.dumps(shown, indent=2) if as_json else sheet(shown))


@command.command("redrive", short_help="Have some tried again, and say what came of it.")
@_group
@_positions
@_key
@_type
@click.option("--all", "everything", is_flag=True, help="All of the group.")
@_wait
@logs.option
@_json
def redrive(
    group: str,
    positions: tuple[tuple[Position, str], ...],
    key: str | None,
    kind: str | None,
    everything: bool,
    seconds: float,
    url: str | None,
    as_json: bool,
) -> None:
    """Have dead letters of GROUP tried again now, and say what came of it.

    A running instance of the service does it. The facts of a key are tried in their order: the
    first one now, each later one as soon as those before it are gone.

    \b
    Examples:
      factfold dead-letters redrive shipments.create_shipment_for_order orders/2:17
      factfold dead-letters redrive shipments.create_shipment_for_order --type OrderCreated
    """
    _one_way_to_choose(positions, key, kind, everything, "--key, --type or --all")
    with logs.opened(url) as log:
        chosen = _chosen(log, group, positions, key, kind)
        asked = Asked(log, group, "redrive", chosen)
        _carry_through(asked, seconds, as_json, "answered")


@command.command("discard", short_help="Give up the answers for good; the facts stay.")
@_group
@_positions
@_key
@click.option("--yes", is_flag=True, help="Do not ask.")
@_wait
@logs.option
@_json
def discard(
    group: str,
    positions: tuple[tuple[Position, str], ...],
    key: str | None,
    yes: bool,
    seconds: float,
    url: str | None,
    as_json: bool,
) -> None:
    """Give up the answers to dead letters of GROUP for good; the facts themselves stay in the log.

    A running instance of the service does it. The later facts of their keys are then tried.

    \b
    Example:
      factfold dead-letters discard shipments.create_shipment_for_order orders/2:17
    """
    _one_way_to_choose(positions, key, None, False, "--key")
    with logs.opened(url) as log:
        chosen = _chosen(log, group, positions, key, None)
        if chosen and not yes:
            _ask(group, chosen)
        asked = Asked(log, group, "discard", chosen)
        _carry_through(asked, seconds, as_json, "discarded")


# Which letters.


def _repository() -> Path | None:
    try:
        return root_here()
    except Refused:
        return None


def _own_groups() -> str:
    """What the groups of the service here begin with; nothing outside a repository."""
    root = _repository()
    return f"{read(root)['answers']['service_slug']}." if root else ""


def _no_group(group: str, known: Sequence[str]) -> Failed:
    there = f"there are {', '.join(map(printable, known))}" if known else "there are none yet"
    return Failed(f"this log has no group {printable(group)!r}: {there}")


def _fits(letter: Letter, key: str | None, kind: str | None) -> bool:
    """`kind` may also be the event's short name."""
    keys = (None, letter.key, letter.raw_key.decode(errors="replace"))
    return key in keys and kind in (None, letter.type, letter.type.rpartition(".")[2])


def _one_way_to_choose(
    positions: Sequence[object], key: str | None, kind: str | None, everything: bool, options: str
) -> None:
    filters = [name for name, value in (("--key", key), ("--type", kind)) if value is not None]
    given = [
        *(["positions"] if positions else []),
        *(["--all"] if everything else []),
        *([" and ".join(filters)] if filters else []),
    ]
    if not given:
        raise click.UsageError(f"give positions, or {options}")
    if len(given) > 1:
        raise click.UsageError(f"give {given[0]} or {given[1]}, not both")


def _chosen(
    log: Log,
    group: str,
    positions: Sequence[tuple[Position, str]],
    key: str | None,
    kind: str | None,
) -> list[Letter]:
    """Raises Failed if what was named is not there."""
    if positions:
        return _at(log, group, positions)
    found = [each for each in _of_group(log, group) if _fits(each, key, kind)]
    if not found and (key, kind) != (None, None):
        of_key = "" if key is None else f" with the key {key!r}"
        of_kind = "" if kind is None else f" of the type {kind!r}"
        raise _no_letter(group, of_key + of_kind)
    return found


def _of_group(log: Log, group: str) -> list[Letter]:
    known = groups(log)
    if group not in known:
        raise _no_group(group, list(known))
    return letters(log, group, known[group])


def _at(log: Log, group: str, positions: Sequence[tuple[Position, str]]) -> list[Letter]:
    """The letters at `positions`, each once. Raises Failed if one is not there."""
    there = {letter.position: letter for letter in _of_group(log, group)}
    for position, entry_id in positions:
        letter = there.get(position)
        if letter is None or (entry_id and letter.entry_id != entry_id):
            raise _no_letter(group, f" at {position}")
    return [there[position] for position in dict(positions)]


def _no_letter(group: str, which: str) -> Failed:
    return Failed(
        f"{group} has no dead letter{which}: look with `factfold dead-letters list {group}`"
    )


def _ask(group: str, chosen: Sequence[Letter]) -> None:
    """Raises Refused where nobody can be asked, Failed where somebody says no."""
    if not sys.stdin.isatty():
        raise Refused(f"{_count(chosen)} would be lost: give --yes if that is meant")
    show_tables([(group, letter) for letter in chosen], Output(to_stderr=True))
    if not click.confirm(f"Never answer {_these(chosen)}?", err=True):
        raise Failed("nothing was discarded")


def _count(chosen: Sequence[object]) -> str:
    return "1 dead letter" if len(chosen) == 1 else f"{len(chosen)} dead letters"


def _these(chosen: Sequence[object]) -> str:
    return "this fact" if len(chosen) == 1 else f"these {len(chosen)} facts"


# What comes of a request.


def _carry_through(asked: Asked, seconds: float, as_json: bool, done: str) -> None:
    """Queues, waits and reports. Raises Failed unless each letter ends as `done`."""
    fates = asked.queue()
    if asked.letters and seconds:
        fates = _wait_for(asked, seconds, Output(to_stderr=True))
    if as_json:
        _print_document([_outcome(asked.group, fate) for fate in fates])
    else:
        _say(asked, fates, seconds)
    missing = [fate for fate in fates if fate.result != done]
    if seconds and missing:
        raise Failed(f"{len(missing)} of {_count(fates)} not {done}; `list` shows how they stand")


def _wait_for(asked: Asked, seconds: float, output: Output) -> list[Fate]:
    deadline = time.monotonic() + seconds
    waiting = f"waiting for {_count(asked.letters)}"
    with output.busy(waiting) if output.watched else nullcontext(_nothing) as say:
        while True:
            fates = asked.fates()
            final = sum(fate.final for fate in fates)
            if final == len(fates) or time.monotonic() >= deadline:
                return fates
            say(f"{waiting}, {final} settled")
            time.sleep(_POLL_SECONDS)


def _nothing(text: str) -> None:
    pass


def _say(asked: Asked, fates: Sequence[Fate], seconds: float) -> None:
    if not fates:
        click.echo("no dead letters", err=True)
    between = "  " if sys.stdout.isatty() else "\t"
    for fate in fates:
        result = "failed again" if fate.result == "failed" else fate.result
        words = [str(fate.letter.position), result, _why(asked, fate, seconds)]
        click.echo(between.join(printable(word) for word in words if word))


def _why(asked: Asked, fate: Fate, seconds: float) -> str:
    if fate.result == "failed":
        then = "given up" if fate.given_up else "the service goes on trying"
        return f"{then}: {' '.join(fate.error.split())}"
    if fate.result == "waits":
        return f"behind {fate.behind}"
    if fate.result == "tried":
        return f"still without an answer after {seconds:g} s"
    if fate.result != "queued" or not seconds:
        return ""
    if asked.owned(fate.letter):
        return f"its owner is still busy after {seconds:g} s, and will come to it"
    service = asked.group.rpartition(".")[0]
    return f"no instance of {service} has taken it up yet, after {seconds:g} s; one that runs will"


def _print_document(shown: Sequence[dict[str, Any]]) -> None:
    click.echo(json.dumps({"letters": shown}, indent=2))


def _outcome(group: str, fate: Fate) -> dict[str, Any]:
    return {
        "group": group,
        "position": str(fate.letter.position),
        "key": fate.letter.key,
        "type": fate.letter.type,
        "result": fate.result,
        "error": fate.error or None,
        "given_up": fate.given_up,
        "behind": str(fate.behind) if fate.behind else None,
    }
