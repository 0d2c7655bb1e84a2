"""The trim script against its model: readers of all kinds, and facts that come meanwhile."""

from __future__ import annotations

from typing import Any

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

from factfold_chassis.log.scripts import APPEND, CREATE, TRIM
from factfold_chassis.log.streams import Keys

from .trim_model import START, Id, TrimModel

KEYS = Keys("orders", 0)
EPOCH, OTHER = b"00112233445566ff", b"ff66554433221100"
READERS, INSTANCES = ("billing.orders", "shipments.orders"), ("00", "11", "22")
GROUPS = ("billing.charge", "shipments.ship")

seldom = st.sampled_from([False] * 9 + [True])


class Trimming(RuleBasedStateMachine):
    client: redis.Redis

    @initialize()
    def create(self) -> None:
        self.client.flushall()
        self.client.eval(CREATE.source, 4, *KEYS.appending, 1, EPOCH)
        self.model = TrimModel(EPOCH)
        self.passed: list[Id] = [START]  # all positions that there ever were
        self.sent = 0

    # Facts and readers.

    @rule(count=st.integers(1, 12))
    def append(self, count: int) -> None:
        args: list[Any] = [EPOCH, "p", "batch", self.sent + 1, self.sent, "", ""]
        for _ in range(count):
            args += ["t.T", "k", "", ""]
        _, ms, first, *_ = self.client.eval(APPEND.source, 4, *KEYS.appending, *args)
        self.sent += 1
        ids = [(int(ms), int(first) + at) for at in range(count)]
        self.model.facts += ids
        self.model.n += count
        self.passed += ids

    def a_position(self, back: int, other: bool) -> Id:
        """One that there was; or the same number in another log."""
        ms, n = self.passed[-1 - back % len(self.passed)]
        return (ms + 1 if other and n else ms, n)

    @rule(
        reader=st.sampled_from(READERS), instance=st.sampled_from(INSTANCES),
        back=st.integers(0, 40), other=seldom,
    )  # fmt: skip
    def read(self, reader: str, instance: str, back: int, other: bool) -> None:
        at = self.a_position(back, other)
        value = f"{at[0]}-{at[1]} 1795490001000" + " 1-2" * (back % 2)
        self.client.hset(KEYS[f"cursors:{reader}"], mapping={"_": "1", instance: value})
        self.model.cursors.setdefault(reader, {})[instance] = at

    @rule(reader=st.sampled_from(READERS))
    def register(self, reader: str) -> None:
        self.client.hset(KEYS[f"cursors:{reader}"], "_", "1")
        self.model.cursors.setdefault(reader, {})

    @precondition(lambda self: any(self.model.cursors.values()))
    @rule(which=st.integers(0, 5))
    def leave(self, which: int) -> None:
        its = [(r, i) for r, instances in self.model.cursors.items() for i in instances]
        reader, instance = its[which % len(its)]
        self.client.hdel(KEYS[f"cursors:{reader}"], instance)
        del self.model.cursors[reader][instance]

    @rule(
        group=st.sampled_from(GROUPS), back=st.integers(0, 40), other=seldom, old=seldom
    )  # fmt: skip
    def commit(self, group: str, back: int, other: bool, old: bool) -> None:
        at = self.a_position(back, other)
        state = {"_": "1", "position": f"{at[0]}-{at[1]}", "epoch": OTHER if old else EPOCH}
        self.client.hset(KEYS[f"group:{group}"], mapping=state)
        self.model.groups[group] = (at, not old)

    @rule(name=st.sampled_from([*READERS, *GROUPS]))
    def drop(self, name: str) -> None:
        self.client.delete(KEYS[f"cursors:{name}"], KEYS[f"group:{name}"])
        self.model.cursors.pop(name, None)
        self.model.groups.pop(name, None)

    # The script.

    @rule(
        back=st.integers(-2, 40), everything=st.booleans(),
        most=st.sampled_from([0, 1, 5, 1000]), elsewhere=seldom, full=seldom,
    )  # fmt: skip
    def trim(self, back: int, everything: bool, most: int, elsewhere: bool, full: bool) -> None:
        first, epoch = max(0, self.model.n - back), OTHER if elsewhere else EPOCH
        # Those that have been dropped since the caller looked are among the keys.
        keys = [
            *map(KEYS.__getitem__, ("log", "head", "nobody")),
            *(KEYS[f"cursors:{name}"] for name in READERS),
        ]
        keys += [KEYS[f"group:{name}"] for name in GROUPS]
        mode = "all" if everything else "most"
        args = [epoch, len(READERS), first, mode, most]
        # It is what makes room, so it must not need any.
        self.client.config_set("maxmemory", int(full))
        try:
            reply = self.client.eval(TRIM.source, len(keys), *keys, *args)
        finally:
            self.client.config_set("maxmemory", 0)
        before = TrimModel(**vars(self.model))
        found = self.model.trim(epoch, first, everything, most)
        assert reply[: min(3, len(found))] == found[:3]
        if found[0] in (b"OK", b"HELD"):
            self.check_holder(before, reply[3:], found[3])

    def check_holder(self, before: TrimModel, reply: list[bytes], stands: bytes) -> None:
        key, instance, position = (text.decode() for text in reply)
        if not stands:
            assert (key, instance, position) == ("", "", "")
            return
        kind, _, name = key.partition("}:")[2].partition(":")
        ms, n = map(int, position.split("-"))
        if kind == "cursors":
            assert before.cursors[name].get(instance, START) == (ms, n)
            assert instance in before.cursors[name] or not before.cursors[name]
        else:
            assert before.groups[name][0] == (ms, n)
        assert int(stands) in (n, 0)

    # What befalls the log, and what must hold.

    @precondition(lambda self: len(self.model.facts) > 2)
    @rule(which=st.integers(0, 40), it=seldom)
    def lose_a_fact(self, which: int, it: bool) -> None:
        if it:
            ms, n = self.model.facts.pop(which % len(self.model.facts))
            self.client.xdel(KEYS["log"], f"{ms}-{n}")

    @invariant()
    def redis_has_what_the_model_has(self) -> None:
        there = [tuple(map(int, each.split(b"-"))) for each, _ in self.client.xrange(KEYS["log"])]
        assert there == self.model.facts
        assert int(self.client.hget(KEYS["head"], "trimmed") or 0) == self.model.trimmed


def test_the_trim_script_is_its_model(client: redis.Redis) -> None:
    Trimming.client = client
    run_state_machine_as_test(Trimming, settings=settings(stateful_step_count=60))


def test_a_reader_keeps_its_anchor_whatever_is_asked(client: redis.Redis) -> None:
    machine = Trimming()
    machine.client = client
    machine.create()
    machine.append(10)
    machine.read(READERS[0], "00", 5, False)
    at = machine.model.cursors[READERS[0]]["00"]
    machine.trim(-2, False, 1000, False, False)
    assert machine.model.facts[0] == at
    assert machine.model.trimmed == at[1] - 1
