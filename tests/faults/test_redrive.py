"""Dead letters that are redriven while owners come late, are killed, and facts keep coming."""

import asyncio
import signal
from collections.abc import Callable
from itertools import count

import pytest

from .letters import ask, keys_of, letters
from .load import Load
from .log import Log, Sent, eventually, keys, partition_of
from .probe import Probe
from .proxy import Command, Hook, Link, Proxy, Trap, Verdict
from .row import Row

KEYS = keys(500)
LEASE = 1.0
SETTINGS = {"FACTFOLD_LEASE": f"{LEASE:g}", "FACTFOLD_REACTION_ATTEMPTS": "1"}


def of_a_letter(command: Command) -> bool:
    """An append for a dead letter: its producer has the entry id behind another slash."""
    return command.name == "append" and command.arguments[1].count(b"/") == 4


# Where an owner is stopped in a redrive of three letters: how, at which command, at which one of
# its kind, and whether Redis has executed it. The first of `letters` carries the request out, then
# two belong to each letter: what it answers is written down, and it is dropped.
STOPS = [
    [("held", "letters", nth, False) for nth in (2, 4)],  # it writes down another answer, late
    [("held", "append", nth, False) for nth in (1, 2, 3)],  # it appends late
    [("SIGSTOP", "letters", nth, True) for nth in (2, 4)],  # and late again
    [("held", "letters", nth, executed) for nth in (2, 3, 4) for executed in (True, False)],
    [("SIGSTOP", "append", nth, executed) for nth in (1, 3) for executed in (True, False)],
]


def step_of(name: str, partition: int) -> Callable[[Command], bool]:
    """Commands of this name for dead letters of a partition of inputs."""
    if name == "append":
        part = f"/inputs/{partition}/".encode()
        return lambda command: of_a_letter(command) and part in command.arguments[1]
    return lambda command: command.name == name and command.place == ("inputs", partition)


class Stop(Hook):
    """Runs `stop` at the nth command that `matches`, which then goes on as far as it can."""

    def __init__(
        self, matches: Callable[[Command], bool], nth: int, executed: bool, stop: Callable[[], None]
    ):
        self.stopped = asyncio.Event()
        self._matches = matches
        self._left = nth
        self._executed = executed
        self._stop = stop

    async def command(self, link: Link, command: Command) -> Verdict:
        if not self._executed:
            self._look(command)
        return Verdict.PASS

    async def reply(self, link: Link, command: Command, reply: bytes) -> Verdict:
        if self._executed:
            self._look(command)
        return Verdict.PASS

    def _look(self, command: Command) -> None:
        if not self._left or not self._matches(command):
            return
        self._left -= 1
        if not self._left:
            self._stop()
            self.stopped.set()


def owner(log: Log, partition: int) -> str:
    return log.group("inputs", partition, "scatter").get("owner", "")


async def fail(probe: Probe, log: Log, sent: Sent, key: str, flag: str, facts: int) -> None:
    """So many facts of a key become dead letters."""
    units = [sent.unit(key, do={"fail_while": flag}) for _ in range(facts)]
    sent.answered(units, await probe.append_many(units))
    await eventually(lambda: len(keys_of(log, "scatter").get(key.encode(), ())) == facts)


