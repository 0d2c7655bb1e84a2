"""What the team's code declares: handlers, folds and reactions, read without running it."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from factfold_cli.errors import Failed, Refused
from factfold_cli.languages.protocol import HANDLERS, Part

SOURCES = Path("src")
_KINDS = ("command", "query", "watch", "fold", "reaction")
_CHASSIS = "factfold_chassis"
_VIEWS = (f"{_CHASSIS}.View", f"{_CHASSIS}.views.declare.View")


@dataclass(frozen=True)
class Module:
    """One file of Python, and what its names stand for."""

    name: str
    path: str
    tree: ast.Module

    @cached_property
    def _names(self) -> dict[str, str]:
        names: dict[str, str] = {}
        for node in ast.walk(self.tree):
            match node:
                case ast.Import():
                    for each in node.names:
                        first = each.name.split(".")[0]
                        names[each.asname or first] = each.name if each.asname else first
                case ast.ImportFrom():
                    for each in node.names:
                        key = "*" if each.name == "*" else each.asname or each.name
                        names[key] = f"{self._origin(node)}.{each.name}".removesuffix(".*")
        for node in self.tree.body:
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=ast.Name() | ast.Attribute()):
                    names[name] = self._dotted(node.value, names)
                case _:
                    pass
        return names

    def _origin(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        words = self.name.split(".")
        package = words if self.path.endswith("__init__.py") else words[:-1]
        base = package[: len(package) - node.level + 1]
        return ".".join([*base, *([node.module] if node.module else [])])

    def dotted(self, node: ast.expr) -> str:
        """The name that an expression stands for, from the root of imports; "" if it is none."""
        return self._dotted(node, self._names)

    def _dotted(self, node: ast.expr, names: dict[str, str]) -> str:
        match node:
            case ast.Name(id=name):
                return names.get(name, f"{self.name}.{name}")
            case ast.Attribute(value=value, attr=attr):
                owner = self._dotted(value, names)
                return owner and f"{owner}.{attr}"
        return ""

    def imported(self, name: str) -> str:
        """What a name of this module was imported as, "" if it was not."""
        return self._names.get(name, "")

    def parts(self) -> Iterator[Part]:
        """Functions with a decorator of the chassis, and calls that do the same by hand."""
        decorators: set[int] = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                for decorator in node.decorator_list:
                    decorators.add(id(decorator))
                    yield from self._part(decorator, node.name)
        for node in ast.walk(self.tree):
            if not isinstance(node, ast.Call) or id(node) in decorators:
                continue
            match node:
                # command(function)
                case ast.Call(func=func, args=[ast.Name(id=name)]) if (
                    self._kind(func) in _KINDS[:3]
                ):
                    yield from self._part(func, name)
                # fold(event, into=table)(function)
                case ast.Call(func=ast.Call() as func, args=[ast.Name(id=name)]):
                    yield from self._part(func, name)

    def _kind(self, node: ast.expr) -> str:
        origin, _, kind = self.dotted(node).rpartition(".")
        known = origin.split(".")[0] == _CHASSIS
        starred = origin == self.name and self.imported("*").split(".")[0] == _CHASSIS
        return kind if kind in _KINDS and (known or starred) else ""

    def _part(self, node: ast.expr, name: str) -> Iterator[Part]:
        call = node if isinstance(node, ast.Call) else None
        kind = self._kind(call.func if call else node)
        if not kind:
            return
        events = tuple(self.dotted(each) for each in call.args) if call else ()
        into = ""
        for keyword in call.keywords if call else ():
            if keyword.arg == "into":
                into = self.dotted(keyword.value)
            elif keyword.arg == "event":
                events = (self.dotted(keyword.value),)
        yield Part(kind, name, self.path, events, into)


class Code:
    """All Python below src/ of the repository `root`.

    Raises Failed if a file cannot be read as Python.
    """

    def __init__(self, root: Path) -> None:
        self.modules: dict[str, Module] = {}
        for path in sorted((root / SOURCES).rglob("*.py")):
            words = path.relative_to(root / SOURCES).with_suffix("").parts
            name = ".".join(words[:-1] if words[-1] == "__init__" else words)
            shown = path.relative_to(root).as_posix()
            try:
                tree = ast.parse(path.read_bytes())
            except (SyntaxError, ValueError) as error:
                line = getattr(error, "lineno", None) or 1
                why = getattr(error, "msg", None) or error
                raise Failed(
                    f"{shown}:{line} is no Python ({why}); mend it, then sync again"
                ) from error
            self.modules[name] = Module(name, shown, tree)
        self.parts = [part for module in self.modules.values() for part in module.parts()]

    def answering(self) -> set[str]:
        """The names of handlers, and of what a decorator of the team's own may make one."""
        handlers = {part.name for part in self.parts if part.kind in HANDLERS}
        return handlers | self.decorated("service.handlers")

    def decorated(self, package: str) -> set[str]:
        """The names of all functions in a package that have a decorator of whatever kind."""
        return {
            node.name
            for module in self.modules.values()
            if f"{module.name}.".startswith(f"{package}.")
            for node in ast.walk(module.tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.decorator_list
        }

    def origin(self, dotted: str) -> str:
        """Where a name comes from, through the modules that only pass it on."""
        for _ in range(len(self.modules)):
            module, _, name = dotted.rpartition(".")
            if module not in self.modules:
                return dotted
            further = self.modules[module].imported(name)
            if not further or further == dotted:
                return dotted
            dotted = further
        return dotted

    def row_of(self, table: str) -> str:
        """The message that the rows of a table are, as a dotted name; "" if it cannot be told."""
        name, _, attribute = self.origin(table).rpartition(".")
        if (module := self.modules.get(name)) is None:
            return ""
        for node in module.tree.body:
            match node:
                case (
                    ast.Assign(targets=[ast.Name(id=found)], value=ast.Call() as call)
                    | ast.AnnAssign(target=ast.Name(id=found), value=ast.Call() as call)
                ) if found == attribute:
                    row = next((each.value for each in call.keywords if each.arg == "row"), None)
                    row = call.args[1] if row is None and len(call.args) > 1 else row
                    return self.origin(module.dotted(row)) if row is not None else ""
        return ""

    def views(self) -> set[str]:
        """The names of all views. Raises Refused, by file and line, if one cannot be told."""
        return {name for module in self.modules.values() for name in _views(module)}


def _views(module: Module) -> Iterator[str]:
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.Call) or module.dotted(node.func) not in _VIEWS:
            continue
        named = [*node.args[:1], *(each.value for each in node.keywords if each.arg == "name")]
        match named:
            case [ast.Constant(value=str(name))]:
                yield name
            case _:
                raise Refused(no_name_of_a_view(module.path, node.lineno))


def no_name_of_a_view(path: str, line: int) -> str:
    """That the name of a view which is made there cannot be told."""
    return f"{path}:{line}: the name of this view cannot be told; write it as a text here"
