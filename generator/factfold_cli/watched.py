"""Where a watch gives out events: the `oneof` of its answer that holds nothing else."""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Any

from factfold_cli.names import snake
from factfold_cli.part_names import field_problem

_LAST_NUMBER = (1 << 29) - 1


@dataclass(frozen=True)
class Watched:
    """The member that an event would be of such a `oneof`.

    `message` is the answer's index in its file, `last` that of the last member there; `rpcs` are
    the watches that answer with it.
    """

    message: int
    last: int
    name: str
    number: int
    rpcs: tuple[str, ...]


def watched(file: Any, events: Set[str], event: str) -> Watched | None:
    """The place of a new `event` beside `events` (full names) in the FileDescriptorProto `file`.

    None if no watch answers with such a `oneof`, or not one alone, or its names are taken.
    """
    found = [
        (at, members)
        for at, message in enumerate(file.message_type)
        for oneof in range(len(message.oneof_decl))
        if (members := _members(message, oneof))
        and all(message.field[each].type_name[1:] in events for each in members)
        and _rpcs(file, message)
    ]
    if len(found) != 1:
        return None
    [(at, members)] = found
    message = file.message_type[at]
    taken = {each.name for each in message.field} | {each.name for each in message.oneof_decl}
    taken |= {*message.reserved_name}
    names = [_short(event, [message.field[each] for each in members]), snake(event)]
    name = next((name for name in names if name not in taken and not field_problem(name)), None)
    numbers = [each.number for each in message.field]
    numbers += [each.end - 1 for each in message.reserved_range]
    if name is None or max(numbers) >= _LAST_NUMBER:
        return None
    return Watched(at, members[-1], name, max(numbers) + 1, _rpcs(file, message))


def _rpcs(file: Any, message: Any) -> tuple[str, ...]:
    full = f".{file.package}.{message.name}" if file.package else f".{message.name}"
    methods = [method for service in file.service for method in service.method]
    return tuple(
        method.name for method in methods if method.server_streaming and method.output_type == full
    )


def _members(message: Any, oneof: int) -> list[int]:
    return [
        at
        for at, each in enumerate(message.field)
        if each.HasField("oneof_index") and each.oneof_index == oneof and not each.proto3_optional
    ]


def _short(event: str, members: Sequence[Any]) -> str:
    """`renamed` for OrderRenamed, if the others too go without the `order_` of their types."""
    prefixes = set()
    for member in members:
        whole = snake(member.type_name.rpartition(".")[2])
        prefixes.add(whole.removesuffix(member.name) if whole.endswith(member.name) else "")
    prefix = prefixes.pop() if len(prefixes) == 1 else ""
    return snake(event).removeprefix(prefix)
