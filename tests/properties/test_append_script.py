"""append.lua against its model: processes, reactions and dead letters that append to one partition,
in and out of order, again and again, while Redis is full, or fails in the middle of a call.
"""

from __future__ import annotations

import itertools
import re
import sys
from typing import Any

import pytest
import redis
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from factfold_chassis.log.scripts import APPEND, CREATE
from factfold_chassis.log.streams import Keys

from .append_model import LAST_N, AppendModel, Call, NewFact, Progress, Unit

KEYS = Keys("orders", 0)
EPOCH = b"00112233445566ff"
REACTION = b"shop.answer/inputs/1/8899aabbccddeeff"
LETTERS = [REACTION + b"/%d-7" % ms for ms in (5, 6)]
NEVER_DROPPED = re.compile(rb"[^/]*(/[^/]*){3}")
PLENTY = 1 << 20

keys = st.sampled_from([b"a", b"b", "é|;,:\r\n".encode(), b"0"])
# By how much an expected version is wrong; None: none is expected.
errors = st.sampled_from([None] * 6 + [0] * 20 + [1, -1, 40])
shapes = st.lists(st.tuples(keys, errors), min_size=1, max_size=4)
units = st.lists(shapes, min_size=1, max_size=4)
rooms = st.sampled_from([PLENTY] * 5 + [0, 1, 2, 3, 4, 5])  # 0: no right to append
sometimes = st.sampled_from([False] * 7 + [True])
junk = st.sampled_from([b"", b"|;,", b"\0\xff\r\n", b"x" * 300])
anything = st.floats(0, 1, exclude_max=True)


Shape = list[tuple[bytes, int | None]]


