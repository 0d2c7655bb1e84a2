"""What has to be known of a language before code can be written in it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from factfold_cli.samples import shared

if TYPE_CHECKING:
    from factfold_cli.declared import Declared, Rpc, Stream
    from factfold_cli.repository import Repository

# What declares a handler; "handler" is one that may answer any call.
HANDLERS = ("command", "query", "watch", "handler")


@dataclass(frozen=True)
class Part:
    """A handler, a fold or a reaction.

    `kind` is what declares it: one of HANDLERS, "fold" or "reaction"; `path` is relative to the
    repository. `events` and `into` are dotted names, of the language's own kind, such as
    "service.contract.OrderCreated"; what is no name stands as "".
    """

    kind: str
    name: str
    path: str
    events: tuple[str, ...] = ()
    into: str = ""


@dataclass(frozen=True)
class NewFold:
    """A fold that is to be written: of an event of `stream`, into `table`.

    `first` is an event of the stream that has a fold already; `row` is what the table's rows are,
    as a dotted name.
    """

    stream: "Stream"
    event: str
    first: str
    table: str
    row: str

    @property
    def name(self) -> str:
        """The event's name without its package."""
        return self.event.rpartition(".")[2]


@dataclass(frozen=True)
class NewView:
    """A view that is to be written: a table of messages `row`, a full name, and folds into it.

    `events` are what is folded, full names too, each with its stream.
    """

    name: str
    row: str
    events: Sequence[tuple["Stream", str]]


@dataclass(frozen=True)
class NewReaction:
    """A reaction that is to be written: to `event` of `stream`.

    It appends the event `appended` of the stream `appends`, unless that is None.
    """

    name: str
    stream: "Stream"
    event: str
    appends: "Stream | None" = None
    appended: str = ""

    def taken_over(self, known: "Declared") -> dict[str, str]:
        """Examples of the fields that it copies from one event to the other, by name."""
        if self.appends is None:
            return {}
        same = shared(known.messages[self.appended][1], known.messages[self.event][1])
        return {name: same[name] for name in same if name != self.appends.events[self.appended]}


class Code(Protocol):
    """What the team's code declares, read without running it."""

    @property
    def parts(self) -> Sequence[Part]:
        """All handlers, folds and reactions."""

    def answering(self) -> set[str]:
        """The names of whatever may answer an RPC, for certain or not."""

    def origin(self, dotted: str) -> str:
        """Where a name comes from, if others only pass it on."""

    def row_of(self, table: str) -> str:
        """The message that the rows of a table are, as a dotted name; "" if it cannot be told."""

    def views(self) -> set[str]:
        """The names of all views. Raises Refused, by file and line, if one cannot be told."""


class Language(Protocol):
    """One language: where things lie, what they are called, what a new file looks like."""

    def make_stubs(self, root: Path) -> str:
        """What makes the stubs anew, in the folder of the repository, as far as that is set up."""

    @property
    def unwritten(self) -> bytes:
        """What a file has that the team has to write."""

    def run_tests(self, tests: Sequence[str]) -> str:
        """What runs the tests at those paths, in the folder of the repository."""

    def in_stubs(self, file: Any, name: str) -> bool:
        """Whether the stubs of a file, a FileDescriptorProto, have a message's `name` already."""

    def code(self, root: Path) -> Code:
        """The team's code; raises Failed if a file of it cannot be read."""

    def names(self, known: "Declared", code: Any) -> dict[str, str]:
        """The full name of each message, by each dotted name that the code may call it by."""

    def of_a_contract(self, dotted: str) -> bool:
        """Whether a dotted name is one of a contract, if only of a former one."""

    def wiring(self, manifest: Mapping[str, Any], known: "Declared") -> dict[str, bytes]:
        """Code that follows from the contract alone; raises Refused if none can."""

    def is_test(self, path: str) -> bool:
        """Whether the file at `path` is a test."""

    def shown_kind(self, kind: str) -> str:
        """What a handler of that kind is called."""

    def needed_kind(self, kind: str) -> str:
        """The same, and how one is written."""

    def unwired(self, repository: "Repository") -> Iterator[str]:
        """One line on each thing of the contract that the code has to name and does not."""

    def handler_paths(self, rpc: str) -> tuple[str, str]:
        """Where the handler of an RPC, and its test, are written to."""

    def no_handler(self, repository: "Repository", rpc: "Rpc") -> str:
        """Why no handler of `rpc` can be made, "" if one can."""

    def to_write(self, rpc: "Rpc", kind: str) -> str:
        """What the team has to write if the file of the handler is there without one."""

    def handler(self, repository: "Repository", rpc: "Rpc", kind: str) -> dict[str, bytes]:
        """A handler to start from, and behind it a test that fails."""

    def fold_paths(self, event: str) -> tuple[str, str]:
        """Where the fold of an event, its name without package, and its test are written to."""

    def no_fold(self, repository: "Repository", fold: NewFold) -> str:
        """Why the fold cannot be made, "" if it can."""

    def fold(self, repository: "Repository", fold: NewFold) -> dict[str, bytes]:
        """A fold to start from, and behind it a test that fails."""

    def view(self, repository: "Repository", new: NewView) -> dict[str, bytes]:
        """A table, and for each event a fold with its test; raises Refused."""

    def named_view(self, repository: "Repository", new: NewView) -> dict[str, bytes]:
        """The team's files in which its folds have to be named, with them; raises Refused."""

    @property
    def nothing(self) -> str:
        """What a reaction returns that appends nothing."""

    def reaction(self, repository: "Repository", new: NewReaction) -> dict[str, bytes]:
        """A reaction to start from, and behind it a test that fails; raises Refused."""

    def named(self, repository: "Repository", new: NewReaction) -> dict[str, bytes]:
        """The team's files in which the reaction has to be named, with it; raises Refused."""

    def wired(self, repository: "Repository", folds: Sequence[NewFold]) -> dict[str, bytes]:
        """The team's files in which new folds have to be named, with them."""
