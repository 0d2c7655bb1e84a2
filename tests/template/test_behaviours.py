"""Emptying any handler, fold, reaction or derived table turns one of the service's tests red."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

from .conftest import Generated

BEHAVIOURS = ("handlers", "folds", "reactions", "views")
NOTHING = ast.parse("def nothing():\n    return None").body
NO_CHANGE = ast.parse("def nothing():\n    return\n    yield").body


def emptied(path: Path) -> Iterator[tuple[str, str]]:
    """Each function's name, and the module with it doing nothing, but still of its kind."""
    functions = ast.FunctionDef | ast.AsyncFunctionDef
    for at, node in enumerate(ast.parse(path.read_text()).body):
        if isinstance(node, functions):
            tree = ast.parse(path.read_text())
            function = tree.body[at]
            streams = any(isinstance(below, ast.Yield) for below in ast.walk(function))
            (nothing,) = NO_CHANGE if streams else NOTHING
            assert isinstance(function, functions)
            assert isinstance(nothing, functions)
            function.body = nothing.body
            yield node.name, ast.unparse(tree)


def test_each_is_tested(generate: Callable[..., Generated]) -> None:
    generate("orders")
    service = generate("shipments", "--subscribe", "orders")
    tried, survivors = [], []
    for part in BEHAVIOURS:
        for path in sorted((service.root / "src/service" / part).glob("[!_]*.py")):
            text = path.read_text()
            for name, mutant in emptied(path):
                tried.append(name)
                path.write_text(mutant)
                if service.python("-m", "pytest", "-qx", "-p", "no:cacheprovider").returncode != 1:
                    survivors.append(f"{path.name}: {name}")
            path.write_text(text)
    assert survivors == []
    assert sorted(tried) == [
        "add",
        "announce_shipment",
        "create_shipment",
        "create_shipment_for_order",
        "get_shipment",
        "list_shipments",
        "order_created",
        "remove",
        "rename_shipment",
        "shipment_created",
        "shipment_renamed",
        "waiting",
        "watch_shipments",
    ]
