"""Entries in the log that no appender of this contract would write."""

import random
import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import pytest
from google.protobuf.message import DecodeError

from factfold.v1.fact_pb2 import DeadLetter, FactMeta

from .letters import ask, asked, keys_of, letters
from .load import Load
from .log import FIELDS, PARTITIONS, Counts, Log, Logged, Sent, check_reaction, eventually, keys
from .probe import contract
from .row import Row

KEYS = keys(500)
BAD_KEYS = keys(40, "bad")
INPUT = b"probe.v1.Input"
LARGE = 8 << 20
EVERY = 50  # entries, of which one is large

# As the append script does: a dense id, counted in the head.
WRITE = """
if redis.replicate_commands then redis.replicate_commands() end
local time, head = redis.call('TIME'), redis.call('HMGET', KEYS[2], 'n', 'ms')
local ms = math.max(time[1] * 1000 + math.floor(time[2] / 1000), head[2])
ms = string.format('%.0f', ms)
local n = string.format('%.0f', head[1] + 1)
redis.call('XADD', KEYS[1], ms .. '-' .. n, unpack(ARGV))
redis.call('HSET', KEYS[2], 'n', n, 'ms', ms)
"""

Pairs = list[tuple[bytes, bytes]]


class Writer:
    """Random entries, most of them bad in one or two ways."""

    def __init__(self, dice: random.Random):
        self._dice = dice
        self._number = 0

    def entry(self) -> Pairs:
        dice = self._dice
        self._number += 1
        key = dice.choice(BAD_KEYS)
        event = contract.Input(key=key, number=self._number)
        large = self._number % EVERY == EVERY // 2
        if large:
            event.payload = bytes(LARGE)
        meta = FactMeta(id=dice.randbytes(16), source="/somebody")
        values = dict(
            zip(FIELDS, (INPUT, key.encode(), meta.SerializeToString(), event.SerializeToString()),
                strict=True)
        )  # fmt: skip
        wrongs = [self._type, self._key, self._meta, self._data]
        for wrong in dice.sample(wrongs, dice.choice([0, 1, 1, 1, 2])):
            wrong(values, meta)
        if large and dice.random() < 0.3:
            values[b"data"] = b"\xff" * LARGE
        pairs = list(values.items())
        if dice.random() < 0.15:
            del pairs[dice.randrange(len(pairs))]
        if dice.random() < 0.3:
            dice.shuffle(pairs)
        for _ in range(dice.choice([0, 0, 0, 1, 3])):
            more = dice.choice([b"extra", b"", dice.randbytes(9), *FIELDS]), dice.randbytes(20)
            pairs.insert(dice.randint(0, len(pairs)), more)
        return pairs or [(b"nothing", b"")]

    def _type(self, values: dict[bytes, bytes], meta: FactMeta) -> None:
        names = [b"", b"probe.v1.Moved", b"probe.v1.Inputs", b"\xff\xfe", b"x" * 70_000]
        values[b"type"] = self._dice.choice([*names, self._dice.randbytes(12)])

    def _key(self, values: dict[bytes, bytes], meta: FactMeta) -> None:
        values[b"key"] = self._dice.choice([b"", b"_", b"\xff", b"k" * 513, b"meta", b"\x00"])

    def _meta(self, values: dict[bytes, bytes], meta: FactMeta) -> None:
        dice = self._dice
        meta.id = dice.choice([b"", bytes(3), bytes(17), meta.id, meta.id])
        meta.trace_id, meta.span_id = dice.randbytes(dice.choice([0, 3, 16])), bytes(8)
        meta.trace_state = dice.choice(["", "a=b", "=,=", "\x00" * 600])
        meta.time_unix_nano = dice.choice([0, 2**64 - 1])
        meta.request_id = dice.choice(["", "x" * 5_000])
        meta.version = 2**63
        whole = meta.SerializeToString()
        values[b"meta"] = dice.choice([whole, whole, whole[:-1], b"", b"\xff", dice.randbytes(30)])

    def _data(self, values: dict[bytes, bytes], meta: FactMeta) -> None:
        whole, dice = values[b"data"], self._dice
        some = [
            b"",
            whole[:-1],
            b"\xff" + whole,
            dice.randbytes(30),
            b"{}",
            whole + b"\x9a\x06\x00",
        ]
        values[b"data"] = dice.choice(some)


# What is to become of an entry, by docs/wire-format.md alone.