class Appending(RuleBasedStateMachine):
    """Calls are made as the chassis makes them, and arrive in any order, any number of times."""

    client: redis.Redis

    @initialize()
    def create(self) -> None:
        self.client.execute_command("ACL SETUSER default +@all")
        self.client.config_set("maxmemory", 0)
        self.client.flushall()
        self.script = self.client.register_script(APPEND.source)
        self.client.eval(CREATE.source, 4, *KEYS.appending, 1, EPOCH)
        self.model = AppendModel(EPOCH)
        self.tokens = itertools.count()
        self.batches: dict[bytes, list[Call]] = {b"%032x" % i: [] for i in range(2)}
        self.units: dict[bytes, list[Unit]] = {name: [] for name in (REACTION, *LETTERS)}
        self.owners = [[0, 0], [0, 0]]  # index of the next unit, n of the last one sent
        self.known_ms = 0

    # Processes.

    @rule(
        which=anything, shapes=units, junk=junk, arrives=st.booleans(), room=rooms, full=sometimes
    )
    def new_batch(
        self, which: float, shapes: list[Shape], junk: bytes, arrives: bool, room: int, full: bool
    ) -> None:
        producer = _choose(sorted(self.batches), which)
        sequence = len(self.batches[producer]) + 1
        made = [Unit(sequence, facts) for facts in self.facts(shapes, junk)]
        self.batches[producer].append(Call(EPOCH, producer, "batch", sequence, sequence - 1, made))
        if arrives:
            self.send(self.batches[producer][-1], room, full)

    @rule(which=anything, back=st.integers(0, 7), room=rooms, full=sometimes)
    def batch_again(self, which: float, back: int, room: int, full: bool) -> None:
        calls = self.batches[_choose(sorted(self.batches), which)]
        if back < len(calls):
            self.send(calls[-1 - back], room, full)

    @rule(which=anything, room=rooms)
    def window_again(self, which: float, room: int) -> None:
        """All that is not there yet, in order: what a client does on a new connection."""
        producer = _choose(sorted(self.batches), which)
        known = self.model.batches.get(producer, [])
        for call in self.batches[producer][known[-1].sequence if known else 0 :]:
            self.send(call, room)

    @rule(which=anything)
    def renew_producer(self, which: float) -> None:
        self.forget(_choose(sorted(self.batches), which))

    # A reaction: two owners, one of which is late, send the same units, cut as they like.

    @rule(owner=st.integers(0, 1), begin=anything)
    def take_over(self, owner: int, begin: float) -> None:
        """From the committed position on: what lies before it is in the log."""
        done = self.model.progress.get(REACTION, Progress()).n
        there = sum(unit.sequence <= done for unit in self.units[REACTION])
        self.owners[owner] = [int(begin * (there + 1)), 0]

    @rule(
        owner=st.integers(0, 1), shapes=units, junk=junk, gap=st.integers(1, 3),
        count=st.integers(1, 6), room=rooms, full=sometimes,
    )  # fmt: skip
    def next_units(
        self, owner: int, shapes: list[Shape], junk: bytes, gap: int, count: int, room: int,
        full: bool,
    ) -> None:  # fmt: skip
        """Whatever became of those before: their replies are not waited for."""
        settled = self.units[REACTION]
        at, sent = self.owners[owner]
        if len(settled) < at + count:
            for facts in self.facts(shapes, junk):
                settled.append(Unit((settled[-1].sequence if settled else 0) + gap, facts))
        sending = settled[at : at + count]
        self.send(Call(EPOCH, REACTION, "units", 0, sent, sending), room, full)
        self.owners[owner] = [at + len(sending), sending[-1].sequence]

    # Dead letters.

    @rule(which=anything, shape=shapes, junk=junk, back=st.integers(0, 2), room=rooms)
    def round_of_a_letter(
        self, which: float, shape: Shape, junk: bytes, back: int, room: int
    ) -> None:
        """It answers anew only once its last answer has been refused."""
        letter = _choose(LETTERS, which)
        rounds = self.units[letter]
        progress = self.model.progress.get(letter, Progress())
        if len(rounds) == progress.n == len(progress.refusals):
            rounds.append(Unit(len(rounds) + 1, *self.facts([shape], junk)))
        unit = rounds[max(0, len(rounds) - 1 - back)]
        self.send(Call(EPOCH, letter, "units", 0, 0, [unit]), room)

    # What is refused.

    @rule(
        shape=shapes, bad=st.sampled_from(["-1", "1e3", "nan", "0.5", "1,,1"]), at=st.integers(3, 6)
    )
    def malformed(self, shape: Shape, bad: str, at: int) -> None:
        unit = Unit(1, *self.facts([shape], b""))
        args = Call(EPOCH, b"%032x" % 7, "batch", 1, 0, [unit]).arguments
        args[at] = bad
        if at == 6 and bad == "1,,1":
            args[at] = ",".join(["1"] * (len(unit.facts) + 1))
        with pytest.raises(redis.ResponseError, match="append: "):
            self.script(KEYS.appending, args)
        for mode in ("batch", "units"):
            self.send(Call(b"f" * 16, b"%032x" % 7, mode, 1, 0, [unit]), PLENTY)

    def facts(self, shapes: list[Shape], junk: bytes) -> list[list[NewFact]]:
        """Facts of units that follow each other. Each has its own data."""
        versions = dict(self.model.versions)
        found: list[list[NewFact]] = [[] for _ in shapes]
        for unit, shape in zip(found, shapes, strict=True):
            for key, error in shape:
                expected = None
                if error is not None:
                    expected = max(0, versions.get(key, 0) + error)
                    versions[key] = expected + 1
                unit.append(NewFact(key, expected, b"T", junk, b"%d" % next(self.tokens)))
        return found

    @precondition(lambda self: self.model.producers)
    @rule(which=anything)
    def idle_for_a_week(self, which: float) -> None:
        """A producer may be dropped from now on, if it is a process' or a dead letter's."""
        producer = _choose(sorted(self.model.producers), which)
        record = self.client.hget(KEYS["producers"], producer)
        assert isinstance(record, bytes)
        self.client.hset(KEYS["producers"], producer, b"1|" + record.partition(b"|")[2])

    def send(self, call: Call, room: int, full: bool = False) -> None:
        client, model = self.client, self.model
        begin, room = model.n, PLENTY if full else room
        if room == 0:
            client.execute_command("ACL SETUSER default -xadd")
        elif room < PLENTY:
            model.n = LAST_N - room
            client.hset(KEYS["head"], "n", model.n)
        if full:
            client.config_set("maxmemory", 1)
        earliest, before = _now(client), self.idle()
        reply = self.script(KEYS.appending, call.arguments)
        latest = _now(client)
        if full:
            client.config_set("maxmemory", 0)
        if room == 0:
            client.execute_command("ACL SETUSER default +@all")

        ms, error = self.known_ms, b""
        if reply[0] == b"OK":
            ms, error = int(reply[1]), reply[5]
        elif reply[0] in (b"OOM", b"ERROR"):
            error = reply[1]
        appended = len(model.log)
        assert reply == model.call(call, room=room, full=full, ms=ms, error=error)
        if len(model.log) > appended:
            assert ms == self.known_ms or max(earliest, self.known_ms) <= ms <= latest
            self.known_ms = ms

        there = set(client.hkeys(KEYS["producers"]))
        for producer in before - there:
            assert not NEVER_DROPPED.fullmatch(producer)
            model.batches.pop(producer, None)
            model.progress.pop(producer, None)
            self.forget(producer)
        if 0 < room < PLENTY:
            # As if there had always been room: numbers go on without a gap, ids still rise.
            model.n = begin + len(model.log) - appended
            self.known_ms = model.ms = max(model.ms, self.known_ms) + 1
            client.hset(KEYS["head"], mapping={"n": model.n, "ms": model.ms})

    def idle(self) -> set[bytes]:
        found = self.client.hgetall(KEYS["producers"])
        return {name for name, record in found.items() if record.startswith(b"1|")}

    def forget(self, producer: bytes) -> None:
        """Nobody resends what a producer appended that has been idle for a week."""
        if producer in self.batches:
            del self.batches[producer]
            self.batches[b"%032x" % (100 + next(self.tokens))] = []
        if producer in self.units:
            self.units[producer].clear()

    # What must hold.

    @invariant()
    def redis_has_what_the_model_has(self) -> None:
        pipe = self.client.pipeline(transaction=False)
        pipe.execute_command("XRANGE", KEYS["log"], "-", "+")
        for name in ("head", "producers", "versions"):
            pipe.hgetall(KEYS[name])
        log, head, producers, versions = pipe.execute()
        model = self.model
        assert [(entry_id, _flat(fields)) for entry_id, fields in log] == [
            (entry.id, entry.fields) for entry in model.log
        ]
        assert head == {
            b"_": b"1", b"format": b"1", b"partitions": b"1", b"epoch": EPOCH, b"trimmed": b"0",
            b"n": b"%d" % model.n, b"ms": b"%d" % model.ms,
        }  # fmt: skip
        assert versions.pop(b"_") == b"1"
        assert versions == {key: b"%d" % version for key, version in model.versions.items()}
        assert producers.pop(b"_") == b"1"
        times = [record.partition(b"|")[0] for record in producers.values()]
        assert all(time.isdigit() for time in times)
        assert {
            name: record.partition(b"|")[2] for name, record in producers.items()
        } == model.producers

    @invariant()
    def nothing_is_doubled(self) -> None:
        tokens = [entry.fields[7] for entry in self.model.log]
        assert len(tokens) == len(set(tokens))

    def teardown(self) -> None:
        """Nothing is lost: once all is sent again, all of a reaction is in the log, in order."""
        if not hasattr(self, "model") or sys.exc_info()[0]:
            return
        units = self.units[REACTION]
        if units:
            self.send(Call(EPOCH, REACTION, "units", 0, 0, units), PLENTY)
        refused = {n for n, _ in self.model.progress.get(REACTION, Progress()).refusals}
        expected = [
            fact.data for unit in units if unit.sequence not in refused for fact in unit.facts
        ]
        sent = set(expected)
        assert [e.fields[7] for e in self.model.log if e.fields[7] in sent] == expected
        self.redis_has_what_the_model_has()


def _choose(among: list[Any], which: float) -> Any:
    return among[int(which * len(among))]


def _now(client: redis.Redis) -> int:
    seconds, micros = client.time()
    return seconds * 1000 + micros // 1000


def _flat(fields: dict[bytes, bytes]) -> list[bytes]:
    return [part for pair in fields.items() for part in pair]


def test_append_is_its_model(client: redis.Redis) -> None:
    Appending.client = client
    run_state_machine_as_test(Appending, settings=settings(stateful_step_count=60))
