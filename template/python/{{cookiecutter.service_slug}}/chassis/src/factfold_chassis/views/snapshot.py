"""Views on disk: files with a view's rows and the positions that they stand for.

A file is written beside and renamed, so that it is there whole or not at all. One that is damaged
is set aside. Nothing in it is executed. The format is in `factfold/v1/snapshot.proto`.
"""

import hashlib
import logging
import os
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from google.protobuf.proto import parse_length_prefixed, serialize_length_prefixed

from factfold.v1.snapshot_pb2 import (
    SnapshotHeader,
    SnapshotPart,
    SnapshotRequests,
    SnapshotRows,
)
from factfold_chassis.log.read import Anchor
from factfold_chassis.views.declare import Table, View
from factfold_chassis.views.fingerprint import LANGUAGE
from factfold_chassis.views.journal import Facts, Requests

Item = TypeVar("Item")

logger = logging.getLogger(__name__)

MAGIC, FORMAT = b"FACTFOLD", 1
KEPT = 2  # good files of a view; the same for those that were set aside
_DIGEST = hashlib.sha256().digest_size
_PART_KEYS, _PART_BYTES = 1000, 1 << 20  # of one part, at most
_PAUSE = 0.0005  # seconds behind each part: enough to let another thread have its turn
_ABANDONED = 3600.0  # seconds: nobody goes on with a partial file of that age


class Stopped(Exception):
    """The process ends before the work is done."""


