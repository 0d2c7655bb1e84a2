"""What the team's Go code declares: methods that answer calls, and what app.go makes of functions.

Read from its text, so no Go is needed; gofmt has seen it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from factfold_cli.code import no_name_of_a_view
from factfold_cli.errors import Failed, Refused
from factfold_cli.languages.go_names import STUBS
from factfold_cli.languages.go_source import Function, Source, Tokens, closing, inside, signature
from factfold_cli.languages.protocol import HANDLERS, Part
from factfold_cli.repository import Repository

CHASSIS = "factfold/chassis"
_FOLDERS = ("internal", "cmd")
_KINDS = {"CommandFrom": "command", "QueryFrom": "query", "WatchFrom": "watch"}


class GoCode:
    """All Go below internal/ and cmd/ of the repository `root`, without its tests.

    Raises Failed if a file can be no Go.
    """

    def __init__(self, root: Path) -> None:
        self.sources: list[Source] = []
        for folder in _FOLDERS:
            for path in sorted((root / folder).rglob("*.go")):
                shown = path.relative_to(root).as_posix()
                if path.name.endswith("_test.go"):
                    continue
                package = f"service/{Path(shown).parent.as_posix()}"
                try:
                    source = Source(shown, package, path.read_bytes().decode())
                    source.check()
                except ValueError as error:
                    raise Failed(f"{shown} is no Go ({error}); mend it, then sync again") from error
                self.sources.append(source)
        self.parts = sorted(
            {*self._handlers(), *self._made()}, key=lambda part: (part.path, part.name)
        )

    def answering(self) -> set[str]:
        return {part.name for part in self.parts if part.kind in HANDLERS}

    def origin(self, dotted: str) -> str:
        return dotted

    def row_of(self, table: str) -> str:
        package, _, name = table.rpartition(".")
        for source in self._of(package):
            match [*source.variables.get(name, [])]:
                case [first, dot, made, bracket, *_] as found if (
                    source.dotted([first, dot, made]) == f"{CHASSIS}.NewTable"
                    and bracket.text == "["
                ):
                    return source.dotted(inside(found, 3)[0])
        return ""

    def views(self) -> set[str]:
        """The names of all views. Raises Refused, by file and line, if one cannot be told."""
        names = set()
        for source in self.sources:
            found = source.tokens
            for at in range(len(found) - 3):
                if source.dotted(found[at : at + 3]) != f"{CHASSIS}.NewView":
                    continue
                name = _text(inside(found, at + 3)[0])
                if not name:
                    line = source.text.count("\n", 0, found[at].start) + 1
                    raise Refused(no_name_of_a_view(source.path, line))
                names.add(name)
        return names

    def declaring(self, package: str, name: str) -> str:
        """The file that has `name` for the whole package, "" if none has."""
        return next((each.path for each in self._of(package) if name in each.declares), "")

    def server(self, service: str) -> str:
        """The type in internal/handlers that answers the calls of the gRPC service."""
        for source in self._of("service/internal/handlers"):
            for name, embedded in source.embedded.items():
                if any(_serves(each) == service for each in embedded):
                    return name
        return ""

    @cached_property
    def mentioned(self) -> set[str]:
        """All names of other packages that are used anywhere."""
        return {
            source.dotted(source.tokens[at : at + 3])
            for source in self.sources
            for at in range(len(source.tokens) - 2)
            if source.tokens[at + 1].text == "."
        }

    def _of(self, package: str) -> Iterator[Source]:
        return (source for source in self.sources if source.package == package)

    def _handlers(self) -> Iterator[Part]:
        """The exported methods of what embeds a server of the stubs."""
        servers = {
            (source.package, name)
            for source in self.sources
            for name, embedded in source.embedded.items()
            if any(map(_serves, embedded))
        }
        for source in self.sources:
            for each in source.functions:
                if (source.package, each.receiver) in servers and each.name[:1].isupper():
                    yield Part(_kind(source, each), each.name, source.path)

    def _made(self) -> Iterator[Part]:
        """Calls of chassis.NewFold, NewReaction and NewReactionTo."""
        for source in self.sources:
            found = source.tokens
            for at in range(len(found) - 3):
                made = source.dotted(found[at : at + 3]) if found[at + 1].text == "." else ""
                origin, _, name = made.rpartition(".")
                opens = at + 3
                if origin == CHASSIS and found[opens].text == "[":
                    opens = closing(found, opens) + 1
                if origin != CHASSIS or found[opens].text != "(":
                    continue
                arguments = inside(found, opens)
                match name, arguments:
                    case "NewFold", [table, function]:
                        into = source.dotted(table)
                        yield self._part("fold", source, function, into)
                    case "NewReaction", [called, function]:
                        part = self._part("reaction", source, function, "")
                        yield replace(part, name=_text(called) or part.name)
                    case "NewReactionTo", [called, function, *events]:
                        part = self._part("reaction", source, function, "")
                        names = tuple(map(source.dotted, map(_type, events)))
                        yield replace(part, name=_text(called) or part.name, events=names)

    def _part(self, kind: str, source: Source, function: Tokens, into: str) -> Part:
        dotted = source.dotted(function)
        package, _, name = dotted.rpartition(".")
        for its in self._of(package):
            for each in its.functions:
                if each.name == name and not each.receiver:
                    return Part(kind, name, its.path, (_event(its, each.parameters),), into)
        if function[0].text == "func":
            parameters, _ = signature(function, 1)
            return Part(kind, "func", source.path, (_event(source, parameters),), into)
        return Part(kind, name, source.path, ("",), into)


def code_of(repository: Repository) -> GoCode:
    code = repository.code
    assert isinstance(code, GoCode)
    return code


def _text(value: Tokens) -> str:
    """A string's, "" if it is none that stands there."""
    return value[0].text[1:-1] if len(value) == 1 and value[0].text[0] in '"`' else ""


def _event(source: Source, parameters: Sequence[Tokens]) -> str:
    """The event is the second parameter of a fold and of a reaction."""
    return source.dotted(parameters[1]) if len(parameters) > 1 else ""


def _type(value: Tokens) -> Tokens:
    """That of &contract.OrderCreated{} and of (*contract.OrderCreated)(nil)."""
    if value[0].text == "(":
        return value[1 : closing(value, 0)]
    opens = next((at for at, token in enumerate(value) if token.text == "{"), len(value))
    return value[:opens]


def _serves(embedded: str) -> str:
    """The gRPC service of an embedded UnsafeOrderServiceServer, "" if it is something else."""
    package, _, name = embedded.rpartition(".")
    for start in ("Unsafe", "Unimplemented"):
        if package.startswith(f"{STUBS}/") and name.startswith(start) and name.endswith("Server"):
            return name.removeprefix(start).removesuffix("Server")
    return ""


def _kind(source: Source, function: Function) -> str:
    body = function.body
    for at in range(len(body) - 2):
        if body[at + 1].text != "." or body[at + 2].text not in _KINDS:
            continue
        if source.dotted(body[at : at + 3]).startswith(f"{CHASSIS}."):
            return _KINDS[body[at + 2].text]
    return "handler"
