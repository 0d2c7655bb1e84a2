"""A view on disk: what is in the file, who takes it, and who passes it over."""

import asyncio
import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from faults.log import eventually, keys, partition_of
from faults.probe import ROOT, Probe, contract
from faults.test_lost_log import flush, refuses
from google.protobuf.json_format import ParseDict

from factfold.v1.snapshot_pb2 import SnapshotPart

from . import entries
from .calls import call
from .cases import Case
from .playing import Scenes
from .reacting import append
from .stage import Stage

FAMILY = "snapshots"
MAGIC, HASH = b"FACTFOLD", 32
NAME = re.compile(r"probe\.probe-\d{20}\.snapshot")
scenes = Scenes()


async def test_snapshots(stage: Stage, case: Case) -> None:
    await scenes.play(stage, case)


def files(folder: Path) -> list[Path]:
    """Newest first."""
    return sorted((path for path in folder.iterdir() if NAME.fullmatch(path.name)), reverse=True)


def parts(data: bytes) -> Iterator[SnapshotPart]:
    """Raises AssertionError if the file is not as factfold/v1/snapshot.proto says."""
    assert data.startswith(MAGIC)
    assert hashlib.sha256(data[:-HASH]).digest() == data[-HASH:]
    at, end = len(MAGIC), len(data) - HASH
    while at < end:
        size = shift = 0
        while True:
            byte = data[at]
            size |= (byte & 127) << shift
            at, shift = at + 1, shift + 7
            if byte < 128:
                break
        yield SnapshotPart.FromString(data[at : at + size])
        at += size
    assert at == end


def packed(some: list[SnapshotPart]) -> bytes:
    data = MAGIC
    for part in some:
        raw = part.SerializeToString(deterministic=True)
        size = len(raw)
        while size > 127:
            data, size = data + bytes([size & 127 | 128]), size >> 7
        data += bytes([size]) + raw
    return data + hashlib.sha256(data).digest()


class Home:
    """An instance with a folder for snapshots, on a stage of its own."""

    def __init__(self, stage: Stage, case: Case):
        self.stage = stage
        self.names = keys(30, case.key)
        self.facts = 0

    def folder(self, at: int = 0) -> Path:
        return self.stage.folder / f"home-{at}"

    async def start(self, at: int = 0, *, folder: int | None = None, **settings: str) -> Probe:
        place = self.folder(at if folder is None else folder)
        return await self.begin(at, place, **settings).ready()

    def begin(self, at: int, place: Path, **settings: str) -> Probe:
        return self.stage.start(at, **{"FACTFOLD_SNAPSHOT_DIR": str(place), **settings})

    async def more(self, probe: Probe) -> None:
        self.facts += 1
        await append(probe, self.names, first=self.facts)
        await append(probe, self.names[:9], first=self.facts, stream="moves", group="g")
        await probe.dump(self.stage.log.tail())

    async def end(self, probe: Probe) -> None:
        probe.terminate()
        assert await probe.ends() == 0

    async def once(self, at: int = 0) -> None:
        """Starts, appends, ends: one more snapshot."""
        probe = await self.start(at)
        await self.more(probe)
        await self.end(probe)

    async def is_rebuild(self, probe: Probe) -> None:
        tail = self.stage.log.tail()
        rebuilt = await self.stage.start(0, PROBE_NAME="rebuilt", PROBE_OWNS=",").ready()
        one, other = await probe.dump(tail), await rebuilt.dump(tail)
        assert one.tables == other.tables
        await rebuilt.close()


def began_with_one(probe: Probe) -> bool:
    return bool(probe.said("begins with a snapshot"))


@scenes
async def begins(stage: Stage, case: Case) -> None:
    async with stage.apart() as apart:
        home = Home(apart, case)
        await home.once()
        assert len(files(home.folder())) == 1
        probe = await home.start()
        assert began_with_one(probe)
        await home.is_rebuild(probe)
        await home.more(probe)
        await home.is_rebuild(probe)


