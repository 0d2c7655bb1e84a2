"""Facts that a reaction cannot answer: tried again, held back, given up, redriven, discarded."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import redis as redis_py
from faults.proxy import Proxy, Trap
from test_core import eventually, running

import factfold_chassis
from factfold.v1.fact_pb2 import DeadLetter, FactMeta, NewFact, Outcome, Unit
from factfold_chassis import Append, Command, Reacting, reaction
from factfold_chassis.contract import Contract
from factfold_chassis.core import Core
from factfold_chassis.facts import Entry, partition_of
from factfold_chassis.log.link import LinkLost
from factfold_chassis.log.read import Anchor
from factfold_chassis.reactions import letters as letters_module
from factfold_chassis.reactions import worker as worker_module
from factfold_chassis.reactions.letters import MOST, Letters
from factfold_chassis.reactions.ownership import OURS, chosen
from factfold_chassis.reactions.tenure import Fenced, Group, Tenure
from factfold_chassis.settings import Settings
from factfold_chassis.telemetry import Telemetry
from factfold_chassis.testing import redis_server as servers

SCRIPTS = Path(factfold_chassis.__file__).parent / "lua"
HELD, RETRYING, DEAD = DeadLetter.HELD, DeadLetter.RETRYING, DeadLetter.DEAD
# Payments of one partition, and orders of two.
A, B, C = [key for key in map(str, range(20)) if partition_of(key, 2) == 0][:3]
HERE, THERE = "order-1", "order-2"
assert partition_of(HERE, 4) != partition_of(THERE, 4)

Answer = Callable[[Any, Reacting], Any]


class Desk:
    """Owns `payments` and `orders`; `answer(event, call)` is what it does about a payment."""

    def __init__(self, url: str, shop: ModuleType, bank: ModuleType):
        self.url = url
        self.bank = bank
        self.tries: list[tuple[str, int]] = []  # key and amount
        self.times: list[float] = []
        self.answer: Answer = lambda event, call: None
        self.log = redis_py.Redis.from_url(url, protocol=2)
        self.contract = Contract([shop.DESCRIPTOR, bank.DESCRIPTOR])
        desk = self

        @reaction(bank.PaymentMade)
        async def book(event: Any, call: Reacting) -> Any:
            desk.tries.append((event.order_id, event.amount))
            desk.times.append(asyncio.get_running_loop().time())
            outputs = desk.answer(event, call)
            return await outputs if asyncio.iscoroutine(outputs) else outputs

        self.reactions = [book]

    def core(self, url: str = "", **settings: Any) -> Core:
        told = Settings(redis_url=url or self.url, **{"lease": 0.5, **settings})
        return Core("desk", self.contract, [], self.reactions, told, Telemetry())

    @asynccontextmanager
    async def running(self, **settings: Any) -> AsyncIterator[Core]:
        async with running(self.core(**settings)) as core:
            yield core

    async def pay(self, core: Core, key: str, *amounts: int) -> None:
        for amount in amounts:
            event = self.bank.PaymentMade(order_id=key, amount=amount)
            await Command(core, FactMeta()).append(event)

    def keys(self, *names: str) -> list[str]:
        return [f"{{payments/0}}:{name}:desk.book" for name in names]

    def letter(self, n: int) -> DeadLetter | None:
        data: Any = self.log.hget(self.keys("dead")[0], str(n))
        return None if data is None else DeadLetter.FromString(data)

    def states(self) -> dict[int, int]:
        """The state of each letter, by n."""
        dead: Any = self.log.hgetall(self.keys("dead")[0])
        states = {int(n): DeadLetter.FromString(dead[n]).state for n in dead if n != b"_"}
        return dict(sorted(states.items()))

    def position(self) -> int:
        """n up to which the partition is committed."""
        position: Any = self.log.hget(self.keys("group")[0], "position") or b"0-0"
        return int(position.split(b"-")[1])

    def ask(self, *requests: str) -> None:
        script = (SCRIPTS / "ask.lua").read_text()
        assert self.log.eval(script, 1, *self.keys("redrive"), *requests)[0] == b"OK"

    def asked(self) -> int:
        """How many requests are not carried out."""
        return len(set(self.log.hkeys(self.keys("redrive")[0])) - {b"_", b"last"})

    def write(self, *fields: tuple[bytes, bytes], partition: int = 0) -> int:
        """An entry as an appender writes it, whatever is in it; returns its n."""
        place = f"{{payments/{partition}}}"
        n = int(self.log.hget(f"{place}:head", "n") or 0) + 1
        ms = int(self.log.time()[0]) * 1000
        flat = [part for field in fields for part in field]
        with self.log.pipeline() as both:
            both.execute_command("XADD", f"{place}:log", f"{ms}-{n}", *flat)
            both.hset(f"{place}:head", mapping={"n": n, "ms": ms}).execute()
        return n

    def orders(self) -> list[tuple[str, str]]:
        """Key and name of each order in the log, partition by partition."""
        found = []
        for partition in range(4):
            for _, fields in self.log.xrange(f"{{orders/{partition}}}:log"):
                event = self.placed.FromString(fields[b"data"])
                found.append((fields[b"key"].decode(), event.name))
        return found

    @property
    def placed(self) -> Any:
        return self.contract.streams["orders"].events["shop.v1.OrderPlaced"].message

    def order(self, key: str, name: str, expected: int = 0) -> Append:
        return Append(self.placed(id=key, name=name), expected_version=expected)


@pytest.fixture
def desk(server: servers.RedisServer, shop: ModuleType, bank: ModuleType) -> Iterator[Desk]:
    desk = Desk(server.url, shop, bank)
    yield desk
    desk.log.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(letters_module, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(letters_module, "LONGEST_PAUSE", 0.08)


def failing(*keys: str) -> Answer:
    def answer(event: Any, call: Reacting) -> None:
        if event.order_id in keys:
            raise RuntimeError("not now")

    return answer


# Tried again.


async def test_pauses_grow_to_a_bound_and_differ(desk, monkeypatch):
    monkeypatch.setattr(letters_module, "FIRST_PAUSE", 0.1)
    monkeypatch.setattr(letters_module, "LONGEST_PAUSE", 0.4)
    desk.answer = failing(A, B, C)
    async with desk.running() as core:
        await asyncio.gather(*(desk.pay(core, key, 1) for key in (A, B, C)))
        await eventually(lambda: len(desk.tries) >= 3 * 7)
    ratios = []
    for key in (A, B, C):
        times = [at for at, (tried, _) in zip(desk.times, desk.tries, strict=True) if tried == key]
        gaps = [later - earlier for earlier, later in pairwise(times)]
        for gap, longest in zip(gaps, (0.1, 0.2, 0.4, 0.4, 0.4, 0.4), strict=False):
            assert 0.5 * longest <= gap <= longest + 0.3
            ratios.append(gap / longest)
    assert min(ratios) < 0.95, "pauses are not random"
    assert max(ratios) - min(ratios) > 0.1


async def test_only_its_key_waits_and_is_then_answered_in_order(desk, quick):
    desk.answer = failing(A)
    async with desk.running(reaction_attempts=1000) as core:
        await desk.pay(core, A, 1, 2, 3)
        await desk.pay(core, B, 1, 2, 3)
        await eventually(lambda: desk.position() == 6)
        assert [amount for key, amount in desk.tries if key == B] == [1, 2, 3]
        assert {amount for key, amount in desk.tries if key == A} == {1}
        assert desk.states() == {1: RETRYING, 2: HELD, 3: HELD}
        assert desk.letter(1).error == "RuntimeError: not now"
        assert desk.letter(2).attempts == 0
        desk.answer = failing()
        await desk.pay(core, A, 4)
        await eventually(lambda: not desk.states())
        await eventually(lambda: (A, 4) in desk.tries)
        await desk.pay(core, A, 5)  # the key is released
        await eventually(lambda: desk.tries[-1] == (A, 5))
        of_a = [amount for key, amount in desk.tries if key == A]
        assert of_a[of_a.index(2) - 1 :] == [1, 2, 3, 4, 5]
        await eventually(lambda: desk.position() == 8)  # it follows the answer
    assert set(desk.log.hkeys(desk.keys("dead-keys")[0])) == {b"_"}


@pytest.mark.parametrize("attempts", [1, 3])
async def test_a_fact_is_given_up_after_so_many_tries(desk, quick, attempts):
    desk.answer = failing(A)
    counted: list[tuple[str, str]] = []
    async with desk.running(reaction_attempts=attempts) as core:
        core.telemetry.count = lambda name, *_, reaction: counted.append((name, reaction))
        await desk.pay(core, A, 1, 2)
        await eventually(lambda: desk.states() == {1: DEAD, 2: HELD})
        await asyncio.sleep(0.3)
        assert desk.tries == [(A, 1)] * attempts
        assert desk.letter(1).attempts == attempts
        assert counted == [
            *[("factfold.reaction.errors", "book")] * attempts,
            ("factfold.reaction.given_up", "book"),
        ]
        await desk.pay(core, B, 1)
        await eventually(lambda: desk.tries[-1] == (B, 1))
        assert desk.states() == {1: DEAD, 2: HELD}


async def test_what_cannot_be_read_is_dead_at_once_with_its_whole_entry(desk, quick, caplog):
    good = FactMeta(id=bytes(16)).SerializeToString()
    name = b"bank.v1.PaymentMade"
    data = desk.bank.PaymentMade(order_id=A, amount=1).SerializeToString()
    entries = [
        [(b"type", name), (b"key", A.encode()), (b"meta", good), (b"data", b"\xff\xff")],
        [(b"type", name), (b"key", b"\xff"), (b"meta", good), (b"data", data)],
        [(b"type", name), (b"key", b""), (b"meta", good), (b"data", data)],
        [(b"type", name), (b"key", b"_"), (b"meta", b"\xff"), (b"data", data)],
        [(b"type", name), (b"key", B.encode()), (b"meta", b""), (b"data", data)],
        [(b"type", name), (b"key", B.encode()), (b"data", data)],
        [(b"something", b"else")],
    ]
    passed_over = [(b"type", b"no.such.Type"), (b"key", b"x"), (b"meta", b"\xff"), (b"data", b"")]
    async with desk.running() as core:
        ns = [desk.write(*entry) for entry in entries]
        desk.write(*passed_over)
        await desk.pay(core, C, 1)
        await eventually(lambda: desk.tries == [(C, 1)])
        await eventually(lambda: desk.position() == len(entries) + 2)
        # Of a key that has letters already, the others are not looked at yet.
        assert desk.states() == dict(
            zip(ns, [DEAD, DEAD, DEAD, HELD, DEAD, HELD, HELD], strict=True)
        )
        # Said once the owner has heard of its commit, which Redis knows before.
        await eventually(lambda: caplog.text.count("reaction desk.book gives up on fact") == 4)
        for n, entry in zip(ns, entries, strict=True):
            letter = desk.letter(n)
            assert list(letter.fields) == [part for field in entry for part in field]
            assert letter.entry_id.endswith(b"-%d" % n)
        assert "cannot be read" in desk.letter(ns[0]).error
        desk.ask(*(f"discard:{n}" for n in ns))
        await eventually(lambda: not desk.states())
        assert core.ready
    assert desk.tries == [(C, 1)]


async def test_a_letter_of_a_type_that_is_no_longer_answered(desk, quick):
    desk.answer = failing(A)
    async with desk.running() as core:
        await desk.pay(core, A, 1, 2)
        await eventually(lambda: desk.states() == {1: RETRYING, 2: HELD})
    desk.tries.clear()
    type_ = b"bank.v1.PaymentMade"
    for n in (1, 2):  # as if it had had another name then
        letter = desk.letter(n)
        letter.fields[list(letter.fields).index(type_)] = b"bank.v1.PaymentTaken"
        desk.log.hset(desk.keys("dead")[0], str(n), letter.SerializeToString())
    async with desk.running() as core:
        await eventually(lambda: desk.states() == {1: DEAD, 2: HELD})
        assert "does not answer bank.v1.PaymentTaken" in desk.letter(1).error
        await desk.pay(core, B, 1)
        await eventually(lambda: desk.tries == [(B, 1)])
        assert core.ready


async def test_an_error_that_is_no_text_is_kept_as_far_as_it_is(desk, quick):
    def answer(event: Any, call: Reacting) -> None:
        raise RuntimeError("file \udcff is missing " + "x" * 1000)

    desk.answer = answer
    async with desk.running() as core:
        await desk.pay(core, A, 1)
        await eventually(lambda: desk.states() == {1: RETRYING})
        assert desk.letter(1).error.startswith("RuntimeError: file ? is missing xxx")
        assert len(desk.letter(1).error) == 500
        assert core.ready


# Outputs that are refused.


async def test_an_output_that_is_refused_makes_its_fact_a_letter(desk, quick):
    expected = 0

    def answer(event: Any, call: Reacting) -> Append:
        return desk.order(HERE, f"{event.amount}", expected)

    desk.answer = answer
    async with desk.running() as core:
        await desk.pay(core, A, 1)
        await eventually(lambda: desk.position() == 1)
        assert not desk.states()
        await desk.pay(core, A, 2)
        await eventually(lambda: desk.states() == {2: RETRYING})
        assert "is at version 1, not 0" in desk.letter(2).error
        await eventually(lambda: desk.letter(2).attempts > 2)
        assert desk.letter(2).round > 1
        await desk.pay(core, B, 3)
        await eventually(lambda: desk.states() == {2: RETRYING, 3: RETRYING})
        assert desk.orders() == [(HERE, "1")]
        desk.answer = lambda event, call: desk.order(HERE, f"{event.amount}", event.amount - 1)
        await eventually(lambda: not desk.states())
        assert desk.orders() == [(HERE, "1"), (HERE, "2"), (HERE, "3")]


async def test_an_output_with_an_impossible_version_makes_its_fact_a_letter(desk, quick):
    """Settled, no call of the script would ever take it, and the partition would stand still."""

    def answer(event: Any, call: Reacting) -> Append | None:
        return desk.order(HERE, "never", 2**53) if event.order_id == A else None

    desk.answer = answer
    async with desk.running() as core:
        await desk.pay(core, A, 1)
        await desk.pay(core, B, 2)
        await eventually(lambda: desk.position() == 2)
        assert desk.states() == {1: RETRYING}
        assert "must be from 0 to 9007199254740991" in desk.letter(1).error


@pytest.mark.parametrize(("most", "size"), [(4096, 0), (4, 1_000_000)])
async def test_an_answer_that_is_too_large_makes_its_fact_a_letter(desk, quick, most, size):
    """Settled, it would have to be appended, whatever a server takes in one call."""

    def answer(event: Any, call: Reacting) -> list[Append]:
        return [desk.order(event.order_id, "x" * size, at) for at in range(event.amount)]

    desk.answer = answer
    async with desk.running() as core:
        await desk.pay(core, A, most + 1)
        await desk.pay(core, B, most)
        await eventually(lambda: desk.position() == 2 and desk.states() == {1: RETRYING})
        assert "at most 4096 events and 4194304 bytes" in desk.letter(1).error
        await eventually(lambda: [key for key, _ in desk.orders()] == [B] * most)


@pytest.mark.parametrize("late", [False, True])
async def test_a_retry_appends_only_what_is_missing(desk, quick, late):
    """`late`: refused by a retry, not by the batch."""
    expected, fails, runs = 7, late, 0

    def answer(event: Any, call: Reacting) -> list[Append]:
        nonlocal runs
        if fails:
            raise RuntimeError("not now")
        runs += 1
        return [desk.order(HERE, f"run {runs}"), desk.order(THERE, f"run {runs}", expected)]

    desk.answer = answer
    async with desk.running() as core:
        await desk.pay(core, A, 1, 2)
        if late:
            await eventually(lambda: desk.states() == {1: RETRYING, 2: HELD})
        fails = False
        await eventually(lambda: (letter := desk.letter(1)) is not None and letter.attempts > 3)
        (place,) = desk.letter(1).applied
        assert (place.stream, place.partition) == ("orders", partition_of(HERE, 4))
        assert desk.orders() == [(HERE, "run 1")]
        assert not desk.letter(1).HasField("outcome")
        expected, before = 0, runs
        await eventually(lambda: len(desk.orders()) == 2)
        assert dict(desk.orders())[THERE] == f"run {before + 1}"
        await eventually(lambda: 1 not in desk.states())
        # The second fact finds both orders there.
        desk.answer = lambda event, call: None
        await eventually(lambda: not desk.states())
        assert dict(desk.orders())[HERE] == "run 1"


# Too many.


async def test_a_thousand_letters_pause_the_partition_until_there_is_room(desk, caplog):
    desk.answer = failing(A)
    async with desk.running(lease=1.0) as core:
        for first in range(0, MOST, 100):
            await asyncio.gather(*(desk.pay(core, A, first + at) for at in range(100)))
        await eventually(lambda: desk.position() == MOST)
        await desk.pay(core, B, 1)
        await eventually(lambda: "pauses on partition 0 of stream payments" in caplog.text)
        await asyncio.sleep(0.5)
        assert (B, 1) not in desk.tries
        assert len(desk.states()) == MOST
        await asyncio.gather(*(desk.pay(core, A, MOST + at) for at in range(50)))
        assert caplog.text.count("facts are held back") == 1
        desk.ask(f"discard:{MOST}")
        await eventually(lambda: (B, 1) in desk.tries)  # there is room for one batch
        desk.answer = failing()
        desk.ask("redrive:1")
        await eventually(lambda: not desk.states() and desk.position() == MOST + 51)
        of_a = [amount for key, amount in desk.tries if key == A]
        entries: Any = desk.log.xrange("{payments/0}:log")
        in_log = [desk.bank.PaymentMade.FromString(fields[b"data"]) for _, fields in entries]
        wanted = [event.amount for event in in_log if event.order_id == A]
        del wanted[MOST - 1]
        assert of_a[-len(wanted) :] == wanted
        assert core.ready


async def test_letters_that_wait_take_no_memory(desk, monkeypatch):
    monkeypatch.setattr(letters_module, "FIRST_PAUSE", 30.0)
    load, alive, loaded = Tenure.letter, 0, 0

    class Counted:
        """A letter, as far as one that waits is looked at."""

        def __init__(self, letter: DeadLetter):
            nonlocal alive, loaded
            self.state, self.attempts = letter.state, letter.attempts
            self.HasField = letter.HasField
            alive, loaded = alive + 1, loaded + 1

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    async def letter(self: Tenure, n: int) -> Any:
        return Counted(await load(self, n))

    monkeypatch.setattr(Tenure, "letter", letter)
    keys = [key for key in map(str, range(50)) if partition_of(key, 2) == 0]
    desk.answer = failing(*keys)
    async with desk.running() as core:
        await asyncio.gather(*(desk.pay(core, key, 1) for key in keys))
        await eventually(lambda: loaded == len(keys))
        await asyncio.sleep(0)
        assert alive == 0


# What the command line asks for.


async def dead(desk: Desk, core: Core, *amounts: int) -> None:
    """A key with so many letters, the first of them dead."""
    desk.answer = failing(A)
    await desk.pay(core, A, *amounts)
    states = {n: DEAD if n == 1 else HELD for n in range(1, len(amounts) + 1)}
    await eventually(lambda: desk.states() == states)
    desk.tries.clear()


async def test_a_redrive_of_the_first_letter_has_all_answered_in_order(desk, quick):
    async with desk.running(reaction_attempts=2) as core:
        await dead(desk, core, 1, 2, 3)
        desk.ask("redrive:1")
        await eventually(lambda: len(desk.tries) == 2 and desk.states()[1] == DEAD)
        assert desk.tries == [(A, 1)] * 2, "it has all its tries again"
        assert desk.asked() == 0
        desk.answer = failing()
        desk.ask("redrive:1")
        await eventually(lambda: not desk.states())
        assert desk.tries[2:] == [(A, 1), (A, 2), (A, 3)]


async def test_a_redrive_of_one_behind_answers_nothing_out_of_order(desk, quick):
    async with desk.running(reaction_attempts=2) as core:
        await dead(desk, core, 1, 2, 3)
        desk.answer = failing()
        desk.ask("redrive:3", "redrive:2")
        await eventually(lambda: desk.asked() == 0)
        await asyncio.sleep(0.3)
        assert desk.tries == []
        assert desk.states() == {1: DEAD, 2: RETRYING, 3: RETRYING}
        desk.ask("redrive:1")
        await eventually(lambda: not desk.states())
        assert desk.tries == [(A, 1), (A, 2), (A, 3)]


async def test_requests_that_are_repeated_or_for_nothing(desk, quick):
    async with desk.running(reaction_attempts=2) as core:
        await dead(desk, core, 1, 2, 3)
        desk.answer = failing()
        desk.ask("redrive:99", "discard:99", "redrive:", "discard:-1", "sing:1", "discard:2")
        desk.ask("discard:2", *["redrive:1"] * 10)
        await eventually(lambda: desk.asked() == 0 and not desk.states())
        desk.ask(*["redrive:1", "redrive:3", "discard:1"] * 3)
        await eventually(lambda: desk.asked() == 0)
        await desk.pay(core, A, 4)
        await eventually(lambda: (A, 4) in desk.tries)
        assert desk.tries == [(A, 1), (A, 3), (A, 4)]
        assert core.ready


async def test_a_discard_of_the_first_letter_lets_the_next_one_go_on(desk, quick):
    async with desk.running(reaction_attempts=2) as core:
        await dead(desk, core, 1, 2, 3)
        desk.answer = failing()
        desk.ask("discard:1")
        await eventually(lambda: not desk.states())
        assert desk.tries == [(A, 2), (A, 3)]
        await dead_again(desk, core)


@pytest.mark.parametrize("what", ["discard", "redrive"])
async def test_many_requests_at_once_do_not_disturb_the_owner(desk, quick, what):
    async with desk.running(reaction_attempts=2) as core:
        await dead(desk, core, *range(1, 51))
        token = desk.log.hget(desk.keys("group")[0], "token")
        desk.answer = failing()
        desk.ask(*(f"{what}:{n}" for n in range(1, 51)))
        await eventually(lambda: desk.asked() == 0 and not desk.states())
        answered = [amount for _, amount in desk.tries]
        assert answered == sorted(set(answered))
        assert what == "discard" or len(answered) == 50
        assert core.ready
        assert desk.log.hget(desk.keys("group")[0], "token") == token


async def test_a_letter_that_is_discarded_while_its_turn_comes(desk, server, quick):
    keys = [key for key in map(str, range(100)) if partition_of(key, 2) == 0][:5]
    desk.answer = failing(*keys)
    async with Proxy([server.port], SCRIPTS) as proxy, desk.running(url=proxy.url) as core:
        for key in keys:
            await desk.pay(core, key, 1)
        await eventually(lambda: list(desk.states().values()) == [RETRYING] * 5)
        token = desk.log.hget(desk.keys("group")[0], "token")
        proxy.delay = 0.1  # longer than all pauses between two tries
        desk.ask(*(f"discard:{n}" for n in range(1, 6)))
        await eventually(lambda: desk.asked() == 0)
        proxy.delay = 0.0
        assert not desk.states()
        assert core.ready
        assert desk.log.hget(desk.keys("group")[0], "token") == token


async def dead_again(desk: Desk, core: Core) -> None:
    """The key is as any other again."""
    desk.answer = failing(A)
    await desk.pay(core, A, 9)
    await eventually(lambda: list(desk.states().values()) == [DEAD])


async def test_a_letter_that_is_discarded_in_a_try_stays_discarded(desk, quick):
    began, go_on = asyncio.Event(), asyncio.Event()

    async def slow(event: Any, call: Reacting) -> Append:
        began.set()
        await go_on.wait()
        return desk.order(HERE, "answered")

    async with desk.running(reaction_attempts=2) as core:
        await dead(desk, core, 1)
        desk.answer = slow
        desk.ask("redrive:1")
        await began.wait()
        desk.ask("discard:1")
        await asyncio.sleep(0.2)
        assert desk.asked() == 1, "a try is not disturbed"
        go_on.set()
        await eventually(lambda: desk.asked() == 0 and not desk.states())
        assert desk.orders() == [(HERE, "answered")]


async def test_requests_that_wait_for_a_long_try_take_no_memory(desk, quick):
    async def hangs(event: Any, call: Reacting) -> None:
        await asyncio.sleep(60)

    async with desk.running(reaction_attempts=2) as core:
        await dead(desk, core, 1)
        desk.answer = hangs
        desk.ask("redrive:1")
        await eventually(lambda: desk.tries)
        desk.ask("redrive:1")
        await asyncio.sleep(0.5)  # ten beats
        worker: Any = core._reactions[0]._workers[0]
        assert worker.ownership.requests.qsize() == 1


# Other owners.


async def test_the_next_owner_finds_the_letters(desk, quick):
    desk.answer = failing(A, B)
    async with desk.running(reaction_attempts=2) as core:
        await desk.pay(core, A, 1, 2)
        await desk.pay(core, B, 3)
        await eventually(lambda: desk.states() == {1: DEAD, 2: HELD, 3: DEAD})
        await desk.pay(core, C, 4)
        desk.ask("redrive:3")
        await eventually(lambda: (C, 4) in desk.tries)
    desk.tries.clear()
    desk.answer = failing()
    desk.ask("redrive:3")
    async with desk.running(reaction_attempts=2) as core:
        await desk.pay(core, A, 5)
        await eventually(lambda: desk.states() == {1: DEAD, 2: HELD, 5: HELD})
        assert desk.tries == [(B, 3)]
        desk.ask("redrive:1")
        await eventually(lambda: not desk.states())
        assert desk.tries == [(B, 3), (A, 1), (A, 2), (A, 5)]


@pytest.mark.parametrize("why", ["wanted by another", "ends"])
async def test_a_batch_that_ends_after_the_lease_is_not_taken_over(desk, why):
    """Who hands over beats until it has ended."""
    began = asyncio.Event()

    async def slow(event: Any, call: Reacting) -> None:
        began.set()
        await asyncio.sleep(1.5)

    desk.answer = slow
    one = desk.core()
    owner = two = one
    while two is one or chosen([one.instance, two.instance], 0) != owner.instance:
        two = desk.core()
        owner = one if why == "ends" else two
    async with running(one):
        await desk.pay(one, A, 1)
        await began.wait()
        async with running(two):
            if why == "ends":
                await asyncio.sleep(0.2)
                await one.close(5.0)
            await eventually(lambda: desk.position() == 1)
            name, group = two.instance.encode(), desk.keys("group")[0]
            await eventually(lambda: desk.log.hget(group, "owner") == name)
            assert desk.tries == [(A, 1)]


async def test_who_ends_while_it_hands_over_leaves_nothing_running(desk, quick, monkeypatch):
    monkeypatch.setattr(worker_module, "REPLY_TIMEOUT", 0.5)
    began = asyncio.Event()

    async def slow(event: Any, call: Reacting) -> None:
        if event.order_id == A:
            raise RuntimeError("not now")
        began.set()
        await asyncio.sleep(60)

    desk.answer = slow
    before = asyncio.all_tasks()
    async with desk.running() as core:
        await desk.pay(core, A, 1)
        await eventually(lambda: desk.states() == {1: RETRYING})
        await desk.pay(core, B, 1)
        await began.wait()
        worker: Any = core._reactions[0]._workers[0]
        worker.ownership.unwanted.set()
        await asyncio.sleep(0.1)
    assert asyncio.all_tasks() == before


async def test_who_was_fenced_and_has_nothing_to_do_claims_anew(desk, quick):
    """Else nobody would own the partition until its next fact, nor hear what is asked."""
    async with desk.running(reaction_attempts=1) as core:
        await dead(desk, core, 1)
        group = Group("desk.book", "payments", 0, core.epochs["payments"][0], True)
        taken = False
        while not taken:  # unless a beat comes between the look and the claim
            token, beat = desk.log.hmget(desk.keys("group")[0], "token", "beat")
            with contextlib.suppress(Fenced):
                async with Tenure.of(
                    core.redis, group, core.memories, "other", "1", (token, beat), alarm=core.alarm
                ):
                    taken = True
        desk.answer = failing()
        desk.ask("redrive:1")
        await eventually(lambda: not desk.states() and desk.asked() == 0)


async def test_a_try_that_a_shutdown_ends_is_no_failure(desk, quick):
    began = asyncio.Event()

    async def hangs(event: Any, call: Reacting) -> None:
        began.set()
        await asyncio.sleep(60)

    desk.answer = failing(A)
    async with desk.running() as core:
        await desk.pay(core, A, 1, 2)
        await eventually(lambda: desk.states() == {1: RETRYING, 2: HELD})
        desk.answer = hangs
        await asyncio.wait_for(began.wait(), 5)
        before = desk.letter(1)
    assert desk.letter(1) == before
    desk.tries.clear()
    desk.answer = lambda event, call: desk.order(f"{event.amount}", "answered")
    async with desk.running():
        await eventually(lambda: not desk.states())
    assert desk.tries == [(A, 1), (A, 2)]
    assert sorted(desk.orders()) == [("1", "answered"), ("2", "answered")]


@pytest.mark.parametrize("letters", [False, True])
async def test_a_handler_that_keeps_a_cancellation_to_itself_does_not_hold_up_the_end(
    desk, quick, monkeypatch, letters
):
    monkeypatch.setattr(worker_module, "REPLY_TIMEOUT", 0.2)
    began = asyncio.Event()

    async def deaf(event: Any, call: Reacting) -> None:
        began.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)

    async with desk.running() as core:
        if letters:
            desk.answer = failing(A)
            await desk.pay(core, A, 1, 2)
            await eventually(lambda: desk.states() == {1: RETRYING, 2: HELD})
        desk.answer = deaf
        if not letters:
            await asyncio.gather(desk.pay(core, A, 1), desk.pay(core, A, 2))
        await asyncio.wait_for(began.wait(), 5)
        await asyncio.wait_for(core.close(2.0), 5)
    assert desk.tries[-1] == (A, 1)


@pytest.mark.parametrize("executed", [False, True])
@pytest.mark.parametrize("step", ["change", "append", "drop"])
async def test_a_redrive_that_is_cut_is_finished_and_answered_once(desk, server, step, executed):
    runs = 0

    def answer(event: Any, call: Reacting) -> list[Append]:
        nonlocal runs
        runs += 1
        return [desk.order(key, f"{event.amount} by run {runs}", event.amount - 1)
                for key in (HERE, THERE)]  # fmt: skip

    at = {"change": ("letters", 2), "append": ("append", 2), "drop": ("letters", 3)}
    name, nth = at[step]
    async with (
        Proxy([server.port], SCRIPTS) as proxy,
        desk.running(url=proxy.url, reaction_attempts=1) as core,
    ):
        await dead(desk, core, 1, 2)
        desk.answer = answer

        def matches(command: Any) -> bool:
            return command.name == name and (name == "letters" or command.place[0] == "orders")

        trap = Trap(matches, nth=nth, executed=executed)
        desk.ask("redrive:1")
        await proxy.spring(trap)
        await eventually(lambda: not desk.states())
    by_key: dict[str, list[str]] = {HERE: [], THERE: []}
    for key, text in desk.orders():
        by_key[key].append(text)
    assert by_key[HERE] == by_key[THERE], "outputs of two runs"
    assert [text[0] for text in by_key[HERE]] == ["1", "2"]


async def test_a_service_ends_although_redis_is_full(shop, bank):
    """It cannot hand over then, and must not take that for a reason to claim anew."""
    with servers.start() as full:
        desk = Desk(full.url, shop, bank)
        core = desk.core()
        await core.start()
        await asyncio.wait_for(core.wait_ready(), 10)
        await desk.pay(core, A, 1)
        await eventually(lambda: desk.position() == 1)
        desk.log.config_set("maxmemory", 1)
        await asyncio.wait_for(core.close(2.0), 5)
        desk.log.close()


# One connection, many steps.


@asynccontextmanager
async def tenure_of(desk: Desk, core: Core) -> AsyncIterator[tuple[Group, Tenure]]:
    """A partition of a group of its own, in nobody else's hands."""
    epoch = core.epochs["payments"][0]
    group = Group("desk.other", "payments", 0, epoch, True)
    async with Tenure.of(
        core.redis, group, core.memories, "me", "nonce", OURS, alarm=core.alarm
    ) as tenure:
        yield group, tenure


