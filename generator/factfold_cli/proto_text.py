"""The text of a .proto file, and where new lines can be put in it without touching the others.

Where a declaration begins and ends is what protoc says (its source info). Only what lies between
two declarations is looked at here: white space, `;` and comments.
"""

from dataclasses import dataclass, field
from typing import Any

_BLANK = b" \t\r\f\v"
_TAB = 8  # columns, as protoc counts them


@dataclass(frozen=True)
class Insertion:
    """Bytes to put in at an offset."""

    at: int
    text: bytes


@dataclass(frozen=True)
class ProtoText:
    """The `content` of a file, with the `file` (FileDescriptorProto) that protoc made of it.

    Places are paths as in google.protobuf.SourceCodeInfo: (6, 0, 2, 1) is the second method of the
    first service.
    """

    content: bytes
    file: Any
    _spans: dict[tuple[int, ...], tuple[int, int]] = field(init=False)

    def __post_init__(self) -> None:
        lines = [0]
        while (end := self.content.find(b"\n", lines[-1])) >= 0:
            lines.append(end + 1)
        spans: dict[tuple[int, ...], tuple[int, int]] = {}
        for location in self.file.source_code_info.location:
            first, column, *rest = location.span
            last, end_column = rest if len(rest) == 2 else (first, rest[0])
            spans[tuple(location.path)] = (
                self._offset(lines[first], column),
                self._offset(lines[last], end_column),
            )
        object.__setattr__(self, "_spans", spans)

    @property
    def newline(self) -> str:
        """How the file's first line ends."""
        first, found, _ = self.content.partition(b"\n")
        return "\r\n" if found and first.endswith(b"\r") else "\n"

    def span(self, *place: int) -> tuple[int, int]:
        """Offsets of the first byte of the declaration at `place`, and behind its last."""
        return self._spans[place]

    def has(self, *place: int) -> bool:
        return place in self._spans

    def indent(self, *place: int) -> str | None:
        """The white space before the declaration at `place`; None if it starts no line."""
        start, _ = self.span(*place)
        before = self.content[self.content.rfind(b"\n", 0, start) + 1 : start]
        return None if before.strip(_BLANK) else before.decode()

    def behind(self, lines: list[str], *place: int, blank: bool) -> Insertion:
        """`lines` behind the declaration at `place` and the comments that belong to it.

        With `blank`, an empty line parts them from what is before and behind.
        """
        _, end = self.span(*place)
        at = _rest_of_line(self.content, end)
        if at is None:  # More code follows on the line.
            return Insertion(end, self._text(["", *([""] if blank else []), *lines, ""]))
        at = _own_comment(self.content, at)
        if not self.content[:at].endswith(b"\n"):  # The last line of a file, without an end.
            return Insertion(at, self._text(["", *([""] if blank else []), *lines]))
        next_line = self.content[at:].split(b"\n", 1)[0].strip(_BLANK)
        follows = next_line and not next_line.startswith(b"}")
        return Insertion(
            at,
            self._text(
                [*([""] if blank else []), *lines, *([""] if blank and follows else []), ""]
            ),
        )

    def before_end(self, lines: list[str], *place: int) -> Insertion:
        """`lines` before the `}` that ends the declaration at `place`."""
        brace = self.span(*place)[1] - 1
        start = self.content.rfind(b"\n", 0, brace) + 1
        if not self.content[start:brace].strip(_BLANK):
            return Insertion(start, self._text([*lines, ""]))
        return Insertion(brace, self._text(["", *lines, self.indent(*place) or ""]))

    def parted(self, first: tuple[int, ...], second: tuple[int, ...]) -> bool:
        """Whether an empty line is between two declarations."""
        between = self.content[self.span(*first)[1] : self.span(*second)[0]]
        return any(not line.strip(_BLANK) for line in between.split(b"\n")[1:-1])

    def with_(self, insertions: list[Insertion]) -> bytes:
        """The content with all `insertions`; those at one offset in their order."""
        parts, done = [], 0
        for each in sorted(insertions, key=lambda each: each.at):
            parts += [self.content[done : each.at], each.text]
            done = each.at
        return b"".join([*parts, self.content[done:]])

    def _offset(self, line: int, column: int) -> int:
        at, reached = line, 0
        while reached < column:
            reached += _TAB - reached % _TAB if self.content[at : at + 1] == b"\t" else 1
            at += 1
        return at

    def _text(self, lines: list[str]) -> bytes:
        return self.newline.join(lines).encode()


def _rest_of_line(content: bytes, at: int) -> int | None:
    """Where the next line starts, or the end; None if more than comments is before it."""
    while at < len(content):
        if content[at : at + 1] == b"\n":
            return at + 1
        if (comment := _behind_comment(content, at)) is not None:
            at = comment
        elif content[at : at + 1] in (b";", *(bytes([each]) for each in _BLANK)):
            at += 1
        else:
            return None
    return at


def _own_comment(content: bytes, at: int) -> int:
    """Behind a comment that starts on the line at `at` and belongs to what was before it.

    It does, as protoc has it, if a blank line, the end of the file or of the block follows.
    """
    end = at
    while (start := _code(content, end)) < len(content):
        behind = _behind_comment(content, start)
        if behind is None:
            break
        block = content[start : start + 2] == b"/*"
        if block and end != at:
            break
        rest = _rest_of_line(content, behind)
        if rest is None:
            return at
        end = rest
        if block:
            break
    follows = content[_code(content, end) :][:1]
    return end if end != at and follows in (b"", b"\n", b"}") else at


def _code(content: bytes, at: int) -> int:
    """The first byte from `at` on that is not white space within the line."""
    while at < len(content) and content[at] in _BLANK:
        at += 1
    return at


def _behind_comment(content: bytes, at: int) -> int | None:
    """Where the comment that starts at `at` ends; None if there is none."""
    if content.startswith(b"//", at):
        end = content.find(b"\n", at)
        return len(content) if end < 0 else end
    if content.startswith(b"/*", at):
        return content.index(b"*/", at + 2) + 2
    return None