@scenes
async def format(stage: Stage, case: Case) -> None:
    async with stage.apart() as apart:
        home = Home(apart, case)
        await home.once()
        (path,) = files(home.folder())
        nanoseconds = int(path.name.split("-")[1].split(".")[0])
        assert abs(nanoseconds / 1e9 - apart.log.now()) < 60
        head, *rest = list(parts(path.read_bytes()))
        header = head.header
        assert (header.format, header.service, header.view) == (1, "probe", "probe")
        assert header.language == stage.languages[0]
        assert header.fingerprint
        assert header.failures == 0
        places = {(at.stream, at.partition): at for at in header.positions}
        for fact in apart.log.facts("inputs"):
            at = places["inputs", fact.partition]
            if at.n == fact.n:
                assert at.fact_id == fact.meta.id
                assert fact.position.endswith(f"@{at.epoch}:{at.ms}-{at.n}")
        assert sum(at.n for at in places.values()) == 39
        kinds = [part.WhichOneof("part") for part in rest]
        assert set(kinds) <= {"rows", "requests"}
        rows = {part.rows.table for part in rest if part.WhichOneof("part") == "rows"}
        assert rows <= {"inputs", "moves", "outputs"}  # derived ones are not stored
        stored = {
            key: contract.Seen.FromString(row).facts
            for part in rest
            if part.rows.table == "inputs"
            for key, row in zip(part.rows.keys, part.rows.rows, strict=True)
        }
        assert stored == dict.fromkeys(home.names, 1)
        assert re.fullmatch("[0-9a-f]{16}", (home.folder() / "instance").read_text())


@scenes
async def vectors(stage: Stage, case: Case) -> None:
    path = ROOT / "tests" / "vectors" / "snapshots.json"
    for vector in json.loads(path.read_text(encoding="utf-8"))["cases"]:
        data = bytes.fromhex(vector["bytes"])
        if vector["parts"] is None:
            assert hashlib.sha256(data[:-HASH]).digest() != data[-HASH:]
        else:
            wanted = [ParseDict(part, SnapshotPart()) for part in vector["parts"]]
            assert list(parts(data)) == wanted


@scenes
async def between(stage: Stage, case: Case) -> None:
    """Files of the one in the folder of the other."""
    async with stage.apart() as apart:
        home = Home(apart, case)
        await home.once(0)
        same = apart.languages[0] == apart.languages[1]
        probe = await home.start(1, folder=0)
        assert began_with_one(probe) == same
        await home.is_rebuild(probe)
        await home.more(probe)
        await home.end(probe)
        (newest, *_) = files(home.folder(0))
        (head, *_) = parts(newest.read_bytes())
        assert head.header.language == apart.languages[1]
        again = await home.start(0)
        # Its own is there still, if it is one of two.
        await home.is_rebuild(again)
        assert not [path for path in home.folder(0).iterdir() if path.suffix == ".damaged"]


@scenes
async def kept(stage: Stage, case: Case) -> None:
    async with stage.apart() as apart:
        home = Home(apart, case)
        probe = await home.start(FACTFOLD_SNAPSHOT_INTERVAL="0.1")
        seen: set[str] = set()
        for _ in range(6):
            await home.more(probe)
            await asyncio.sleep(0.15)
            seen |= {path.name for path in files(home.folder())}
        await home.end(probe)
        assert len(seen) > 2
        assert len(files(home.folder())) == 2


@scenes
async def cursors(stage: Stage, case: Case) -> None:
    async with stage.apart() as apart:
        home = Home(apart, case)
        probe = await home.start(FACTFOLD_SNAPSHOT_INTERVAL="0.1")
        await home.more(probe)
        instance = (home.folder() / "instance").read_text()

        def agrees() -> bool:
            found = apart.log._hash("{inputs/0}:cursors:probe.probe").get(instance, "0-0 0 0-0")
            again, _, present = found.split(" ")
            tail = apart.log.head("inputs", 0)
            return again == present == f"{tail['ms']}-{tail['n']}"

        # When nothing comes any more both are of the last fact.
        await eventually(agrees, 15)
        for path in files(home.folder()):
            (head, *_) = parts(path.read_bytes())
            (at,) = (p for p in head.header.positions if (p.stream, p.partition) == ("inputs", 0))
            assert at.n == int(apart.log.head("inputs", 0)["n"])


