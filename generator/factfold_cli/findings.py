"""What `factfold doctor` has found, and how that looks."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import click
from rich.cells import cell_len
from rich.text import Text

from factfold_cli.output import Output
from factfold_cli.printable import printable

OK, MISSING, WARNING, WRONG = "ok", "missing", "warning", "wrong"
_COLOURS = {OK: "green", MISSING: "dim", WARNING: "yellow", WRONG: "bold red"}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        part: "installed", "repository" or "log".
        state: OK; MISSING: not there, and needed for some things only; WARNING: will be wrong one
            day; WRONG: has to be mended.
        found: what there is, in one line.
        mend: the command that mends it, or else words on what does; empty if nothing has to.
        values: the same for programs, where it is numbers: bytes, facts, days.
    """

    part: str
    name: str
    state: str
    found: str
    mend: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)


def show(findings: Sequence[Finding], as_json: bool) -> None:
    """A table for a person; piped, a line each: state, part, name, found, mend, between tabs."""
    if as_json:
        rows = [{**vars(each), "values": dict(each.values)} for each in findings]
        click.echo(json.dumps({"ok": not any_wrong(findings), "findings": rows}, indent=2))
        return
    output = Output()
    if not output.watched:
        for each in findings:
            columns = (each.state, each.part, each.name, each.found, each.mend)
            click.echo("\t".join(map(printable, columns)))
        return
    for part in dict.fromkeys(each.part for each in findings):
        output.say(part, "bold")
        for line in _lines([each for each in findings if each.part == part]):
            output.say(line)


def any_wrong(findings: Sequence[Finding]) -> bool:
    return any(each.state == WRONG for each in findings)


def _lines(findings: Sequence[Finding]) -> Iterator[Text]:
    """Not a table of rich's: it would fold a command, which then cannot be copied."""
    states = max(len(each.state) for each in findings)
    names = max(cell_len(printable(each.name)) for each in findings)
    for each in findings:
        name = printable(each.name)
        yield Text.assemble(
            "  ",
            (each.state.ljust(states), _COLOURS[each.state]),
            f"  {name}{' ' * (names - cell_len(name))}  {printable(each.found)}",
        )
        if each.mend:
            yield Text(" " * (2 + states + 2)).append(f"→ {printable(each.mend)}", "cyan")
    yield Text()
