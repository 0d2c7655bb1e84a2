"""Prints facts as they come, to whoever reads them for as long as they do."""

import json
import os
import select
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import click

from factfold_cli import fact_lines
from factfold_cli.decoding import Events
from factfold_cli.facts import Fact
from factfold_cli.lanes import Note
from factfold_cli.output import Output
from factfold_cli.printable import printable


def note(text: str) -> None:
    """A line on stderr: stdout belongs to facts."""
    click.echo(f"factfold: {printable(text)}", err=True)


class Filter:
    def __init__(self, keys: Sequence[str], types: Sequence[str]) -> None:
        self._keys = {os.fsencode(key) for key in keys}
        self._types = set(types)

    def __call__(self, fact: Fact) -> bool:
        """A type may also be its short name."""
        if self._keys and fact.raw_key not in self._keys:
            return False
        return not self._types or bool(self._types & {fact.type, fact.type.rpartition(".")[2]})


def print_facts(
    batches: Iterator[list[Fact | Note]],
    wanted: Callable[[Fact], bool],
    limit: int | None,
    show: Callable[[Fact], None],
) -> None:
    shown = 0
    for batch in batches:
        for each in batch:
            if isinstance(each, Note):
                sys.stdout.flush()
                note(each.text)
            elif wanted(each):
                show(each)
                shown += 1
                if shown == limit:
                    sys.stdout.flush()
                    return
        sys.stdout.flush()
        _check_reader()


def _check_reader() -> None:
    """Raises BrokenPipeError when nobody reads any more: a stream may stay silent for ever."""
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError):  # no file at all
        return
    poll = select.poll()
    poll.register(descriptor, 0)
    if any(event & select.POLLERR for _, event in poll.poll(0)):
        raise BrokenPipeError


def printer(form: str, events: Events) -> Callable[[Fact], None]:
    if form == "text" and (output := Output()).watched:
        return lambda fact: output.say(fact_lines.coloured(fact, events))
    return lambda fact: _write(form, fact, events)


def _write(form: str, fact: Fact, events: Events) -> None:
    if form == "text":
        sys.stdout.write(fact_lines.line(fact, events) + "\n")
        return
    if form == "json":
        shown: dict[str, Any] | None = fact_lines.document(fact, events)
    elif (shown := fact_lines.cloud_event(fact, events)) is None:
        note(f"left out, as it is no CloudEvent: {fact.short_position}: {fact.flaw or 'no source'}")
        return
    sys.stdout.write(json.dumps(shown) + "\n")
