"""`factfold trim`: facts leave a stream on purpose, as far as its readers allow."""

import json
import re
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import click

from factfold_cli import log as logs
from factfold_cli import starts
from factfold_cli.clients import Log
from factfold_cli.contract import STREAM_NAME
from factfold_cli.errors import Failed, Refused
from factfold_cli.holders import State, Trimmed, states, trim
from factfold_cli.output import Output
from factfold_cli.survey import number
from factfold_cli.trim_readers import drop, register
from factfold_cli.trim_table import document, lines, show

# What one call removes: a third of a millisecond of the server's, 1 ms if each fact has 5 KiB.
_AT_ONCE = 1000
_READER = re.compile(r"([^.\s/][^\s/]*\.[^.\s/]+)(?:/([0-9a-f]{1,32}))?")


def _read_before(_: click.Context, parameter: click.Parameter, words: str | None) -> Any:
    if words is None:
        return None
    start = starts.parse(words)
    if start is None or start == starts.From():
        raise click.BadParameter(
            f"{words!r} is no place to trim to; give end, a position such as orders/2:17, an age "
            "such as 30d, or a time such as 2026-01-31T12:00:00Z",
            param=parameter,
        )
    return start


def _read_reader(_: click.Context, parameter: click.Parameter, words: str | None) -> Any:
    if words is None:
        return None
    match = _READER.fullmatch(words)
    if match is None or (match[2] and parameter.name == "registered"):
        instance = ", SERVICE.REACTION or SERVICE.VIEW/INSTANCE"
        instance = "" if parameter.name == "registered" else instance
        raise click.BadParameter(
            f"{words!r} is no reader; give SERVICE.VIEW{instance}", param=parameter
        )
    return match[1], match[2] or ""


@click.command("trim")
@click.argument("stream")
@click.option(
    "--before",
    metavar="PLACE",
    callback=_read_before,
    help="Remove the facts before positions (comma-separated), or older than an age (90s, 15m, "
    "2h, 3d) or a time; end: all.",
)
@click.option(
    "--as-far-as-allowed", "as_allowed", is_flag=True, help="Remove what may go, be it less."
)
@click.option(
    "--drop",
    "dropped",
    metavar="READER",
    callback=_read_reader,
    help="Forget a reader, SERVICE.VIEW or SERVICE.REACTION, or one SERVICE.VIEW/INSTANCE, that "
    "will not come back.",
)
@click.option(
    "--register",
    "registered",
    metavar="READER",
    callback=_read_reader,
    help="Keep all facts for a SERVICE.VIEW that is to come later.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be done, and change nothing.")
@click.option(
    "--yes", count=True, help="Do not ask; given twice, also not about a reader that is alive."
)
@logs.option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    stream: str,
    before: starts.From | None,
    as_allowed: bool,
    dropped: tuple[str, str] | None,
    registered: tuple[str, str] | None,
    dry_run: bool,
    yes: int,
    url: str | None,
    as_json: bool,
) -> None:
    """Remove the oldest facts of STREAM; without --before, show how far that may go.

    A fact stays as long as somebody may need it: a view that has no two snapshots behind it, a
    reaction that has not committed it, a reader that is registered or away. Then nothing is
    removed, and who it is is said, unless --as-far-as-allowed is given. What was removed is in no
    view that begins later without a snapshot.

    Without --before and piped, a line has "partition", its name, facts, facts that were trimmed,
    facts that may go, and who holds it back; or "reader", its name, partition, the position that
    it needs all from (0-0: the first fact), facts behind, when it was seen, and "holds back" if
    nobody needs more; with tabs between them.

    \b
    Examples:
      factfold trim orders
      factfold trim orders --before 30d
      factfold trim orders --before end --as-far-as-allowed
      factfold trim orders --drop billing.orders/0011223344556677
      factfold trim orders --register billing.orders
    """
    if not re.fullmatch(STREAM_NAME, stream):
        raise Refused(
            f"{stream!r} is no stream: a name has 1 to 64 characters of a-z, 0-9, '-' and '.'"
        )
    given = [
        name
        for name, value in (("--before", before), ("--drop", dropped), ("--register", registered))
        if value is not None
    ]
    if len(given) > 1:
        raise click.UsageError(f"give {given[0]} or {given[1]}, not both")
    if not before and (as_allowed or (dry_run and not given)):
        option = "--as-far-as-allowed" if as_allowed else "--dry-run"
        raise click.UsageError(f"{option} goes with --before")
    with logs.opened(url) as log:
        if before is not None:
            _trim(log, stream, before, as_allowed, dry_run, as_json)
        elif dropped is not None:
            drop(log, stream, *dropped, dry_run=dry_run, yes=yes, as_json=as_json)
        elif registered is not None:
            register(log, stream, registered[0], dry_run=dry_run, as_json=as_json)
        else:
            _show(stream, states(log, stream), as_json)


def _show(stream: str, its: Sequence[State], as_json: bool) -> None:
    output = Output()
    if as_json:
        click.echo(json.dumps(document(stream, its), indent=2))
    elif output.watched:
        show(its, output)
    else:
        for line in lines(its):
            click.echo(line)


