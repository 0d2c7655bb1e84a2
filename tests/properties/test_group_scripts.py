"""The scripts of a reaction against their model: owners that come and go, and come too late."""

from __future__ import annotations

import copy
import itertools
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

from factfold_chassis.log.scripts import (
    BEAT,
    CLAIM,
    COMMIT,
    CREATE,
    LETTERS,
    MEMBER,
    RELEASE,
    SETTLE,
    Script,
)
from factfold_chassis.log.streams import Keys

from .group_model import GroupModel

ASK = Script("ask")
GROUP = "shop.answer"
KEYS = Keys("inputs", 0)
NAMES = ("group", "outbox", "dead", "dead-keys", "redrive")
MEMBERS = f"{{inputs}}:members:{GROUP}"
EPOCHS = [b"00112233445566ff", b"ff66554433221100"]

instances = st.sampled_from([b"a-1", b"b-2", b"c-3"])
wrong = st.sampled_from([False] * 7 + [True])
outcomes = st.sampled_from([b"", b"\x0a\x00", b"\xff|,;:"])
keys = st.sampled_from([b"", b"k", b"k,1", "é".encode()])


def _key(name: str) -> str:
    return KEYS[f"{name}:{GROUP}"]


class Grouping(RuleBasedStateMachine):
    """Each token that was ever given out may come back at any time."""

    client: redis.Redis

    @initialize(own=st.booleans())
    def create(self, own: bool) -> None:
        self.client.flushall()
        self.client.eval(CREATE.source, 4, *KEYS.appending, 1, EPOCHS[0])
        self.log = [KEYS["log"]] if own else []
        self.model = GroupModel(EPOCHS[0])
        self.tokens = [b"0:", b"", b"1:"]
        self.seen = [(b"", b"")]  # token and beat
        self.nonces = itertools.count()
        self.n = 0  # of the last fact that a commit has passed

    def run(self, script: Script, names: list[str], args: list[Any], log: bool = False) -> Any:
        found = [KEYS["head"] if name == "head" else _key(name) for name in names]
        found += self.log if log else []
        return self.client.eval(script.source, len(found), *found, *args)

    @property
    def token(self) -> bytes:
        return self.model.group.get(b"token", b"0:")

    def a_token(self, late: bool, which: int) -> bytes:
        return self.tokens[-1 - which % len(self.tokens)] if late else self.token

    # Who owns it.

    @rule(member=instances)
    def beat_as_a_member(self, member: bytes) -> None:
        reply = self.client.eval(MEMBER.source, 1, MEMBERS, member)
        assert _fields(reply) == self.model.member(member)

    @rule()
    def look(self) -> None:
        """What is seen now may be used for a claim much later."""
        if self.model.group:
            self.seen.append((self.token, self.model.group[b"beat"]))

    @rule(owner=instances, back=st.integers(0, 5), other_log=wrong)
    def claim(self, owner: bytes, back: int, other_log: bool) -> None:
        seen = self.seen[-1 - back % len(self.seen)]
        epoch = b"f" * 16 if other_log else self.model.epoch
        args = [epoch, owner, b"%016x" % next(self.nonces), *seen]
        names = ["head", *NAMES]
        reply = self.run(CLAIM, names, [GROUP, *args], log=True)
        if reply[0] == b"OK":
            reply[5:] = map(_fields, reply[5:])
            self.tokens.append(reply[1])
        assert reply == self.model.claim(*args)

    @rule(late=wrong, which=st.integers(0, 9))
    def beat(self, late: bool, which: int) -> None:
        token = self.a_token(late, which)
        reply = self.run(BEAT, ["group", "redrive"], [token])
        if reply[0] == b"OK":
            reply[1:] = [_fields(reply[1:])]
        assert reply == self.model.beat(token)

    @rule(late=st.booleans(), which=st.integers(0, 9))
    def release(self, late: bool, which: int) -> None:
        token = self.a_token(late, which)
        assert self.run(RELEASE, ["group"], [token]) == self.model.release(token)

    # What an owner does.

    @precondition(lambda self: self.model.group)
    @rule(
        late=wrong, which=st.integers(0, 9), off=st.sampled_from([0] * 8 + [-1, 1]),
        found=st.lists(outcomes, min_size=1, max_size=5),
    )  # fmt: skip
    def settle(self, late: bool, which: int, off: int, found: list[bytes]) -> None:
        token, first = self.a_token(late, which), int(self.model.group[b"settled"]) + 1 + off
        last = first + len(found) - 1
        pairs = {n: outcome for n, outcome in enumerate(found, first) if outcome}
        flat = itertools.chain.from_iterable(pairs.items())
        reply = self.run(SETTLE, ["group", "outbox"], [token, first, last, *flat])
        assert reply == self.model.settle(token, first, last, pairs)

    @precondition(lambda self: self.model.group)
    @rule(
        late=wrong, which=st.integers(0, 9), moved=wrong, count=st.integers(1, 5),
        failed=st.lists(st.tuples(st.integers(1, 5), keys), unique_by=lambda it: it[0]),
    )  # fmt: skip
    def commit(
        self, late: bool, which: int, moved: bool, count: int, failed: list[tuple[int, bytes]]
    ) -> None:
        model, token = self.model, self.a_token(late, which)
        before = b"1-77" if moved else model.group[b"position"]
        ns = range(self.n + 1, self.n + 1 + count)
        after = b"%d-%d" % (1000 + ns[-1], ns[-1])
        letters = [
            (self.n + at, key, b"letter %d" % at) for at, key in sorted(failed) if at <= count
        ]
        done = [n for n in ns if b"%d" % n in model.outbox]
        args = [token, before, after, b"%032x" % ns[-1], GROUP, len(letters)]
        args += [part for letter in letters for part in letter]
        names = ["group", "outbox", "dead", "dead-keys"]
        reply = self.run(COMMIT, names, [*args, *done], log=True)
        assert reply == model.commit(token, before, after, b"%032x" % ns[-1], letters, done)
        if reply == [b"OK"]:
            self.n = ns[-1]

    @precondition(lambda self: self.model.dead)
    @rule(
        late=wrong, which=st.integers(0, 9), of=st.lists(st.integers(0, 9), max_size=3),
        drop=st.booleans(), answered=st.lists(st.integers(1, 4), max_size=2),
    )  # fmt: skip
    def change_letters(
        self, late: bool, which: int, of: list[int], drop: bool, answered: list[int]
    ) -> None:
        model, token = self.model, self.a_token(late, which)
        at = sorted((int(n), key) for key, ns in model.dead_keys.items() for n in ns.split(b","))
        chosen = [at[i % len(at)] for i in of]
        changes = [(n, key, b"" if drop else b"again") for n, key in chosen]
        flat = [part for change in changes for part in change]
        args = [token, len(changes), *flat, *answered]
        names = ["group", "dead", "dead-keys", "redrive"]
        assert self.run(LETTERS, names, args) == model.letters(token, changes, answered)

    @rule(asked=st.lists(st.sampled_from([b"redrive:1", b"discard:2"]), min_size=1, max_size=3))
    def ask(self, asked: list[bytes]) -> None:
        assert self.run(ASK, ["redrive"], asked) == self.model.ask(asked)

    # What befalls it.

    @rule(owner=instances)
    def run_out_of_memory(self, owner: bytes) -> None:
        """Whatever is refused for want of memory has changed nothing."""
        group, model = self.model.group, copy.deepcopy(self.model)
        self.client.config_set("maxmemory", 1)
        calls = [(CLAIM, ["head", *NAMES], [GROUP, self.model.epoch, owner, "00", *self.seen[0]])]
        if group:
            seen = [GROUP, self.model.epoch, owner, "00", group[b"token"], group[b"beat"]]
            settled, place = int(group[b"settled"]), group[b"position"]
            calls = [
                (CLAIM, ["head", *NAMES], seen),
                (BEAT, ["group", "redrive"], [self.token]),
                (RELEASE, ["group"], [self.token]),
                (SETTLE, ["group", "outbox"], [self.token, settled + 1, settled + 2, 1, "x"]),
                (COMMIT, list(NAMES[:4]), [self.token, place, "9-9", "", GROUP, 1, 9, "k", "x"]),
                (LETTERS, ["group", *NAMES[2:]], [self.token, 1, 1, "k", "x"]),
                (ASK, ["redrive"], ["redrive:1"]),
            ]
        try:
            for script, names, args in calls:
                with pytest.raises(redis.ResponseError, match=r"used memory > .maxmemory"):
                    self.run(script, names, args)
        finally:
            self.client.config_set("maxmemory", 0)
        assert vars(self.model) == vars(model)

    @precondition(lambda self: self.model.group and self.model.epoch == EPOCHS[0])
    @rule(it=wrong)
    def replace_the_log(self, it: bool) -> None:
        """The head is of another epoch, and the group of the old one."""
        if it:
            self.model.epoch = EPOCHS[1]
            self.client.hset(KEYS["head"], "epoch", EPOCHS[1])

    # What must hold.

    @invariant()
    def redis_has_what_the_model_has(self) -> None:
        model = self.model
        pipe = self.client.pipeline(transaction=False)
        for key in (*map(_key, NAMES), MEMBERS):
            pipe.hgetall(key)
        pipe.xinfo_groups(KEYS["log"])
        *hashes, groups = pipe.execute()
        assert hashes == [
            fields | {b"_": b"1"} if made else {}
            for made, fields in [
                (model.group, model.group),
                (model.group, model.outbox),
                (model.group, model.dead),
                (model.group, model.dead_keys),
                (model.group, model.redrive),
                (model.members, model.members),
            ]
        ]
        mirrored = [(group["name"].decode(), group["last-delivered-id"]) for group in groups]
        expected = [(GROUP, model.group[b"position"])] if self.log and model.group else []
        assert mirrored == expected

    @invariant()
    def each_letter_is_held_under_its_key(self) -> None:
        held = [n for ns in self.model.dead_keys.values() for n in ns.split(b",")]
        assert sorted(held) == sorted(self.model.dead)


def _fields(flat: list[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def test_the_scripts_of_a_reaction_are_their_model(client: redis.Redis) -> None:
    Grouping.client = client
    run_state_machine_as_test(Grouping, settings=settings(stateful_step_count=60))
