"""Dead letters on a screen: a row for each, and below it the error, which needs the whole width."""

from collections.abc import Sequence

from rich.cells import cell_len
from rich.text import Text

from factfold_cli.output import Output

_NAMES = ("position", "key", "type", "state", "tries", "last try")
# What names a letter or says how it stands is never cut; these are whole in `show`.
_CUT = (1, 2)
_LEAST = 8
_GAP = "  "

Row = tuple[Sequence[str], str]


def show_table(title: str, rows: Sequence[Row], output: Output) -> None:
    """Each row is its columns, fit to be printed, and its error."""
    widths = _widths([_NAMES, *(columns for columns, _ in rows)], output.columns)
    output.line(Text(title, "bold"))
    output.line(_row(_NAMES, widths, "bold"))
    for columns, error in rows:
        output.line(_row(columns, widths))
        if error:
            output.line(Text(f"    {error}"))


def _widths(rows: Sequence[Sequence[str]], room: int) -> list[int]:
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    over = 1 + sum(widths) + len(_GAP) * (len(widths) - 1) - room
    # The wider of them first, until both are as wide.
    while over > 0 and max(widths[at] for at in _CUT) > _LEAST:
        wider, other = sorted(_CUT, key=lambda at: widths[at], reverse=True)
        floor = max(_LEAST, min(widths[wider] - 1, widths[other]))
        cut = min(over, widths[wider] - floor)
        widths[wider] -= cut
        over -= cut
    return widths


def _row(columns: Sequence[str], widths: Sequence[int], style: str = "") -> Text:
    row = Text(" ", style)
    for at, (column, width) in enumerate(zip(columns, widths, strict=True)):
        cell = Text(column)
        cell.truncate(width, overflow="ellipsis", pad=True)
        row.append(_GAP if at else "").append_text(cell)
    row.rstrip()
    return row
