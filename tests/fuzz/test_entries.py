"""Entries that no appender wrote, through all that reads entries: what is no fact is passed over,
by views and watches, or becomes a dead letter; what else there is comes as if they were not there.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import pytest
from chassis.contracts import compiled
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from factfold.v1.fact_pb2 import DeadLetter, FactMeta
from factfold_chassis import View, fold, reaction
from factfold_chassis.contract import Contract
from factfold_chassis.core import Core
from factfold_chassis.facts import Entry, Fact
from factfold_chassis.log.read import Batch, _anchor_of
from factfold_chassis.log.streams import Head
from factfold_chassis.reactions.letters import new_letter
from factfold_chassis.settings import Settings
from factfold_chassis.telemetry import Telemetry
from factfold_chassis.views.place import Place

from .conftest import BATCH
from .mutate import NASTY, mutate

EPOCH = "0" * 16
NAMES = (b"type", b"key", b"meta", b"data")
FILE = compiled(
    "fuzz_entries.proto",
    """
    syntax = "proto3"; package fuzz.v1; import "factfold/v1/options.proto";
    option (factfold.v1.stream) = { name: "puts" partitions: 1 };
    message Put {
      option (factfold.v1.event) = {};
      string key = 1 [(factfold.v1.key) = true];
      string text = 2;
      bytes more = 3;
      map<string, Put> below = 4;
      repeated fixed64 numbers = 5;
      double weight = 6;
      oneof one { bool yes = 7; Put other = 8; }
    }
    message Left { option (factfold.v1.event) = {}; string key = 1 [(factfold.v1.key) = true]; }
    """,
)
CONTRACT = Contract([FILE])
Put: Any = GetMessageClass(FILE.message_types_by_name["Put"])
Left: Any = GetMessageClass(FILE.message_types_by_name["Left"])
EVENTS = {b"fuzz.v1.Put": Put, b"fuzz.v1.Left": Left}
TYPES = [*EVENTS, b"fuzz.v1.Pu", b"fuzz.v1.Gone", b"factfold.v1.FactMeta"]
LARGE = 1 << 20

Row = tuple[bytes, int]  # the last event, and how many were folded


class Reading:
    """All of a service that reads entries."""

    def __init__(self, tracing: bool) -> None:
        view = View("fuzz")
        self.puts, self.counts = view.table("puts", Put), view.table("counts", Put)
        self.answered: list[int] = []

        @fold(Put, into=self.puts)
        def put(row: Any, event: Any, fact: Fact) -> Any:
            return event

        @fold(Left, into=self.puts)
        def left(row: Any, event: Any, fact: Fact) -> None:
            return None

        @fold(Put, into=self.counts)
        def count(row: Any, event: Any, fact: Fact) -> Any:
            return Put(numbers=[*(row.numbers if row else ()), fact.n])

        @reaction(Put, Left)
        async def answer(event: Any, call: Any) -> None:
            self.answered.append(call.fact.n)

        self.telemetry = Telemetry.for_tests(InMemorySpanExporter()) if tracing else Telemetry()
        self.core = Core(
            "fuzz", CONTRACT, [put, left, count], [answer], Settings(), self.telemetry
        )  # fmt: skip
        self.core.views_ready.set()

    def take(self, entries: list[Entry]) -> Place:
        """As ViewEngine does with what a reader brings."""
        engine = self.core.owner
        place = Place("puts", 0, Head(EPOCH, 1, 0, 0))
        engine._places["puts"] = [place]
        while entries:
            part, entries = entries[:100], entries[100:]
            engine.fold(place, part)
            place.advance(Batch(part, _anchor_of(part[-1]), place.anchor.n + len(part)))
            self.core.journal.take("puts", 0, part, sum(len(fields[-1]) for _, fields in part))
        return place

    async def watched(self, count: int) -> list[tuple[int, str, Any]]:
        """What a watch shows until it has shown `count` facts, or nothing more."""
        found: list[tuple[int, str, Any]] = []
        async with asyncio.timeout(30):
            async for change in self.core.watch().changes():
                assert len(change.fact.meta.id) == 16
                found.append((change.fact.n, change.fact.key, change.event))
                if len(found) == count:
                    break
        return found


# What an entry is, by docs/wire-format.md alone.


def first(fields: Sequence[bytes], name: bytes) -> bytes | None:
    return next((fields[at + 1] for at in range(0, len(fields), 2) if fields[at] == name), None)


def key_in(fields: Sequence[bytes]) -> str | None:
    raw = first(fields, b"key")
    try:
        return None if raw in (None, b"", b"_") or len(raw) > 512 else raw.decode()
    except UnicodeDecodeError:
        return None


def event_in(fields: Sequence[bytes]) -> Any:
    """None: it is no fact of this contract that a fold can read."""
    type_, data = first(fields, b"type"), first(fields, b"data")
    if type_ not in EVENTS or data is None or key_in(fields) is None:
        return None
    try:
        return EVENTS[type_].FromString(data) if b"meta" in fields[::2] else None
    except DecodeError:
        return None


def is_fact(fields: Sequence[bytes]) -> bool:
    try:
        meta = FactMeta.FromString(first(fields, b"meta") or b"")
    except DecodeError:
        return False
    return event_in(fields) is not None and len(meta.id) == 16


def concerns_a_reaction(fields: Sequence[bytes]) -> bool:
    type_ = first(fields, b"type")
    try:
        return type_ is None or type_.decode().encode() in EVENTS
    except UnicodeDecodeError:
        return True


# Entries.


def entry(dice: random.Random, n: int, *, odd: bool = False) -> Entry:
    event = Put(key="k", text="t" * dice.randint(0, 40), more=dice.randbytes(9), weight=1.5)
    if dice.random() < 0.3:
        event.below["b"].CopyFrom(Put(numbers=[1, 2**64 - 1], other=Put(yes=True)))
    if dice.random() < 0.002:
        event.more = bytes(LARGE)
    meta = FactMeta(
        id=dice.randbytes(16), source="/fuzz", time_unix_nano=dice.getrandbits(64),
        trace_id=dice.randbytes(16), span_id=dice.randbytes(8), trace_flags=dice.getrandbits(32),
        trace_state="a=b", request_id=dice.choice(["", "r"]), version=dice.getrandbits(64),
        extensions={"a": "b"},
    )  # fmt: skip
    for field in dice.sample(["trace_id", "span_id", "id", "causation_id"], 2):
        if dice.random() < 0.1:
            setattr(meta, field, dice.randbytes(dice.choice([0, 1, 7, 15, 17, 40])))
    if dice.random() < 0.1:
        meta.trace_state = dice.choice(["=", ",", "a=b,a=b", "\0", "x" * 9_000, "é=ü"])
    values = {
        b"type": dice.choice(TYPES),
        b"key": dice.choice([b"a", b"b", b"c", "é".encode()]),
        b"meta": meta.SerializeToString(),
        b"data": event.SerializeToString(),
    }
    for name in dice.sample(NAMES, dice.choice([0, 0, 1, 1, 2, 4])):
        values[name] = mutate(dice, values[name])
    pairs = list(values.items())
    if dice.random() < 0.1:
        del pairs[dice.randrange(len(pairs))]
    if dice.random() < 0.2:
        dice.shuffle(pairs)
    for _ in range(dice.choice([0, 0, 0, 0, 1, 2, 30])):
        name = dice.choice([*NAMES, *NASTY])
        pairs.insert(dice.randint(0, len(pairs)), (name, dice.choice([*NAMES, *NASTY])))
    fields = [part for pair in pairs or [(b"", b"")] for part in pair]
    if odd:
        fields.insert(dice.randint(0, len(fields)), b"odd")
    return b"%d-%d" % (1 + n // 7, n), fields


def good(n: int, key: str) -> Entry:
    meta = FactMeta(id=bytes(16)).SerializeToString()
    data = Put(key=key).SerializeToString()
    fields = [b"type", b"fuzz.v1.Put", b"key", key.encode(), b"meta", meta, b"data", data]
    return b"%d-%d" % (1 + n // 7, n), fields


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


async def test_what_is_no_fact_is_passed_over(batches: Iterator[random.Random]) -> None:
    for at, dice in enumerate(batches):
        entries = [entry(dice, n) for n in range(1, BATCH)] + [good(BATCH, "last")]
        reading = Reading(tracing=at % 2 == 0)
        reading.take(entries)
        expect_view(reading, entries)
        await expect_watch(reading, entries)
        await expect_reaction(reading, entries, replay=dice.random() < 0.5)


def expect_view(reading: Reading, entries: list[Entry]) -> None:
    puts: dict[str, Any] = {}
    counts: dict[str, list[int]] = {}
    for n, (_, fields) in enumerate(entries, 1):
        event, key = event_in(fields), key_in(fields)
        if event is None or key is None:
            continue
        if isinstance(event, Left):
            puts.pop(key, None)
        else:
            puts[key] = event.SerializeToString(deterministic=True)
            counts.setdefault(key, []).append(n)
    rows = reading.core.query().rows(reading.puts)
    assert {key: row.SerializeToString(deterministic=True) for key, row in rows.items()} == puts
    numbers = reading.core.query().rows(reading.counts)
    assert {key: list(row.numbers) for key, row in numbers.items()} == counts


async def expect_watch(reading: Reading, entries: list[Entry]) -> None:
    facts = [n for n, (_, fields) in enumerate(entries, 1) if is_fact(fields)]
    found = await reading.watched(len(facts))
    assert [n for n, _, _ in found] == facts
    assert [key for _, key, _ in found] == [key_in(entries[n - 1][1]) for n in facts]


async def expect_reaction(reading: Reading, entries: list[Entry], replay: bool) -> None:
    facts = [Fact("puts", 0, EPOCH, entry) for entry in entries]
    answers = reading.core._reactions[0]._answers
    outcomes, _ = await answers.batch(facts, set(), replay=replay)
    blocked: set[bytes] = set()
    answered = []
    for n, (entry, fact) in enumerate(zip(entries, facts, strict=True), 1):
        if not concerns_a_reaction(entry[1]):
            assert n not in outcomes
            continue
        outcome = outcomes.pop(n)
        key = first(entry[1], b"key") or b""
        key = b"" if key == b"_" else key
        assert fact.raw_key == key
        if key in blocked:
            assert outcome.held
        elif is_fact(entry[1]):
            assert not outcome.ByteSize()
            answered.append(n)
        else:
            assert outcome.hopeless
            assert outcome.failure
            blocked.add(key)
        if outcome.ByteSize():
            letter = DeadLetter.FromString(new_letter(fact, outcome, [], 3).SerializeToString())
            assert (letter.entry_id, list(letter.fields)) == entry
    assert not outcomes
    assert sorted(reading.answered) == answered


async def test_whatever_redis_might_return_breaks_nothing(batches: Iterator[random.Random]) -> None:
    """Fields without a value too, which Redis never returns."""
    for dice in batches:
        entries = [entry(dice, n, odd=dice.random() < 0.5) for n in range(1, BATCH)]
        reading = Reading(tracing=False)
        reading.take([*entries, good(BATCH, "last")])
        assert "last" in reading.core.query().rows(reading.puts)
        for each in entries:
            fact = Fact("puts", 0, EPOCH, each)
            assert str(fact.position) in repr(fact)
            for name in ("type", "key", "data", "meta", "id", "source", "time", "version",
                         "cause", "request_id", "extensions"):  # fmt: skip
                with suppress(ValueError, DecodeError):
                    getattr(fact, name)
