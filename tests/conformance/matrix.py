"""Families by languages, at the end of a run."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

# How a case can end; a letter's place in a cell.
ENDS = ("passed", "known failing", "failed", "skipped")
_COLOURS = dict(zip(ENDS, ("green", "yellow", "bold red", "dim"), strict=True))


class Matrix:
    """How the cases of each family ended in each language.

    A case between two languages counts for both.
    """

    def __init__(self) -> None:
        self._cells: dict[tuple[str, str], Counter[str]] = {}

    def __bool__(self) -> bool:
        return bool(self._cells)

    def add(self, family: str, languages: Iterable[str], end: str) -> None:
        for language in set(languages):
            self._cells.setdefault((family, language), Counter())[end] += 1

    def rows(self) -> list[list[str]]:
        """A heading, a row a family, and their sums."""
        families = sorted({family for family, _ in self._cells})
        names = sorted({language for _, language in self._cells})
        sums = {
            language: sum((self._cells.get((each, language), Counter()) for each in families),
                          Counter())
            for language in names
        }  # fmt: skip
        found = [["family", *names]]
        for family in families:
            cells = (self._cells.get((family, language), Counter()) for language in names)
            found.append([family, *map(shown, cells)])
        return [*found, ["all", *(shown(sums[language]) for language in names)]]

    def plain(self) -> str:
        """Markdown: for files, and for who reads lines."""
        rows = self.rows()
        widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
        lines = [
            f"| {' | '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))} |"
            for row in rows
        ]
        lines.insert(1, f"|{'|'.join('-' * (width + 2) for width in widths)}|")
        return "\n".join(lines) + "\n"

    def drawn(self, width: int) -> str:
        """For a screen."""
        heading, *rows = self.rows()
        table = Table(*heading)
        for row in rows:
            table.add_row(*map(_coloured, row), end_section=row is rows[-2])
        text = io.StringIO()
        Console(file=text, width=width, force_terminal=True).print(table)
        return text.getvalue()


def shown(ends: Counter[str]) -> str:
    return ", ".join(f"{ends[end]} {end}" for end in ENDS if ends[end]) or "-"


def _coloured(cell: str) -> str:
    worst = [end for end in ("failed", "known failing", "passed", "skipped") if f" {end}" in cell]
    if "known failing" in worst and " failed" not in cell:
        return f"[{_COLOURS['known failing']}]{cell}[/]"
    return f"[{_COLOURS[worst[0]]}]{cell}[/]" if worst else cell