@pytest.mark.at_least(30)
async def test_late_owner(row: Row) -> None:
    """late owner after a redrive was committed"""
    server = row.redis()
    log, sent = Log(server), Sent()
    proxies: dict[str, tuple[Proxy, Probe]] = {}  # by instance
    for _ in range(2):
        proxy = await row.proxy(server)
        probe = await row.probe(proxy, reactions="scatter", **SETTINGS).ready()
        proxies[(await probe.status()).instance] = proxy, probe
    units = [sent.unit(key) for key in KEYS]
    sent.answered(units, await probe.append_many(units))
    await log.reacted("scatter")

    while row.more:
        key = row.random.choice(KEYS)
        partition = partition_of(key)
        await eventually(lambda p=partition: owner(log, p) in proxies)
        flag = row.folder / "shared" / f"broken-{row.counts.injected}"
        flag.touch()
        await fail(probe, log, sent, key, flag.name, 3)
        flag.unlink()
        late = owner(log, partition)
        proxy, its = proxies[late]
        how, name, nth, executed = row.random.choice(STOPS[row.counts.injected % len(STOPS)])
        held = how == "held"

        def stop(proxy: Proxy = proxy, its: Probe = its, held: bool = held) -> None:
            if held:
                proxy.flowing.clear()
            else:
                its.signal(signal.SIGSTOP)

        hook = Stop(step_of(name, partition), nth, executed, stop)
        proxy.hooks.append(hook)
        ask(row, log, "scatter", "redrive", [keys_of(log, "scatter")[key.encode()][0]])
        async with asyncio.timeout(20):
            await hook.stopped.wait()
        proxy.hooks.remove(hook)
        # Another owner takes over and finishes the redrive.
        await eventually(lambda p=partition, late=late: owner(log, p) not in (late, ""))
        await eventually(lambda: not letters(log, "scatter"))
        row.injected()
        # The late one goes on with what it had begun.
        if held:
            proxy.flowing.set()
        else:
            its.signal(signal.SIGCONT)
        more = [sent.unit(key) for key in row.random.sample(KEYS, 20)]
        sent.answered(more, await probe.append_many(more))
        await asyncio.sleep(0.3)

    await log.reacted("scatter")
    await asyncio.sleep(2 * LEASE)
    assert not letters(log, "scatter")
    row.appended(log, sent)
    row.answered(log, "scatter")
    await row.view_is_rebuild(log, probe, at=server)


@pytest.mark.at_least(10)
async def test_redrive_during_arrivals(row: Row) -> None:
    """redrive, also in reverse, during arrivals of that key, with SIGKILL"""
    server = row.redis()
    log, sent = Log(server), Sent()
    staying = await row.probe(
        server, **SETTINGS
    ).ready()  # takes the callers, and reacts to nothing
    units = [sent.unit(key) for key in KEYS]
    sent.answered(units, await staying.append_many(units))
    numbers = count()
    proxy = await row.proxy(server)
    reacting = await row.probe(proxy, reactions="scatter", **SETTINGS).ready()
    while row.more:
        some = row.random.sample(KEYS, 5)
        flag = row.folder / "shared" / f"broken-{next(numbers)}"
        flag.touch()
        for key in some:
            await fail(staying, log, sent, key, flag.name, row.random.randint(2, 6))
        flag.unlink()
        async with Load(row, staying, sent, some, callers=1, size=3, pause=0.1):
            places = [place for its in keys_of(log, "scatter").values() for place in its]
            order = row.random.choice(["reverse", "random", "in order"])
            if order == "random":
                row.random.shuffle(places)
            elif order == "reverse":
                places.reverse()
            steps = [of_a_letter, lambda command: command.name == "letters"]
            step = steps[row.counts.injected % 2]
            trap = Trap(step, reacting.kill, nth=row.random.randint(1, 30),
                        executed=row.random.random() < 0.5)  # fmt: skip
            killing = asyncio.create_task(proxy.spring(trap))
            await asyncio.sleep(0)
            ask(row, log, "scatter", "redrive", places)
            await killing
            assert letters(log, "scatter"), "nothing was left to do"
            row.injected()
            reacting = row.probe(proxy, reactions="scatter", **SETTINGS)
            # Asked again, by somebody who does not know what came of it.
            left = list(letters(log, "scatter"))
            ask(row, log, "scatter", "redrive", row.random.sample(left, len(left)))
            await reacting.ready()
        await eventually(lambda: not letters(log, "scatter"), 40)
    await log.reacted("scatter")
    row.appended(log, sent)
    row.answered(log, "scatter")
    await row.view_is_rebuild(log, staying, at=server)
