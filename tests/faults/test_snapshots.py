"""A service that starts with a snapshot that is not as it was written."""

import hashlib
import io
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from google.protobuf.proto import parse_length_prefixed, serialize_length_prefixed

from factfold.v1.snapshot_pb2 import SnapshotHeader, SnapshotPart

from .log import STREAMS, Log, Sent, keys
from .probe import Probe
from .proxy import Command, Hook, Link, Proxy, Verdict
from .row import Row

KEYS = keys(500)
MAGIC, DIGEST = b"FACTFOLD", 32
Starts = dict[tuple[str, int], str]  # the entry id that each partition is read from at first


class Reads(Hook):
    """From where each partition is read first."""

    def __init__(self) -> None:
        self.starts: Starts = {}

    async def command(self, link: Link, command: Command) -> Verdict:
        if command.name == "XRANGE":
            self.starts.setdefault(command.place, command.words[2].decode())
        return Verdict.PASS


def header_of(path: Path) -> SnapshotHeader:
    part = parse_length_prefixed(SnapshotPart, io.BytesIO(path.read_bytes()[len(MAGIC) :]))
    assert part is not None
    return part.header


def starts_of(path: Path) -> Starts:
    return {(at.stream, at.partition): f"{at.ms}-{at.n}" for at in header_of(path).positions}


def with_header(path: Path, change: Callable[[SnapshotHeader], None]) -> None:
    """Another header, and all else right."""
    file = io.BytesIO(path.read_bytes()[len(MAGIC) : -DIGEST])
    part = parse_length_prefixed(SnapshotPart, file)
    assert part is not None
    change(part.header)
    made = io.BytesIO()
    serialize_length_prefixed(part, made)
    body = MAGIC + made.getvalue() + file.read()
    path.write_bytes(body + hashlib.sha256(body).digest())


class Spoiling:
    """What may have become of a file, by name. Each returns what the service says then."""

    def __init__(self, row: Row):
        self._dice = row.random

    def damaged(self, path: Path) -> str:
        data = bytearray(path.read_bytes())
        data[self._dice.randrange(len(data))] ^= 1 << self._dice.randrange(8)
        path.write_bytes(data)
        return "is damaged"

    def truncated(self, path: Path) -> str:
        data = path.read_bytes()
        end = self._dice.choice([0, self._dice.randrange(len(data)), len(data) - 1])
        path.write_bytes(data[:end])
        return "is damaged"

    def format(self, path: Path) -> str:
        def change(header: SnapshotHeader) -> None:
            header.format += self._dice.choice([-1, 1])

        with_header(path, change)
        return "cannot use its snapshot"

    def contract(self, path: Path) -> str:
        def change(header: SnapshotHeader) -> None:
            header.fingerprint = hashlib.sha256(header.fingerprint).digest()

        with_header(path, change)
        return "has changed since its snapshot"

    def behind(self, path: Path) -> str:
        """Nothing: the log has grown since, as always."""
        return ""


KINDS = ("damaged", "truncated", "format", "contract", "behind")


def newest_first(folder: Path) -> list[Path]:
    return sorted((folder / "snapshots").glob("*.snapshot"), reverse=True)


@pytest.mark.at_least(30)
async def test_spoilt(row: Row) -> None:
    """damaged, truncated, older snapshot"""
    server = row.redis()
    log, sent, moved, dice = Log(server), Sent(), Sent("moves"), row.random
    writer = await row.probe(server).ready()
    moves = iter(keys(5000, "move"))

    async def append(facts: int) -> None:
        units = [sent.unit(key) for key in dice.choices(KEYS, k=facts)]
        sent.answered(units, await writer.append_many(units))
        # What joins and aggregates are derived from.
        units = [
            moved.unit(next(moves), expected_version=0, group="a", amount=1, to=dice.choice(KEYS))
            for _ in range(20)
        ]
        moved.answered(units, await writer.append_many(units))

    def start(at: Proxy, folder: Path) -> Probe:
        return row.probe(at, folder=folder, FACTFOLD_SNAPSHOT_DIR="snapshots")

    proxy = await row.proxy(server)
    whole = row.folder / "whole"
    for _ in range(2):
        await append(500)
        probe = await start(proxy, whole).ready()
        await probe.dump(log.tail())
        probe.terminate()
        await probe.ends()
    newer, older = (path.name for path in newest_first(whole))

    spoiling = Spoiling(row)
    while row.more or row.counts.injected < len(KINDS):
        kind = KINDS[row.counts.injected % len(KINDS)]
        folder = row.folder / f"case-{row.counts.injected}"
        shutil.copytree(whole, folder)
        snapshots = folder / "snapshots"
        both = dice.random() < 0.5
        said = ""
        for name in (newer, older) if both else (newer,):
            said = getattr(spoiling, kind)(snapshots / name)
        await append(20)
        reads = Reads()
        proxy.hooks = [reads]
        probe = await start(proxy, folder).ready()
        row.injected()

        begins = {(stream, partition): "0-0" for stream in STREAMS for partition in range(4)}
        if kind == "behind":
            begins = starts_of(snapshots / newer)
        elif not both:
            begins = starts_of(snapshots / older)
        assert reads.starts == begins, f"{kind}: not read from where it was to be"
        if kind in ("damaged", "truncated"):
            names = [newer, older] if both else [newer]
            assert len(probe.said("is damaged")) == len(names)
            assert all((snapshots / f"{name}.damaged").exists() for name in names)
        elif both:
            assert probe.said(said)
        tail = log.tail()
        dumped, expected = await probe.dump(tail), await writer.dump(tail)
        for each in (dumped, expected):
            each.position = ",".join(sorted(each.position.split(",")))
        assert dumped == expected, kind
        probe.terminate()
        assert await probe.ends() == 0
        # The next start needs no rebuild.
        (latest, *_) = newest_first(folder)
        assert starts_of(latest).keys() == begins.keys()
        assert latest.name > newer
    row.appended(log, sent, moved)
    await row.view_is_rebuild(log, writer, at=server)
