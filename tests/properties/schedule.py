"""Several owners of one partition under a schedule: seeded dice say when each of their exchanges
with Redis is carried out, whether it is, and whether its reply arrives.

The chassis' own code runs on a clock that jumps from one event to the next; the scripts run on a
real server. So a command may be on its way for seconds, and be carried out after others took over.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import selectors
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import redis
from chassis.contracts import compiled

from factfold_chassis import Append, reaction
from factfold_chassis.contract import Contract
from factfold_chassis.core import Core
from factfold_chassis.facts import new_meta, partition_of
from factfold_chassis.log import scripts
from factfold_chassis.log.link import (
    REPLY_TIMEOUT,
    Link,
    LinkLost,
    ResponseError,
    pack_command,
)
from factfold_chassis.log.lost import Memory
from factfold_chassis.log.redis import Links, Redis
from factfold_chassis.log.scripts import Script
from factfold_chassis.log.streams import Head, Keys
from factfold_chassis.reactions import worker
from factfold_chassis.reactions.answers import Answers
from factfold_chassis.reactions.ownership import Membership
from factfold_chassis.reactions.tenure import Group
from factfold_chassis.settings import Settings
from factfold_chassis.tasks import cancel
from factfold_chassis.telemetry import Telemetry

EPOCH = "00112233445566ff"
SCRIPTS = {found.sha: name for name, found in vars(scripts).items() if isinstance(found, Script)}
ASK = Script("ask")
OUTPUTS = ("plain", "counted")  # streams; counted has versions
PARTITIONS = 2  # of each
_numbers = itertools.count(1)  # of connections
PROTO = """
syntax = "proto3"; package schedules.%(name)s; import "factfold/v1/options.proto";
option (factfold.v1.stream) = {
  name: "%(name)s" partitions: %(partitions)d versioned: %(versioned)s
};
message Event {
  option (factfold.v1.event) = {};
  string key = 1 [(factfold.v1.key) = true];
  uint64 n = 2;  // of the fact that it answers
  uint64 run = 3;  // of the handler
  uint64 i = 4;  // within the run
}
"""

Place = tuple[str, int]
Said = dict[Place, list[bytes]]  # what one run of the handler answered


def _contract() -> Contract:
    files = []
    for name, partitions in (("inputs", 1), *((name, PARTITIONS) for name in OUTPUTS)):
        versioned = str(name == "counted").lower()
        text = PROTO % {"name": name, "partitions": partitions, "versioned": versioned}
        files.append(compiled(f"schedules-{name}.proto", text))
    return Contract(files)


CONTRACT = _contract()
EVENT = {name: CONTRACT.events[f"schedules.{name}.Event"].message for name in CONTRACT.streams}
KEYS = Keys("inputs", 0)


class Clock(asyncio.SelectorEventLoop):
    """Waiting takes no time."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(Jumps(self))

    def time(self) -> float:
        return self.now


class Jumps(selectors.SelectSelector):
    def __init__(self, clock: Clock):
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[Any]:
        assert timeout is not None, "everybody waits for ever"
        self._clock.now += timeout
        return []


@dataclass(frozen=True)
class Plan:
    """All that happens follows from it."""

    seed: int
    facts: int

    @cached_property
    def own(self) -> bool:
        """Whether the input stream is the service's own."""
        return self.seed % 2 == 0

    @cached_property
    def sharded(self) -> bool:
        """Whether each partition is on a server of its own."""
        return self.seed % 3 == 0


class Witness(Protocol):
    """Hears of every script as it is carried out, and of every run of the handler."""

    def before(self, owner: Owner, script: str, args: list[Any]) -> None: ...

    def after(self, owner: Owner, script: str, args: list[Any], reply: Any) -> None: ...

    def begins(self, owner: Owner, n: int) -> None: ...


