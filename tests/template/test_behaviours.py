"""Emptying any handler, fold or reaction turns one of the service's own tests red."""

import ast
from collections.abc import Callable
from pathlib import Path

from .conftest import Generated

BEHAVIOURS = ("handlers", "folds", "reactions")
NOTHING = ast.parse("def nothing():\n    return None").body[0]
NO_CHANGE = ast.parse("def nothing():\n    return\n    yield").body[0]


def emptied(path: Path) -> str:
    """The module with its one behaviour doing nothing, but still of its kind."""
    tree = ast.parse(path.read_text())
    (function,) = [
        node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    streams = any(isinstance(node, ast.Yield) for node in ast.walk(function))
    nothing = NO_CHANGE if streams else NOTHING
    assert isinstance(nothing, ast.FunctionDef)
    function.body = nothing.body
    return ast.unparse(tree)


def test_each_is_tested(generate: Callable[..., Generated]) -> None:
    generate("orders")
    service = generate("shipments", "--subscribe", "orders")
    files = [
        path
        for part in BEHAVIOURS
        for path in sorted((service.root / "src/service" / part).glob("[!_]*.py"))
    ]
    assert len(files) == 10
    survivors = []
    for path in files:
        text = path.read_text()
        path.write_text(emptied(path))
        if service.python("-m", "pytest", "-qx", "-p", "no:cacheprovider").returncode != 1:
            survivors.append(path.name)
        path.write_text(text)
    assert survivors == []
