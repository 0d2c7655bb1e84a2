"""A running service behind its gRPC surface: the log, the views, the reactions."""

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from google.protobuf.message import DecodeError, Message

from factfold_chassis.calls import Appended, Command, Event, Query, Watch
from factfold_chassis.contract import Contract, EventSpec
from factfold_chassis.errors import (
    FailedPrecondition,
    InvalidRequest,
    LogReplaced,
    LogUnreachable,
    NotReady,
    OutcomeUnknown,
    PositionLost,
    VersionConflict,
    WiringError,
)
from factfold_chassis.facts import (
    AT_LEAST,
    Fact,
    Position,
    new_meta,
    parse_positions,
    partition_of,
    split_id,
)
from factfold_chassis.log.append import Appender
from factfold_chassis.log.lane import NewFact, check_version
from factfold_chassis.log.link import LinkLost
from factfold_chassis.log.lost import Memory
from factfold_chassis.log.redis import Redis
from factfold_chassis.log.replicas import Replicas
from factfold_chassis.log.streams import Keys, create_stream, read_head, read_trimmed
from factfold_chassis.log.trim import Policy, Trimmer
from factfold_chassis.reactions.declare import Reaction
from factfold_chassis.reactions.engine import ReactionEngine
from factfold_chassis.settings import Settings
from factfold_chassis.tasks import cancel
from factfold_chassis.telemetry import Telemetry
from factfold_chassis.views.declare import Fold, Table, View
from factfold_chassis.views.engine import ViewEngine
from factfold_chassis.views.journal import Journal
from factfold_chassis.views.keep import Home

logger = logging.getLogger(__name__)

# At once: after an outage all callers may repeat their commands, and each look-up has a connection.
LOOK_UPS = 16