def entry_of(desk: Desk, n: int) -> Entry:
    ((entry_id, fields),) = desk.log.xrange("{payments/0}:log", min=f"0-{n}", count=1)
    assert entry_id.endswith(b"-%d" % n)
    return entry_id, [part for field in fields.items() for part in field]


async def put_aside(desk: Desk, tenure: Tenure, state: int, outcome: Outcome | None = None) -> None:
    """Commits past the first fact of the partition, which becomes a letter."""
    entry_id, fields = entry_of(desk, 1)
    letter = DeadLetter(
        state=state, entry_id=entry_id, fields=fields, attempts=1, outcome=outcome,
        round=int(outcome is not None),
    )  # fmt: skip
    ms, _, n = entry_id.partition(b"-")
    await tenure.commit(Anchor(int(ms), int(n), b""), [(1, A.encode(), letter)], [])


async def test_a_step_that_was_broken_off_leaves_no_reply_to_the_next_one(desk):
    async with desk.running() as core:
        await desk.pay(core, A, 1)
        async with tenure_of(desk, core) as (_, tenure):
            desk.log.execute_command("CLIENT", "PAUSE", 300, "ALL")
            step = asyncio.create_task(tenure.settle(1, {}))
            await asyncio.sleep(0.05)
            step.cancel()
            with pytest.raises(asyncio.CancelledError):
                await step
            with pytest.raises(LinkLost, match="broken off"):
                await tenure.settle(1, {})


