"""Go: packages below internal/, tests beside what they test, and app.go that names all."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from factfold_cli.declared import Declared, Rpc, Stream
from factfold_cli.errors import Refused
from factfold_cli.languages import go_app, go_names, go_values, go_views
from factfold_cli.languages.go_code import GoCode, code_of
from factfold_cli.languages.go_imports import Imports
from factfold_cli.languages.go_values import literal
from factfold_cli.languages.protocol import NewFold, NewReaction, NewView
from factfold_cli.parts import rendered
from factfold_cli.repository import Repository

_HANDLERS, _FOLDS, _REACTIONS = "internal/handlers", "internal/folds", "internal/reactions"
# The types of FieldDescriptorProto that a version may have: Go's are uint64 alone.
_UINT64 = 4


class Go:
    """What is not named in app.go is no part of the service, so new folds are named there."""

    unwritten = b"\tpanic("

    def make_stubs(self, root: Path) -> str:
        return "go generate ./..."

    def run_tests(self, tests: Sequence[str]) -> str:
        folders = sorted({f"./{Path(path).parent.as_posix()}" for path in tests})
        return f"go test {' '.join(folders)}"

    def in_stubs(self, file: Any, name: str) -> bool:
        return go_names.camel(name) in go_names.types(file)

    def code(self, root: Path) -> GoCode:
        return GoCode(root)

    def names(self, known: Declared, code: GoCode) -> dict[str, str]:
        return {
            f"{go_names.import_path(known, path)}.{go_names.type_name(known, message)}": message
            for message, (path, _) in known.messages.items()
        }

    def of_a_contract(self, dotted: str) -> bool:
        return dotted.startswith(f"{go_names.STUBS}/")

    def wiring(self, manifest: Mapping[str, Any], known: Declared) -> dict[str, bytes]:
        if not known.passed_on:
            raise Refused(
                "no .proto file below protos/ declares a stream or a service of this repository;"
                " take its contract back from git"
            )
        return {}

    def is_test(self, path: str) -> bool:
        return path.endswith("_test.go")

    def shown_kind(self, kind: str) -> str:
        return f"{kind} (chassis.{kind.capitalize()}From)"

    def needed_kind(self, kind: str) -> str:
        return self.shown_kind(kind)

    def unwired(self, repository: Repository) -> Iterator[str]:
        known, code = repository.known, code_of(repository)
        for path in known.own:
            if path not in known.streams and not known.files[path].service:
                continue
            package, name = go_names.import_path(known, path), go_names.descriptor(path)
            if f"{package}.{name}" not in code.mentioned:
                yield (
                    f"{go_app.PATH}: protos/{path} is not part of the service; add {name} of"
                    f" {package} to its Contract"
                )

    def handler_paths(self, rpc: str) -> tuple[str, str]:
        path = f"{_HANDLERS}/{go_names.file_name(go_names.camel(rpc))}"
        return f"{path}.go", f"{path}_test.go"

    def no_handler(self, repository: Repository, rpc: Rpc) -> str:
        if code_of(repository).server(go_names.camel(rpc.service)):
            return ""
        return (
            f"no struct in {_HANDLERS} embeds Unsafe{go_names.camel(rpc.service)}Server of its"
            " stubs; write one, register it there, then sync again"
        )

    def to_write(self, rpc: Rpc, kind: str) -> str:
        return f"its method {go_names.camel(rpc.name)}"

    def handler(self, repository: Repository, rpc: Rpc, kind: str) -> dict[str, bytes]:
        known, imports = repository.known, Imports(repository)
        tested = Imports(repository)
        request, response = known.messages[rpc.request][1], known.messages[rpc.response][1]
        first = next(
            ((stream, event) for stream in repository.own_streams for event in stream.events), None
        )
        acts = kind != "command" or any(field.name == "expected_version" for field in request.field)
        given = first if acts else None
        asked = go_values.sample(known, rpc.request, {"after": '""', "page_token": '""'})
        answered = go_values.sample(
            known,
            rpc.response,
            {"next_page_token": '""', "position": "answer.GetPosition()"},
            {"version": "2" if kind == "command" and given else "1"},
        )
        names = go_names.fields(request), go_names.fields(response)
        package = go_names.import_path(known, rpc.file)
        name, service = go_names.camel(rpc.name), go_names.camel(rpc.service)
        context = {
            "answered": f"{tested.type_of(rpc.response)}{{{literal(answered, names[1])}}}",
            "asked": f"{tested.type_of(rpc.request)}{{{literal(asked, names[0])}}}",
            "chassis": given is not None and given[0].versioned,
            "client": f"{tested.package(package)}.New{service}Client",
            "facts": 2 if given else 1,
            "file": go_names.file_name(name),
            "given": _published(known, *given, tested) if given else "",
            "method": name,
            "name": rpc.name,
            "receiver": code_of(repository).server(service),
            "request": imports.type_of(rpc.request),
            "response": imports.type_of(rpc.response),
        }
        context["imports"] = imports.lines()
        context["test_imports"] = tested.lines("service/internal/app")
        return rendered("go", f"handler/{kind}", {"rpc": context})

    def fold_paths(self, event: str) -> tuple[str, str]:
        path = f"{_FOLDS}/{go_names.file_name(go_names.camel(event))}"
        return f"{path}.go", f"{path}_test.go"

    def no_fold(self, repository: Repository, fold: NewFold) -> str:
        if not repository.message(fold.row):
            return f"it cannot be told what the rows of {fold.table} are"
        name = go_names.camel(fold.name)
        if found := code_of(repository).declaring(f"service/{_FOLDS}", name):
            return f"{found} has a {name} that is no fold of it in {go_app.PATH}"
        path = repository.root / go_app.PATH
        if not path.is_file():
            return f"there is no {go_app.PATH} to name it in"
        return go_app.App(path.read_bytes().decode(), "Fold").problem

    def fold(self, repository: Repository, fold: NewFold) -> dict[str, bytes]:
        known, imports = repository.known, Imports(repository)
        row = repository.message(fold.row)
        message = known.messages[row][1]
        event, first = known.messages[fold.event][1], known.messages[fold.first][1]
        version = {
            field.name
            for field in message.field
            if fold.stream.versioned and (field.name, field.type) == ("version", _UINT64)
        }
        names = go_names.fields(message)
        before = go_values.shared(known, row, first) | dict.fromkeys(version, "1")
        expected = go_values.shared(known, row, event, first) | dict.fromkeys(version, "2")
        given = literal(go_values.sample(known, fold.event), go_names.fields(event))
        context = {
            "before": literal(before, names),
            "event": imports.type_of(fold.event),
            "expected": literal(expected, names),
            "file": go_names.file_name(go_names.camel(fold.name)),
            "function": go_names.camel(fold.name),
            "given": given,
            "imports": imports.lines(),
            "name": fold.name,
            "row": imports.type_of(row),
        }
        context["imports"] = imports.lines()
        context["test_imports"] = imports.lines(f"service/{_FOLDS}")
        return rendered("go", "fold", {"fold": context})

    def view(self, repository: Repository, new: NewView) -> dict[str, bytes]:
        return go_views.view(repository, new)

    def named_view(self, repository: Repository, new: NewView) -> dict[str, bytes]:
        return go_views.named(repository, new)

    nothing = "nil"

    def reaction(self, repository: Repository, new: NewReaction) -> dict[str, bytes]:
        known, imports = repository.known, Imports(repository)
        name, tested = go_names.camel(new.name), Imports(repository)
        if found := code_of(repository).declaring(f"service/{_REACTIONS}", name):
            raise Refused(f"{found!r} has a {name} already; choose another name")
        event = known.messages[new.event][1]
        values = literal(go_values.sample(known, new.event), go_names.fields(event))
        own = new.stream in repository.own_streams
        context: dict[str, Any] = {
            "event": imports.type_of(new.event),
            "event_name": new.event.rpartition(".")[2],
            "file": go_names.file_name(name),
            "function": name,
            "given": f"{tested.type_of(new.event)}{{{values}}}",
            "imports": imports.lines(),
            "name": new.name,
            "whose": "" if own else f" of {new.stream.name}",
        }
        part = "reaction"
        if new.appends is not None:
            part = "appending_reaction"
            answer = known.messages[new.appended][1]
            names, plain = go_names.fields(answer), go_values.plain(known, new.appended)
            key = {new.appends.events[new.appended]: "call.NewID()"}
            both = plain & go_values.plain(known, new.event)
            same = go_values.code(new.taken_over(known), both)
            getters = {each: f"event.Get{go_names.fields(event)[each]}()" for each in same}
            version = ", ExpectedVersion: chassis.At(0)" if new.appends.versioned else ""
            context |= {
                "answer": f"{tested.type_of(new.appended)}{{{literal(key | same, names)}}}",
                "example": f"{tested.type_of(new.appended)}{{{literal(key | getters, names)}}}",
                "version": version,
            }
        context["test_imports"] = tested.lines("service/internal/app", f"service/{_REACTIONS}")
        return rendered("go", part, {"reaction": context})

    def named(self, repository: Repository, new: NewReaction) -> dict[str, bytes]:
        app = go_app.read(repository.root, "Reaction")
        app.add_reaction(new.name, f"service/{_REACTIONS}.{go_names.camel(new.name)}")
        return {go_app.PATH: app.text.encode()}

    def wired(self, repository: Repository, folds: Sequence[NewFold]) -> dict[str, bytes]:
        if not folds:
            return {}
        app = go_app.App((repository.root / go_app.PATH).read_bytes().decode())
        for fold in folds:
            app.add_fold(fold.table, f"service/{_FOLDS}.{go_names.camel(fold.name)}")
        return {go_app.PATH: app.text.encode()}


def _published(known: Declared, stream: Stream, event: str, imports: Imports) -> str:
    """Code that puts an event into the log."""
    values = literal(go_values.sample(known, event), go_names.fields(known.messages[event][1]))
    version = "chassis.At(0)" if stream.versioned else "nil"
    return f"\trunning.Publish(t.Context(), &{imports.type_of(event)}{{{values}}}, {version})\n"
