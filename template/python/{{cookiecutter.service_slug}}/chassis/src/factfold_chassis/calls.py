"""What a handler is given: a command appends, a query reads, a watch follows."""

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from google.protobuf.message import Message

from factfold_chassis.errors import (
    Draining,
    FailedPrecondition,
    InvalidRequest,
    NotReady,
    OtherEpoch,
    Unavailable,
)
from factfold_chassis.facts import (
    Entry,
    Fact,
    Position,
    format_positions,
    parse_positions,
    split_id,
)
from factfold_chassis.ids import derived_id
from factfold_chassis.log.link import LinkLost
from factfold_chassis.log.streams import Keys, read_head, read_trimmed
from factfold_chassis.views.declare import Table
from factfold_chassis.views.place import Place
from factfold_chassis.views.tables import Rows

if TYPE_CHECKING:
    from factfold_chassis.core import Core

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)
Row = TypeVar("Row", bound=Message)
Event = TypeVar("Event", bound=Message)

MAX_REQUEST_ID = 128  # characters
# Facts read at once while a watch catches up: the first time, and at most; the bytes that later
# reads aim at. A caller that is slow holds them.
WATCH_FIRST, WATCH_BATCH, WATCH_BYTES = 20, 500, 4 << 20


@dataclass(frozen=True, slots=True)
class Appended(Generic[Event]):
    """What an append put into the log, now or when the command came first."""

    event: Event
    version: int  # of the key after it; 0 on streams without versions
    position: Position
    repeated: bool  # the request_id was known: nothing was appended now


@dataclass(frozen=True, slots=True)
class Change:
    """One fact, as a watch sees it."""

    event: Message
    fact: Fact
    position: str  # token: resume behind this fact


class Query:
    """A query reads derived state and touches no network."""

    def __init__(self, core: "Core"):
        self._core = core

    def rows(self, table: Table[Row]) -> Rows[Row]:
        return self._core.view_of(table).tables[table]

    def position(self, table: Table[Any]) -> str:
        """Token of what `table` contains now, for a watch or for factfold-at-least."""
        return self._core.view_of(table).position


class Command(Query):
    """A command decides and appends.

    With a `request_id` in its request it may be repeated, through any instance: what was
    appended the first time is found again, and nothing is appended twice. That holds on streams
    declared versioned; on others only once this instance has seen the first.
    """

    def __init__(self, core: "Core", request: Message):
        super().__init__(core)
        self.request_id: str = getattr(request, "request_id", "")
        if len(self.request_id) > MAX_REQUEST_ID:
            raise InvalidRequest("request_id", f"must have at most {MAX_REQUEST_ID} characters")
        self._places: dict[tuple[str, int], Position] = {}
        self._behind: Counter[tuple[str, str]] = Counter()

    def new_id(self, stream: str = "") -> str:
        """The id of a new aggregate: the same one when the command is repeated."""
        stream = stream or self._core.own_stream
        if not self.request_id:
            return str(uuid.uuid4())
        return derived_id(stream, self.request_id)

    def repeats(self, key: str) -> bool:
        """Whether this command has appended to `key` before, in the state that `rows` shows.

        A check that its own success makes fail (already cancelled, name taken) must let a
        repeated command pass, so that it gets the first answer from `append`.
        """
        core = self._core
        return bool(self.request_id) and any(
            core.journal.answered(stream.name, key, self.request_id)
            for stream in core.contract.own_streams
        )

    async def append(
        self, event: Event, *more: Message, expected_version: int | None = None
    ) -> Appended[Event]:
        """Append events of one key, all or nothing, to the stream that declares them.

        Args:
            expected_version: the key's version that the decision was made on; 0: there is no
                such key yet. Streams declared versioned need it, others do not take it.

        Returns:
            of the last fact the version and position; of the first the event.

        Raises:
            VersionConflict: another command came first.
            LogUnreachable, LogFull, QueueFull, OutcomeUnknown, LogReplaced, InvalidRequest
        """
        appended = await self._core.append(
            event,
            more,
            expected_version,
            request_id=self.request_id,
            behind=self._behind,
        )
        place = appended.position
        self._places[place.stream, place.partition] = place
        return appended

    @property
    def positions(self) -> str:
        """Token of what this command appended; empty if nothing."""
        return format_positions(self._places.values())


