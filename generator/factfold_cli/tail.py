"""`factfold tail`: the facts of a stream as they come, and the relatives of one."""

import json
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import click

from factfold_cli import log as logs
from factfold_cli import starts
from factfold_cli.clients import Log
from factfold_cli.contract import STREAM_NAME
from factfold_cli.decoding import Events, repositories
from factfold_cli.errors import Refused
from factfold_cli.fact_printer import Filter, note, print_facts, printer
from factfold_cli.facts import partition_of
from factfold_cli.family_tree import family_document, show_family
from factfold_cli.following import Follower
from factfold_cli.lanes import Lane
from factfold_cli.output import Output
from factfold_cli.relatives import Search, not_found

_FORMATS = ("text", "json", "cloudevents")
_MOST_SEARCHED = 100_000


def _read_from(_: click.Context, parameter: click.Parameter, words: str | None) -> Any:
    if words is None:
        return None
    if (start := starts.parse(words)) is None:
        raise click.BadParameter(
            f"{words!r} is no place to begin; give beginning, end, a position such as orders/2:17, "
            "an age such as 15m, or a time such as 2026-01-31T12:00:00Z",
            param=parameter,
        )
    return start


def _read_fact(_: click.Context, parameter: click.Parameter, words: str | None) -> Any:
    """A place, or an id of 16 bytes."""
    if words is None:
        return None
    if (place := starts.place(words)) is not None:
        return place
    try:
        return UUID(words).bytes
    except ValueError:
        raise click.BadParameter(
            f"{words!r} is no fact; give its position, such as orders/2:17, or its id",
            param=parameter,
        ) from None


@click.command("tail")
@click.argument("stream", required=False)
@click.option(
    "--from",
    "start",
    metavar="PLACE",
    callback=_read_from,
    help="beginning, end, behind positions (comma-separated), an age (90s, 15m, 2h, 3d) or a time; "
    "by default end, with --no-follow beginning.",
)
@click.option("--partition", type=click.IntRange(min=0), metavar="N", help="Of one partition.")
@click.option("--key", "keys", multiple=True, metavar="KEY", help="Of a key; can be repeated.")
@click.option(
    "--type", "types", multiple=True, metavar="TYPE", help="Of an event type; can be repeated."
)
@click.option("--format", "form", type=click.Choice(_FORMATS), default="text", show_default=True)
@click.option("--limit", type=click.IntRange(min=1), metavar="NUMBER", help="End after so many.")
@click.option("--no-follow", is_flag=True, help="End where the log ends now.")
@click.option(
    "--around",
    metavar="FACT",
    callback=_read_fact,
    help="Show one fact, by its id or position, below its causes and above its effects.",
)
@click.option(
    "--search",
    type=click.IntRange(min=1),
    metavar="NUMBER",
    help=f"Entries that each search of --around reads, at most; by default {_MOST_SEARCHED:,}.",
)
@click.option(
    "--contract",
    "directory",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The repository whose contracts decode them, or the folder that several are in; by "
    "default where this is run.",
)
@logs.option
def command(
    stream: str | None,
    start: starts.From | None,
    partition: int | None,
    keys: tuple[str, ...],
    types: tuple[str, ...],
    form: str,
    limit: int | None,
    no_follow: bool,
    around: starts.Place | bytes | None,
    search: int | None,
    directory: Path | None,
    url: str | None,
) -> None:
    """Show the facts of STREAM as they come, decoded with its contract, until Ctrl-C.

    What the log's partitions have is shown in the order of time, each partition in its own. What
    is no fact, or is not decoded, is shown as it is. A log that is replaced, rolled back or
    trimmed is told on stderr, and reading goes on.

    Piped, a line of text has time, position, type, key and event, with tabs between them. json
    and cloudevents are one document a line.

    \b
    Examples:
      factfold tail orders
      factfold tail orders --from beginning --key o-17 --type OrderCreated --format json
      factfold tail --around orders/2:17
    """
    with suppress(KeyboardInterrupt):
        if around is not None:
            others = {
                "STREAM": stream, "--from": start, "--partition": partition is not None,
                "--key": keys, "--type": types, "--limit": limit, "--no-follow": no_follow,
            }  # fmt: skip
            _refuse_beside_around(
                [name for name, given in others.items() if given not in (None, (), False)], form
            )
            with logs.opened(url) as log:
                _show_around(log, around, search or _MOST_SEARCHED, form, _events(directory))
            return
        if stream is None:
            raise click.UsageError("give a STREAM, or a fact with --around")
        if search is not None:
            raise click.UsageError("--search is for --around")
        if not re.fullmatch(STREAM_NAME, stream):
            raise Refused(
                f"{stream!r} is no stream: a name has 1 to 64 characters of a-z, 0-9, '-' and '.'"
            )
        start = start or starts.From(end=not no_follow)
        with logs.opened(url) as log:
            lanes = starts.lanes(log, stream, start, not no_follow)
            lanes = _chosen(stream, lanes, partition, keys)
            follower = Follower(log, lanes)
            batches = follower.present() if no_follow else follower.everything()
            events = _events(directory)
            for type in types:
                if not events.problem and not events.declare(type):
                    note(f"no contract here has an event {type!r}; is the name right?")
            print_facts(batches, Filter(keys, types), limit, printer(form, events))


def _events(directory: Path | None) -> Events:
    events = Events(repositories(directory))
    if events.problem:
        note(f"nothing is decoded: {events.problem}")
    return events


# The facts of a stream.


def _chosen(
    stream: str, lanes: list[Lane], partition: int | None, keys: Sequence[str]
) -> list[Lane]:
    """The partitions that have to be read. Raises Refused."""
    chosen = set(range(len(lanes)))
    if partition is not None:
        if partition not in chosen:
            raise Refused(f"{stream} has no partition {partition}: they are 0 to {len(lanes) - 1}")
        chosen = {partition}
    homes = {key: partition_of(os.fsencode(key), len(lanes)) for key in keys}
    for key, home in homes.items():
        if home not in chosen:
            raise Refused(f"the key {key!r} is in partition {home} of {stream}, not in {partition}")
    return [lane for at, lane in enumerate(lanes) if at in (set(homes.values()) or chosen)]


# The relatives of one.


def _refuse_beside_around(options: Sequence[str], form: str) -> None:
    if options:
        raise click.UsageError(f"--around shows one fact and its relatives: leave {options[0]} out")
    if form == "cloudevents":
        raise click.UsageError("--around is shown as text or json, not as cloudevents")


def _show_around(
    log: Log, around: starts.Place | bytes, most: int, form: str, events: Events
) -> None:
    search = Search(log, most)
    if isinstance(around, bytes):
        if (fact := search.find(around)) is None:
            raise not_found(around, search)
    else:
        fact = search.at(around.partition, starts.entry_at(log, around))
    family = search.family(fact)
    if form == "json":
        click.echo(json.dumps(family_document(family, events), indent=2))
    else:
        show_family(family, events, Output())
