"""Puts RPCs and messages into a contract where a person would, and touches nothing else of it."""

from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from factfold_cli.fields import Field
from factfold_cli.proto_text import Insertion, ProtoText
from factfold_cli.watched import Watched

# Places in a file's source info: numbers of the fields of FileDescriptorProto, and of those in
# ServiceDescriptorProto and DescriptorProto.
_PACKAGE, _DEPENDENCY, _MESSAGE, _SERVICE, _SYNTAX, _EDITION = 2, 3, 4, 6, 12, 14
_METHOD, _FIELD = 2, 2

_EVENT = "option (factfold.v1.event) = {};"
_KEY = " [(factfold.v1.key) = true]"
_NO_SIDE_EFFECTS = "option idempotency_level = NO_SIDE_EFFECTS;"
REQUEST_ID = Field(
    "request_id",
    "string",
    comment="// A UUID made by the caller (AIP-155): a repeated call gets the first answer.",
)


@dataclass
class Edit:
    """What is going to be put into one file of a contract.

    `events` are the full names of the messages that are events.
    """

    text: ProtoText
    events: Set[str]
    _insertions: list[Insertion] = field(default_factory=list)
    _imports: set[str] = field(default_factory=set)
    _rpcs: set[tuple[int, str]] = field(default_factory=set)
    _messages: set[str] = field(default_factory=set)
    _members: set[tuple[int, str]] = field(default_factory=set)

    def content(self) -> bytes:
        """The file as it will be."""
        return self.text.with_([*self._import_lines(), *self._insertions])

    def is_all_of(self, after: Any) -> bool:
        """Whether the FileDescriptorProto `after` has what was put in, and else is as before."""
        before, rest = type(after)(), type(after)()
        before.CopyFrom(self.text.file)
        rest.CopyFrom(after)
        taken = _take(rest.message_type, self._messages) + _take_text(
            rest.dependency, self._imports
        )
        for service, name in self._rpcs:
            taken += _take(rest.service[service].method, {name})
        for message, name in self._members:
            taken += _take(rest.message_type[message].field, {name})
        for each in (before, rest):
            each.ClearField("source_code_info")
        put_in = [*self._messages, *self._imports, *self._rpcs, *self._members]
        return bool(rest == before) and taken == len(put_in)

    def rpc(self, service: int, name: str, kind: str) -> None:
        """`name` of the `kind` "command", "query" or "watch", behind the service's last one."""
        self._rpcs.add((service, name))
        methods = self.text.file.service[service].method
        places = [(_SERVICE, service, _METHOD, at) for at in range(len(methods))]
        unit = self._unit()
        indent = self.text.indent(*places[-1]) if places else None
        if indent is None:
            indent = (self.text.indent(_SERVICE, service) or "") + unit
        stream = "stream " if kind == "watch" else ""
        head = f"{indent}rpc {name}({name}Request) returns ({stream}{name}Response)"
        option = [f"{head} {{", f"{indent}{unit}{_NO_SIDE_EFFECTS}", f"{indent}}}"]
        lines = [f"{head};"] if kind == "command" else option
        if places:
            blank = len(places) > 1 and self.text.parted(places[-2], places[-1])
            self._insertions.append(self.text.behind(lines, *places[-1], blank=blank))
        else:
            self._insertions.append(self.text.before_end(lines, _SERVICE, service))

    def calls(self, name: str, request: Sequence[Field], response: Sequence[Field]) -> None:
        """The messages of the RPC `name`, behind the last request or response."""
        lines = self._message(f"{name}Request", request)
        lines += ["", *self._message(f"{name}Response", response)]
        self._put(lines, self._call_types())

    def event(self, name: str, fields: Sequence[Field], key: str) -> None:
        """The event `name`, whose field `key` is the fact's key, behind the last event."""
        self._put(self._message(name, fields, _EVENT, key), self.events)

    def row(self, name: str, fields: Sequence[Field], comment: str) -> None:
        """The row `name`, behind the last message that is neither event, request nor response."""
        messages = {self._full(message.name) for message in self.text.file.message_type}
        lines = [f"// {comment}", *self._message(name, fields)]
        self._put(lines, messages - self._call_types() - self.events or self.events)

    def member(self, event: str, found: Watched) -> None:
        """The event `event`, in the `oneof` of what a watch answers with."""
        self._members.add((found.message, found.name))
        last = (_MESSAGE, found.message, _FIELD, found.last)
        indent = self.text.indent(*last)
        if indent is None:
            indent = 2 * self._unit()
        line = f"{indent}{event} {found.name} = {found.number};"
        self._insertions.append(self.text.behind([line], *last, blank=False))

    def _put(self, lines: list[str], behind: Set[str]) -> None:
        """A message, behind the last of those named in `behind`, else at the end of the file."""
        messages = enumerate(self.text.file.message_type)
        places = [at for at, message in messages if self._full(message.name) in behind]
        place = (_MESSAGE, places[-1]) if places else ()
        self._insertions.append(self.text.behind(lines, *place, blank=True))

    def _message(
        self, name: str, fields: Sequence[Field], option: str = "", key: str = ""
    ) -> list[str]:
        self._messages.add(name)
        unit = self._unit()
        body = [f"{unit}{option}"] if option else []
        for number, each in enumerate(fields, start=1):
            self._imports |= each.imports - {*self.text.file.dependency, self.text.file.name}
            if each.comment:
                body.append(f"{unit}{each.comment}")
            declared = f"{self._label(each)}{each.type} {each.name} = {number}"
            body.append(f"{unit}{declared}{_KEY if each.name == key else ''};")
        return [f"message {name} {{", *body, "}"] if body else [f"message {name} {{}}"]

    def _label(self, field_: Field) -> str:
        """What stands before the type: in proto2, always something."""
        proto2 = self.text.file.syntax in ("", "proto2") and not field_.type.startswith("map<")
        label = field_.label or ("optional" if proto2 else "")
        return f"{label} " if label else ""

    def _import_lines(self) -> list[Insertion]:
        """Behind the last import; else behind the package, or what there is of a head."""
        lines = [f'import "{path}";' for path in sorted(self._imports)]
        if not lines:
            return []
        if count := len(self.text.file.dependency):
            return [self.text.behind(lines, _DEPENDENCY, count - 1, blank=False)]
        heads: list[tuple[int, ...]] = [(_PACKAGE,), (_EDITION,), (_SYNTAX,), ()]
        place = next(place for place in heads if self.text.has(*place))
        return [self.text.behind(lines, *place, blank=True)]

    def _unit(self) -> str:
        """How far the file indents: as its first field or RPC, else two spaces."""
        file = self.text.file
        places = [
            *((_MESSAGE, at, _FIELD, 0) for at in range(len(file.message_type))),
            *((_SERVICE, at, _METHOD, 0) for at in range(len(file.service))),
        ]
        indents = (self.text.indent(*place) for place in places if self.text.has(*place))
        return next((indent for indent in indents if indent), "  ")

    def _call_types(self) -> set[str]:
        """The full names of what the file's RPCs take and give."""
        methods = [method for service in self.text.file.service for method in service.method]
        types = [type_ for each in methods for type_ in (each.input_type, each.output_type)]
        return {type_.removeprefix(".") for type_ in types}

    def _full(self, name: str) -> str:
        return f"{self.text.file.package}.{name}".removeprefix(".")


def _take(declared: Any, names: Set[str]) -> int:
    """Removes those that have these names; returns how many there were."""
    kept = [each for each in declared if each.name not in names]
    taken = len(declared) - len(kept)
    # The entries are messages of the container itself: copied before it is emptied.
    copies = [type(each).FromString(each.SerializeToString()) for each in kept]
    del declared[:]
    declared.extend(copies)
    return taken


def _take_text(texts: Any, taken: Set[str]) -> int:
    kept = [each for each in texts if each not in taken]
    count = len(texts) - len(kept)
    texts[:] = kept
    return count
