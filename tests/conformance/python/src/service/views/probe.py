"""One view of all three streams, with a join and an aggregate."""

from service import contract

from factfold_chassis import Table, View

VIEW = View("probe")

INPUTS: Table[contract.Seen] = VIEW.table("inputs", contract.Seen)
OUTPUTS: Table[contract.Seen] = VIEW.table("outputs", contract.Seen)
MOVES: Table[contract.Move] = VIEW.table("moves", contract.Move)


def _join(move: contract.Move, seen: contract.Seen | None) -> contract.Joined:
    return contract.Joined(move=move, input=seen)


def _add(group: contract.Group, move: contract.Move) -> None:
    group.moves += 1
    group.amount += move.amount


def _remove(group: contract.Group, move: contract.Move) -> None:
    group.moves -= 1
    group.amount -= move.amount


JOINED: Table[contract.Joined] = VIEW.join(
    "joined",
    left=MOVES,
    right=INPUTS,
    on=lambda move: move.to or None,
    row=contract.Joined,
    combine=_join,
)
GROUPS: Table[contract.Group] = VIEW.aggregate(
    "groups",
    source=MOVES,
    by=lambda move: move.group or None,
    row=contract.Group,
    add=_add,
    remove=_remove,
)
TABLES = (INPUTS, OUTPUTS, MOVES, JOINED, GROUPS)