async def copied(stage: Stage, case: Case) -> Path:
    """A folder of the case's own with the two snapshots that the stage's cases share."""
    shared = stage.folder / "home-0"
    if not shared.exists():
        home = Home(stage, case)
        await home.once()
        await home.once()
    own = stage.folder / case.key
    shutil.copytree(shared, own)
    assert len(files(own)) == 2
    return own


async def started_in(stage: Stage, folder: Path) -> Probe:
    """An instance with that folder, whose view equals that of one without."""
    probe = await stage.start(FACTFOLD_SNAPSHOT_DIR=str(folder)).ready()
    without = await stage.probe()
    tail = stage.log.tail()
    assert (await probe.dump(tail)).tables == (await without.dump(tail)).tables
    return probe


@scenes
async def damaged(stage: Stage, case: Case) -> None:
    own = await copied(stage, case)
    newest = files(own)[0]
    data = bytearray(newest.read_bytes())
    match case.more["how"]:
        case "cut":
            del data[-40:]
        case "bit":
            data[len(data) // 2] ^= 1
        case _:
            data.clear()
    newest.write_bytes(data)
    probe = await started_in(stage, own)
    assert began_with_one(probe)
    assert newest.with_name(f"{newest.name}.damaged").exists()
    probe.kill()


@scenes
async def altered(stage: Stage, case: Case) -> None:
    own = await copied(stage, case)
    for path in files(own):
        head, *rest = list(parts(path.read_bytes()))
        for name, value in case.more["header"].items():
            setattr(head.header, name, bytes.fromhex(value) if name == "fingerprint" else value)
        path.write_bytes(packed([head, *rest]))
    probe = await started_in(stage, own)
    assert not began_with_one(probe)
    assert not list(own.glob("*.damaged"))
    probe.kill()


@scenes
async def rolled_back(stage: Stage, case: Case) -> None:
    """The last fact of a partition is lost, and another one stands in its place."""
    async with stage.apart() as apart:
        home = Home(apart, case)
        await home.once()
        partition = partition_of(home.names[0])
        log, head = f"{{inputs/{partition}}}:log", f"{{inputs/{partition}}}:head"
        with apart.log.redis() as client:
            (last, before) = client.xrevrange(log, count=2)
            client.xdel(log, last[0])
            ms, n = before[0].split(b"-")
            client.hset(head, mapping={"n": n, "ms": ms})
            client.execute_command("XSETID", log, before[0])
        event = contract.Input(key=home.names[0], number=77)
        entries.write_event(apart.log, "inputs", event)
        probe = await home.start()
        assert probe.said("the log changed")
        await home.is_rebuild(probe)
        assert list(home.folder().glob("*.outdated"))


@scenes
async def gone(stage: Stage, case: Case) -> None:
    async with stage.apart() as apart:
        home = Home(apart, case)
        await home.once()
        flush(apart.log)
        probe = home.begin(0, home.folder())
        await refuses(probe, "was lost or replaced", "is a snapshot of it")
        with apart.log.redis() as client:
            assert not client.keys("*:log")


@scenes
async def requests(stage: Stage, case: Case) -> None:
    async with stage.apart() as apart:
        home = Home(apart, case)
        probe = await home.start()
        request = contract.AppendRequest(
            stream="moves", key=case.key, first=1, request_id="r-1", expected_version=0
        )
        first = await call(probe, "Append", request)
        assert first.code == "OK", first
        await home.end(probe)
        probe = await home.start()
        assert began_with_one(probe)
        again = await call(probe, "Append", request)
        assert again.code == "OK", again
        assert again.message.repeated
        assert again.message.position == first.message.position
