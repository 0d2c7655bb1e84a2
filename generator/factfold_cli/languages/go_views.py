"""What a view of Go begins with: a table, and folds that are whole."""

from collections.abc import Iterable
from typing import Any

from factfold_cli import samples
from factfold_cli.errors import Refused
from factfold_cli.languages import go_app, go_names, go_values
from factfold_cli.languages.go_code import code_of
from factfold_cli.languages.go_imports import Imports
from factfold_cli.languages.protocol import NewView
from factfold_cli.parts import rendered
from factfold_cli.repository import Repository

_VIEWS, _FOLDS = "service/internal/views", "service/internal/folds"
_BYTES = 12  # of FieldDescriptorProto: nil says that there are none, so they need no pointer
# What makes the pointer to an example value, by the type of its field.
_POINTERS = {
    **dict.fromkeys((3, 16, 18), "Int64"),
    **dict.fromkeys((4, 6), "Uint64"),
    **dict.fromkeys((5, 15, 17), "Int32"),
    **dict.fromkeys((7, 13), "Uint32"),
    **{1: "Float64", 2: "Float32", 8: "Bool", 9: "String"},
}


def view(repository: Repository, new: NewView) -> dict[str, bytes]:
    """The table, and a fold of each event with its test. Raises Refused if a name is taken."""
    imports, name = Imports(repository), go_names.camel(new.name)
    context = {
        "file": go_names.file_name(name),
        "go_name": name,
        "imports": "",
        "name": new.name,
        "row": imports.type_of(new.row),
        "view": f"{name[0].lower()}{name[1:]}View",
    }
    context["imports"] = imports.lines()["ours"]
    for each in (name, context["view"]):
        _free(repository, _VIEWS, each)
    files = rendered("go", "view", {"view": context})
    for _, event in new.events:
        files |= _fold(repository, new, event)
    return files


def named(repository: Repository, new: NewView) -> dict[str, bytes]:
    """app.go, with the folds of a view in it; raises Refused if there is no place for them."""
    if not new.events:
        return {}
    app = go_app.read(repository.root, "Fold")
    for _, event in new.events:
        app.add_fold(f"{_VIEWS}.{go_names.camel(new.name)}", f"{_FOLDS}.{_function(new, event)}")
    return {go_app.PATH: app.text.encode()}


def _fold(repository: Repository, new: NewView, event: str) -> dict[str, bytes]:
    known, imports, tested = repository.known, Imports(repository), Imports(repository)
    function = _function(new, event)
    _free(repository, _FOLDS, function)
    row, fact = known.messages[new.row][1], known.messages[event][1]
    names, theirs = go_names.fields(row), go_names.fields(fact)
    pointers = go_values.optional(known, new.row), go_values.optional(known, event)
    written = go_values.plain(known, new.row) | pointers[0]
    same = go_values.code(samples.shared(row, fact), written)
    types = {field.name: field.type for field in row.field}

    def taken_over(field: str) -> str:
        value = f"event.Get{theirs[field]}()"
        if field in pointers[0] and types[field] != _BYTES:
            value = f"event.{theirs[field]}" if field in pointers[1] else f"new({value})"
        return f"\trow.{names[field]} = {value}\n"

    given = go_values.plain(known, event) | pointers[1]
    values = go_values.code(samples.sample(fact), given)
    context: dict[str, Any] = {
        "event": imports.type_of(event),
        "event_name": event.rpartition(".")[2],
        "file": go_names.file_name(function),
        "function": function,
        "row": imports.type_of(new.row),
        "taken_over": "".join(map(taken_over, same)),
        "view": new.name,
    }
    expected = {field: value for field, value in same.items() if field in given}
    context |= {
        "expected": _literal(row, expected, pointers[0]),
        "given": _literal(fact, values, pointers[1]),
        "imports": imports.lines(),
    }
    for message in (new.row, event):
        tested.type_of(message)
    context["test_imports"] = tested.lines(_FOLDS)
    return rendered("go", "view_fold", {"view_fold": context})


def _function(new: NewView, event: str) -> str:
    return f"{go_names.camel(event.rpartition('.')[2])}Into{go_names.camel(new.name)}"


def _literal(message: Any, values: dict[str, str], pointers: Iterable[str]) -> str:
    types = {field.name: field.type for field in message.field}
    written = {
        name: f"proto.{_POINTERS[types[name]]}({value})"
        if name in pointers and types[name] != _BYTES
        else value
        for name, value in values.items()
    }
    return go_values.literal(written, go_names.fields(message))


def _free(repository: Repository, package: str, name: str) -> None:
    if found := code_of(repository).declaring(package, name):
        raise Refused(f"{found!r} has a {name} already; choose another name")
