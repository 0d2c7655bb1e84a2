"""The same facts in another order between partitions and streams give the same view."""

import asyncio
import secrets
import uuid
import zlib
from collections import defaultdict
from dataclasses import dataclass, field
from random import Random
from typing import Any

import grpc
import pytest
import redis

from factfold.v1.fact_pb2 import FactMeta

from .log import PARTITIONS, STREAMS, Counts, Log, partition_of
from .probe import Probe, contract
from .proxy import Command, Hook, Link, Verdict
from .row import Row

Place = tuple[str, int]

INPUTS = [f"input-{at}" for at in range(16)]
MOVES = [f"move-{at}" for at in range(16)]
GROUPS = ["", *"abc"]  # in no group, or in one
FACTS = 60  # of each stream
CASES = 20  # interleavings of the same facts


def next_order(before: int, entry_id: str) -> int:
    return zlib.crc32(entry_id.encode(), before)


@dataclass
class Recorded:
    """Facts of both streams, as they lie in each partition, and the tables they make."""

    entries: dict[Place, list[tuple[str, list[bytes]]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    tables: dict[str, dict[str, Any]] = field(default_factory=lambda: defaultdict(dict))

    @classmethod
    def at_random(cls, dice: Random) -> "Recorded":
        recorded = cls()
        streams = ["inputs", "moves"] * FACTS
        dice.shuffle(streams)
        known = dice.sample(INPUTS, 12)  # to the others no fact will ever come
        for number, stream in enumerate(streams, 1):
            if stream == "inputs":
                event = contract.Input(key=dice.choice(known), number=number)
            else:
                event = contract.Moved(
                    key=dice.choice(MOVES),
                    number=number,
                    group=dice.choice(GROUPS),
                    amount=dice.randint(-5, 5),
                    to=dice.choice(["", *INPUTS]),
                )
            recorded.add(stream, event, dice)
        recorded.derive()
        return recorded

    def add(self, stream: str, event: Any, dice: Random) -> None:
        entries = self.entries[stream, partition_of(event.key)]
        last = int(entries[-1][0].split("-")[0]) if entries else 1
        entry_id = f"{last + dice.choice([0, 1, 1000])}-{len(entries) + 1}"
        before = self.tables[stream].get(event.key)
        version = before.version + 1 if before and stream == "moves" else 1
        meta = FactMeta(
            id=uuid.UUID(int=dice.getrandbits(128)).bytes, version=version * (stream == "moves")
        )
        fields = [
            event.DESCRIPTOR.full_name.encode(), event.key.encode(),
            meta.SerializeToString(), event.SerializeToString(),
        ]  # fmt: skip
        entries.append((entry_id, fields))
        order = next_order(before.order if before else 0, entry_id)
        if stream == "inputs":
            facts = before.facts + 1 if before else 1
            row = contract.Seen(facts=facts, last_number=event.number, order=order)
        else:
            row = contract.Move(
                group=event.group, amount=event.amount, to=event.to, version=version, order=order
            )
        self.tables[stream][event.key] = row

    def derive(self) -> None:
        inputs, groups = self.tables["inputs"], self.tables["groups"]
        for key, move in self.tables["moves"].items():
            self.tables["joined"][key] = contract.Joined(move=move, input=inputs.get(move.to))
            if move.group:
                group = groups.setdefault(move.group, contract.Group())
                group.moves += 1
                group.amount += move.amount

    def interleaved(self, dice: Random) -> list[Place]:
        """Whose turn it is, fact by fact. Some orders are more uneven than others."""
        left = {place: len(entries) for place, entries in self.entries.items()}
        steep = dice.choice([0.0, 1.0, 4.0])
        weight = {place: 10 ** (steep * dice.random()) for place in left}
        turns = []
        while left:
            places = list(left)
            (place,) = dice.choices(places, [left[each] * weight[each] for each in places])
            turns.append(place)
            left[place] -= 1
            if not left[place]:
                del left[place]
        return turns

    def differences(self, dumped: Any) -> list[str]:
        kinds = {"inputs": "Seen", "outputs": "Seen", "moves": "Move", "joined": "Joined"}
        found = []
        for table in dumped.tables:
            parse = getattr(contract, kinds.get(table.name, "Group")).FromString
            rows = {row.key: parse(row.value) for row in table.row}
            expected = self.tables[table.name]
            for key in sorted(rows.keys() | expected.keys()):
                if rows.get(key) != expected.get(key):
                    found.append(f"{table.name}[{key}] is {rows.get(key)}, not {expected.get(key)}")
        assert len(dumped.tables) == 5
        return found


class Late(Hook):
    """The replies to some reads come later than others."""

    def __init__(self, dice: Random):
        self._dice = dice

    async def reply(self, link: Link, command: Command, reply: bytes) -> Verdict:
        if command.name in ("XRANGE", "XREAD"):
            await asyncio.sleep(self._dice.choice([0, 0, 0.002, 0.01]))
        return Verdict.PASS


class Writing:
    """Puts recorded facts into a log that begins anew each time."""

    def __init__(self, row: Row, client: "redis.Redis[Any]"):
        self._dice = row.random
        self._client = client
        self._create = (row.made.scripts / "create.lua").read_text()

    def begin(self) -> None:
        self._epoch = secrets.token_hex(8)
        self._next: dict[Place, int] = defaultdict(int)
        for stream in STREAMS:
            for partition in range(PARTITIONS):
                names = ("log", "head", "producers", "versions")
                keys = [f"{{{stream}/{partition}}}:{name}" for name in names]
                with self._client.pipeline(transaction=True) as at_once:
                    at_once.delete(*keys)
                    at_once.execute_command("EVAL", self._create, 4, *keys, PARTITIONS, self._epoch)
                    at_once.execute()

    def write(self, recorded: Recorded, turns: list[Place]) -> None:
        """So many facts, as much at once as their servers can."""
        with self._client.pipeline(transaction=False) as at_once:
            for stream, partition in turns:
                n = self._next[stream, partition] = self._next[stream, partition] + 1
                entry_id, values = recorded.entries[stream, partition][n - 1]
                names = ("type", "key", "meta", "data")
                keys = f"{{{stream}/{partition}}}"
                fields = dict(zip(names, values, strict=True))
                at_once.xadd(f"{keys}:log", fields, id=entry_id)
                ms = entry_id.split("-")[0]
                at_once.hset(f"{keys}:head", mapping={"n": n, "ms": ms})
            at_once.execute()


async def dump_at(probe: Probe, tail: str) -> Any:
    """Of the log that begins anew; the view may still be in the one before."""
    while True:
        try:
            return await probe.dump(tail)
        except grpc.aio.AioRpcError as error:
            if error.code() not in (
                grpc.StatusCode.FAILED_PRECONDITION,
                grpc.StatusCode.UNAVAILABLE,
            ):
                raise
            await asyncio.sleep(0.01)


@pytest.mark.at_least(1000)
async def test_join_and_aggregate(row: Row) -> None:
    """random interleavings into a join and an aggregate"""
    server = row.redis()
    proxy = await row.proxy(server)
    proxy.hooks.append(Late(row.random))
    log, dice = Log(server), row.random
    with log.redis() as client:
        writing = Writing(row, client)
        writing.begin()
        reader = await row.probe(proxy, PROBE_OWNS=",").ready()
        while row.more:
            if row.counts.injected % CASES == 0:
                recorded = Recorded.at_random(dice)
            turns = recorded.interleaved(dice)
            writing.begin()
            following = dice.random() < 0.7
            if following:
                proxy.cut()  # a blocked read would not be woken
            while turns:
                some = dice.randint(1, 40) if following else len(turns)
                writing.write(recorded, turns[:some])
                del turns[:some]
                await asyncio.sleep(dice.choice([0, 0, 0.003]))
            if not following:
                proxy.cut()
            async with asyncio.timeout(20):
                dumped = await dump_at(reader, log.tail())
            found = recorded.differences(dumped)
            assert not found, "\n".join(found[:10])
            tables = recorded.tables
            out = sum(seen.facts for seen in tables["inputs"].values())
            out += sum(move.version for move in tables["moves"].values())
            row.count(Counts(facts_in=2 * FACTS, facts_out=out))
            row.injected()
