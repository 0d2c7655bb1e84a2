"""What the rights of a service follow from, read from its contract and its code."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from factfold_cli import manifest
from factfold_cli.code import Code, Module
from factfold_cli.declared import copies, declared, subscribed
from factfold_cli.discovery import ServiceFolder
from factfold_cli.errors import Refused
from factfold_cli.rights import Needs, Stream

_VIEWS = ("factfold_chassis.View", "factfold_chassis.views.declare.View")
# Of the chassis' own, where no fold of the service takes its own stream.
_JOURNAL = "journal"


def needs(folder: ServiceFolder, *, names: bool) -> Needs:
    """Of one service; with `names` also those of its views and reactions.

    Raises Refused, and Failed if contract or code cannot be read.
    """
    known = manifest.read(folder.path)
    there = declared(folder.path / "protos", copies(known))
    own = [stream for path, stream in there.streams.items() if path in there.own]
    foreign = [there.streams[path] for path in subscribed(known, there).values()]
    views, reactions = _names(folder, known) if names else ([], [])
    return Needs(
        folder.name,
        [Stream(each.name, each.partitions) for each in own],
        [Stream(each.name, each.partitions) for each in foreign],
        views,
        reactions,
    )


def _names(folder: ServiceFolder, known: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    if known["language"] != "python":
        raise Refused(
            f"{folder.name} is written in {known['language']}: for Redis 6.2 its views and "
            "reactions have to be known; use Redis 7 or newer"
        )
    code = Code(folder.path)
    reactions = {part.name for part in code.parts if part.kind == "reaction"}
    views = {name for module in code.modules.values() for name in _views(folder.path, module)}
    return sorted({*views, _JOURNAL}), sorted(reactions)


def _views(root: Path, module: Module) -> Iterator[str]:
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.Call) or module.dotted(node.func) not in _VIEWS:
            continue
        named = [*node.args[:1], *(each.value for each in node.keywords if each.arg == "name")]
        match named:
            case [ast.Constant(value=str(name))]:
                yield name
            case _:
                raise Refused(
                    f"{root / module.path}:{node.lineno}: the name of this view cannot be told; "
                    "write it as a text here"
                )
