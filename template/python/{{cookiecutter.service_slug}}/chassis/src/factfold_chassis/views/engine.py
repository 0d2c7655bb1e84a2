"""Keeps a view: catches up from the log, follows its tail, notices when the log changes."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing
from typing import Any

from google.protobuf.message import Message

from factfold_chassis.contract import Contract
from factfold_chassis.errors import InvalidRequest, OtherEpoch, PositionNotReached, WiringError
from factfold_chassis.facts import Entry, Fact, Position, format_positions
from factfold_chassis.log.link import Redis
from factfold_chassis.log.read import START, Anchor, LogChanged, LogGap, Reader
from factfold_chassis.log.streams import Head, wait_for_stream
from factfold_chassis.tasks import together
from factfold_chassis.views.declare import Fold, View
from factfold_chassis.views.journal import Journal
from factfold_chassis.views.tables import Rows, Tables

logger = logging.getLogger(__name__)

_NAMES = [b"type", b"key", b"meta", b"data"]

Count = Callable[..., None]
_Step = tuple[Callable[[bytes], Message], list[tuple[Callable[..., Any], Rows[Any]]]]


class Place:
    """How far a view is in one partition."""

    __slots__ = ("anchor", "epoch", "partition", "stream", "tail", "target", "waiting")

    def __init__(self, stream: str, partition: int, head: Head):
        self.stream = stream
        self.partition = partition
        self.epoch = head.epoch
        self.anchor: Anchor = START
        self.target = head.n  # the view is ready once it has passed the tail seen at start
        self.tail = head.n
        self.waiting: dict[asyncio.Future[None], int] = {}

    @property
    def position(self) -> Position:
        return Position(
            self.stream, self.partition, self.epoch, self.anchor.ms, self.anchor.n
        )  # fmt: skip

    def advance(self, anchor: Anchor, tail: int) -> None:
        self.anchor, self.tail = anchor, tail
        for future, n in self.waiting.items():
            if n <= anchor.n and not future.done():
                future.set_result(None)


class ViewEngine:
    """One running view.

    Args:
        folds: those into tables of this view.
        journal: if given, this view follows all own streams and feeds it.
        count: `count(name, **attributes)` adds one to a counter.
    """

    def __init__(
        self,
        view: View,
        folds: Sequence[Fold[Any, Any]],
        contract: Contract,
        redis: Redis,
        *,
        journal: Journal | None = None,
        count: Count,
        changed: Callable[[], None] = lambda: None,
    ):
        self.view = view
        self.tables = Tables(view)
        self.journal = journal
        self._redis = redis
        self._count = count
        self._changed = changed
        self._contract = contract
        self._unknown: set[str] = set()
        self._folds = _by_stream(folds, contract)
        self.streams = list(self._folds)
        if journal is not None:
            own = (stream.name for stream in contract.own_streams)
            self.streams += [name for name in own if name not in self._folds]
        self._plan: dict[str, dict[bytes, _Step]] = {}
        self._places: dict[str, list[Place]] = {}
        self._refused = ""
        self._reset()

    # What others ask.

    @property
    def ready(self) -> bool:
        return not self._refused and not any(self._behind())

    @property
    def status(self) -> str:
        """Why the view is not ready, as one clause; empty if it is."""
        return self._refused or "; ".join(self._behind())

    def _behind(self) -> Iterable[str]:
        for stream in self.streams:
            places = self._places.get(stream)
            if places is None:
                yield f"view {self.view.name} waits for stream {stream}"
                continue
            done = sum(min(place.anchor.n, place.target) for place in places)
            target = sum(place.target for place in places)
            if done < target:
                yield f"view {self.view.name} has read {done} of {target} facts of {stream}"

    def places(self) -> list[Place]:
        return [place for places in self._places.values() for place in places]

    @property
    def position(self) -> str:
        """Where the view is, as a token."""
        return format_positions(place.position for place in self.places() if place.anchor.n)

    def lag(self) -> list[tuple[str, int, int]]:
        """(stream, partition, facts behind the tail)."""
        return [
            (place.stream, place.partition, max(0, place.tail - place.anchor.n))
            for place in self.places()
        ]

    async def reach(self, position: Position, timeout: float) -> None:
        """Wait until the view has folded the fact at `position`.

        Raises:
            PositionNotReached, OtherEpoch, InvalidRequest
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
        if place.anchor.n >= position.n:
            return
        future = asyncio.get_running_loop().create_future()
        place.waiting[future] = position.n
        try:
            async with asyncio.timeout(timeout):
                await future
        except TimeoutError:
            raise PositionNotReached(str(position), str(place.position)) from None
        finally:
            del place.waiting[future]

    # The work.

    async def run(self) -> None:
        """Follow the log until cancelled.

        Returns only if there is nothing to follow, or the view must refuse to go on.
        """
        while True:
            self._reset()
            try:
                return await together(*map(self._follow_stream, self.streams))
            except LogGap as gap:
                self._count("factfold.log.alarms", view=self.view.name)
                self._refused = f"view {self.view.name} cannot be complete: {gap}"
                logger.error("%s; restore the log from a backup and restart", self._refused)
                self._changed()
                return
            except LogChanged as change:
                self._count("factfold.log.alarms", view=self.view.name)
                logger.error("the log changed: %s; rebuilding view %s", change, self.view.name)

    def _reset(self) -> None:
        self.tables = Tables(self.view)
        self._places.clear()
        if self.journal is not None:
            self.journal.clear()
        self._plan = {
            stream: {name: self._step(folds) for name, folds in by_type.items()}
            for stream, by_type in self._folds.items()
        }
        self._changed()

    def _step(self, folds: list[Fold[Any, Any]]) -> _Step:
        parse = folds[0].event.FromString
        return parse, [(fold.function, self.tables[fold.into]) for fold in folds]

    async def _follow_stream(self, stream: str) -> None:
        heads = await wait_for_stream(self._redis, stream)
        self._places[stream] = [
            Place(stream, partition, head) for partition, head in enumerate(heads)
        ]
        self._changed()
        await together(*map(self._follow, self._places[stream]))

    async def _follow(self, place: Place) -> None:
        reader = Reader(self._redis, place.stream, place.partition, place.epoch)
        try:
            async with aclosing(reader.batches()) as batches:
                async for batch in batches:
                    self.fold(place, batch.entries)
                    catching_up = place.anchor.n < place.target
                    place.advance(batch.anchor, batch.tail)
                    if self.journal is not None:
                        self.journal.take(place.stream, place.partition, batch.entries)
                    if catching_up and place.anchor.n >= place.target:
                        self._changed()
                    # A reply that is there already does not make asyncio look at anybody else.
                    await asyncio.sleep(0)
        except LogChanged as change:
            raise type(change)(
                f"stream {place.stream}, partition {place.partition}: {change}"
            ) from None

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
        """Fold entries in order. A fold that fails changes nothing, and is reported."""
        stream, partition, epoch = place.stream, place.partition, place.epoch
        plan = self._plan.get(stream, {})
        for entry in entries:
            fields = entry[1]
            try:
                if fields[0::2] != _NAMES:
                    fields = _in_order(fields)
                step = plan.get(fields[1])
                if step is None:
                    self._check_known(stream, fields[1])
                    continue
                parse, targets = step
                key = fields[3].decode()
                event = parse(fields[7])
                fact = Fact(stream, partition, epoch, entry)
                failure: Exception | None = None
                for function, rows in targets:
                    try:
                        rows.put(key, function(rows.get(key), event, fact))
                    except Exception as error:
                        failure = error  # no reason for other tables to miss the fact
                if failure is not None:
                    raise failure
            except Exception:
                # Skipped the same way in each rebuild: the view stays equal to its rebuild.
                self._count("factfold.view.errors", view=self.view.name, stream=stream)
                logger.exception(
                    "view %s cannot fold the fact at %s/%d@%s:%s; mend the fold and restart",
                    self.view.name, stream, partition, epoch, entry[0].decode(),
                )  # fmt: skip


def _in_order(fields: list[bytes]) -> list[bytes]:
    values = dict(zip(fields[0::2], fields[1::2], strict=True))
    return [part for name in _NAMES for part in (name, values[name])]


def _by_stream(
    folds: Iterable[Fold[Any, Any]], contract: Contract
) -> dict[str, dict[bytes, list[Fold[Any, Any]]]]:
    """Folds by stream and type; a table takes the folds of one stream only."""
    by_stream: dict[str, dict[bytes, list[Fold[Any, Any]]]] = {}
    stream_of: dict[Any, str] = {}
    for fold in folds:
        event = contract.event_of(fold.event)
        stream = event.stream.name
        if stream_of.setdefault(fold.into, stream) != stream:
            raise WiringError(
                f"table {fold.into.name} has folds of the streams {stream_of[fold.into]} and "
                f"{stream}: give each stream its table, and join them with View.join"
            )
        by_stream.setdefault(stream, {}).setdefault(event.name.encode(), []).append(fold)
    return by_stream
