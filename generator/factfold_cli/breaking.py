"""What of a released contract the present one breaks, one line each."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from factfold_cli.buf import Finding, breaking
from factfold_cli.own_contract import Event, OwnContract, Stream
from factfold_cli.places import Place, declared, place

_BACK = "change it back"
_NEW_FIELD = f"{_BACK}; what is new gets a name and a number of its own"
_KEEP = "put it back, with [deprecated = true] if it is no longer used: it is in facts of the log"
_NOISE = re.compile(r" See http\S+.*$|\.$")
# Such as go_package: nobody can have made code of it before.
_FIRST_SAID = re.compile(r'^File option "\w+" changed from "" to ')
_DELETED = re.compile(r'^Previously present (?:field|enum value) "(\d+)"')
_GONE = re.compile(r'^Previously present (message|enum|file) "(.+?)" was deleted')


@dataclass(frozen=True)
class Problem:
    """Something that was released and is no longer so.

    `path` is relative to `protos/`; `line` is None where nothing is left of it; `instead` is what
    to do.
    """

    path: str
    line: int | None
    what: str
    instead: str


def broken(old: OwnContract, new: OwnContract) -> list[Problem]:
    """All that `new` breaks of `old`. Raises Failed if it cannot be compared."""
    found = [*_promises(old, new)]
    # Facts stay in the log for ever, a call only lasts: hence two levels.
    for level, types in (("FILE", [*old.events]), ("WIRE_JSON", old.services)):
        for finding in breaking(old, new, level, types):
            if _FIRST_SAID.match(finding.text):
                continue
            problem = _problem(finding, old, new)
            if all((problem.path, problem.what) != (known.path, known.what) for known in found):
                found.append(problem)
    return found


def _promises(old: OwnContract, new: OwnContract) -> Iterator[Problem]:
    """What buf does not know of: our own options."""
    for path, stream in old.streams.items():
        if path in new.streams:
            yield from _of_stream(path, stream, new)
        else:
            what = f"stream {stream.name}: its option (factfold.v1.stream) is gone"
            yield Problem(path, None, what, _BACK)
    for event in old.events.values():
        message = new.message(event.name)
        # One that is elsewhere, or nowhere, is told of by buf.
        if message is not None and message.file.name == event.path and event.path in new.streams:
            yield from _of_event(event, new)


def _of_stream(path: str, was: Stream, new: OwnContract) -> Iterator[Problem]:
    now, line, name = new.streams[path], new.line_of_option(path, "stream"), f"stream {was.name}"
    if now.name != was.name:
        what = f'{name}: name: "{was.name}" is now name: "{now.name}"'
        yield Problem(path, line, what, f"{_BACK}: its facts are in the log under that name")
    if now.partitions != was.partitions:
        what = f"{name}: partitions: {was.partitions} is now partitions: {now.partitions}"
        yield Problem(path, line, what, f"{_BACK}: keys would move to other partitions")
    if was.versioned and not now.versioned:
        what = f"{name}: versioned: true is now versioned: false"
        yield Problem(path, line, what, f"{_BACK}: repeated commands would append again")


def _of_event(was: Event, new: OwnContract) -> Iterator[Problem]:
    now, line = new.events.get(was.name), new.line_of_message(was.path, was.name)
    name = was.name.rpartition(".")[2]
    if now is None:
        what = f"{name}: option (factfold.v1.event) = {{}} is gone"
        yield Problem(was.path, line, what, "put it back: facts of it are in the log")
    elif [number for number, _ in now.keys] != [number for number, _ in was.keys]:
        what = f"{name}: [(factfold.v1.key) = true] was at {_keys(was)}, is now at {_keys(now)}"
        yield Problem(was.path, line, what, f"{_BACK}: facts of one key would lose order")


def _keys(event: Event) -> str:
    return ", ".join(f"{name} = {number}" for number, name in event.keys) or "no string field"


def _problem(finding: Finding, old: OwnContract, new: OwnContract) -> Problem:
    at = place(new, finding.path, finding.line, finding.column)
    said = at and (_of_field(finding, at, old) or _of_value(finding, at, old))
    if said:
        return Problem(finding.path, finding.line, *said)
    if gone := _GONE.match(finding.text):
        if gone[1] == "file":
            return Problem(gone[2], None, "the file is gone", "put it back where it was")
        return Problem(finding.path, None, f"{gone[1]} {gone[2]} is gone", _KEEP)
    text = _NOISE.sub("", finding.text)
    instead = f"{_BACK}, and add another RPC beside it" if finding.rule.startswith("RPC") else _BACK
    return Problem(finding.path, finding.line, text, instead)


def _of_field(finding: Finding, at: Place, old: OwnContract) -> tuple[str, str] | None:
    """What became of a field, and what to do; None if that is not what the finding is about."""
    message = at.message and old.message(at.message.full_name)
    if message is None:
        return None
    if deleted := _DELETED.match(finding.text):
        was = message.fields_by_number[int(deleted[1])]
        return f"{at.name}: {declared(was)} is gone", _reserved(finding, was)
    was = at.field and message.fields_by_number.get(at.field.number)
    if was is None or declared(was) == declared(at.field):
        return None
    return f"{at.name}: {declared(was)} is now {declared(at.field)}", _NEW_FIELD


def _of_value(finding: Finding, at: Place, old: OwnContract) -> tuple[str, str] | None:
    """The same of the value of an enum."""
    enum = at.enum and old.enum(at.enum.full_name)
    if enum is None:
        return None
    if deleted := _DELETED.match(finding.text):
        was = enum.values_by_number[int(deleted[1])]
        return f"{at.name}: {was.name} = {was.number} is gone", _reserved(finding, was)
    was = at.value and enum.values_by_number.get(at.value.number)
    if was is None or was.name == at.value.name:
        return None
    return f"{at.name}: {was.name} = {was.number} is now {at.value.name} = {was.number}", _NEW_FIELD


def _reserved(finding: Finding, was: Any) -> str:
    """What to do about a field or a value that is gone."""
    if "UNLESS" not in finding.rule:
        return _KEEP
    return f'put it back, or write in its place: reserved {was.number}; reserved "{was.name}";'