class World:
    """One schedule on an empty server."""

    def __init__(self, plan: Plan, client: redis.Redis, witness: Witness):
        self.plan = plan
        self.dice = random.Random(plan.seed)
        self.client = client
        self.witness = witness
        self.group = Group("svc.answer", "inputs", 0, EPOCH, plan.own)
        self.tail = 0
        self.runs = 0
        self.errors: list[BaseException] = []
        self.failing: Counter[int] = Counter()  # how often the handler will yet fail, by n
        self.unreadable: set[int] = set()
        self.key_of: dict[int, bytes] = {}
        self.trace: list[str] = []
        self.under_way = 0  # connections of others than the last owner that have not ended
        self._tasks: list[asyncio.Task[None]] = []
        self.connection = client.connection_pool.get_connection()
        self._late = self.dice.choice([0.02, 0.1, 0.3])  # how many exchanges take long
        self.lost = self.dice.choice([0.0, 0.03, 0.15])  # of them are, in whole or in part

    def call(self, *command: Any) -> Any:
        """One command, at once."""
        self.connection.send_packed_command([pack_command(command)])
        return self.connection.read_response(disable_decoding=True)

    def hashes(self, *names: str) -> list[dict[bytes, bytes]]:
        """What stands in these keys of the group."""
        keys = self.group.keys(*names)
        packed = [pack_command(("HGETALL", key)) for key in keys]
        self.connection.send_packed_command(packed)
        found = [self.connection.read_response(disable_decoding=True) for _ in keys]
        return [
            {k: v for k, v in zip(flat[::2], flat[1::2], strict=True) if k != b"_"}
            for flat in found
        ]

    def delay(self) -> float:
        dice = self.dice
        if dice.random() > self._late:
            return dice.uniform(0.001, 0.02)
        return dice.uniform(0, dice.choice([0.1, 1.0, 10.0]))

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Work whose failure is a violation."""
        task = asyncio.create_task(work)
        task.add_done_callback(self._ended)
        self._tasks.append(task)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            self.errors.append(error)

    def execute(self, owner: Owner, command: tuple[Any, ...]) -> Any:
        name, args = str(command[0]), [*command[1:]]
        if name == "EVALSHA":
            name, args = SCRIPTS[command[1]], [*command[3 + command[2] :]]
            if name == "APPEND":
                args.insert(0, command[3])
            self.witness.before(owner, name, args)
        try:
            reply = self.call(*command)
        except redis.ResponseError as error:
            reply = ResponseError(str(error))
        if command[0] == "EVALSHA":
            if name != "BEAT":
                self.say(owner.name, name, *args, "->", reply)
            self.witness.after(owner, name, args, reply)
        return reply

    def say(self, *words: Any) -> None:
        now = asyncio.get_running_loop().time()
        self.trace.append(f"{now:8.3f} " + " ".join(str(word)[:120] for word in words))

    # What goes on.

    def arrive(self, key: bytes) -> None:
        """A fact of `key` is appended to the input."""
        event = EVENT["inputs"](key=key.decode()).SerializeToString()
        self.tail += 1
        if self.dice.random() < 0.03:
            event, self.unreadable = b"\xff", self.unreadable | {self.tail}
        if self.dice.random() < 0.3:
            self.failing[self.tail] = self.dice.randint(1, 5)
        meta = new_meta("/other").SerializeToString()
        command = scripts.APPEND.command(
            KEYS.appending, EPOCH, "other", "batch", self.tail, self.tail - 1,
            "", "", "schedules.inputs.Event", key, meta, event,
        )  # fmt: skip
        self.key_of[self.tail] = key
        reply = self.call(*command)
        assert reply[0] == b"OK"

    def ask(self, what: str, n: int) -> None:
        self.call(*ASK.command(self.group.keys("redrive"), f"{what}:{n}"))
        self.say("asked", what, n)

    async def happen(self) -> None:
        """The schedule, and then one owner that nobody disturbs."""
        dice, span = self.dice, self.dice.choice([3.0, 10.0])
        keys = [b"a", b"b", b"c"][: dice.randint(1, 3)]
        events = [
            ("fact", dice.choice([0.0, dice.uniform(0, span)])) for _ in range(self.plan.facts)
        ]
        events += [("owner", 0.0), ("owner", dice.uniform(0, span))]
        for event in ("owner", "kill", "kill", "stop", *["ask"] * 6):
            events += [(event, dice.uniform(0, span))] if dice.random() < 0.7 else []
        owners: list[Owner] = []
        now = 0.0
        for event, at in sorted(events, key=lambda event: event[1]):
            await asyncio.sleep(at - now)
            now = at
            worker.BATCH = dice.choice([1, 2, 3, 100])  # of those that claim from now on
            alive = [owner for owner in owners if not owner.leaving]
            if event == "fact":
                self.arrive(dice.choice(keys))
            elif event == "owner":
                owners.append(Owner(self, f"o{len(owners)}"))
            elif event == "ask" and self.tail:
                what = dice.choice(["redrive", "redrive", "discard"])
                (dead,) = self.hashes("dead")
                self.ask(what, dice.choice([*map(int, dead), dice.randint(1, self.tail)]))
            elif event in ("kill", "stop") and alive:
                self.spawn(dice.choice(alive).leave(killed=event == "kill"))
        await asyncio.sleep(span - now)
        for owner in owners:
            self.spawn(owner.leave(killed=True))
        last = Owner(self, "last", calm=True)
        for _ in range(1000):
            await asyncio.sleep(1.0)
            if self.errors or (self.finished() and not self.under_way):
                break
        await last.leave(killed=False)
        await cancel(self._tasks)
        assert self.errors or self.finished(), "it does not come to an end"

    def finished(self) -> bool:
        """Whether all is answered; letters that were given up are asked for."""
        group, dead, requests = self.hashes("group", "dead", "redrive")
        asked = requests.keys() - {b"last"}
        for n, letter in () if asked else dead.items():
            if letter[:2] == b"\x08\x03":  # state: DEAD
                self.ask("discard" if int(n) in self.unreadable else "redrive", int(n))
        position = group.get(b"position", b"0-0")
        return int(position.split(b"-")[1]) == self.tail and not dead and not asked


class Owner:
    """One instance: the chassis' own worker, and what tends its ownership."""

    def __init__(self, world: World, name: str, *, calm: bool = False):
        self.world, self.name, self.calm = world, name, calm
        self.leaving = False
        self.gone = False  # nothing that it does has an effect any more, but what it has sent
        self.said: dict[int, Said | None] = {}  # by n, in the latest run; None: none, or it failed
        self._pace = 1.0 if calm else world.dice.choice([0.1, 0.5, 2.0])

        @reaction(EVENT["inputs"])
        async def answer(event: Any, call: Any) -> list[Append]:
            return await self._answer(call.fact.n)

        core = Core("svc", CONTRACT, [], [], Settings(reaction_attempts=3), Telemetry())
        core.redis = core.foreign = Road(self)
        core.instance = name
        core.views_ready.set()  # it has none
        core.memories = {
            name: [Memory(name, p, EPOCH) for p in range(PARTITIONS)] for name in OUTPUTS
        }
        events = {"schedules.inputs.Event": CONTRACT.events["schedules.inputs.Event"]}
        head = Head(EPOCH, 1, world.tail, 0)
        self._worker = worker.Worker(core, Answers(core, answer, events), world.group, head)
        self.ownership = self._worker.ownership
        self._membership = Membership(core.redis, name, "members", [self.ownership], lease=0.0)
        self._tasks = [world.spawn(self._worker.run()), world.spawn(self._tend(core.redis))]

    async def _tend(self, road: Road) -> None:
        """Beat, or take over from whom is seen to own the partition: the lease is nothing."""
        while True:
            with suppress(LinkLost):
                async with road.links() as links:
                    while True:
                        await asyncio.sleep(self.world.dice.expovariate(1 / self._pace))
                        wanted = self.calm or self.world.dice.random() < 0.9
                        await self._membership._tend(links, self.ownership, wanted)

    async def leave(self, *, killed: bool) -> None:
        self.leaving = True
        self.gone = killed
        await cancel(self._tasks)
        self.gone = True

    async def _answer(self, n: int) -> list[Append]:
        """Something else in each run."""
        world, dice = self.world, self.world.dice
        if self.gone:
            raise LinkLost("killed")
        world.witness.begins(self, n)
        world.runs += 1
        run, said = world.runs, Said()
        self.said[n] = None
        if dice.random() < 0.2:
            await asyncio.sleep(dice.expovariate(1.0))
        if world.failing[n] > 0:
            world.failing[n] -= 1
            raise RuntimeError("it fails")
        outputs = []
        for i in range(dice.choice([0, 0, 1, 2, 4])):
            stream = dice.choice(OUTPUTS)
            key, expected = f"{run}.{i}", None
            if stream == "counted":
                key = dice.choice([key, "x", "y"])
                versions = Keys(stream, partition_of(key, PARTITIONS))["versions"]
                expected = int(world.call("HGET", versions, key) or 0) + (dice.random() < 0.1)
            event = EVENT[stream](key=key, n=n, run=run, i=i)
            place = stream, partition_of(key, PARTITIONS)
            said.setdefault(place, []).append(event.SerializeToString())
            outputs.append(Append(event, expected))
        self.said[n] = said
        return outputs


