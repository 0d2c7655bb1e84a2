"""What the rights of a service follow from, read from its contract and its code."""

from collections.abc import Mapping
from typing import Any

from factfold_cli import manifest
from factfold_cli.declared import copies, declared, subscribed
from factfold_cli.discovery import ServiceFolder
from factfold_cli.errors import Refused
from factfold_cli.languages import of
from factfold_cli.rights import Needs, Stream

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
    code = of(known["language"]).code(folder.path)
    reactions = {part.name for part in code.parts if part.kind == "reaction"}
    try:
        return sorted({*code.views(), _JOURNAL}), sorted(reactions)
    except Refused as refused:
        raise Refused(f"{folder.path}/{refused.message}") from refused