async def test_a_request_that_comes_with_its_letter(desk, quick):
    """Between the commit and the line of the key nothing may assume that there is one."""
    async with desk.running() as core:
        await desk.pay(core, A, 1)
        await eventually(lambda: desk.position() == 1)
        async with tenure_of(desk, core) as (group, tenure):
            answers: Any = core._reactions[0]._answers
            requests: asyncio.Queue[list[bytes]] = asyncio.Queue()
            letters = asyncio.create_task(Letters(core, answers, group, tenure).run(requests))
            await asyncio.sleep(0.05)
            await put_aside(desk, tenure, DEAD)
            requests.put_nowait([b"1", b"discard:1"])
            await eventually(lambda: letters.done() or not tenure.held)
            assert not letters.done()
            letters.cancel()
            await asyncio.gather(letters, return_exceptions=True)


async def test_a_settled_answer_is_not_discarded(desk, quick):
    """Part of it may be in the log."""
    unit = Unit(stream="orders", partition=partition_of(HERE, 4))
    meta = FactMeta(id=bytes(16)).SerializeToString()
    data = desk.placed(id=HERE, name="settled").SerializeToString()
    unit.facts.append(
        NewFact(key=HERE, expected_version=0, type="shop.v1.OrderPlaced", meta=meta, data=data)
    )
    async with desk.running() as core:
        await desk.pay(core, A, 1)
        async with tenure_of(desk, core) as (group, tenure):
            await put_aside(desk, tenure, RETRYING, Outcome(units=[unit]))
            answers: Any = core._reactions[0]._answers
            requests: asyncio.Queue[list[bytes]] = asyncio.Queue()
            requests.put_nowait([b"1", b"discard:1"])
            letters = asyncio.create_task(Letters(core, answers, group, tenure).run(requests))
            await eventually(lambda: letters.done() or not tenure.held)
            assert not letters.done()
            letters.cancel()
            await asyncio.gather(letters, return_exceptions=True)
    assert desk.orders() == [(HERE, "settled")]