class Core:
    """Everything of one instance that is not gRPC.

    Args:
        name: of the service.
        first: of the processes that share an address, or the only one.

    Raises:
        WiringError: folds or reactions do not fit the contract.
    """

    def __init__(
        self,
        name: str,
        contract: Contract,
        folds: Sequence[Fold[Any, Any]],
        reactions: Sequence[Reaction],
        settings: Settings,
        telemetry: Telemetry,
        *,
        first: bool = True,
    ):
        self.name = name
        self.source = f"/{name}"
        self.instance = f"{name}-{secrets.token_hex(4)}"
        self.contract = contract
        self.settings = settings
        self.telemetry = telemetry
        self.redis = Redis(settings.redis_url)
        self.replicas = Replicas.within(settings.wait_replicas, settings.append_timeout)
        reads = settings.redis_read_url
        self.foreign = Redis(reads) if reads else self.redis  # reads other services' streams
        self.journal = Journal()
        self._query = Query(self)  # has no state of its own
        self.draining = asyncio.Event()
        self.epochs: dict[str, list[str]] = {}
        self.memories: dict[str, list[Memory]] = {}
        self.on_ready_change: list[Callable[[bool], None]] = []
        self._appenders: dict[str, Appender] = {}
        self._looking_up = asyncio.Semaphore(LOOK_UPS)
        self._status = f"waits for Redis at {settings.redis_address}"
        self.ready = False
        self._ready = asyncio.Event()
        self.views_ready = asyncio.Event()  # set while all views have caught up
        self._views = self._make_views(folds, first)
        self._reactions = [ReactionEngine(self, reaction) for reaction in reactions]
        # The processes beside the first one have nothing of their own that they could wait for.
        policy = Policy(settings.keep_age, settings.keep_facts) if first else Policy()
        self._trimmer = Trimmer(self.redis, policy, self.alarm)
        self._tasks: list[asyncio.Task[None]] = []
        self._reaction_tasks: list[asyncio.Task[None]] = []
        self._begin_metrics()

    def _begin_metrics(self) -> None:
        """Counters begin at 0: one that first appears at 1 has not increased, to Prometheus."""
        self.telemetry.count("factfold.log.alarms", 0)
        for engine in self._views.values():
            view = engine.view.name
            self.telemetry.lag("view", view, engine.lag)
            self.telemetry.count("factfold.log.alarms", 0, view=view)
            for stream in engine.streams:
                self.telemetry.count("factfold.view.errors", 0, view=view, stream=stream)
        self.telemetry.held_back(self._trimmer.held_back)
        for each in self._reactions:
            reaction = each.reaction.name
            self.telemetry.lag("reaction", reaction, each.lag)
            for name in ("factfold.reaction.errors", "factfold.reaction.given_up"):
                self.telemetry.count(name, 0, reaction=reaction)

    def _make_views(self, folds: Sequence[Fold[Any, Any]], first: bool) -> dict[View, ViewEngine]:
        """One engine a view; the owner's also keeps the journal of the own streams."""
        by_view: dict[View, list[Fold[Any, Any]]] = {}
        for fold in folds:
            by_view.setdefault(fold.into.view, []).append(fold)
        own = [
            view
            for view, its in by_view.items()
            if any(self.contract.event_of(fold.event).stream.own for fold in its)
        ]
        owner = own[0] if own else View("journal")
        by_view.setdefault(owner, [])
        for name, count in Counter(view.name for view in by_view).items():
            if count > 1:
                raise WiringError(f"{count} views are named {name}: rename one")
        home = Home(self.name, self.settings.snapshot_dir, self.alarm, first=first)
        engines = {
            view: ViewEngine(
                view, its, self.contract, self.redis, foreign=self.foreign,
                journal=self.journal if view is owner else None, home=home,
                count=self.count, changed=self.changed,
            )
            for view, its in by_view.items()
        }  # fmt: skip
        self.owner = engines[owner]
        return engines

    # Life.

    async def start(self) -> None:
        """Begin to work in the background; `wait_ready` tells when it is caught up."""
        self._spawn(self._run())

    async def _run(self) -> None:
        try:
            # Own streams first: two services that subscribe to each other both come up.
            for stream in self.contract.own_streams:
                epochs = await create_stream(
                    self.redis, stream, expected=partial(self._expects, stream.name)
                )
                self.epochs[stream.name] = epochs
                appender = Appender(
                    self.redis, stream.name, epochs,
                    timeout=self.settings.append_timeout, limit=self.settings.append_queue,
                    max_fact_bytes=self.settings.max_fact_bytes, replicas=self.replicas,
                    alarm=self.alarm,
                )  # fmt: skip
                self._appenders[stream.name] = appender
                self.memories[stream.name] = appender.memories
                self._spawn(appender.run())
            self._status = ""
            for view in self._views.values():
                self._spawn(view.run())
                self._spawn(view.tell())
            self._spawn(self._keep())
            for reaction in self._reactions:
                self._reaction_tasks.append(self._spawn(reaction.run()))
        except (LogReplaced, WiringError) as error:
            self._fail(str(error))
        self.changed()

    def _expects(self, stream: str) -> str:
        """Why an own stream must exist; empty if it need not."""
        if self.settings.expect_log:
            return "FACTFOLD_EXPECT_LOG is set"
        return next(filter(None, (view.expects(stream) for view in self._views.values())), "")

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self.settings.snapshot_interval)
            for view in self._views.values():
                await view.save()
            # Not more often: as long as the own snapshots are no newer, they hold it back.
            await self._trimmer.trim(self.epochs)

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.create_task(work)
        task.add_done_callback(self._ended)
        self._tasks.append(task)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            self._fail(f"a part of the service has failed: {error}", error)

    def _fail(self, reason: str, error: BaseException | None = None) -> None:
        self._status = reason
        logger.error("%s", reason, exc_info=error)
        self.changed()

    async def close(self, timeout: float) -> None:
        """Reactions end their batch and hand over, appends are flushed, views are kept."""
        self.drain()
        try:
            # Side by side: a reaction or a Redis that hangs must not cost the snapshots.
            ends = (view.end() for view in self._views.values())
            await asyncio.gather(self._let_go(timeout), *ends)
        finally:
            for view in self._views.values():
                view.give_up()
            await cancel(self._tasks)

    async def _let_go(self, timeout: float) -> None:
        await cancel(self._reaction_tasks)
        for appender in self._appenders.values():
            await appender.flush(timeout)

    def drain(self) -> None:
        """No new work; watches end with the position to resume from."""
        self.draining.set()
        self.journal.wake()

    # Readiness.

    @property
    def status(self) -> str:
        """Why the service is not ready, one line; empty if it is."""
        reasons = [self._status] if self._status else []
        if not reasons:
            reasons += [view.status for view in self._views.values()]
            reasons += [reaction.status for reaction in self._reactions]
        return "; ".join(filter(None, reasons))

    async def wait_ready(self) -> None:
        await self._ready.wait()

    def changed(self) -> None:
        """A part has changed its state; for the parts."""
        if not self._status and all(view.ready for view in self._views.values()):
            self.views_ready.set()
        else:
            self.views_ready.clear()
        ready = not self.status
        if ready == self.ready:
            return
        self.ready = ready
        if ready:
            self._ready.set()
        else:
            self._ready.clear()
        for tell in self.on_ready_change:
            tell(ready)

    def alarm(self, text: str) -> None:
        """What an operator must know."""
        self.count("factfold.log.alarms")
        logger.error("%s", text)

    def count(self, name: str, **attributes: str) -> None:
        self.telemetry.count(name, 1, **attributes)

    # Calls.

    def command(self, request: Message) -> Command:
        return Command(self, request)

    def query(self) -> Query:
        return self._query

    def watch(self) -> Watch:
        return Watch(self)

    def view_of(self, table: Table[Any]) -> ViewEngine:
        try:
            return self._views[table.view]
        except KeyError:
            raise WiringError(
                f"no fold writes into view {table.view.name}: add one, or drop table {table.name}"
            ) from None

    @property
    def own_stream(self) -> str:
        names = [stream.name for stream in self.contract.own_streams]
        if len(names) != 1:
            raise WiringError(f"name the stream: this service has {len(names)}")
        return names[0]

    async def at_least(self, header: str, timeout: float) -> None:
        """Wait until every view of the streams in `header` has reached the positions in it.

        Raises:
            InvalidRequest, FailedPrecondition, OtherEpoch, PositionNotReached
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        for position in parse_positions(header, AT_LEAST):
            views = [view for view in self._views.values() if position.stream in view.streams]
            if not views:
                raise FailedPrecondition(
                    f"{self.name} has no view of stream {position.stream}: "
                    f"drop it from {AT_LEAST}, or ask a service that has one"
                )
            for view in views:
                await view.reach(position, max(0.0, deadline - loop.time()))

    async def append(
        self,
        event: Event,
        more: tuple[Message, ...],
        expected_version: int | None,
        *,
        request_id: str,
        behind: Counter[tuple[str, str]],
    ) -> Appended[Event]:
        """Command.append; `behind` counts the facts that the command has put into each key."""
        events: tuple[Message, ...] = (event, *more)
        specs = [self.contract.event_of(each) for each in events]
        stream = specs[0].stream
        key = specs[0].key_of(event)
        if not stream.own or any(spec.stream is not stream for spec in specs):
            raise WiringError(f"{specs[0].name}: append events of one own stream")
        if stream.versioned != (expected_version is not None):
            word = "pass" if stream.versioned else "do not pass"
            raise WiringError(
                f"stream {stream.name} is {'' if stream.versioned else 'not '}versioned: "
                f"{word} expected_version"
            )
        begin = behind[stream.name, key]
        if request_id and self.journal.answered(stream.name, key, request_id)[begin:]:
            # Known here: a handler may take the version from the view, and then none conflicts.
            found = await self._answered(specs, key, request_id, begin)
            if found is not None:
                behind[stream.name, key] += len(events)
                return found
        facts: list[NewFact] = []
        version = expected_version or 0
        with self.telemetry.send(stream.name) as send:
            for at, (each, spec) in enumerate(zip(events, specs, strict=True)):
                check_version(version + at)
                expected = version + at if stream.versioned else None
                meta = new_meta(
                    self.source,
                    request_id=request_id,
                    version=version + at + 1 if stream.versioned else 0,
                )
                send.fill(meta)
                facts.append(
                    NewFact(
                        spec.key_of(each), spec.name, meta.SerializeToString(),
                        each.SerializeToString(), expected,
                    )
                )  # fmt: skip
            try:
                position = await self._appenders[stream.name].append(facts)
            except VersionConflict:
                found = None
                if request_id:
                    found = await self._answered(specs, key, request_id, begin)
                if found is None:
                    raise
                behind[stream.name, key] += len(events)
                return found
            send.placed(position.partition, str(position))
        behind[stream.name, key] += len(events)
        last = version + len(events) if stream.versioned else 0
        return Appended(event, last, position, repeated=False)

    async def _answered(
        self, specs: list[EventSpec], key: str, request_id: str, begin: int
    ) -> Appended[Any] | None:
        """What this command appended when it came before; None if it did not.

        `begin`: how many facts of the key this run of the command has passed already.
        """
        stream = specs[0].stream
        partition = partition_of(key, stream.partitions)
        keys = Keys(stream.name, partition)
        try:
            async with self._looking_up, self.redis.link(*keys.appending) as link:
                head = await read_head(link, stream.name, partition)
                if head is None:
                    return None
                tail = Position(stream.name, partition, head.epoch, head.ms, head.n)
                await self.owner.reach(tail, self.settings.read_timeout)
                ids = self.journal.answered(stream.name, key, request_id)
                facts: list[Fact] = []
                for entry_id in ids[begin : begin + len(specs)]:
                    entries = await link.call("XRANGE", keys["log"], entry_id, entry_id)
                    if not entries and split_id(entry_id)[1] <= await read_trimmed(link, keys):
                        place = Position(stream.name, partition, head.epoch, *split_id(entry_id))
                        raise FailedPrecondition(
                            f"the command was carried out when it came first, at {place}, and its "
                            "answer was trimmed with that fact: ask for the present state"
                        )
                    for entry in entries:
                        facts.append(Fact(stream.name, partition, head.epoch, entry))
                # The caller may have heard that it was unknown, as replicas did not have it.
                missing = await self.replicas.missing_now(link, keys["producers"])
        except LinkLost as error:
            raise LogUnreachable(stream.name, str(error)) from None
        except PositionLost:
            raise NotReady(f"view {self.owner.view.name} is about to be rebuilt") from None
        if facts and missing:
            raise OutcomeUnknown(stream.name, f"it is in the log, but {missing}")
        if len(facts) < len(specs):
            return None
        if any(fact.type != spec.name for fact, spec in zip(facts, specs, strict=True)):
            raise InvalidRequest(
                "request_id", "another command has used it; take a new one for each command"
            )
        try:
            event = specs[0].message.FromString(facts[0].data)
        except DecodeError:
            return None
        return Appended(event, facts[-1].version, facts[-1].position, repeated=True)
