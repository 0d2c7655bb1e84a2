"""A reader of Go source: tokens, imports and top-level declarations, as far as factfold needs."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

_TOKEN = re.compile(
    r"""(?P<blank> \s+ | //[^\n]* | /\*.*?\*/ )
    | `[^`]*` | "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])+'
    | [^\W\d]\w* | \d[\w.]* | \.\.\. | .""",
    re.DOTALL | re.VERBOSE,
)
_OPEN, _CLOSE = "([{", ")]}"


@dataclass(frozen=True)
class Token:
    text: str
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)


Tokens = Sequence[Token]


def tokens(text: str) -> list[Token]:
    """All but blanks and comments."""
    return [
        Token(found.group(), found.start())
        for found in _TOKEN.finditer(text)
        if found.lastgroup != "blank"
    ]


def closing(found: Tokens, at: int) -> int:
    """The index of the bracket that closes the one at `at`; of the last token if none does."""
    depth = 0
    for index in range(at, len(found)):
        depth += (found[index].text in _OPEN) - (found[index].text in _CLOSE)
        if not depth:
            return index
    return len(found) - 1


def inside(found: Tokens, at: int) -> list[list[Token]]:
    """What stands in the bracket at `at`, split at its commas."""
    parts: list[list[Token]] = [[]]
    index = at + 1
    end = closing(found, at)
    while index < end:
        token = found[index]
        if token.text == ",":
            parts.append([])
            index += 1
            continue
        after = closing(found, index) + 1 if token.text in _OPEN else index + 1
        parts[-1] += found[index:after]
        index = after
    return [part for part in parts if part]


def texts(found: Tokens) -> list[str]:
    return [token.text for token in found]


@dataclass(frozen=True)
class Function:
    """A function or a method; `receiver` is the name of its type, "" if it is none.

    `parameters` are the types of those, "" where several share one; `body` has its brackets.
    """

    name: str
    receiver: str
    parameters: tuple[tuple[Token, ...], ...]
    body: tuple[Token, ...]


@dataclass(frozen=True)
class Source:
    """One file. `package` is its import path, `path` is relative to the repository."""

    path: str
    package: str
    text: str = field(repr=False)

    @cached_property
    def tokens(self) -> list[Token]:
        return tokens(self.text)

    def _declared(self, keyword: str) -> Iterator[int]:
        """The indices of a keyword that begins a declaration: gofmt puts no other at the margin."""
        at = 0
        while at < len(self.tokens):
            text, start = self.tokens[at].text, self.tokens[at].start
            if text == keyword and self.text[:start][-1:] in ("", "\n"):
                yield at
            at = closing(self.tokens, at) + 1 if text in _OPEN else at + 1

    def check(self) -> None:
        """Raises ValueError if this can be no Go."""
        depth = 0
        for token in self.tokens:
            depth += (token.text in _OPEN) - (token.text in _CLOSE)
            if depth < 0:
                break
        if depth or texts(self.tokens[:1]) != ["package"]:
            raise ValueError("brackets without their counterparts, or no package")
        try:
            _ = self.imports, self.functions, self.embedded, self.declares
        except IndexError as error:
            raise ValueError("a declaration that does not end") from error

    @cached_property
    def imports(self) -> dict[str, str]:
        """The path of each package that is imported, by its name here."""
        found: dict[str, str] = {}
        for at in self._declared("import"):
            end = at + 3
            if self.tokens[at + 1].text == "(":
                end = closing(self.tokens, at + 1)
            for index in range(at + 1, min(end, len(self.tokens))):
                text = self.tokens[index].text
                if text[0] in '"`':
                    path = text[1:-1]
                    before = self.tokens[index - 1].text
                    named = (before.isidentifier() and before != "import") or before in "._"
                    found[before if named else path.rpartition("/")[2]] = path
                    if self.tokens[at + 1].text != "(":
                        break
        return found

    @cached_property
    def functions(self) -> list[Function]:
        return [self._function(at) for at in self._declared("func")]

    def _function(self, at: int) -> Function:
        at += 1
        receiver = ""
        if self.tokens[at].text == "(":
            words = texts(self.tokens[at : closing(self.tokens, at)])
            # (s *service) or (service[T]): the last name before brackets of types.
            plain = words[: words.index("[")] if "[" in words else words
            receiver = plain[-1]
            at = closing(self.tokens, at) + 1
        name = self.tokens[at].text
        at += 1
        if self.tokens[at].text == "[":
            at = closing(self.tokens, at) + 1
        parameters, end = signature(self.tokens, at)
        while end < len(self.tokens) and self.tokens[end].text != "{":
            # Results in brackets, or a function without body.
            if self.tokens[end].text in ("func", "var", "type", "const"):
                return Function(name, receiver, parameters, ())
            end = closing(self.tokens, end) + 1 if self.tokens[end].text in _OPEN else end + 1
        body = tuple(self.tokens[end : closing(self.tokens, end) + 1]) if self.tokens[end:] else ()
        return Function(name, receiver, parameters, body)

    @cached_property
    def embedded(self) -> dict[str, list[str]]:
        """What each struct embeds, as dotted names, by the name of the struct."""
        found: dict[str, list[str]] = {}
        for at in self._declared("type"):
            words = texts(self.tokens[at : at + 4])
            if words[2:] != ["struct", "{"]:
                continue
            end = closing(self.tokens, at + 3)
            rows: dict[int, list[Token]] = {}
            for token in self.tokens[at + 4 : end]:
                rows.setdefault(self.text.count("\n", 0, token.start), []).append(token)
            found[words[1]] = [name for row in rows.values() if (name := self.dotted(row))]
        return found

    @cached_property
    def variables(self) -> dict[str, list[Token]]:
        """What each variable of the package begins with, by its name."""
        found: dict[str, list[Token]] = {}
        for start in self._specs("var"):
            if self.tokens[start + 1].text == "=":
                found[self.tokens[start].text] = self.tokens[start + 2 : start + 30]
        return found

    def _specs(self, keyword: str) -> Iterator[int]:
        """The index of the first name of each declaration, also of those in brackets."""
        for at in self._declared(keyword):
            if self.tokens[at + 1].text != "(":
                yield at + 1
                continue
            index, end = at + 2, closing(self.tokens, at + 1)
            ended = True
            while index < end:
                if ended:
                    yield index
                if self.tokens[index].text in _OPEN:
                    index = closing(self.tokens, index)
                ended = self._ends_line(index)
                index += 1

    def _ends_line(self, at: int) -> bool:
        """Whether a declaration ends with this token, by the language's rule for semicolons."""
        last = self.tokens[at].text[-1]
        may = last.isalnum() or last in "_)]}\"'`"
        behind = self.tokens[at + 1].start
        return may and "\n" in self.text[self.tokens[at].end : behind]

    @cached_property
    def declares(self) -> set[str]:
        """The names of what stands in this file for the whole package."""
        functions = {each.name for each in self.functions if not each.receiver}
        found = set()
        for start in (
            each for keyword in ("type", "var", "const") for each in self._specs(keyword)
        ):
            found.add(self.tokens[start].text)
            # a, b = 1, 2
            while self.tokens[start + 1].text == ",":
                start += 2
                found.add(self.tokens[start].text)
        return functions | found

    def dotted(self, found: Tokens) -> str:
        """The name that an expression or a type stands for, from its import path; "" if none."""
        words = texts(found)
        while words and words[0] in ("*", "&", "("):
            words = words[1:]
        if len(words) == 1 and words[0].isidentifier():
            return f"{self.package}.{words[0]}"
        if len(words) == 3 and words[1] == "." and words[0] in self.imports:
            return f"{self.imports[words[0]]}.{words[2]}"
        return ""


def signature(found: Tokens, at: int) -> tuple[tuple[tuple[Token, ...], ...], int]:
    """The types of the parameters in the bracket at `at`, and the index behind it."""
    types = []
    for parameter in inside(found, at):
        named = len(parameter) > 1 and parameter[0].text.isidentifier()
        named = named and parameter[1].text != "."
        types.append(tuple(parameter[1:] if named else parameter))
    return tuple(types), closing(found, at) + 1
