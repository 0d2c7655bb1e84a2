"""Runs a view: catches up from the log, follows its tail, notices when the log changes."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing, suppress
from typing import Any

from google.protobuf.message import Message
from redis.exceptions import ResponseError

from factfold_chassis.contract import Contract
from factfold_chassis.errors import (
    InvalidRequest,
    OtherEpoch,
    PositionLost,
    PositionNotReached,
    WiringError,
)
from factfold_chassis.facts import (
    MAX_KEY_BYTES,
    BareFact,
    Entry,
    Fact,
    Position,
    format_positions,
    in_order,
    key_of,
)
from factfold_chassis.log.link import LinkLost
from factfold_chassis.log.lost import count_kept, has_fact, name_lost
from factfold_chassis.log.read import (
    START,
    Lag,
    LogBroken,
    LogChanged,
    LogGone,
    LogRecreated,
    LogRolledBack,
    Reader,
)
from factfold_chassis.log.redis import Redis
from factfold_chassis.log.streams import Keys, wait_for_stream
from factfold_chassis.tasks import together
from factfold_chassis.views.declare import Fold, View
from factfold_chassis.views.fingerprint import fingerprint
from factfold_chassis.views.journal import Journal
from factfold_chassis.views.keep import NOWHERE, Home, Keeper
from factfold_chassis.views.place import Place
from factfold_chassis.views.snapshot import Positions, Snapshot
from factfold_chassis.views.tables import Rows, Tables

logger = logging.getLogger(__name__)

_OURS_IS_GONE = (
    ", whose log is gone: restore it from a backup, or begin anew without it: "
    "`factfold stream recreate {}`"
)
_THEIRS_IS_GONE = ", whose log is gone: its owner must restore it, or begin it anew"

Count = Callable[..., None]
_Target = tuple[Callable[..., Any], Rows[Any]]
# What is done with the events of one type: how they are parsed, all that take them, and, if that
# is one table whose changes concern no other, what the loop in `fold` needs of it.
_Step = tuple[Callable[[bytes], Message], list[_Target], tuple[Any, ...] | None]


class ViewEngine:
    """One running view.

    Args:
        folds: those into tables of this view.
        foreign: reads the streams of other services; by default `redis` does.
        journal: if given, this view follows all own streams and feeds it.
        home: keeps what outlives the process.
        count: `count(name, **attributes)` adds one to a counter.

    Attributes:
        refused: why the view does not go on; empty if it does.
    """

    def __init__(
        self,
        view: View,
        folds: Sequence[Fold[Any, Any]],
        contract: Contract,
        redis: Redis,
        *,
        foreign: Redis | None = None,
        journal: Journal | None = None,
        home: Home = NOWHERE,
        count: Count,
        changed: Callable[[], None] = lambda: None,
    ):
        self.view = view
        self.tables = Tables(view)
        self.journal = journal
        self._redis = redis
        self._foreign = foreign or redis
        self._count = count
        self._changed = changed
        self._contract = contract
        self._unknown: set[str] = set()
        self._folds = _by_stream(folds, contract)
        self.streams = list(self._folds)
        self._own = {stream.name for stream in contract.own_streams}
        if journal is not None:
            self.streams += sorted(self._own.difference(self._folds))
        self._plan: dict[str, dict[bytes, _Step]] = {}
        self._places: dict[str, list[Place]] = {}
        self._positions: Positions = {}  # where the snapshot ends
        self._began: dict[str, tuple[float, int]] = {}  # by stream: time, and facts done then
        self._failures = 0
        self._loading = False
        self._known: set[str] = set()  # streams that were there before one was gone
        self.refused = ""
        self._keeper = Keeper(
            home, redis, view,
            lambda: fingerprint(view, folds, contract, self.streams, journal=journal is not None),
        )  # fmt: skip
        self._reset()

    # What others ask.

    @property
    def ready(self) -> bool:
        return not self.refused and not any(self._behind())

    @property
    def status(self) -> str:
        """Why the view is not ready, as one clause; empty if it is."""
        return self.refused or "; ".join(self._behind())

    def _behind(self) -> Iterable[str]:
        name = self.view.name
        if self._loading:
            yield f"view {name} loads its snapshot"
            return
        for stream in self.streams:
            places = self._places.get(stream)
            if places is None:
                gone = _OURS_IS_GONE if stream in self._own else _THEIRS_IS_GONE
                why = gone.format(stream) if stream in self._known else ""
                yield f"view {name} waits for stream {stream}{why}"
            elif not all(place.passed for place in places):
                done = sum(place.done for place in places)
                target = sum(place.target for place in places)
                since, before = self._began[stream]
                pace = (done - before) / max(time.monotonic() - since, 0.001)
                left = f", about {(target - done) / pace:.0f} s left" if pace else ""
                yield (
                    f"view {name} has read {done} of {target} facts of {stream}, "
                    f"{pace:.0f} a second{left}"
                )

    def places(self) -> list[Place]:
        return [place for places in self._places.values() for place in places]

    @property
    def position(self) -> str:
        """Where the view is, as a token."""
        return format_positions(place.position for place in self.places() if place.anchor.n)

    def lag(self) -> list[Lag]:
        return [place.lag for place in self.places()]

    async def reach(self, position: Position, timeout: float) -> None:
        """Wait until the view has folded the fact at `position`.

        Raises:
            PositionNotReached, PositionLost, OtherEpoch, InvalidRequest
        """
        places = self._places.get(position.stream)
        if places is None:
            raise PositionNotReached(str(position), "")
        if position.partition >= len(places):
            raise InvalidRequest(
                "factfold-at-least",
                f"stream {position.stream} has {len(places)} partitions, "
                f"there is no {position.partition}",
            )
        place = places[position.partition]
        if place.epoch != position.epoch:
            raise OtherEpoch(str(position), str(place.position))
        if place.anchor.n < position.n:
            future = asyncio.get_running_loop().create_future()
            place.waiting[future] = position.n
            try:
                async with asyncio.timeout(timeout):
                    await future
            except TimeoutError:
                raise PositionNotReached(str(position), str(place.position)) from None
            finally:
                del place.waiting[future]
            if self._places.get(position.stream) is not places:
                raise PositionNotReached(str(position), "")  # the view has begun anew
        if not place.had(position):
            raise PositionLost(str(position), str(place.position))

    # The work.

    async def run(self) -> None:
        """Follow the log until cancelled.

        Returns only if there is nothing to follow, or the view must refuse to go on.
        """
        self._loading = True
        restored = await self._keeper.restore()
        self._loading = False
        self._reset(restored)
        while True:
            try:
                return await together(*map(self._follow_stream, self.streams))
            except LogBroken as error:
                self._count("factfold.log.alarms", view=self.view.name)
                why = f"view {self.view.name} cannot be complete: {error}"
                self.refused = f"{why}; {error.advice}"
                logger.error("%s", self.refused)
                if self.journal is not None:
                    self.journal.wake()  # watches end
                self._changed()
                return
            except LogChanged as change:
                self._count("factfold.log.alarms", view=self.view.name)
                logger.error("the log changed: %s; rebuilding view %s", change, self.view.name)
                if isinstance(change, LogRolledBack):
                    await self._name_lost()
                if isinstance(change, LogGone):  # it may come back as it was
                    self._known.update(self._places)
                else:
                    self._keeper.set_aside()
                self._reset()

    def _reset(self, restored: tuple[Snapshot, Tables] | None = None) -> None:
        """Begin with what a snapshot holds, or with nothing."""
        snapshot, self.tables = restored or (Snapshot(), Tables(self.view))
        self._positions = snapshot.positions
        self._failures = snapshot.failures
        for place in self.places():
            place.end()
        self._places.clear()
        if self.journal is not None:
            self.journal.reset(snapshot.requests)
        self._plan = {
            stream: {name: self._step(folds) for name, folds in by_type.items()}
            for stream, by_type in self._folds.items()
        }
        self._changed()

    def _step(self, folds: list[Fold[Any, Any]]) -> _Step:
        targets: list[_Target] = [(fold.function, self.tables[fold.into]) for fold in folds]
        return folds[0].event.FromString, targets, _alone(targets)

    async def _follow_stream(self, stream: str) -> None:
        heads = await wait_for_stream(self._reads(stream), stream)
        places = []
        for partition, head in enumerate(heads):
            epoch, anchor = self._positions.get((stream, partition), (head.epoch, START))
            if epoch != head.epoch:
                raise LogRecreated(
                    f"stream {stream}, partition {partition}: "
                    f"its epoch was {epoch}, now it is {head.epoch}"
                )
            places.append(Place(stream, partition, head, anchor))
        self._began[stream] = time.monotonic(), sum(place.done for place in places)
        self._places[stream] = places
        self._known.discard(stream)
        self._changed()
        await self._keeper.cursors.mark(_present(places))
        await together(*map(self._follow, places))

    def _reads(self, stream: str) -> Redis:
        return self._redis if stream in self._own else self._foreign

    async def _follow(self, place: Place) -> None:
        reader = Reader(
            self._reads(place.stream), place.stream, place.partition, place.epoch,
            anchor=place.anchor, at_once=True,
        )  # fmt: skip
        try:
            async with aclosing(reader.batches()) as batches:
                async for batch in batches:
                    passed = place.passed
                    self.fold(place, batch.entries)
                    place.advance(batch)
                    if self.journal is not None and place.stream in self._own:
                        self.journal.take(place.stream, place.partition, batch.entries, batch.size)
                    if place.passed != passed:
                        self._changed()
                        self._say_caught_up()
                    # A reply that is there already does not make asyncio look at anybody else.
                    await asyncio.sleep(0)
        except LogChanged as change:
            raise type(change)(
                f"stream {place.stream}, partition {place.partition}: {change}"
            ) from None

    async def _name_lost(self) -> None:
        """Which of the newest facts that were folded are not in the log any more.

        One partition has noticed; others are on the same server.
        """
        were = f"folded into view {self.view.name}"
        for place in self.places():
            keys, last = Keys(place.stream, place.partition), place.anchor
            if not last.n:
                continue
            # That the log was rolled back is said in any case.
            with suppress(LinkLost, ResponseError):
                redis = self._reads(place.stream)
                async with redis.link(keys["log"], keys["head"]) as link:
                    if await has_fact(link, place, last.entry_id.encode(), last.fact_id):
                        continue
                    recent = place.recent
                    kept = await count_kept(link, place, [(each, b"") for each in recent])
                    name_lost(place, recent[kept:], were, logger.error, more=not kept)

    def _say_caught_up(self) -> None:
        if self.ready and self._began:
            since, before = zip(*self._began.values(), strict=True)
            facts = sum(place.done for place in self.places()) - sum(before)
            seconds = time.monotonic() - min(since)
            logger.info("view %s is up to date: %d facts in %.1f s", self.view.name, facts, seconds)

    # What outlives the process.

    async def tell(self) -> None:
        """Say in the log where the view is, until cancelled."""
        await self._keeper.cursors.follow(lambda: _present(self.places()))

    async def save(self) -> None:
        """Write a snapshot, unless nothing has changed since the last two, and the cursors."""
        await self._keeper.save(self._cut, twice=True)
        await self._keeper.cursors.mark(_present(self.places()))

    async def end(self) -> None:
        """The same for the last time, unless nothing has changed since the last one."""
        await self._keeper.save(self._cut)
        await self._keeper.cursors.leave(_present(self.places()))

    def give_up(self) -> None:
        """End work in other threads."""
        self._keeper.give_up()

    def expects(self, stream: str) -> str:
        """Why `stream` must exist, if a snapshot of this view has read it; else empty."""
        return self._keeper.knows(stream)

    def _cut(self, saved: Positions) -> Snapshot | None:
        """Everything as it is at this moment, for another thread; None: as it was at `saved`."""
        # The rows of a stream that is waited for are those of the snapshot it began with.
        positions = self._positions | _present(self.places())
        if positions == saved or not any(anchor.n for _, anchor in positions.values()):
            return None
        rows = {table: self.tables[table].copy() for table in self.view.folded}
        requests = self.journal.requests if self.journal is not None else {}
        return Snapshot(positions, rows, requests, self._failures)

    # Folding.

    def _check_known(self, stream: str, type_: bytes) -> None:
        """A type that the contract has lost is said once: its facts are lost to the view."""
        name = type_.decode(errors="replace")
        if name not in self._contract.streams[stream].events and name not in self._unknown:
            self._unknown.add(name)
            logger.warning(
                "stream %s has facts of type %s, which its contract here does not declare: "
                "view %s passes over them; a type that is in the log must stay in the contract",
                stream, name, self.view.name,
            )  # fmt: skip

    def fold(self, place: Place, entries: Sequence[Entry]) -> None:
        """Fold entries in order. A fold that fails changes nothing, and is reported.

        The innermost loop of a rebuild: what it does for one fact, a large log does millions of
        times (docs/performance.md).
        """
        stream, partition, epoch = where = place.stream, place.partition, place.epoch
        steps = self._plan.get(stream, {})
        known = None
        for entry in entries:
            try:
                try:
                    t, type_, k, raw_key, m, _, d, data = entry[1]
                    if t != b"type" or k != b"key" or m != b"meta" or d != b"data":
                        raise ValueError("the fields are others, or in another order")
                except ValueError:
                    _, type_, _, raw_key, _, _, _, data = in_order(entry[1])
                if type_ != known:
                    step = steps.get(type_)
                    if step is None:
                        self._check_known(stream, type_)
                        continue
                    known, (parse, targets, alone) = type_, step
                    if alone is not None:
                        function, table, rows, row_type, parse_row, serialize = alone
                # Few keys are so short or so long that they need a closer look.
                key = raw_key.decode() if 1 < len(raw_key) <= MAX_KEY_BYTES else key_of(raw_key)
                event = parse(data)
                fact = BareFact()
                fact.place, fact.entry = where, entry
                if alone is None:
                    _fold_each(targets, key, event, fact)
                    continue
                before = rows.get(key)
                row = function(None if before is None else parse_row(before), event, fact)
                if row.__class__ is row_type and (before is not None or not table.paged):
                    rows[key] = serialize(row)
                else:
                    table.change(key, before, row)
            except Exception:
                self._failures += 1
                # Skipped the same way in each rebuild: the view stays equal to its rebuild.
                self._count("factfold.view.errors", view=self.view.name, stream=stream)
                logger.exception(
                    "view %s cannot fold the fact at %s/%d@%s:%s; mend the fold and restart",
                    self.view.name, stream, partition, epoch, entry[0].decode(),
                )  # fmt: skip


def _fold_each(targets: Iterable[_Target], key: str, event: Message, fact: Fact) -> None:
    failure: Exception | None = None
    for function, table in targets:
        try:
            table.put(key, function(table.get(key), event, fact))
        except Exception as error:
            failure = error  # no reason for other tables to miss the fact
    if failure is not None:
        raise failure


def _alone(targets: Sequence[_Target]) -> tuple[Any, ...] | None:
    (function, table), *others = targets
    inside = table.inside()
    if others or inside is None:
        return None
    rows, row = inside
    return function, table, rows, row, row.FromString, row.SerializeToString


def _present(places: Iterable[Place]) -> Positions:
    return {(place.stream, place.partition): (place.epoch, place.anchor) for place in places}


def _by_stream(
    folds: Iterable[Fold[Any, Any]], contract: Contract
) -> dict[str, dict[bytes, list[Fold[Any, Any]]]]:
    """Folds by stream and type; a table takes the folds of one stream only."""
    by_stream: dict[str, dict[bytes, list[Fold[Any, Any]]]] = {}
    stream_of: dict[Any, str] = {}
    for fold in folds:
        event = contract.event_of(fold.event)
        stream = event.stream.name
        if fold.into not in fold.into.view.folded:
            raise WiringError(f"table {fold.into.name} is derived: fold into one that is not")
        if stream_of.setdefault(fold.into, stream) != stream:
            raise WiringError(
                f"table {fold.into.name} has folds of the streams {stream_of[fold.into]} and "
                f"{stream}: give each stream its table, and join them with View.join"
            )
        by_stream.setdefault(stream, {}).setdefault(event.name.encode(), []).append(fold)
    return by_stream
