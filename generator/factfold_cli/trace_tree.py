"""A trace as a tree that a person reads: span, service, kind, duration."""

from collections.abc import Iterator

from rich.table import Table
from rich.text import Text

from factfold_cli.traces import Span, Trace

_KIND_COLOURS = {"CLIENT": "blue", "SERVER": "blue", "PRODUCER": "green", "CONSUMER": "magenta"}


def tree(trace: Trace) -> Table:
    """Children stand under their parents in the order in which they began."""
    table = Table.grid(padding=(0, 2))
    for _ in range(3):
        table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, justify="right")
    for guide, span in _rows(trace):
        table.add_row(
            Text.assemble((guide, "dim"), (span.name, "bold red" if span.failed else "bold")),
            Text(span.service),
            Text(span.kind, _KIND_COLOURS.get(span.kind, "")),
            Text(f"{(span.end - span.start) / 1e6:.2f} ms"),
        )
    return table


def _rows(trace: Trace) -> Iterator[tuple[str, Span]]:
    children: dict[str, list[Span]] = {}
    for span in trace.in_order():
        parent = span.parent_span_id if span.parent_span_id in trace.spans else ""
        children.setdefault(parent, []).append(span)

    def below(parent: str, indent: str) -> Iterator[tuple[str, Span]]:
        spans = children.get(parent, [])
        for at, span in enumerate(spans):
            last = at == len(spans) - 1
            yield indent + ("└─ " if last else "├─ "), span
            yield from below(span.span_id, indent + ("   " if last else "│  "))

    for root in children.get("", []):
        yield ("… " if root.parent_span_id else ""), root
        yield from below(root.span_id, "  " if root.parent_span_id else "")
