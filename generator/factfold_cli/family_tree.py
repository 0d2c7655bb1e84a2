"""How a fact looks among its relatives: as a tree for people, as a JSON document."""

from collections.abc import Iterator, Sequence
from typing import Any

from rich.text import Text

from factfold_cli.decoding import Events
from factfold_cli.fact_lines import columns, document, milliseconds
from factfold_cli.facts import Fact, id_text
from factfold_cli.output import Output
from factfold_cli.relatives import Family


def show_family(family: Family, events: Events, output: Output) -> None:
    """A line for each, an effect under its cause, and what the search was bounded by."""
    for mark, guide, fact in _rows(family):
        if fact is None:
            text = Text(f"its cause {id_text(family.missing)} was not found", "dim")
        else:
            time, position, *rest = (Text(*column) for column in columns(fact, events))
            guided = Text.assemble((guide, "dim"), position)
            text = Text("  ").join([time, guided, *rest])
        output.say(Text.assemble((mark, "bold green"), text))
    output.say(_bound(family), "dim")


def family_document(family: Family, events: Events) -> dict[str, Any]:
    """The same as JSON values; effects as a tree is written, `depth` 0 for those of the fact."""
    return {
        "fact": document(family.fact, events),
        "causes": [document(cause, events) for cause in family.causes],
        "cause_not_found": id_text(family.missing) or None,
        "effects": [
            {"depth": depth, **document(effect, events)} for depth, effect in family.effects
        ],
        "searched": {
            "streams": family.streams,
            "entries": family.looked_at,
            "effects_from": milliseconds(family.begin),
            "complete": family.complete,
        },
    }


def _rows(family: Family) -> Iterator[tuple[str, str, Fact | None]]:
    """A mark, what leads to its place in the tree, and the fact; None for the cause that lacks."""
    level = 0
    if family.missing:
        yield "  ", "", None
        level = 1
    for fact in [*family.causes, family.fact]:
        mark = "> " if fact is family.fact else "  "
        yield mark, "   " * (level - 1) + "└─ " * (level > 0), fact
        level += 1
    open_below = _open([depth for depth, _ in family.effects])
    for (depth, fact), opened in zip(family.effects, open_below, strict=True):
        above = "".join("│  " if each else "   " for each in opened[:-1])
        guide = "   " * (level - 1) + above + ("├─ " if opened[-1] else "└─ ")
        yield "  ", guide, fact
        assert depth == len(opened) - 1


def _open(depths: Sequence[int]) -> list[list[bool]]:
    """For each row, whether another one comes at its depth, and at each depth above it."""
    found: list[list[bool]] = []
    to_come: list[bool] = []
    for depth in reversed(depths):
        to_come = to_come[: depth + 1] + [False] * (depth + 1 - len(to_come))
        found.append(list(to_come))
        to_come[depth] = True
    return found[::-1]


def _bound(family: Family) -> str:
    text = (
        f"looked at {family.looked_at:,} entries of {', '.join(family.streams)}; for effects from "
        f"{milliseconds(family.begin)} on"
    )
    return text + ("" if family.complete else ", but not at all: --search looks at more")
