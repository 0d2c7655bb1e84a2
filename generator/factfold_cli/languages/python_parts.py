"""What Python's views and reactions begin with."""

from collections.abc import Mapping
from typing import Any

from factfold_cli.code import Code
from factfold_cli.contract import stubs
from factfold_cli.declared import Stream
from factfold_cli.errors import Refused
from factfold_cli.languages.protocol import NewReaction, NewView
from factfold_cli.names import snake
from factfold_cli.parts import rendered
from factfold_cli.repository import Repository
from factfold_cli.samples import arguments, sample, shared

_CONTRACT = "service.contract"
_SUBSCRIPTIONS = "service.subscriptions"
_LINE = 100  # characters, of the generated repository's formatter


def reaction(repository: Repository, new: NewReaction) -> dict[str, bytes]:
    """The files of a reaction that appends an event, or none."""
    context = _answered(repository, new.stream, new.event) | {"name": new.name}
    if new.appends is None:
        return rendered("python", "reaction", {"reaction": context})
    key, same = new.appends.events[new.appended], new.taken_over(repository.known)
    answer = {key: "call.new_id()"} | {each: f"event.{each}" for each in same}
    expected = {key: "call.new_id()"} | same
    context |= {
        "answer": _type(repository, new.appended),
        "answer_given": arguments(answer, 4),
        "answer_expected": arguments(expected, 4),
        "version": ", expected_version=0" if new.appends.versioned else "",
    }
    context["imports"] = _imports(
        _module(repository, new.event) | _module(repository, new.appended)
    )
    return rendered("python", "appending_reaction", {"appending_reaction": context})


def view(repository: Repository, new: NewView) -> dict[str, bytes]:
    """The files of a table and of the folds into it."""
    row = repository.known.python_name(new.row)
    files = rendered("python", "view", {"view": {"name": new.name, "row": row}})
    for stream, event in new.events:
        context = _view_fold(repository, new, row, stream, event)
        files |= rendered("python", "view_fold", {"view_fold": context})
    return files


def _view_fold(
    repository: Repository, new: NewView, row: str, stream: Stream, event: str
) -> dict[str, Any]:
    messages = repository.known.messages
    same = shared(messages[new.row][1], messages[event][1])
    name = f"{snake(event.rpartition('.')[2])}_into_{new.name}"
    return _answered(repository, stream, event) | {
        "expected": arguments(same, 4),
        "given": arguments(_given(repository, stream, event), 8),
        "imports": _imports(
            _module(repository, event)
            | {_CONTRACT: "contract", f"service.views.{new.name}": "view"}
        ),
        "name": name,
        "row": row,
        "taken_over": "".join(_assigned(f"row.{each}", f"event.{each}") for each in same),
        "view": new.name,
    }


def _answered(repository: Repository, stream: Stream, event: str) -> dict[str, str]:
    """What the parts say of the event that they are about."""
    own = stream in repository.own_streams
    return {
        "event": _type(repository, event),
        "event_name": event.rpartition(".")[2],
        "given": arguments(_given(repository, stream, event), 4),
        "imports": _imports(_module(repository, event)),
        "stream": stream.name,
        "versions": "        expected_version=0,\n" if stream.versioned else "",
        "whose": "" if own else f" of {stream.name}",
    }


def _given(repository: Repository, stream: Stream, event: str) -> dict[str, str]:
    """Code of what an event may carry, by field."""
    return {stream.events[event]: '"1"', **sample(repository.known.messages[event][1])}


def _imports(modules: Mapping[str, str]) -> str:
    """The lines that import `modules` under the names that they map to."""
    plain = sorted(module for module in modules if module != _CONTRACT)
    lines = [f"import {module} as {modules[module]}\n" for module in plain]
    return "".join(lines + ["from service import contract\n"] * (_CONTRACT in modules))


def _module(repository: Repository, message: str) -> dict[str, str]:
    """The module of the service that passes on a message, and its name in the parts.

    Raises Refused if there is none.
    """
    path, _ = repository.known.messages[message]
    if path in repository.known.own:
        return {_CONTRACT: "contract"}
    code = repository.code
    assert isinstance(code, Code)
    for module in code.modules.values():
        passing = module.name.startswith(f"{_SUBSCRIPTIONS}.")
        if passing and module.imported("*") == stubs(path):
            return {module.name: "theirs"}
    raise Refused(
        f"no module in src/service/subscriptions has what {f'protos/{path}'!r} declares; take it"
        " back from git"
    )


def _type(repository: Repository, message: str) -> str:
    """How the parts write the type of a message."""
    (alias,) = _module(repository, message).values()
    return f"{alias}.{repository.known.python_name(message)}"


def _assigned(target: str, value: str) -> str:
    """A statement of a function's body, as the formatter writes it."""
    line = f"    {target} = {value}\n"
    return line if len(line) <= _LINE + 1 else f"    {target} = (\n        {value}\n    )\n"
