"""`factfold add view` and `add reaction`: what is put beside the contract."""

from collections.abc import Sequence

from factfold_cli.add_contract import check_name
from factfold_cli.additions import Adding
from factfold_cli.declared import Stream
from factfold_cli.errors import Refused
from factfold_cli.fields import Field, plain_fields
from factfold_cli.languages.protocol import NewReaction, NewView
from factfold_cli.part_names import check_camel, check_snake
from factfold_cli.render import variables


def add_view(adding: Adding, name: str, *, row: str | None, events: Sequence[str]) -> None:
    """A table, and a fold of each event that takes over the fields which the row has too.

    `row` is the name of a message, new or of the contract; None: one named after the view.
    Raises Refused or Failed.
    """
    check_snake("view", name, adding.language)
    found = [_event(adding, event) for event in dict.fromkeys(events)]
    streams = sorted({stream.name for stream, _ in found})
    if len(streams) > 1:
        raise Refused(
            f"the events are of the streams {' and '.join(streams)}, and a table has rows of one;"
            " make a view for each, and join them"
        )
    row = row or variables(adding.language, {"service_name": name.replace("_", " ")})["aggregate"]
    new = NewView(name, _row(adding, str(row), name, found), found)
    if not found:
        adding.notes.append(f"{name} has no fold yet: write one; with --from EVENT it is written")
    language = adding.repository.language
    adding.write(language.view(adding.repository, new), language.named_view(adding.repository, new))


def add_reaction(adding: Adding, name: str, *, on: str, appends: str | None) -> None:
    """A reaction to one event, that appends another or none. Raises Refused or Failed."""
    check_snake("reaction", name, adding.language, ("contract", "reaction", "theirs"))
    for part in adding.repository.code.parts:
        if part.kind == "reaction" and part.name == name:
            raise Refused(
                f"{part.path!r} has a reaction {name!r} already, and its position is kept under"
                " that name; choose another one"
            )
    stream, event = _event(adding, on)
    new = NewReaction(name, stream, event)
    if appends is not None:
        own, appended = _event(adding, appends)
        if own not in adding.repository.own_streams:
            raise Refused(
                f"{appends!r} is of the stream {own.name}, and a service appends to its own alone;"
                " append an event of its contract"
            )
        if appended == event:
            nothing = adding.repository.language.nothing
            adding.notes.append(
                f"{name} answers what it appends itself: return {nothing} once there is nothing to"
                " answer"
            )
        new = NewReaction(name, stream, event, own, appended)
    language = adding.repository.language
    adding.write(language.reaction(adding.repository, new), language.named(adding.repository, new))


def _event(adding: Adding, name: str) -> tuple[Stream, str]:
    """The event called `name`, or `package.name`, with its stream; raises Refused."""
    known = {event: stream for stream in adding.known.streams.values() for event in stream.events}
    found = [event for event in known if name in (event, event.rpartition(".")[2])]
    if len(found) > 1:
        raise Refused(f"several events are named {name!r}; say which: {', '.join(found)}")
    if not found:
        shown = ", ".join(sorted({event.rpartition(".")[2] for event in known})) or "none"
        raise Refused(
            f"no event is named {name!r}, here or in a contract that is subscribed to; there is:"
            f" {shown}"
        )
    return known[found[0]], found[0]


def _row(adding: Adding, row: str, view: str, events: Sequence[tuple[Stream, str]]) -> str:
    """The full name of the message of the rows.

    It is added to the contract, with the events' fields, if that has none.
    """
    if found := _own(adding, row):
        return found
    check_camel("row", row, "OrderTotal", adding.language)
    check_name(adding, row)
    edit = adding.edit(adding.stream.file)
    fields: dict[str, Field] = {}
    for stream, event in events:
        key = stream.events[event]
        for each in (Field(key, "string"), *plain_fields(adding.known.messages[event][1])):
            fields.setdefault(each.name, each)
    edit.row(row, list(fields.values()) or [Field("id", "string")], f"A row of the view {view}.")
    adding.write_contract(adding.stream.file, edit)
    return _own(adding, row)


def _own(adding: Adding, message: str) -> str:
    """The full name of one of the contract's own messages, "" if there is none of that name."""
    return next(
        (
            f"{file.package}.{message}".lstrip(".")
            for file in adding.own_files
            for each in file.message_type
            if each.name == message
        ),
        "",
    )