def first(fields: Sequence[bytes], name: bytes) -> bytes | None:
    return next((fields[at + 1] for at in range(0, len(fields), 2) if fields[at] == name), None)


def key_in(fields: Sequence[bytes]) -> str | None:
    raw = first(fields, b"key")
    if raw is None or not 1 <= len(raw) <= 512 or raw == b"_":
        return None
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return None


def parsed(message: Any, raw: bytes | None) -> Any:
    try:
        return None if raw is None else message.FromString(raw)
    except DecodeError:
        return None


def concerns(fields: Sequence[bytes]) -> bool:
    """Whether the reaction may not pass it over."""
    kind = first(fields, b"type")
    try:
        return kind is None or kind.decode() == INPUT.decode()
    except UnicodeDecodeError:
        return True


def event_in(fields: Sequence[bytes]) -> Any:
    """The event, if a reaction can answer it."""
    event, meta = (
        parsed(contract.Input, first(fields, b"data")),
        parsed(FactMeta, first(fields, b"meta")),
    )
    whole = event is not None and meta is not None and len(meta.id) == 16
    return event if whole and key_in(fields) and first(fields, b"type") == INPUT else None


def can_be_folded(fields: Sequence[bytes]) -> bool | None:
    """None: no fold is concerned."""
    if any(first(fields, name) is None for name in FIELDS):
        return False
    if first(fields, b"type") != INPUT:
        return None
    return key_in(fields) is not None and parsed(contract.Input, first(fields, b"data")) is not None


class Expected:
    """What reaction and view make of the log."""

    def __init__(self, log: Log):
        self.facts: list[Logged] = []  # that the reaction answers
        self.letters: dict[tuple[int, int], tuple[bytes, list[bytes], int]] = {}
        self.unfolded: set[str] = set()  # positions
        self.rows: Counter[str] = Counter()  # facts by key
        for partition in range(PARTITIONS):
            epoch, waiting = log.head("inputs", partition)["epoch"], set[bytes]()
            for entry_id, fields in log.entries("inputs", partition):
                position = f"inputs/{partition}@{epoch}:{entry_id.decode()}"
                self._fold(fields, position)
                if concerns(fields):
                    n = int(entry_id.split(b"-")[1])
                    self._react(partition, n, entry_id, position, fields, waiting)

    def _fold(self, fields: list[bytes], position: str) -> None:
        folded = can_be_folded(fields)
        if folded:
            self.rows[key_in(fields) or ""] += 1
        elif folded is False:
            self.unfolded.add(position)

    def _react(
        self, partition: int, n: int, entry_id: bytes, position: str, fields: list[bytes],
        waiting: set[bytes],
    ) -> None:  # fmt: skip
        event, key = event_in(fields), first(fields, b"key") or b""
        line = b"" if key == b"_" else key
        # The probe answers under the event's key, and is told to try once.
        if line in waiting or event is None or not event.key:
            state = DeadLetter.HELD if line in waiting else DeadLetter.DEAD
            self.letters[partition, n] = entry_id, fields, state
            waiting.add(line)
            return
        meta = FactMeta.FromString(first(fields, b"meta") or b"")
        name = key_in(fields) or ""
        self.facts.append(
            Logged("inputs", partition, n, position, INPUT.decode(), name, meta, event)
        )


def check_letters(expected: Expected, found: dict[tuple[int, int], DeadLetter]) -> Counts:
    counts = Counts(facts_in=len(expected.letters), facts_out=len(found))
    for place, (entry_id, fields, state) in expected.letters.items():
        letter = found.get(place)
        if letter is None:
            counts.find("lost", f"{place} is no dead letter: {str(fields)[:300]}")
        elif (letter.entry_id, list(letter.fields)) != (entry_id, fields):
            counts.find("lost", f"the dead letter {place} has not the whole entry")
        elif letter.state != state or (state == DeadLetter.DEAD and not letter.error):
            counts.find("out_of_order", f"{place} is {letter.state}, not {state}: {letter.error}")
    for place in found.keys() - expected.letters.keys():
        counts.find("doubled", f"{place} is a dead letter: {found[place].error}")
    return counts


