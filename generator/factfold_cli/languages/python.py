"""Python: files below src/service, and their tests in tests/."""

from collections.abc import Iterator, Mapping, Sequence
from keyword import iskeyword
from pathlib import Path
from typing import Any

from factfold_cli.code import Code
from factfold_cli.contract import stubs
from factfold_cli.declared import Declared, Rpc
from factfold_cli.languages.protocol import NewFold, NewReaction, NewView
from factfold_cli.languages.python_parts import reaction, view
from factfold_cli.languages.python_wiring import aliases, wiring
from factfold_cli.names import snake
from factfold_cli.parts import rendered
from factfold_cli.repository import Repository
from factfold_cli.samples import arguments, sample, shared
from factfold_cli.stubs_made import INSTALL, MAKE

CONTRACT = "service.contract"
_FORMS = {"command": "async def", "query": "def", "watch": "async def with yield"}
_INTEGERS = {3, 4, 5, 13}  # of FieldDescriptorProto, for a version
# What the scaffolded files import under these names.
_TAKEN = {"command", "query", "watch", "fold", "contract", "view", "row_type"}


def function_name(name: str) -> str:
    """The function for an RPC or an event; the chassis overlooks underscores."""
    word = snake(name)
    return f"{word}_" if iskeyword(word) or word in _TAKEN else word


class Python:
    """Decorators say what is part of the service, so nothing has to name it."""

    unwritten = b"raise NotImplementedError"

    def make_stubs(self, root: Path) -> str:
        return MAKE if (root / ".venv").is_dir() else INSTALL

    def run_tests(self, tests: Sequence[str]) -> str:
        return f".venv/bin/python -m pytest {' '.join(tests)}"

    def in_stubs(self, file: Any, name: str) -> bool:
        return name in _stub_names(file)

    def code(self, root: Path) -> Code:
        return Code(root)

    def names(self, known: Declared, code: Code) -> dict[str, str]:
        found: dict[str, str] = {}
        starred = {
            module.name: module.imported("*")
            for module in code.modules.values()
            if module.name != CONTRACT
        }
        for full_name, (path, _) in known.messages.items():
            name = known.python_name(full_name)
            module = stubs(path)
            found[f"{module}.{name}"] = full_name
            modules = [module]
            if path in known.passed_on:
                found[f"{CONTRACT}.{name}"] = full_name
                modules.append(CONTRACT)
            for passing, origin in starred.items():
                if origin in modules:
                    found[f"{passing}.{name}"] = full_name
        return found

    def of_a_contract(self, dotted: str) -> bool:
        known = dotted.startswith((f"{CONTRACT}.", "service.subscriptions."))
        return known or any(word.endswith("_pb2") for word in dotted.split("."))

    def wiring(self, manifest: Mapping[str, Any], known: Declared) -> dict[str, bytes]:
        return wiring(manifest, known)

    def is_test(self, path: str) -> bool:
        return path.startswith("tests/")

    def shown_kind(self, kind: str) -> str:
        return f"@{kind}"

    def needed_kind(self, kind: str) -> str:
        return f"@{kind} {_FORMS[kind]}"

    def unwired(self, repository: Repository) -> Iterator[str]:
        yield from ()

    def handler_paths(self, rpc: str) -> tuple[str, str]:
        return f"src/service/handlers/{function_name(rpc)}.py", f"tests/test_{snake(rpc)}.py"

    def no_handler(self, repository: Repository, rpc: Rpc) -> str:
        return ""

    def to_write(self, rpc: Rpc, kind: str) -> str:
        return f"{function_name(rpc.name)}(request, call) as `{self.needed_kind(kind)}`"

    def handler(self, repository: Repository, rpc: Rpc, kind: str) -> dict[str, bytes]:
        names = {"function": function_name(rpc.name), "test": snake(rpc.name)}
        context = {"rpc": _context(repository, rpc, kind) | names}
        return rendered("python", f"handler/{kind}", context)

    def fold_paths(self, event: str) -> tuple[str, str]:
        return f"src/service/folds/{function_name(event)}.py", f"tests/test_{snake(event)}.py"

    def no_fold(self, repository: Repository, fold: NewFold) -> str:
        return ""

    def fold(self, repository: Repository, fold: NewFold) -> dict[str, bytes]:
        messages = repository.known.messages
        module, _, attribute = fold.table.rpartition(".")
        lines, shown_row = [f"import {module} as view"], fold.row.removeprefix("service.")
        imports = ""
        if not fold.row.startswith(f"{CONTRACT}."):
            origin, _, name = fold.row.rpartition(".")
            shown_row = f"row_type.{name}"
            if origin.startswith("service."):
                lines.append(f"import {origin} as row_type")
            else:
                imports = f"import {origin} as row_type\n"
        given = sample(messages[fold.event][1])
        expected: dict[str, str] = {}
        if row_message := repository.message(fold.row):
            message = messages[row_message][1]
            expected = shared(message, messages[fold.event][1], messages[fold.first][1])
            integers = {field.name for field in message.field if field.type in _INTEGERS}
            if fold.stream.versioned and "version" in integers:
                expected["version"] = "2"
        before = arguments(sample(messages[fold.first][1]), 8)
        context = {
            "before": f"        {_code(repository, fold.first)}({before}),\n",
            "event": _code(repository, fold.event),
            "expected": arguments(expected, 4),
            "function": function_name(fold.name),
            "given": arguments(given, 8),
            "imports": imports,
            "key": given.get(fold.stream.events[fold.event], '"1"'),
            "name": fold.name,
            "row": shown_row,
            "table": f"view.{attribute}",
            "test": snake(fold.name),
            "view": "".join(f"{line}\n" for line in sorted(lines)),
        }
        return rendered("python", "fold", {"fold": context})

    def view(self, repository: Repository, new: NewView) -> dict[str, bytes]:
        return view(repository, new)

    def named_view(self, repository: Repository, new: NewView) -> dict[str, bytes]:
        return {}

    nothing = "None"

    def reaction(self, repository: Repository, new: NewReaction) -> dict[str, bytes]:
        return reaction(repository, new)

    def named(self, repository: Repository, new: NewReaction) -> dict[str, bytes]:
        return {}

    def wired(self, repository: Repository, folds: Sequence[NewFold]) -> dict[str, bytes]:
        return {}


