"""How a service says what it answers to which facts."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from google.protobuf.message import Message

from factfold_chassis.calls import Query
from factfold_chassis.facts import Fact
from factfold_chassis.ids import derived_id

if TYPE_CHECKING:
    from factfold_chassis.core import Core

Event = TypeVar("Event", bound=Message)


@dataclass(frozen=True, slots=True)
class Append:
    """An event that a reaction wants in the log.

    `expected_version` as in Command.append: needed on streams declared versioned. If the key has
    another version by then, the fact becomes a dead letter and is answered again.
    """

    event: Message
    expected_version: int | None = None


Outputs = Append | Sequence[Append] | None


class Reacting(Query):
    """What a reaction is given beside the event."""

    def __init__(self, core: "Core", fact: Fact):
        super().__init__(core)
        self.fact = fact

    def new_id(self, stream: str = "") -> str:
        """The id of a new aggregate: the same one whenever this fact is answered."""
        return derived_id(stream or self._core.own_stream, str(self.fact.id))


ReactionFunction = Callable[[Event, Reacting], Awaitable[Outputs]]


@dataclass(frozen=True, slots=True, eq=False)
class Reaction:
    """What the service answers to some event types of one stream.

    Its position in the stream is kept under the name of the function: renaming it starts anew.
    """

    events: tuple[type[Message], ...]
    function: Callable[[Any, Reacting], Awaitable[Outputs]]

    @property
    def name(self) -> str:
        return self.function.__name__

    async def __call__(self, event: Message, call: Reacting) -> Outputs:
        return await self.function(event, call)


def reaction(
    event: type[Event], *more: type[Event]
) -> Callable[[ReactionFunction[Event]], Reaction]:
    """Declare a reaction: `await function(event, call)` returns what to append.

    What it returns is appended exactly once per fact, whatever crashes. Anything else that it
    does happens at least once. Facts of one key are answered in order, one after the other. A
    new reaction answers all history; one that must not looks at `call.fact.time`.
    """

    def declare(function: ReactionFunction[Event]) -> Reaction:
        return Reaction((event, *more), function)

    return declare