class Watch(Query):
    """A watch follows the service's own stream."""

    def __init__(self, core: "Core"):
        super().__init__(core)
        self.last_position = ""

    async def changes(self, after: str = "", *, stream: str = "") -> AsyncIterator[Change]:
        """Each fact behind the token `after` (empty: behind none), then each new one.

        Facts of one key come in order; none is left out or sent twice. A fact comes once this
        instance has folded it. Facts of types that the contract does not declare are passed over,
        and so are entries that are no facts.

        Raises:
            Draining: the service ends; its position is where to resume.
            InvalidRequest, OtherEpoch, FailedPrecondition: the token cannot be resumed from.
        """
        core = self._core
        name = stream or core.own_stream
        events = core.contract.streams[name].events
        places = [place for place in core.owner.places() if place.stream == name]
        if not places:
            raise NotReady(core.owner.status)
        ends = _resume(places, after)
        # Written anew: `after` is any text, and this becomes a trailer.
        self.last_position = format_positions(end for end in ends if end.n)
        news = asyncio.Event()
        core.journal.watch(news)
        try:
            while True:
                news.clear()
                for place in places:
                    async for entry in self._behind(place, ends[place.partition]):
                        fact = Fact(name, place.partition, place.epoch, entry)
                        ends[place.partition] = fact.position
                        self.last_position = format_positions(end for end in ends if end.n)
                        try:
                            if (spec := events.get(fact.type)) is None:
                                continue
                            event = fact.read(spec.message)
                        except ValueError:
                            continue
                        yield Change(event, fact, self.last_position)
                        self._go_on(place)
                self._go_on(*places)
                await news.wait()
        finally:
            core.journal.unwatch(news)

    def _go_on(self, *places: Place) -> None:
        """Raises Draining or NotReady if nothing more can be sent."""
        if self._core.draining.is_set():
            raise Draining(self.last_position)
        owner = self._core.owner
        if owner.refused:
            raise NotReady(owner.refused)
        present = owner.places()
        if any(place not in present for place in places):
            raise NotReady(f"view {owner.view.name} has been rebuilt")

    async def _behind(self, place: Place, end: Position) -> AsyncGenerator[Entry]:
        """The entries of one partition behind `end` that this instance has folded."""
        count = WATCH_FIRST
        while end.n < place.anchor.n:
            # From the fact at `end` on: after a roll-back another one may stand there.
            entries = self._core.journal.recent(place.stream, place.partition, max(1, end.n))
            if entries is None:
                entries = await self._read(place, end, count)
                self._go_on(place)
                size = sum(len(fields[-1]) for _, fields in entries) + 1
                count = max(2, min(WATCH_BATCH, len(entries) * WATCH_BYTES // size))
            if entries and split_id(entries[0][0]) == (end.ms, end.n):
                entries = entries[1:]
            if not entries or split_id(entries[0][0])[1] != end.n + 1:
                raise FailedPrecondition(
                    f"the log does not go on from {end}: {await self._why(place, end)}; list "
                    "again and watch from the position that comes with it"
                )
            for entry in entries:
                ms, n = split_id(entry[0])
                if n > place.anchor.n:
                    return
                end = Position(place.stream, place.partition, place.epoch, ms, n)
                yield entry

    async def _why(self, place: Place, end: Position) -> str:
        """Why the facts behind `end` are not there."""
        keys = Keys(place.stream, place.partition)
        with suppress(LinkLost):
            async with self._core.redis.link(keys["head"]) as link:
                if (trimmed := await read_trimmed(link, keys)) > end.n:
                    return f"facts up to {trimmed} were trimmed"
        return "facts were removed, or it was rolled back"

    async def _read(self, place: Place, end: Position, count: int) -> list[Entry]:
        keys = Keys(place.stream, place.partition)
        try:
            async with self._core.redis.link(keys["log"], keys["head"]) as link:
                entries: list[Entry] = await link.call(
                    "XRANGE", keys["log"], f"{end.ms}-{end.n}", "+", "COUNT", count
                )
                head = await read_head(link, place.stream, place.partition)
        except LinkLost as error:
            raise Unavailable(
                f"the log of stream {place.stream} cannot be read ({error}); "
                "watch again from factfold-position",
                position=self.last_position,
            ) from None
        if head is None or head.epoch != place.epoch:
            raise NotReady(f"the log of stream {place.stream} was replaced")
        return entries


def _resume(places: list[Place], after: str) -> list[Position]:
    """Where a watch begins in each partition."""
    ends = [Position(place.stream, place.partition, place.epoch, 0, 0) for place in places]
    for position in parse_positions(after, "after"):
        if not places or position.stream != places[0].stream:
            continue
        if position.partition >= len(places):
            raise InvalidRequest("after", f"there is no partition {position.partition}")
        place = places[position.partition]
        if position.epoch != place.epoch:
            raise OtherEpoch(str(position), str(place.position))
        ends[position.partition] = position
    return ends


Kind = Literal["command", "query", "watch"]


@dataclass(frozen=True, slots=True, eq=False)
class Handler:
    """The code behind one RPC; its name is the RPC's in snake case."""

    kind: Kind
    function: Callable[..., Any]

    @property
    def name(self) -> str:
        return self.function.__name__

    def __call__(self, *args: Any) -> Any:
        return self.function(*args)


def command(function: Callable[[Request, Command], Awaitable[Response]]) -> Handler:
    """Declare the handler of an RPC that may append."""
    return Handler("command", function)


def query(function: Callable[[Request, Query], Response]) -> Handler:
    """Declare the handler of an RPC without side effects. A plain function: it cannot wait."""
    return Handler("query", function)


def watch(function: Callable[[Request, Watch], AsyncIterator[Response]]) -> Handler:
    """Declare the handler of an RPC that streams changes."""
    return Handler("watch", function)
