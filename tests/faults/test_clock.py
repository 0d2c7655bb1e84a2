"""The server's clock jumps by an hour."""

import asyncio
import time
from collections import Counter
from pathlib import Path

import pytest

from .load import Load
from .log import PARTITIONS, Log, Sent, eventually, keys
from .probe import Probe
from .row import Row

KEYS = keys(500)
LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
LEASE = 2.0
LOOKS = 1.0  # seconds: those who look do so now and then, and the machine is busy
SETTINGS = {"FACTFOLD_LEASE": str(LEASE)}
REACTIONS = ("answer", "scatter")


def owners(log: Log) -> dict[tuple[str, int], tuple[str, str]]:
    """Owner and token, by reaction and partition."""
    groups = {
        (reaction, partition): log.group("inputs", partition, reaction)
        for reaction in REACTIONS
        for partition in range(PARTITIONS)
    }
    return {of: (group["owner"], group["token"]) for of, group in groups.items() if group}


def who_owns(log: Log) -> set[str]:
    return {name for name, _ in owners(log).values()}


async def settled_owners(log: Log) -> dict[tuple[str, int], tuple[str, str]]:
    """The owners, once they have not changed for a while."""
    while True:
        before = owners(log)
        await asyncio.sleep(2.0)
        if len(before) == len(REACTIONS) * PARTITIONS and owners(log) == before:
            return before


@pytest.mark.servers("redis-6.2")  # no other starts with the library
@pytest.mark.at_least(2)
@pytest.mark.parametrize("alive", [True, False], ids=["alive", "dead"])
async def test_clock_jumps(row: Row, alive: bool) -> None:
    """server clock ± 1 h, owner dead and alive"""
    row.label = "alive" if alive else "dead"
    if not LIBRARIES:
        pytest.skip("libfaketimeMT is not on this machine: install the package libfaketime")
    clock = row.folder / "clock"
    clock.write_text("+0")
    server = row.redis(
        preload=LIBRARIES[0],
        FAKETIME_TIMESTAMP_FILE=str(clock),
        FAKETIME_NO_CACHE="1",
        FAKETIME_DONT_FAKE_MONOTONIC="1",
    )
    log, sent = Log(server), Sent()
    writer = await row.probe(server).ready()
    reacting: dict[str, Probe] = {}

    async def one_more() -> None:
        probe = await row.probe(server, reactions=",".join(REACTIONS), **SETTINGS).ready()
        reacting[(await probe.status()).instance] = probe

    await one_more()
    await one_more()
    async with Load(row, writer, sent, KEYS, pause=0.5) as load:
        await load.acknowledged(500)
        for hours in row.random.sample([1, -1], 2):
            owned = await settled_owners(log)
            if not alive:
                most = Counter(name for name, _ in owned.values()).most_common(1)[0][0]
                reacting.pop(most).kill()
            clock.write_text(f"{hours:+}h")
            jumped = time.monotonic()
            row.injected()
            assert abs(log.now() - time.time() - 3600 * hours) < 60
            if alive:
                await asyncio.sleep(LEASE + LOOKS)
                assert owners(log) == owned, "an owner that is alive has lost its partitions"
            else:
                await eventually(lambda: who_owns(log) == reacting.keys(), LEASE + LOOKS)
                # Nobody was too early either.
                assert time.monotonic() - jumped > LEASE - LOOKS
                await one_more()
            await load.acknowledged(250)
    await log.reacted(*REACTIONS)
    row.appended(log, sent)
    row.answered(log, *REACTIONS)
    await row.view_is_rebuild(log, writer, *reacting.values(), at=server)
