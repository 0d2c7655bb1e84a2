"""`factfold lag`: how far behind each view and reaction is."""

import json
import re
import sys
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import click
import redis
from rich.text import Text

from factfold_cli import log as logs
from factfold_cli.clients import AWAY, Log
from factfold_cli.contract import STREAM_NAME
from factfold_cli.errors import Failed, Refused
from factfold_cli.lag_table import document, line_of, table
from factfold_cli.output import Output
from factfold_cli.printable import printable
from factfold_cli.readers import Look, Reader, look, readers
from factfold_cli.standings import PATIENCE_SECONDS, Standing, standings
from factfold_cli.survey import number
from factfold_cli.survey import streams as streams_there

_REDRAW_SECONDS = 1.0
# How many looks back a pace is measured: views write where they are every two seconds.
_LOOKS = 7
# After so many looks who reads is asked anew.
_RENEW = 5


@click.command("lag")
@click.argument("streams", metavar="[STREAM]...", nargs=-1)
@click.option(
    "--reader", metavar="NAME", help="One view or reaction, SERVICE.NAME, or all of a service."
)
@click.option("--partitions", "each", is_flag=True, help="Show each partition.")
@click.option(
    "--watch/--no-watch",
    default=None,
    help="Redraw it each second until Ctrl-C; by default where a person watches.",
)
@click.option(
    "--fail-above",
    "most",
    type=click.IntRange(min=0),
    metavar="FACTS",
    help="End with exit code 1 if a reader is more than so many facts behind, or its log is gone; "
    "for monitoring.",
)
@logs.option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    streams: tuple[str, ...],
    reader: str | None,
    each: bool,
    watch: bool | None,
    most: int | None,
    url: str | None,
    as_json: bool,
) -> None:
    """Show how far behind each view and reaction is, of each STREAM or of all; the worst first.

    Behind is in facts, and in the age of the oldest of them. A view that has several instances is
    as far as the last of those that are there. An instance of a view is away if it has not said
    for 90 s where it is, a reaction if nobody has run it for three seconds. A reader that is
    registered and has not come yet is away too, without an instance.

    Unless it is watched it looks twice, three seconds apart. Piped, a line has kind, reader,
    stream, facts behind, seconds behind, facts a second, instances, instances that are away, who,
    when one was seen, state (away, log gone, log replaced) and dead letters, with tabs between
    them. The exit code is 0, however far behind they are, unless --fail-above is given.

    \b
    Examples:
      factfold lag
      factfold lag orders --reader shipments --partitions
      factfold lag --json --fail-above 10000
    """
    for stream in streams:
        if not re.fullmatch(STREAM_NAME, stream):
            raise Refused(
                f"{stream!r} is no stream: a name has 1 to 64 characters of a-z, 0-9, '-' and '.'"
            )
    once = as_json or most is not None
    if watch and once:
        option = "--json" if as_json else "--fail-above"
        raise click.UsageError(f"{option} is for one look: leave --watch out")
    watch = (sys.stdout.isatty() and not once) if watch is None else watch
    with logs.opened(url) as log:
        known = _known(log, streams, reader)
        if watch:
            with suppress(KeyboardInterrupt):
                _watch(log, known, streams, reader, each)
            return
        before = look(log, known)
        time.sleep(PATIENCE_SECONDS)
        found = standings(log, before, look(log, known), each)
    if as_json:
        click.echo(json.dumps({"readers": [document(standing) for standing in found]}, indent=2))
    elif sys.stdout.isatty():
        Output().show(table(found))
    else:
        for standing in found:
            click.echo(line_of(standing))
    if most is not None:
        _check(found, most)


def _known(log: Log, streams: Sequence[str], name: str | None) -> dict[Reader, Any]:
    """Who reads. Raises Failed if what was named is not there."""
    found = readers(log, streams)
    there = set(streams_there(log)) | {reader.stream for reader in found}
    if missing := [stream for stream in streams if stream not in there]:
        known = ", ".join(sorted(there)) or "none"
        raise Failed(f"there is no stream {missing[0]!r} here; streams here: {known}")
    if name is None:
        return found
    its = {
        reader: partitions
        for reader, partitions in found.items()
        if name in (reader.name, reader.name.partition(".")[0])
    }
    if not its:
        known = ", ".join(dict.fromkeys(printable(reader.name) for reader in found)) or "none"
        raise Failed(f"there is no reader {name!r} here; readers here: {known}")
    return its


def _watch(
    log: Log, known: dict[Reader, Any], streams: Sequence[str], name: str | None, each: bool
) -> None:
    """For ever; a log that does not answer is waited for."""
    looks: deque[Look] = deque(maxlen=_LOOKS)
    count = 0
    with Output().redrawn() as draw:
        while True:
            try:
                if count % _RENEW == _RENEW - 1:
                    with suppress(Failed):  # who was named is gone; it may come back
                        known = _known(log, streams, name)
                looks.append(look(log, known))
                count += 1
                if len(looks) > 1:
                    draw(table(standings(log, looks[0], looks[-1], each)))
            except redis.AuthenticationError:
                raise
            except AWAY as error:
                looks.clear()
                draw(Text(f"the log does not answer: {logs.reason(error)}; trying until it does"))
            time.sleep(_REDRAW_SECONDS)


def _check(found: Sequence[Standing], most: int) -> None:
    """Raises Failed."""
    bad = [its for its in found if its.lost or (its.facts or 0) > most]
    if not bad:
        return
    what = bad[0].state if bad[0].lost else f"{number(bad[0].facts or 0, 'fact')} behind"
    worst = f"{printable(bad[0].reader.name)} of {bad[0].reader.stream}: {what}"
    more = f", and {len(bad) - 1} more" if len(bad) > 1 else ""
    raise Failed(f"more than {number(most, 'fact')} behind, or without a log: {worst}{more}")
