"""A replica is promoted that lacks facts, and the log grows past its readers with others."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from topologies import Node

from .log import Log, Sent, eventually, keys, partition_of
from .probe import Probe
from .row import Row
from .test_clock import LIBRARIES, who_owns

KEYS = keys(500)
OF = [[key for key in KEYS if partition_of(key) == partition] for partition in range(4)]
LOST, OTHERS = 10, 20
REACTIONS = ("answer", "scatter")
CHANGED = "the log changed"  # a view says so when it starts again


def replicated(primary: Node, replica: Node) -> bool:
    """Whether the replica had all that the primary had when it was asked."""
    with Log(primary).redis() as client:
        offset = client.info("replication")["master_repl_offset"]
    with Log(replica).redis() as client:
        state: dict[str, Any] = client.info("replication")
    return state["master_link_status"] == "up" and state["slave_repl_offset"] >= offset


@dataclass
class Failover:
    """One after the other: each promoted replica is the next one's primary.

    Args:
        behind: seconds that the clock of a replica lags behind its primary's.
        stopped: the reader is not there while it happens, and has a snapshot.
    """

    row: Row
    behind: int
    stopped: bool
    servers: int = 0
    still: int = 0
    sent: Sent = field(default_factory=Sent)

    @property
    def hard(self) -> int:
        """How many failovers, the first ones, are the hardest to notice.

        All wait until the log has grown past its readers. If clocks are equal, the same ids stand
        there again: at first nothing but the inputs is rolled back, and then an owner has
        committed nothing since its claim.
        """
        return 1 if self.behind else 2

    async def run(self) -> None:
        row = self.row
        primary = row.redis(**self._clock())
        self.proxy, self.readers = await row.proxy(primary), await row.proxy(primary)
        self.writer = await row.probe(self.proxy).ready()
        self.reader = await self._start(*REACTIONS)
        while row.more or row.counts.injected < self.hard:
            primary = await self._fail_over(primary)
            row.injected()
        row.appended(Log(primary), self.sent)
        row.answered(Log(primary), *REACTIONS)

    def _clock(self) -> dict[str, Any]:
        """A server's own clock, if clocks are to differ."""
        if not self.behind:
            return {}
        self.servers += 1
        clock = self._file(self.servers)
        clock.write_text("+0")
        return {
            "preload": LIBRARIES[0],
            "FAKETIME_TIMESTAMP_FILE": str(clock),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def _file(self, server: int) -> Path:
        return self.row.folder / f"clock-{server}"

    async def _start(self, *reactions: str) -> Probe:
        probe = self.row.probe(
            self.readers,
            reactions=",".join(reactions),
            folder=self.row.folder / "reader",
            FACTFOLD_LEASE="1",
            FACTFOLD_SNAPSHOT_DIR="snapshots",
        )
        return await probe.ready()

    async def _append(self, to: Sent, chosen: Sequence[str]) -> None:
        """One fact of each key; again until it is acknowledged."""
        while chosen:
            units = [to.unit(key) for key in chosen]
            try:
                to.answered(units, await self.writer.append_many(units))
            except grpc.aio.AioRpcError as error:
                to.failed(units, error.details() or "")
            known = to.acknowledged.keys()
            chosen = [unit.key for unit in units if (unit.key, unit.first) not in known]

    async def _fail_over(self, primary: Node) -> Node:
        row, dice = self.row, self.row.random
        hard = row.counts.injected < self.hard
        answered = bool(row.counts.injected or self.behind) if hard else dice.random() < 0.7
        replica, wire = await row.replica(primary, **self._clock())
        if self.behind:
            self._file(self.servers - 1).write_text("+0")
            self._file(self.servers).write_text(f"-{self.behind}s")
        log = Log(primary)
        await self._append(self.sent, dice.sample(KEYS, 100))
        await log.reacted(*REACTIONS)
        if not answered:
            await self._restart()
        await eventually(lambda: replicated(primary, replica), 10)
        wire.refusing = True
        wire.cut()

        there = log.count("inputs")
        lost = dice.sample(dice.choice([*OF, KEYS]), LOST)  # of one partition, or of all
        same_ids = not self.behind and (hard or dice.random() < 0.5)
        if same_ids:  # as if all were appended within one millisecond
            self.still = time.time_ns() // 1_000_000 + 20_000
            self._stand_still(primary, lost)
        gone = Sent()
        for key in lost:
            gone.unit(key, facts=10**6)  # numbers that no other fact has
        await self._append(gone, lost)
        await self.reader.dump(log.tail("inputs"))
        if answered and (hard or dice.random() < 0.7):
            await log.reacted(*REACTIONS)
            idle = not self.behind if hard else dice.random() < 0.5
            if idle and not self.stopped:
                await self._restart(*REACTIONS)
                instance = (await self.reader.status()).instance
                await eventually(lambda: who_owns(log) == {instance}, 10)
        assert Log(replica).count("inputs") == there, "the replica was to lack them all"
        seen = len(self.reader.said(CHANGED)), len(self.writer.said(CHANGED))
        alarms = len(self.writer.said("was rolled back"))
        if self.stopped:
            self.reader.terminate()
            await self.reader.ends()
            assert list((self.reader.folder / "snapshots").glob("*.snapshot"))

        await asyncio.to_thread(primary.kill)
        late = hard or dice.random() < 0.5
        self.readers.refusing = late
        with Log(replica).redis() as client:
            client.execute_command("REPLICAOF", "NO", "ONE")
        if same_ids:
            self._stand_still(replica, lost)
        self.proxy.target = self.readers.target = replica.port
        others = [key for each in lost for key in dice.sample(OF[partition_of(each)], 2)]
        await self._append(self.sent, others)
        self.readers.refusing = False
        log = Log(replica)
        assert log.count("inputs") >= there + OTHERS
        if same_ids:
            ids = {position.rpartition(":")[2] for position in gone.acknowledged.values()}
            after = {fact.position.rpartition(":")[2] for fact in log.facts("inputs")}
            assert ids <= after, "the last facts that were read do not have the same ids"

        if self.stopped:
            self.reader = await self._start(*(REACTIONS if answered else ()))
            seen = 0, seen[1]
        for probe, before in zip((self.reader, self.writer), seen, strict=True):
            await eventually(
                lambda p=probe, b=before: len(p.said(CHANGED)) > b, 15, lambda: "not detected"
            )
            await probe.ready()
        assert len(self.writer.said("was rolled back")) > alarms, "the appender has not noticed"
        if not answered:
            await self._restart(*REACTIONS)
        await log.reacted(*REACTIONS)
        # Each time: the next roll-back would rebuild a view that has phantoms.
        await row.view_is_rebuild(log, self.writer, self.reader, at=replica)
        return replica

    async def _restart(self, *reactions: str) -> None:
        self.reader.terminate()
        await self.reader.ends()
        self.reader = await self._start(*reactions)

    def _stand_still(self, server: Node, lost: Sequence[str]) -> None:
        """The next facts' ids all have the same time, on both servers."""
        with Log(server).redis() as client:
            for stream in ("inputs", "outputs"):
                for partition in set(map(partition_of, lost)):
                    client.hset(f"{{{stream}/{partition}}}:head", "ms", self.still)


@pytest.mark.alone("test_cluster.py has the failovers of a cluster")
@pytest.mark.at_least(10)
@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
async def test_promoted(row: Row, stopped: bool) -> None:
    """promote a replica that lacks 10 facts, then append 20 others; clock equal"""
    row.label = "reader stopped" if stopped else "reader running"
    await Failover(row, behind=0, stopped=stopped).run()


@pytest.mark.servers("redis-6.2")  # no other starts with the library
@pytest.mark.at_least(10)
@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
async def test_promoted_with_a_clock_behind(row: Row, stopped: bool) -> None:
    """promote a replica that lacks 10 facts, then append 20 others; clock 2 s behind"""
    row.label = "reader stopped" if stopped else "reader running"
    if not LIBRARIES:
        pytest.skip("libfaketimeMT is not on this machine: install the package libfaketime")
    await Failover(row, behind=2, stopped=stopped).run()
