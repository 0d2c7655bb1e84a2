"""The rows of a running view."""

import base64
import binascii
import contextlib
from bisect import bisect_right, insort
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic

from factfold_chassis.views.declare import Aggregate, Join, Row, Table, View

PAGE_BYTES = 1 << 20  # of rows; gRPC clients take messages of 4 MiB

# Told of each change: key, row before, row after. The rows are its own.
Listener = Callable[[str, Any, Any], None]


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    rows: list[Row]
    next_token: str  # empty: this is the last page


class Rows(Generic[Row]):
    """The rows of one table. Who reads gets a message of its own: changing it changes nothing here.

    They are kept serialized: less than half the memory of messages, nothing for the garbage
    collector to walk through, and no more work than copies are.

    Args:
        rows: serialized, by key; they are kept, and changed.
    """

    __slots__ = ("_listeners", "_ordered", "_parse", "_row", "_rows", "_unordered", "paged")

    def __init__(self, row: type[Row], rows: dict[str, bytes] | None = None) -> None:
        self._row = row
        self._parse: Callable[[bytes], Row] = row.FromString
        self._rows: dict[str, bytes] = {} if rows is None else rows
        self._listeners: list[Listener] = []
        # Keys in order, made when the first page is asked for: most tables never need it.
        self.paged = False
        self._ordered: list[str] = []
        self._unordered: list[str] = []

    def get(self, key: str) -> Row | None:
        data = self._rows.get(key)
        return None if data is None else self._parse(data)

    def items(self) -> Iterator[tuple[str, Row]]:
        """Key and row, in no particular order."""
        return ((key, self._parse(data)) for key, data in self._rows.items())

    def __contains__(self, key: str) -> bool:
        return key in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[str]:
        """The keys, in no particular order."""
        return iter(self._rows)

    def page(self, size: int, token: str = "") -> Page[Row]:
        """Up to `size` rows in the order of their keys, from where `token` ended.

        Fewer if they are large: a page is sent in one message.

        Raises:
            ValueError: the token is none that this method returned.
        """
        ordered = self._in_order()
        start = bisect_right(ordered, _key_of(token)) if token else 0
        rows: list[Row] = []
        last, room = "", PAGE_BYTES
        while start < len(ordered) and len(rows) < size and room > 0:
            data = self._rows.get(ordered[start])
            if data is not None:
                last = ordered[start]
                rows.append(self._parse(data))
                room -= len(data)
            start += 1
        return Page(rows, _token_of(last) if rows and start < len(ordered) else "")

    # For the engine.

    def inside(self) -> tuple[dict[str, bytes], type[Row]] | None:
        """The serialized rows, to be changed, and their type; None if others follow them.

        While `paged`, what puts in a row of a new key is `change`.
        """
        return None if self._listeners else (self._rows, self._row)

    def put(self, key: str, row: Row | None) -> None:
        """Set or remove a row, and tell those that derive from it. Raises what `change` raises."""
        self.change(key, self._rows.get(key), row)

    def change(self, key: str, before: bytes | None, row: Row | None) -> None:
        """The same; `before` is the present row.

        Raises:
            TypeError: the row is of another type than the table's.
        """
        after = None
        if row is not None:
            if row.__class__ is not self._row:
                wanted, found = self._row.__name__, type(row).__name__
                raise TypeError(f"a row of this table is a {wanted}, not a {found}")
            self._rows[key] = after = row.SerializeToString()
            if before is None and self.paged:
                self._unordered.append(key)
                if len(self._unordered) > len(self._rows) + 1000:  # nobody asks any more
                    self._ordered, self._unordered, self.paged = [], [], False
        elif before is not None:
            del self._rows[key]
        else:
            return
        if self._listeners:
            self._tell(key, before, after)

    def _tell(self, key: str, before: bytes | None, after: bytes | None) -> None:
        rows = partial(map, lambda data: None if data is None else self._parse(data))
        _each(lambda listener: listener(key, *rows((before, after))), self._listeners)

    def derive(self) -> Iterator[Exception | None]:
        """Tell those that derive from it of each row, as if it had come now; what that raised."""
        for key, data in self._rows.items() if self._listeners else ():
            try:
                self._tell(key, None, data)
            except Exception as error:
                yield error
            else:
                yield None

    def copy(self) -> dict[str, bytes]:
        """The rows as they are now, serialized, for another thread."""
        return self._rows.copy()

    def listen(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def _in_order(self) -> list[str]:
        """Sorted keys; those of removed rows may still be among them."""
        if not self.paged or len(self._ordered) > 2 * len(self._rows) + 1000:
            self._ordered, self._unordered, self.paged = sorted(self._rows), [], True
        if self._unordered:
            fresh, self._unordered = self._unordered, []
            if len(fresh) > 100:
                self._ordered = sorted({*self._ordered, *fresh})
            else:
                for key in fresh:
                    at = bisect_right(self._ordered, key)
                    if at == 0 or self._ordered[at - 1] != key:
                        insort(self._ordered, key)
        return self._ordered


def _each(do: Callable[[Any], None], items: Iterable[Any]) -> None:
    """All of them, also if one fails; then its error is raised."""
    failures = []
    for item in items:
        try:
            do(item)
        except Exception as error:
            failures.append(error)
    if failures:
        raise failures[0]


def _token_of(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")


def _key_of(token: str) -> str:
    try:
        key = base64.b64decode(token + "=" * (-len(token) % 4), b"-_", validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        key = ""
    # Base64 has other spellings of a key, which were never handed out.
    if _token_of(key) != token:
        raise ValueError("no page token of this service")
    return key


class Tables:
    """All tables of one view, with the derived ones wired to their sources.

    `rows`: what the tables that folds write begin with; see `derive`.
    """

    def __init__(self, view: View, rows: Mapping[Table[Any], dict[str, bytes]] | None = None):
        begin = rows or {}
        self._rows: dict[Table[Any], Rows[Any]] = {
            table: Rows(table.row, begin.get(table)) for table in view.tables
        }
        for derived in view.derived:
            if isinstance(derived, Join):
                _Joined(derived, self)
            else:
                _Aggregated(derived, self)

    def __getitem__(self, table: Table[Row]) -> Rows[Row]:
        return self._rows[table]

    def __iter__(self) -> Iterator[Table[Any]]:
        return iter(self._rows)


class _Joined:
    """Keeps a join: each left row with the right row it points to.

    A row that `on` or `combine` fails for is left out, whatever was there before.
    """

    def __init__(self, join: Join[Any, Any, Any], tables: Tables):
        self._join = join
        self._left, self._right = tables[join.left], tables[join.right]
        self._out = tables[join.table]
        self._pointing: dict[str, set[str]] = {}  # key in right → keys in left
        self._left.listen(self._left_changed)
        self._right.listen(self._right_changed)

    def _left_changed(self, key: str, before: Any, after: Any) -> None:
        old = new = None
        if before is not None:
            with contextlib.suppress(Exception):  # told when that row came; it pointed nowhere
                old = self._join.on(before)
        try:
            new = self._join.on(after) if after is not None else None
        except Exception:
            after = None
            raise
        finally:
            if old != new:
                if old is not None:
                    self._pointing[old].discard(key)
                    if not self._pointing[old]:
                        del self._pointing[old]
                if new is not None:
                    self._pointing.setdefault(new, set()).add(key)
            self._combine(key, after, new)

    def _right_changed(self, key: str, before: Any, after: Any) -> None:
        _each(
            lambda left_key: self._combine(left_key, self._left.get(left_key), key),
            self._pointing.get(key, ()),
        )

    def _combine(self, key: str, left: Any, right_key: str | None) -> None:
        right = self._right.get(right_key) if right_key is not None else None
        row = None
        try:
            if left is not None:
                row = self._join.combine(left, right)
        finally:
            self._out.put(key, row)


class _Aggregated:
    """Keeps an aggregate: the old row is taken out of its group, the new one put in.

    A row that could not be put in is not taken out. The last one is taken out like any other:
    otherwise a `remove` that fails would do so or not, depending on which row comes last.
    """

    def __init__(self, aggregate: Aggregate[Any, Any], tables: Tables):
        self._aggregate = aggregate
        self._out = tables[aggregate.table]
        self._sizes: dict[str, int] = {}
        self._left_out: set[str] = set()
        tables[aggregate.source].listen(self._changed)

    def _changed(self, key: str, before: Any, after: Any) -> None:
        try:
            if before is not None and key not in self._left_out:
                self._change(key, before, self._aggregate.remove, -1)
        finally:
            self._left_out.discard(key)
            if after is not None:
                self._left_out.add(key)
                self._change(key, after, self._aggregate.add, +1)

    def _change(self, key: str, source: Any, change: Callable[[Any, Any], None], by: int) -> None:
        group = self._aggregate.by(source)
        if group is None:
            self._left_out.discard(key)
            return
        present = self._out.get(group)
        row = self._aggregate.table.row() if present is None else present
        change(row, source)
        self._left_out.discard(key)  # what fails from here on is derived from this table
        size = self._sizes.pop(group, 0) + by
        if size:
            self._sizes[group] = size
        self._out.put(group, row if size else None)