@pytest.mark.at_least(1000)
async def test_bad_entries(row: Row) -> None:
    """unparseable data, unknown type, empty key, 8 MiB, wrong meta, extra fields"""
    server = row.redis()
    probe = row.probe(
        server, reactions="answer", FACTFOLD_LEASE="1", FACTFOLD_REACTION_ATTEMPTS="1"
    )
    await probe.ready()
    log, sent, writer = Log(server), Sent(), Writer(row.random)
    first_facts = [sent.unit(key) for key in KEYS]
    sent.answered(first_facts, await probe.append_many(first_facts))
    with log.redis() as client:
        write = client.register_script(WRITE)
        async with Load(row, probe, sent, KEYS, callers=2, size=10, pause=0.02) as load:
            while row.more:
                flat = [part for pair in writer.entry() for part in pair]
                place = f"{{inputs/{zlib.crc32(first(flat, b'key') or b'') % PARTITIONS}}}"
                write(keys=[f"{place}:log", f"{place}:head"], args=flat)
                row.injected()
                if not row.counts.injected % 20:
                    await load.acknowledged(10)
    await log.reacted("answer", seconds=120)
    assert probe.running
    assert await probe.serving()
    assert not sent.refused
    assert not sent.unknown

    expected = Expected(log)
    good = set(KEYS)
    row.count(sent.check(fact for fact in expected.facts if fact.key in good))
    row.count(check_letters(expected, letters(log, "answer")))
    row.count(check_reaction("answer", expected.facts, log.facts("outputs")))
    await view_is_as(expected, log, probe)
    await row.view_is_rebuild(log, probe, at=server)

    # All of them can be got rid of, and then their keys are as any other.
    ask(row, log, "answer", "discard", expected.letters)
    await eventually(lambda: not asked(log, "answer") and not keys_of(log, "answer"), 60)
    assert not letters(log, "answer")
    again = [contract.AppendRequest(stream="inputs", key=key, first=10**6) for key in BAD_KEYS]
    outcomes = await probe.append_many(again)
    assert not any(outcome.code for outcome in outcomes)
    await log.reacted("answer")
    answered = {fact.event.of for fact in log.facts("outputs") if fact.event.number == 10**6}
    assert answered == set(BAD_KEYS)


async def view_is_as(expected: Expected, log: Log, probe: Any) -> None:
    dumped = await probe.dump(log.tail("inputs"))
    (table,) = (table for table in dumped.tables if table.name == "inputs")
    rows = {each.key: contract.Seen.FromString(each.value).facts for each in table.row}
    differing = {key for key in rows | expected.rows if rows.get(key) != expected.rows.get(key)}
    assert not differing, {key: (rows.get(key), expected.rows.get(key)) for key in differing}
    said: defaultdict[str, int] = defaultdict(int)
    for line in probe.said("cannot fold the fact at"):
        for position in re.findall(r"cannot fold the fact at (inputs/\S+?);", line):
            said[position] += 1
    assert said == dict.fromkeys(expected.unfolded, 1)


@pytest.mark.at_least(20)
async def test_foreign_ids(row: Row) -> None:
    """foreign ids: an entry that the head does not count is named, and not answered"""
    while row.more:
        server = row.redis()
        probe = await row.probe(server, reactions="answer", FACTFOLD_LEASE="1").ready()
        log, sent = Log(server), Sent()
        units = [sent.unit(key) for key in row.random.sample(KEYS, 100)]
        sent.answered(units, await probe.append_many(units))
        await log.reacted("answer")
        partition = row.random.randrange(PARTITIONS)
        n = int(log.head("inputs", partition)["n"])
        now = int(log.now()) * 1000 + 1000
        with log.redis() as client:
            ids = ["*", f"{now}-{n - 1}", f"{now}-{n + 1}", f"{now}-{n + 1000}"]
            ids.append(f"{now + 3_600_000}-{n + 1}")
            event = contract.Input(key="foreign", number=1).SerializeToString()
            meta = FactMeta(id=row.random.randbytes(16)).SerializeToString()
            values: Any = dict(zip(FIELDS, (INPUT, b"foreign", meta, event), strict=True))
            entry_id = client.xadd(
                f"{{inputs/{partition}}}:log", values, id=row.random.choice(ids)
            ).decode()
        row.injected()
        named = f"stream inputs, partition {partition}: no appender wrote the entry {entry_id}"
        await eventually(lambda: len(probe.said(named)) >= 2)  # noqa: B023
        assert probe.running
        assert not await probe.serving()
        answered = {fact.event.of for fact in log.facts("outputs")}
        assert answered == {key for key, _ in sent.acknowledged}
        await probe.close()
