"""How a service says what it derives: views, tables, folds, joins and aggregates.

These are declarations only. The running state of a view is in `tables.py`, the work in
`engine.py`, so that each process and each test has its own.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from factfold_chassis.errors import WiringError
from factfold_chassis.facts import Fact

Row = TypeVar("Row", bound=Message)
Left = TypeVar("Left", bound=Message)
Right = TypeVar("Right", bound=Message)
Event = TypeVar("Event", bound=Message)

FoldFunction = Callable[[Row | None, Event, Fact], Row | None]


@dataclass(frozen=True, slots=True, eq=False)
class Table(Generic[Row]):
    """Key → row. Make one with View.table, View.join or View.aggregate."""

    view: "View"
    name: str
    row: type[Row]


@dataclass(frozen=True, slots=True, eq=False)
class Join(Generic[Left, Right, Row]):
    """A table with one row per row of `left`, combined with the row of `right` it points to."""

    table: Table[Row]
    left: Table[Left]
    right: Table[Right]
    on: Callable[[Left], str | None]
    combine: Callable[[Left, Right | None], Row | None]


@dataclass(frozen=True, slots=True, eq=False)
class Aggregate(Generic[Left, Row]):
    """A table with one row per group of rows of `source`."""

    table: Table[Row]
    source: Table[Left]
    by: Callable[[Left], str | None]
    add: Callable[[Row, Left], None]
    remove: Callable[[Row, Left], None]


@dataclass(slots=True, eq=False)
class View:
    """A named piece of derived state. Its tables live and die, and are rebuilt, together."""

    name: str
    tables: list[Table[Any]] = dataclass_field(default_factory=list)
    derived: list[Join[Any, Any, Any] | Aggregate[Any, Any]] = dataclass_field(default_factory=list)

    def table(self, name: str, row: type[Row]) -> Table[Row]:
        """A table that folds write: rows of one stream, each under its fact's key."""
        if any(table.name == name for table in self.tables):
            raise WiringError(f"view {self.name} has two tables {name}: rename one")
        table = Table(self, name, row)
        self.tables.append(table)
        return table

    @property
    def folded(self) -> list[Table[Any]]:
        """The tables that folds write; the others are derived from them."""
        derived = {each.table for each in self.derived}
        return [table for table in self.tables if table not in derived]

    def join(
        self,
        name: str,
        *,
        left: Table[Left],
        right: Table[Right],
        on: Callable[[Left], str | None],
        row: type[Row],
        combine: Callable[[Left, Right | None], Row | None],
    ) -> Table[Row]:
        """A table keyed as `left`, kept up to date when either side changes.

        Args:
            on: the key in `right` that a row of `left` points to; None: to nothing.
            combine: pure; None leaves the row out. Its second argument is None as long as
                there is no such row in `right`.
        """
        table = self._derived(name, row, left, right)
        self.derived.append(Join(table, left, right, on, combine))
        return table

    def aggregate(
        self,
        name: str,
        *,
        source: Table[Left],
        by: Callable[[Left], str | None],
        row: type[Row],
        add: Callable[[Row, Left], None],
        remove: Callable[[Row, Left], None],
    ) -> Table[Row]:
        """A table with one row per value of `by` (None: in no group).

        Args:
            add: changes the group's row for a source row that joins it.
            remove: undoes exactly what `add` did for that row. The order in which rows come
                and go must not matter. The row of an empty group is dropped.
        """
        table = self._derived(name, row, source)
        self.derived.append(Aggregate(table, source, by, add, remove))
        return table

    def _derived(self, name: str, row: type[Row], *sources: Table[Any]) -> Table[Row]:
        for source in sources:
            if source.view is not self:
                raise WiringError(
                    f"table {name} of view {self.name} is derived from {source.name} of view "
                    f"{source.view.name}: make both tables of one view"
                )
        return self.table(name, row)


@dataclass(frozen=True, slots=True, eq=False)
class Fold(Generic[Row, Event]):
    """What one event type does to one table. Callable as the function it was made from."""

    event: type[Event]
    into: Table[Row]
    function: FoldFunction[Row, Event]
    module: str  # where it is declared

    def __call__(self, row: Row | None, event: Event, fact: Fact) -> Row | None:
        return self.function(row, event, fact)


def fold(
    event: type[Event], *, into: Table[Row]
) -> Callable[[FoldFunction[Row, Event]], Fold[Row, Event]]:
    """Declare a fold: `function(row, event, fact)` returns the key's new row, None for no row.

    The function is pure. `row` is the present one (None: there is none yet), a copy that may be
    changed and returned.
    """

    module = sys._getframe(1).f_globals.get("__name__", "")

    def declare(function: FoldFunction[Row, Event]) -> Fold[Row, Event]:
        return Fold(event, into, function, module)

    return declare