def _trim(
    log: Log,
    stream: str,
    before: starts.From,
    as_allowed: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    firsts = _firsts(log, stream, before)
    # First without its readers, to be sure that those who are looked for next are all found.
    asked = [(state, first) for state in states(log, stream) if (first := firsts.get(str(state)))]
    for state, first in asked:
        trim(log, state, first, everything=False, most=0, keys=((), ()))
    before_it = {str(state): state for state in states(log, stream)}
    asked = [(before_it[str(state)], first) for state, first in asked]
    would = [
        (state, first, trim(log, state, first, everything=not as_allowed, most=0))
        for state, first in asked
    ]
    if held := [(state, found) for state, _, found in would if found.held]:
        raise _refusal(stream, held)
    if dry_run:
        done = [(state, found) for state, _, found in would]
    else:
        total = sum(max(0, found.first - 1 - found.trimmed) for *_, found in would)
        done = _carry_out(log, stream, asked, as_allowed, total)
    _report(stream, done, dry_run, as_json)


def _firsts(log: Log, stream: str, before: starts.From) -> dict[str, int]:
    """By partition, the n of the first fact that is to be kept. Raises Failed, Refused."""
    found = {}
    # Knows of positions of another log, behind the end, and in no partition of this one.
    for lane in starts.lanes(log, stream, before, follow=False):
        if before.end:
            found[str(lane)] = (lane.until or 0) + 1
        elif before.ms is not None:
            first: Any = log.xrange(lane.partition.key("log"), min=before.ms, count=1)
            n = int(first[0][0].split(b"-")[1]) if first else (lane.until or 0) + 1
            found[str(lane)] = n
    for place in before.places:
        if place.partition.stream == stream:
            found[f"{stream}/{place.partition.number}"] = place.n
    return found


def _carry_out(
    log: Log,
    stream: str,
    asked: Sequence[tuple[State, int]],
    as_allowed: bool,
    total: int,
) -> list[tuple[State, Trimmed]]:
    """Raises Failed if somebody has come in between, who needs more."""
    output, removed = Output(to_stderr=True), 0
    done: list[tuple[State, Trimmed]] = []
    waiting = f"trimming {stream}"
    with output.busy(waiting) if output.watched else nullcontext(_nothing) as say:
        for state, first in asked:
            at = state.trimmed
            while True:
                found = trim(log, state, first, everything=not as_allowed, most=_AT_ONCE)
                if found.held:
                    raise Failed(
                        f"{found.holder} has come meanwhile, and needs {state} from fact "
                        f"{found.first} on: {number(removed, 'fact')} had been removed"
                    )
                removed, at = removed + found.trimmed - at, found.trimmed
                say(f"{waiting}: {removed:,} of {total:,} facts")
                if found.trimmed >= found.first - 1:
                    break
            done.append((state, found))
    return done


def _nothing(text: str) -> None:
    pass


def _refusal(stream: str, held: Sequence[tuple[State, Trimmed]]) -> Failed:
    """Who it is that holds back the most, up to where one could go, and what to do."""
    state, found = min(held, key=lambda each: each[1].first - each[0].n)
    holder = next((each for each in state.holders if str(each) == found.holder), None)
    who, still = found.holder, "needs"
    if holder is not None and holder.seen:
        who += f", seen {state.ago(holder)},"
    elif holder is not None and holder.kind == "view":
        who, still = f"{who}, of which no instance is here,", "may need"
    all_ = found.first <= found.trimmed + 1
    where = "all that is left" if all_ else f"facts from {found.first} on"
    others = f" (and {number(len(held) - 1, 'other partition')} is held back)" if held[1:] else ""
    others = others.replace("s is held", "s are held")
    how = "give it snapshots (FACTFOLD_SNAPSHOT_DIR), "
    if holder is not None and holder.kind == "reaction":
        how = ""
    return Failed(
        f"nothing was trimmed: {who} {still} {where} of {state}{others}; start it so that it "
        f"catches up, {how}or, if it will not come back, drop it: factfold trim {stream} --drop "
        f"{found.holder}; --as-far-as-allowed removes what may go"
    )


def _report(
    stream: str, done: Sequence[tuple[State, Trimmed]], dry_run: bool, as_json: bool
) -> None:
    rows: list[dict[str, Any]] = []
    for state, found in done:
        trimmed = found.first - 1 if dry_run else found.trimmed
        rows.append(
            {
                "partition": state.partition.number,
                "removed": trimmed - state.trimmed,
                "facts": state.n - trimmed,
                "trimmed": trimmed,
                "held_back_by": found.holder or None,
            }
        )
    if as_json:
        click.echo(json.dumps({"stream": stream, "dry_run": dry_run, "partitions": rows}, indent=2))
        return
    verb = "would be removed" if dry_run else "removed"
    for row in rows:
        held = f"; {row['held_back_by']} needs the rest" if row["held_back_by"] else ""
        click.echo(
            f"{stream}/{row['partition']}: {number(row['removed'], 'fact')} {verb}, "
            f"{row['facts']} left{held}"
        )