def _dotted(repository: Repository, full_name: str) -> str:
    """The name that new code uses for a message."""
    path, _ = repository.known.messages[full_name]
    module = CONTRACT if path in repository.known.passed_on else stubs(path)
    return f"{module}.{repository.known.python_name(full_name)}"


def _code(repository: Repository, message: str) -> str:
    return _dotted(repository, message).removeprefix("service.")


def _context(repository: Repository, rpc: Rpc, kind: str) -> dict[str, Any]:
    known = repository.known
    request, response = known.messages[rpc.request][1], known.messages[rpc.response][1]
    given = _given(repository)
    acts = kind != "command" or "expected_version" in {field.name for field in request.field}
    asked = sample(request, {"after": '""', "page_token": '""'})
    answered = sample(
        response,
        {"next_page_token": '""', "position": "answer.position"},
        {"version": "2" if kind == "command" and acts and given else "1"},
    )
    names = [_dotted(repository, message) for message in (rpc.request, rpc.response)]
    foreign = aliases(sorted({_module(repository, name) for name in names if not _own(name)}))

    def code(name: str) -> str:
        if _own(name):
            return name.removeprefix("service.")
        module = _module(repository, name)
        return f"{foreign[module]}{name.removeprefix(module)}"

    return {
        "answered": arguments(answered, 4),
        "asked": arguments(asked, 4),
        "facts": 2 if acts and given else 1,
        "given": given if acts else "",
        "imports": "".join(f"import {module} as {alias}\n" for module, alias in foreign.items()),
        "name": rpc.name,
        "own": "\nfrom service import contract\n" if any(map(_own, names)) else "",
        "request": code(names[0]),
        "response": code(names[1]),
        "service": rpc.service,
    }


def _own(dotted: str) -> bool:
    return dotted.startswith(f"{CONTRACT}.")


def _module(repository: Repository, dotted: str) -> str:
    """The module of a message that may be inside of others."""
    name = repository.known.python_name(repository.messages[dotted])
    return dotted.removesuffix(f".{name}")


def _given(repository: Repository) -> str:
    """Code that puts the first event of the contract into the log."""
    for stream in repository.own_streams:
        for event in stream.events:
            message = repository.known.messages[event][1]
            name = _dotted(repository, event).removeprefix("service.")
            version = "        expected_version=0,\n" if stream.versioned else ""
            return (
                "    await running.publish(\n"
                f"        {name}({arguments(sample(message), 8)}),\n"
                f"{version}    )\n"
            )
    return ""


def _stub_names(file: Any) -> Iterator[str]:
    """What the modules of a file's stubs have."""
    for each in (*file.message_type, *file.enum_type, *file.extension):
        yield each.name
    for enum in file.enum_type:
        yield from (value.name for value in enum.value)
    for service in file.service:
        yield service.name
        yield from (f"{service.name}{kind}" for kind in ("Stub", "AsyncStub", "Servicer"))
