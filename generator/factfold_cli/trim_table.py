"""How a stream stands that is to be trimmed: for people, for pipes, as a document."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from factfold_cli.ages import iso
from factfold_cli.holders import Holder, State
from factfold_cli.output import Output
from factfold_cli.printable import printable

_PARTITIONS = ("partition", "facts", "trimmed", "may go", "held back by")
_READERS = ("reader", "partition", "needs from", "behind", "seen", "")
_NUMBERS = ("facts", "trimmed", "may go", "behind")
_HOLDS_BACK = "holds back"


def show(states: Sequence[State], output: Output) -> None:
    """Two tables for a person."""
    output.show(_table(_PARTITIONS, [_partition(state) for state in states]))
    readers = [
        [
            str(each),
            str(state),
            each.position if each.n else "the first fact",
            f"{_behind(state, each)}",
            state.ago(each) if each.seen else "",
            _HOLDS_BACK * _holds_back(state, each),
        ]
        for state in states
        for each in state.holders
    ]
    if readers:
        output.say("")
        output.show(_table(_READERS, sorted(readers)))


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in names:
        justify: Any = "right" if name in _NUMBERS else "left"
        # Where there is no room for all, names go on in another line.
        wraps = name in ("reader", "held back by")
        table.add_column(name, justify=justify, overflow="fold", no_wrap=not wraps)
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table


def lines(states: Sequence[State]) -> list[str]:
    """One for each partition and for each reader of one, with tabs between its parts."""
    found = [["partition", *_partition(state)] for state in states]
    for state in states:
        for each in state.holders:
            its = [str(each), str(state), each.position, f"{_behind(state, each)}"]
            word = _HOLDS_BACK * _holds_back(state, each)
            found.append(["reader", *its, _seen(each) or "", word])
    return ["\t".join(map(printable, line)) for line in found]


def _partition(state: State) -> list[str]:
    holder = state.holder
    numbers = (state.facts, state.trimmed, may_go(state))
    return [str(state), *(f"{number}" for number in numbers), str(holder) if holder else ""]


def may_go(state: State) -> int:
    """Facts that nobody needs; the one that a reader stands at stays."""
    return state.first - 1 - state.trimmed


def _behind(state: State, holder: Holder) -> int:
    return max(0, state.n - holder.at)


def _holds_back(state: State, holder: Holder) -> bool:
    return holder.n < state.n and holder.n == min(each.n for each in state.holders)


def _seen(holder: Holder) -> str | None:
    return iso(holder.seen / 1000) if holder.seen else None


def document(stream: str, states: Sequence[State]) -> dict[str, Any]:
    return {
        "stream": stream,
        "partitions": [
            {
                "partition": state.partition.number,
                "facts": state.facts,
                "trimmed": state.trimmed,
                "may_go": may_go(state),
                "held_back_by": str(state.holder) if state.holder else None,
                "readers": [
                    {
                        "kind": each.kind,
                        "reader": each.name,
                        "instance": each.instance or None,
                        "position": each.position,
                        "behind": _behind(state, each),
                        "seen_at": _seen(each),
                        "holds_back": _holds_back(state, each),
                    }
                    for each in state.holders
                ],
            }
            for state in states
        ],
    }
