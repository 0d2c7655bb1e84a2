"""Puts lines into internal/app/app.go, where gofmt would have them."""

from pathlib import Path

from factfold_cli.errors import Refused
from factfold_cli.languages.go_code import CHASSIS
from factfold_cli.languages.go_source import Source, Token, closing

PATH = "internal/app/app.go"
_DESCRIPTOR = "google.golang.org/protobuf/reflect/protoreflect.FileDescriptor"


def read(root: Path, *kinds: str) -> "App":
    """That of a repository, in which such kinds of things can be named; raises Refused if not."""
    path = root / PATH
    if not path.is_file():
        raise Refused(f"there is no {PATH} to name it in; take it back from git")
    app = App(path.read_bytes().decode(), *kinds)
    if app.problem:
        raise Refused(f"{app.problem}; write one")
    return app


class App:
    """The text of app.go, to be added to. `problem` says why nothing can be, "" if it can."""

    def __init__(self, text: str, *kinds: str) -> None:
        self.text = text
        missing = [kind for kind in kinds if len(self._lists(kind)) != 1]
        self.problem = ""
        if missing:
            self.problem = f"{PATH} has no plain list []chassis.{missing[0]}{{…}} to name it in"
        elif self._imports() is None:
            self.problem = f"{PATH} has no block of imports"

    @property
    def _source(self) -> Source:
        return Source(PATH, "service/internal/app", self.text)

    def add_fold(self, table: str, function: str) -> None:
        """Names a fold and its table, both dotted names."""
        into, fold = self._named(table), self._named(function)
        chassis = self._named(f"{CHASSIS}.NewFold")
        (at,) = self._lists("Fold")
        self._append(at, f"{chassis}({into}, {fold})")

    def add_reaction(self, name: str, function: str) -> None:
        """Names a reaction, a dotted name; its position is kept under `name`."""
        answer, chassis = self._named(function), self._named(f"{CHASSIS}.NewReaction")
        (at,) = self._lists("Reaction")
        self._append(at, f'{chassis}("{name}", {answer})')

    def add_subscription(self, descriptor: str, alias: str) -> None:
        """Names the descriptor of another service's contract, a dotted name.

        `alias` is what its package is imported as. Raises Refused.
        """
        if self._field("Subscriptions") is None and not self._begin_subscriptions():
            raise Refused(
                f"{PATH} has no list Subscriptions, and no list Contract to begin one below; "
                "write Subscriptions: []protoreflect.FileDescriptor{}"
            )
        named = self._named(descriptor, alias)
        at = self._field("Subscriptions")
        assert at is not None
        self._append(at, named)

    def _field(self, name: str) -> int | None:
        """The index of the bracket of the literal <name>: []protoreflect.FileDescriptor{…}."""
        found = self._source.tokens
        for at in self._literals(_DESCRIPTOR):
            if [token.text for token in found[at - 7 : at - 5]] == [name, ":"]:
                return at
        return None

    def _begin_subscriptions(self) -> bool:
        """An empty list behind that of the service's own contract, if that is there."""
        found, contract = self._source.tokens, self._field("Contract")
        if contract is None:
            return False
        behind = closing(found, contract) + 1
        line = self.text.rfind("\n", 0, found[contract - 7].start) + 1
        indent = self.text[line : found[contract - 7].start]
        if indent.strip() or found[behind].text != ",":
            return False
        kind = self.text[found[contract - 5].start : found[contract].start]
        field = f"{indent}Subscriptions: {kind}{{{self._end}{indent}}},"
        self._insert(found[behind].end, f"{self._end}{field}")
        return True

    def _lists(self, kind: str) -> list[int]:
        return self._literals(f"{CHASSIS}.{kind}")

    def _literals(self, element: str) -> list[int]:
        """The indices of the brackets of each literal []<element>{…}, a dotted name."""
        source = self._source
        found = source.tokens
        return [
            at + 5
            for at in range(len(found) - 5)
            if (found[at].text, found[at + 1].text, found[at + 5].text) == ("[", "]", "{")
            and source.dotted(found[at + 2 : at + 5]) == element
        ]

    def _append(self, at: int, element: str) -> None:
        """Makes `element` the last one of the literal whose bracket has the index `at`."""
        found = self._source.tokens
        close, last = found[closing(found, at)], found[closing(found, at) - 1]
        line = self.text.rfind("\n", 0, close.start) + 1
        indent = self.text[line : close.start]
        if not indent.strip():
            self._insert(line, f"{indent}\t{element},{self._end}")
        elif last.text == "{":
            self._insert(close.start, element)
        else:
            self._insert(close.start, f", {element}")

    def _named(self, dotted: str, preferred: str = "") -> str:
        """A name of another package as code writes it, which is imported from now on."""
        path, _, name = dotted.rpartition(".")
        source = self._source
        if path == source.package:
            return name
        for alias, imported in source.imports.items():
            if imported == path and alias not in "._":
                return f"{alias}.{name}"
        last = path.rpartition("/")[2]
        alias = preferred or last
        if alias in source.imports:
            alias = path.removeprefix("service/").replace("/", "")
        self._import(path, f'"{path}"' if alias == last else f'{alias} "{path}"')
        return f"{alias}.{name}"

    def _imports(self) -> tuple[Token, Token] | None:
        """The brackets of the import block."""
        found = self._source.tokens
        for at in range(len(found) - 1):
            if (found[at].text, found[at + 1].text) == ("import", "("):
                return found[at + 1], found[closing(found, at + 1)]
        return None

    def _import(self, path: str, spec: str) -> None:
        """Into the service's own group, by the order of paths, as gofmt sorts it."""
        brackets = self._imports()
        assert brackets is not None
        first, last = brackets
        own = [
            token
            for token in self._source.tokens
            if first.start < token.start < last.start and token.text.startswith('"service/')
        ]
        behind = next((token for token in own if token.text > f'"{path}"'), None)
        if behind is not None:
            at = self.text.rfind("\n", 0, behind.start) + 1
        else:
            at = self.text.rfind("\n", 0, last.start) + 1
        group = "" if own else self._end
        self._insert(at, f"{group}\t{spec}{self._end}")

    @property
    def _end(self) -> str:
        return "\r\n" if "\r\n" in self.text else "\n"

    def _insert(self, at: int, text: str) -> None:
        self.text = self.text[:at] + text + self.text[at:]
