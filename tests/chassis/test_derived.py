"""Derived tables are functions of the rows that are there, in whatever order these came."""

import contextlib
import random
from collections.abc import Iterator
from operator import length_hint
from typing import Any

import pytest
from google.protobuf.wrappers_pb2 import Int64Value, StringValue

from factfold_chassis.errors import WiringError
from factfold_chassis.views.declare import View
from factfold_chassis.views.tables import Tables

Put = tuple[str, str, str | None]  # table, key, row
VALUES = ["ax", "bx", "!x", "ay", "by", "!y", None]  # the last letter: where it points, its group


class Failing:
    """A view whose function `name` fails for rows with an exclamation mark."""

    def __init__(self, name: str):
        self.name = name
        view = self.view = View("view")
        left, right = view.table("left", StringValue), view.table("right", StringValue)
        view.join("join", left=left, right=right, on=self.on, row=StringValue, combine=self.combine)
        sums = view.aggregate(
            "sums", source=left, by=self.by, row=Int64Value, add=self.add, remove=self.remove
        )
        view.join(
            "odd", left=sums, right=right, on=lambda row: "x", row=StringValue, combine=self.odd
        )

    def _try(self, name: str, row: StringValue | None) -> None:
        if name == self.name and row is not None and "!" in row.value:
            raise RuntimeError(name)

    def on(self, row: StringValue) -> str | None:
        self._try("on", row)
        return row.value[-1]

    def combine(self, left: StringValue, right: StringValue | None) -> StringValue:
        self._try("combine", left)
        self._try("combine", right)
        return StringValue(value=f"{left.value} {right.value if right else '-'}")

    def by(self, row: StringValue) -> str | None:
        self._try("by", row)
        return row.value[-1]

    def add(self, total: Int64Value, row: StringValue) -> None:
        self._try("add", row)
        total.value += ord(row.value[0])

    def remove(self, total: Int64Value, row: StringValue) -> None:
        self._try("remove", row)
        total.value -= ord(row.value[0])

    def odd(self, total: Int64Value, right: StringValue | None) -> StringValue:
        if total.value % 2 == 0:
            raise RuntimeError("even")
        return StringValue(value=f"{total.value} {right.value if right else '-'}")

    def tables(self, puts: list[Put]) -> dict[str, dict[str, Any]]:
        """All rows after `puts`."""
        tables = Tables(self.view)
        by_name = {table.name: tables[table] for table in self.view.tables}
        for table, key, value in puts:
            with contextlib.suppress(RuntimeError):
                by_name[table].put(key, value if value is None else StringValue(value=value))
        return self._shown(tables)

    def restored(self, shown: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """All rows after a start with a snapshot of those that are not derived."""
        rows = {
            table: {
                key: StringValue(value=value).SerializeToString()
                for key, value in shown[table.name].items()
            }
            for table in self.view.folded
        }
        tables = Tables(self.view, rows)
        for table in rows:
            list(tables[table].derive())
        return self._shown(tables)

    def _shown(self, tables: Tables) -> dict[str, dict[str, Any]]:
        return {
            table.name: {key: row.value for key, row in tables[table].items()} for table in tables
        }


def histories(dice: random.Random) -> list[list[Put]]:
    """What happens to each key, in order."""
    keys = [("left", key) for key in "123"] + [("right", key) for key in "xy"]
    return [[(*key, dice.choice(VALUES)) for _ in range(dice.randint(0, 4))] for key in keys]


def interleaved(histories: list[list[Put]], dice: random.Random) -> Iterator[Put]:
    turns = [history for history in map(iter, histories) for _ in range(length_hint(history))]
    dice.shuffle(turns)
    return map(next, turns)


@pytest.mark.parametrize("failing", ["", "on", "combine", "by", "add", "remove"])
def test_the_order_between_keys_does_not_show(failing: str) -> None:
    for seed in range(300):
        dice = random.Random(seed)
        view, facts = Failing(failing), histories(dice)
        first = view.tables(list(interleaved(facts, dice)))
        for _ in range(4):
            assert view.tables(list(interleaved(facts, dice))) == first, seed
        if failing != "remove":
            assert view.restored(first) == first, seed


def test_tables_of_two_views_are_not_combined() -> None:
    view, other = View("view"), View("other")
    left, right = view.table("left", StringValue), other.table("right", StringValue)
    with pytest.raises(WiringError) as refused:
        view.join(
            "join", left=left, right=right, on=str, row=StringValue, combine=lambda one, two: one
        )
    assert str(refused.value) == (
        "table join of view view is derived from right of view other: make both tables of one view"
    )


def test_a_join_may_change_the_rows_that_it_is_given() -> None:
    def combine(left: StringValue, right: StringValue | None) -> StringValue:
        left.value += "!"
        if right is not None:
            right.value += "!"
        return right or left

    view = View("view")
    left, right = view.table("left", StringValue), view.table("right", StringValue)
    join = view.join(
        "join", left=left, right=right, on=lambda row: "x", row=StringValue, combine=combine
    )
    tables = Tables(view)
    for key, row in (("1", StringValue(value="a")), ("2", StringValue(value="b"))):
        tables[left].put(key, row)
    for _ in range(2):
        tables[right].put("x", StringValue(value="r"))
    assert dict(tables[join].items()) == dict.fromkeys("12", StringValue(value="r!"))
    assert tables[right].get("x") == StringValue(value="r")
    assert tables[left].get("1") == StringValue(value="a")
