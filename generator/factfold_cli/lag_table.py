"""How readers stand, on a screen, as lines, and in a JSON document."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from factfold_cli.ages import duration, iso
from factfold_cli.printable import printable
from factfold_cli.standings import Standing

_RIGHT = ("behind", "oldest", "per s", "letters")
# Without them, if nobody has any, names have room on 80 columns.
_RARE = ("letters", "state")


def table(found: Sequence[Standing]) -> Table | Text:
    if not found:
        return Text("nobody reads this log")
    rows = [_row(its) for its in found]
    names = [name for name in rows[0] if name not in _RARE or any(row[name] for row in rows)]
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        justify: Any = "right" if name in _RIGHT else "left"
        # Where there is no room for all, names go on in another line; numbers are never cut.
        shown.add_column(name, justify=justify, no_wrap=name != "reader", overflow="fold")
    for its, row in zip(found, rows, strict=True):
        style = "bold red" if its.lost else "yellow" if its.state else ""
        shown.add_row(*(Text(printable(row[name])) for name in names), style=style)
    return shown


def _row(its: Standing) -> dict[str, str]:
    """By heading."""
    return {
        "reader": its.reader.name,
        "stream" if its.partition is None else "partition": _where(its),
        "behind": _number(its.facts),
        "oldest": "-" if its.seconds is None else duration(its.seconds),
        "per s": _number(its.pace),
        "instances" if its.partition is None else "who": _instances(its),
        "letters": _number(its.dead_letters) if its.dead_letters else "",
        "state": its.state,
    }


def line_of(its: Standing) -> str:
    """For programs that read lines: with tabs between the columns."""
    columns = (
        its.reader.kind,
        its.reader.name,
        _where(its),
        its.facts,
        _rounded(its.seconds),
        _rounded(its.pace),
        its.there,
        its.away,
        its.who,
        _iso(its.seen),
        its.state,
        its.dead_letters,
    )
    return "\t".join("" if each is None else printable(str(each)) for each in columns)


def document(its: Standing) -> dict[str, Any]:
    """The same as JSON values."""
    where = {} if its.partition is None else {"partition": its.partition}
    return {
        "kind": its.reader.kind,
        "reader": its.reader.name,
        "stream": its.reader.stream,
        **where,
        "facts": its.facts,
        "seconds": _rounded(its.seconds),
        "facts_per_second": _rounded(its.pace),
        "instances": its.there,
        "instances_away": its.away,
        "who": its.who or None,
        "seen_at": _iso(its.seen),
        "state": its.state or None,
        "dead_letters": its.dead_letters,
    }


def _where(its: Standing) -> str:
    return its.reader.stream + ("" if its.partition is None else f"/{its.partition}")


def _instances(its: Standing) -> str:
    if its.partition is not None:
        return its.who or "-"
    return f"{its.there}" + (f", {its.away} away" if its.away else "")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


def _iso(seconds: float | None) -> str | None:
    return None if seconds is None else iso(seconds)