# By stream and partition: epoch, and the last fact folded.
Positions = dict[tuple[str, int], tuple[str, Anchor]]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A view at one moment."""

    positions: Positions = field(default_factory=dict)
    # Of the tables that folds write, serialized.
    rows: dict[Table[Any], dict[str, bytes]] = field(default_factory=dict)
    requests: Requests = field(default_factory=dict)
    failures: int = 0  # facts that a fold failed on


class Snapshots:
    """The files of one view in `folder`. Reading and writing take long: not in the event loop.

    Attributes:
        stop: makes what is under way raise Stopped.
    """

    def __init__(self, folder: Path, service: str, view: View, fingerprint: bytes):
        self.stop = False
        self._folder = folder
        self._view = view
        self._stem = quote(f"{service}.{view.name}", safe="")
        self._kind: dict[str, Any] = {
            "format": FORMAT, "service": service, "view": view.name, "language": LANGUAGE,
            "fingerprint": fingerprint,
        }  # fmt: skip

    # Reading.

    def load(self) -> Snapshot | None:
        """The newest good one that fits."""
        misfit = ""
        for path in self._files():
            with self._judging(path):
                parts = self._parts(path)
                header = next(parts).header
                if self._fits(header):
                    return self._assemble(header, parts)
                same = header.format == FORMAT and header.service == self._kind["service"]
                misfit = misfit or ("has changed since" if same else "cannot use")
        if misfit:
            logger.info("view %s %s its snapshot: rebuilding", self._view.name, misfit)
        return None

    def knows(self, stream: str) -> str:
        """The name of a good file that has positions in `stream`; empty if there is none.

        One that was set aside because of the log knows it, too.
        """
        for path in self._files(r"(\.outdated)?"):
            with self._judging(path):
                header = next(self._parts(path)).header
                if any(position.stream == stream for position in header.positions):
                    return path.name
        return ""

    def tidy(self) -> Positions:
        """Keep two good files that fit; where both go on from, at the latest, if there are two.

        So the view need not read again from the start when one of them turns out to be damaged.
        """
        good: list[Positions] = []
        for path in self._files():
            if len(good) == KEPT:
                path.unlink(missing_ok=True)
                continue
            with self._judging(path):
                header = next(self._parts(path)).header
                if self._fits(header):
                    good.append(_positions_of(header))
        for path in self._files(r"(\.[a-z]+)+")[KEPT:]:
            path.unlink(missing_ok=True)
        for path in self._folder.glob(f"{self._stem}-*.partial"):
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < time.time() - _ABANDONED:
                    path.unlink()
        return _earlier(*good) if len(good) == KEPT else {}

    def set_aside(self) -> None:
        """All of them: the log says otherwise."""
        for path in self._files():
            _rename(path, "outdated")

    def _files(self, ending: str = "") -> list[Path]:
        """Newest first."""
        name = re.compile(rf"{re.escape(self._stem)}-\d{{20}}\.snapshot{ending}")
        try:
            found = [path for path in self._folder.iterdir() if name.fullmatch(path.name)]
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(found, reverse=True)

    def _fits(self, header: SnapshotHeader) -> bool:
        return all(getattr(header, name) == value for name, value in self._kind.items())

    @contextmanager
    def _judging(self, path: Path) -> Iterator[None]:
        """A file that is damaged is set aside, and one that cannot be read is passed over."""
        try:
            yield
        except Stopped:
            raise
        except (OSError, MemoryError) as error:
            logger.warning("snapshot %s cannot be read: %s", path, error)
        except Exception as error:
            logger.warning(
                "snapshot %s is damaged (%s): set aside as *.damaged",
                path, str(error) or type(error).__name__,
            )  # fmt: skip
            _rename(path, "damaged")

    def _parts(self, path: Path) -> Iterator[SnapshotPart]:
        """The parts of a file, once its checksum is known to be right; the header first."""
        with path.open("rb") as file:
            end = os.fstat(file.fileno()).st_size - _DIGEST
            if file.read(len(MAGIC)) != MAGIC or end < len(MAGIC):
                raise ValueError("it does not begin as a snapshot")
            digest = hashlib.sha256(MAGIC)
            while (left := end - file.tell()) > 0 and (block := file.read(min(left, 1 << 20))):
                digest.update(block)
                self.go_on()
            if file.read() != digest.digest():
                raise ValueError("its checksum is wrong")
            source: Any = file
            source.seek(len(MAGIC))
            while source.tell() < end:
                part = parse_length_prefixed(SnapshotPart, source)
                if part is None:
                    raise ValueError("a part is missing")
                yield part
                self.go_on()

    def _assemble(self, header: SnapshotHeader, parts: Iterator[SnapshotPart]) -> Snapshot:
        tables = {table.name: table for table in self._view.folded}
        snapshot = Snapshot(
            _positions_of(header), {table: {} for table in tables.values()},
            failures=header.failures,
        )  # fmt: skip
        for part in parts:
            table = tables.get(part.rows.table)
            if part.WhichOneof("part") == "requests":
                requests = snapshot.requests.setdefault(part.requests.stream, {})
                requests.update(_requests_of(part.requests))
            elif table is not None:
                for row in part.rows.rows:
                    table.row.FromString(row)  # raises now, and not when somebody asks for it
                snapshot.rows[table].update(zip(part.rows.keys, part.rows.rows, strict=True))
            else:
                raise ValueError("it has a part that nobody knows")
        return snapshot

    def go_on(self) -> None:
        """Raises Stopped."""
        if self.stop:
            raise Stopped

    # Writing.

    def write(self, snapshot: Snapshot) -> None:
        """Raises OSError."""
        self._folder.mkdir(parents=True, exist_ok=True)
        newest = max((int(path.stem[-20:]) for path in self._files()), default=0)
        # A clock that was set back must not make an older file the newest.
        name = f"{self._stem}-{max(time.time_ns(), newest + 1):020}"
        partial = self._folder / f"{name}.partial"
        try:
            with partial.open("x+b") as file:
                sink: Any = file
                sink.write(MAGIC)
                header = SnapshotHeader(**self._kind, failures=snapshot.failures)
                for (stream, partition), (epoch, anchor) in snapshot.positions.items():
                    header.positions.add(
                        stream=stream, partition=partition, epoch=epoch,
                        ms=anchor.ms, n=anchor.n, fact_id=anchor.fact_id,
                    )  # fmt: skip
                for part in chain([SnapshotPart(header=header)], _parts_of(snapshot)):
                    serialize_length_prefixed(part, sink)
                    self.go_on()
                    time.sleep(_PAUSE)
                file.seek(0)
                file.write(hashlib.file_digest(sink, "sha256").digest())
                file.flush()
                os.fsync(file.fileno())
            partial.rename(self._folder / f"{name}.snapshot")
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _rename(path: Path, ending: str) -> None:
    with suppress(OSError):  # another instance was faster, or the folder is not ours to change
        path.rename(f"{path}.{ending}")


def _parts_of(snapshot: Snapshot) -> Iterator[SnapshotPart]:
    for table, rows in snapshot.rows.items():
        for keys, data in _portions((key, row, len(row)) for key, row in rows.items()):
            yield SnapshotPart(rows=SnapshotRows(table=table.name, keys=keys, rows=data))
    for stream, requests in snapshot.requests.items():
        sized = ((key, facts, sum(len(id) for id, _ in facts)) for key, facts in requests.items())
        for keys, some in _portions(sized):
            facts = [fact for facts in some for fact in facts]
            yield SnapshotPart(
                requests=SnapshotRequests(
                    stream=stream,
                    keys=keys,
                    counts=map(len, some),
                    request_ids=[request_id for request_id, _ in facts],
                    entry_ids=[entry_id for _, entry_id in facts],
                )
            )


def _portions(items: Iterable[tuple[str, Item, int]]) -> Iterator[tuple[list[str], list[Item]]]:
    """Keys and items, of (key, item, bytes), as many as a part takes."""
    keys: list[str] = []
    portion: list[Item] = []
    size = 0
    for key, item, of in items:
        if len(keys) == _PART_KEYS or (size and size + of > _PART_BYTES):
            yield keys, portion
            keys, portion, size = [], [], 0
        keys.append(key)
        portion.append(item)
        size += of
    if keys:
        yield keys, portion


def _positions_of(header: SnapshotHeader) -> Positions:
    return {
        (at.stream, at.partition): (at.epoch, Anchor(at.ms, at.n, at.fact_id))
        for at in header.positions
    }


def _earlier(one: Positions, other: Positions) -> Positions:
    """Where both are; instances that share a folder need not be equally far."""
    return {
        place: min((epoch, anchor), other[place], key=lambda at: at[1].n)
        for place, (epoch, anchor) in one.items()
        if place in other and other[place][0] == epoch
    }


def _requests_of(part: SnapshotRequests) -> Iterator[tuple[str, Facts]]:
    facts = list(zip(part.request_ids, part.entry_ids, strict=True))
    at = 0
    for key, count in zip(part.keys, part.counts, strict=True):
        yield key, tuple(facts[at : at + count])
        at += count