class Road(Redis):
    """An owner's way to Redis."""

    def __init__(self, owner: Owner):
        self._owner = owner

    @asynccontextmanager
    async def link(self, *keys: str) -> AsyncIterator[Link]:
        async with self.links() as links:
            yield await links.to(*keys)

    @asynccontextmanager
    async def links(self) -> AsyncIterator[Links]:
        wires = Wires(self._owner)
        try:
            yield wires
        finally:
            wires.close()


class Wires(Links):
    """Connections, one a server."""

    def __init__(self, owner: Owner):
        self._owner = owner
        self._wires: dict[str, Wire] = {}

    async def to(self, *keys: str) -> Link:
        if self._owner.gone:
            raise LinkLost("killed")
        server = keys[0].partition("}")[0] if self._owner.world.plan.sharded else ""
        if server not in self._wires:
            self._wires[server] = Wire(self._owner)
        return self._wires[server]

    def close(self) -> None:
        for wire in self._wires.values():
            wire.close()


class Wire(Link):
    """A connection. What is sent is carried out in order, later or never, whoever still waits."""

    def __init__(self, owner: Owner):
        self._owner, self._world = owner, owner.world
        self._commands: asyncio.Queue[tuple[Any, ...] | None] = asyncio.Queue()
        self._replies: asyncio.Queue[Any] = asyncio.Queue()
        self._arrived = 0.0
        self._closed = False
        self.number = next(_numbers)
        self.received = 0
        self._world.spawn(self._carry())
        self._world.under_way += not owner.calm

    async def send(self, *commands: tuple[Any, ...]) -> None:
        if self._owner.gone:
            raise LinkLost("killed")
        for command in commands:
            self._commands.put_nowait(command)

    def send_soon(self, *commands: tuple[Any, ...]) -> None:
        if not self._owner.gone:
            for command in commands:
                self._commands.put_nowait(command)

    async def receive_soon(self, within: float = REPLY_TIMEOUT) -> Any:
        try:
            async with asyncio.timeout(within):
                return await self.receive()
        except TimeoutError:
            raise LinkLost("late") from None

    async def receive(self) -> Any:
        reply = await self._replies.get()
        self.received += len(repr(reply))  # no fewer than its bytes
        if isinstance(reply, LinkLost):
            self._replies.put_nowait(reply)
        if isinstance(reply, Exception):
            raise reply
        return reply

    def close(self) -> None:
        self._closed = True
        self._commands.put_nowait(None)

    async def _carry(self) -> None:
        world = self._world
        while (command := await self._commands.get()) is not None:
            if command[0] == "SCRIPT":  # they are all there
                self._deliver(b"", 0.0)
                continue
            await asyncio.sleep(self._delay())
            lost = not self._owner.calm and world.dice.random() < world.lost
            if lost and world.dice.random() < 0.5:
                break
            if command[0] == "XREAD":
                command = await self._blocked(command)
            reply = world.execute(self._owner, command)
            if lost:
                break
            self._deliver(reply, self._delay())
        self._deliver(LinkLost("cut"), self._delay())
        world.under_way -= not self._owner.calm

    def _delay(self) -> float:
        return 0.001 if self._owner.calm else self._world.delay()

    def _deliver(self, reply: Any, delay: float) -> None:
        clock = asyncio.get_running_loop()
        self._arrived = max(self._arrived + 1e-6, clock.time() + delay)
        clock.call_at(self._arrived, self._replies.put_nowait, reply)

    async def _blocked(self, command: tuple[Any, ...]) -> tuple[Any, ...]:
        """XREAD BLOCK: wait for facts here, then read without."""
        clock = asyncio.get_running_loop()
        until, after = clock.time() + command[4] / 1000, int(command[-1].split("-")[1])
        while self._world.tail <= after and clock.time() < until and not self._closed:
            await asyncio.sleep(0.2)
        return command[:3] + command[5:]
