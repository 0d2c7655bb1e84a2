"""A stream that is kept short under readers of all kinds, who lose nothing of what they need."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import threading
import time
import zlib
from collections import Counter
from typing import Any, Self

import pytest
import redis
from cli.running import FACTFOLD, plain_environment

from factfold_cli.redis_server import RedisServer

from .log import PARTITIONS, Counts, Log, eventually, keys
from .probe import Probe, contract
from .row import Row
from .test_lost_log import refuses

KEYS = keys(500)
FACTS, LONG = 30_000, 1_000_000
KEPT = 500  # facts of a partition, by the policy
LATE = 15.0  # seconds that readers may be behind: two snapshots, a stop, and a busy machine
UNIT, CALL = 10, 20  # facts of a unit, units of a call
AHEAD = 10_000  # facts that may wait for their answer
FAST = {"FACTFOLD_SNAPSHOT_DIR": "snapshots", "FACTFOLD_SNAPSHOT_INTERVAL": "0.5"}
POLICY = {"FACTFOLD_KEEP_FACTS": str(KEPT)}
STREAMS = {"inputs": "Input", "outputs": "Output"}


class Ledger(threading.Thread):
    """Reads both streams before they are trimmed, as a reader with cursors of its own.

    Each key's facts are numbered 1, 2, 3 …, and so are the answers to them: so a lost, a doubled
    and a late one are seen at once. Folds the rows that the probe's views must have.
    """

    def __init__(self, server: RedisServer):
        super().__init__(daemon=True)
        self.counts = Counts()
        self.rows: dict[str, dict[str, Any]] = {stream: {} for stream in STREAMS}
        self.read: Counter[str] = Counter()
        self.samples: list[tuple[float, int, int]] = []  # time, facts appended, facts left
        self.error: BaseException | None = None
        self._client = redis.Redis.from_url(server.url, protocol=2)
        self._at = {(stream, p): b"0-0" for stream in STREAMS for p in range(PARTITIONS)}
        self._ending = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self.join()
        self._client.close()

    def run(self) -> None:
        try:
            while not self._ending.is_set():
                found = sum(self._read(*place) for place in self._at)
                self._sample()
                time.sleep(0 if found > 1000 else 0.1)
        except BaseException as error:
            self.error = error

    def _read(self, stream: str, partition: int) -> int:
        key, at = f"{{{stream}/{partition}}}", self._at[stream, partition]
        connection: Any = self._client.connection_pool.get_connection()
        connection.send_command("XRANGE", f"{key}:log", at, "+", "COUNT", 2000)
        entries = connection.read_response(disable_decoding=True)
        self._client.connection_pool.release(connection)
        if entries and entries[0][0] == at:
            del entries[0]
        for entry_id, fields in entries:
            assert int(entry_id.split(b"-")[1]) == int(at.split(b"-")[1]) + 1, (
                f"{stream}/{partition} goes on with {entry_id!r} behind {at!r}"
            )
            at = entry_id
            self._take(stream, partition, entry_id, fields[3].decode(), fields[7])
        self._at[stream, partition] = at
        cursor = f"{at.decode()} {time.time_ns() // 1_000_000}"
        mine = {"_": "1", "00000000000000aa": cursor}
        self._client.hset(f"{key}:cursors:audit.ledger", mapping=mine)
        return len(entries)

    def _take(self, stream: str, partition: int, entry_id: bytes, key: str, data: bytes) -> None:
        number = getattr(contract, STREAMS[stream]).FromString(data).number
        row = self.rows[stream].get(key, (0, 0, 0))
        if number <= row[1]:
            self.counts.find("doubled", f"{stream} {key} {number} behind {row[1]}")
        for each in range(row[1] + 1, number):
            self.counts.find("lost", f"{stream} {key} {each}")
        order = zlib.crc32(entry_id, row[2])
        self.rows[stream][key] = (row[0] + 1, number, order)
        self.read[stream] += 1

    def _sample(self) -> None:
        with self._client.pipeline(transaction=False) as ask:
            for partition in range(PARTITIONS):
                ask.hget(f"{{inputs/{partition}}}:head", "n")
                ask.xlen(f"{{inputs/{partition}}}:log")
            replies = [int(reply or 0) for reply in ask.execute()]
        self.samples.append((time.monotonic(), sum(replies[::2]), sum(replies[1::2])))

    def table(self, stream: str) -> dict[str, bytes]:
        return {
            key: contract.Seen(facts=facts, last_number=number, order=order).SerializeToString(
                deterministic=True
            )
            for key, (facts, number, order) in self.rows[stream].items()
        }

    def stays_short(self, since: float) -> int:
        """The most facts there were; never more than the policy keeps and readers may be behind."""
        most, before = 0, 0
        for at, appended, left in self.samples:
            if at < since:
                continue
            while self.samples[before][0] < at - LATE:
                before += 1
            allowed = PARTITIONS * (KEPT + 1) + appended - self.samples[before][1]
            assert left <= allowed, f"{left} facts are left, {allowed} are allowed"
            most = max(most, left)
        return most


class Scene:
    """An owner with a policy, one that answers, a slow one, and one that is away for long."""

    def __init__(self, row: Row):
        self.row = row
        self.facts = LONG if row.times > 2 else FACTS
        self.server = row.redis("--appendfsync", "everysec")
        self.log = Log(self.server)
        self.sent: Counter[str] = Counter()
        self.owner = self.start("owner", PROBE_OWNS="inputs,moves", **POLICY)
        self.answering = self.start("answering", reactions="answer", PROBE_OWNS="outputs", **POLICY)
        self.slow = self.start("slow")
        self.away = self.start("away")

    def start(self, name: str, **how: Any) -> Probe:
        told = {"PROBE_OWNS": ",", "PROBE_NAME": name, **FAST, **how}
        return self.row.probe(self.server, folder=self.row.folder / name, **told)

    async def append(self, share: float) -> None:
        """That part of all facts, no faster than they are answered."""
        facts = int(self.facts * share)
        while facts > 0:
            while self.log.count("inputs") - self.answered() > AHEAD:
                await asyncio.sleep(0.05)
            units = []
            for key in self.row.random.sample(KEYS, CALL):
                first, self.sent[key] = self.sent[key] + 1, self.sent[key] + UNIT
                units.append(
                    contract.AppendRequest(stream="inputs", key=key, first=first, facts=UNIT)
                )
            outcomes = await self.owner.append_many(units, 60)
            assert not any(outcome.code for outcome in outcomes), outcomes
            facts -= CALL * UNIT

    def answered(self) -> int:
        groups = [
            self.log._hash(f"{{inputs/{p}}}:group:answering.answer") for p in range(PARTITIONS)
        ]
        return sum(int(group.get("position", "0-0").split("-")[1]) for group in groups)

    async def dawdle(self) -> None:
        """The slow one works a third of the time."""
        while True:
            self.slow.signal(signal.SIGSTOP)
            try:
                await asyncio.sleep(self.row.random.uniform(0.5, 2))
            finally:
                self.slow.signal(signal.SIGCONT)
            self.row.injected()
            await asyncio.sleep(self.row.random.uniform(0.2, 1))

    def left(self, stream: str = "inputs") -> int:
        with self.log.redis() as client:
            return sum(client.xlen(f"{{{stream}/{p}}}:log") for p in range(PARTITIONS))

    async def shrinks(self) -> None:
        """To what the policy keeps, in both streams, once no more comes."""
        for stream in STREAMS:
            most = PARTITIONS * (KEPT + 1)
            await eventually(
                lambda s=stream, most=most: self.left(s) <= most,
                120,
                lambda s=stream: f"{self.left(s)} facts of {s} are left: {self.trim(s).stdout}",
            )

    def trim(self, stream: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`factfold trim`, as an operator runs it."""
        return subprocess.run(
            [*FACTFOLD, "trim", stream, *arguments],
            env=plain_environment() | {"FACTFOLD_REDIS_URL": self.server.url},
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    def holders(self) -> set[str]:
        """The readers that hold back a partition."""
        shown = json.loads(self.trim("inputs", "--json").stdout)
        return {(part["held_back_by"] or "").partition("/")[0] for part in shown["partitions"]}

    async def needs(self, reader: str) -> bool:
        """Whether each partition still has what the reader's cursors ask for. Not if there are
        none."""
        found = []
        for partition in range(PARTITIONS):
            state = self.log._hash(f"{{inputs/{partition}}}:cursors:{reader}")
            trimmed = int(self.log.head("inputs", partition)["trimmed"])
            positions = [value.split()[0] for name, value in state.items() if name != "_"]
            found += [int(each.split("-")[1]) > trimmed for each in positions]
        return bool(found) and all(found)

    async def is_complete(self, ledger: Ledger, *probes: Probe) -> None:
        """Each view has the rows that the ledger has folded of what was in the log."""
        await eventually(
            lambda: ledger.error or (
                all(ledger.read[stream] == self.log.count(stream) for stream in STREAMS)
                and ledger.read["outputs"] == ledger.read["inputs"]  # all are answered
            ),
            120,
        )  # fmt: skip
        assert ledger.error is None, ledger.error
        for probe in probes:
            dumped = await probe.dump(self.log.tail())
            tables = {table.name: table for table in dumped.tables}
            for stream in STREAMS:
                found = {row.key: row.value for row in tables[stream].row}
                assert found == ledger.table(stream), f"{stream} of {probe.folder.name}"


@pytest.mark.alone("of what a cluster changes, test_trimming_cluster.py has a test")
@pytest.mark.at_least(20)
async def test_kept_short(row: Row) -> None:
    """a stream kept short: readers fast, slow, away and dropped"""
    scene = Scene(row)
    row.label = f"{scene.facts:,} facts"
    for probe in (scene.owner, scene.answering, scene.slow, scene.away):
        await probe.ready(60)
    with Ledger(scene.server) as ledger:
        dawdling = asyncio.create_task(scene.dawdle())
        # All are there: it stays short, however much comes.
        began = time.monotonic()
        await scene.append(0.3)
        most = ledger.stays_short(began)
        await scene.shrinks()
        await scene.is_complete(ledger, scene.owner, scene.answering, scene.slow, scene.away)

        # One is away, and what it needs stays.
        scene.away.terminate()
        assert await scene.away.ends() == 0
        row.injected()
        await scene.append(0.25)
        held = scene.left()
        assert held >= scene.facts * 0.25
        assert await scene.needs("away.probe")
        await eventually(lambda: scene.owner.said("stream inputs keeps more than"))
        scene.away = await scene.start("away").ready(120)
        assert scene.away.said("begins with a snapshot")
        await scene.shrinks()
        began = time.monotonic()
        await scene.append(0.2)
        most = max(most, ledger.stays_short(began))
        await scene.is_complete(ledger, scene.away)

        # It does not come back, until an operator drops it.
        scene.away.kill()
        row.injected()
        await scene.append(0.25)
        assert scene.left() >= scene.facts * 0.25
        await eventually(lambda: scene.holders() == {"away.probe"}, 60)
        refused = scene.trim("inputs", "--before", "end")
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "nothing was trimmed: away.probe/" in refused.stderr
        for stream in ("inputs", "moves", "outputs"):
            dropped = scene.trim(stream, "--drop", "away.probe", "--yes", "--yes")
            assert dropped.returncode == 0, dropped.stderr
        await scene.shrinks()
        await scene.is_complete(ledger, scene.owner, scene.answering, scene.slow)
        dawdling.cancel()
        await asyncio.wait([dawdling])

    # Who has been dropped and comes back all the same is told.
    await refuses(scene.start("away"), "view probe cannot be complete", "were trimmed on purpose")
    # A restart goes on behind what is gone.
    scene.slow.terminate()
    await scene.slow.ends()
    again = await scene.start("slow").ready(60)
    await scene.is_complete(ledger, again)
    assert sum(scene.sent.values()) == ledger.read["inputs"] == scene.log.count("inputs")
    counts = ledger.counts
    counts.facts_in, counts.facts_out = ledger.read["inputs"], ledger.read["outputs"]
    row.count(counts)
    assert counts.facts_in == counts.facts_out
    seconds = ledger.samples[-1][0] - ledger.samples[0][0]
    print(
        f"{counts.facts_in:,} facts in {seconds:.0f} s; never more than {most:,} in the log with "
        f"all there, {held:,} with one away, {scene.left():,} in the end"
    )
