"""The comparisons at a glance: one bar each, and where its target is."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from bench.report import Row

# Okabe and Ito's colours, which people with any vision tell apart; what is short is hatched too.
REACHED, SHORT, SHOWN, MARK = "#0072B2", "#E69F00", "#999999", "#000000"


def draw(rows: Sequence[Row], path: Path) -> None:
    """Write the picture of `rows`, the first one on top, as SVG."""
    # The same bytes for the same rows; text stays text.
    matplotlib.rcParams |= {"svg.hashsalt": "factfold", "svg.fonttype": "none"}
    figure = Figure(figsize=(10, 1.4 + 0.3 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for at, row in enumerate(rows):
        short = row.reached is not None and row.reached < 1
        colour = SHOWN if row.target is None else SHORT if short else REACHED
        # From 1 on, where both are alike: to the right is better than the other.
        axes.barh(
            at, row.ratio - 1, left=1, height=0.7, color=colour, hatch="///" if short else "",
            edgecolor="white",
        )  # fmt: skip
        axes.hlines(at, row.lowest, row.highest, color=MARK, linewidth=1)
        if row.target is not None:
            axes.vlines(row.target, at - 0.45, at + 0.45, color=MARK, linewidth=2.5)
        axes.annotate(
            f"{row.ratio:.2f}", (1, at), xycoords=("axes fraction", "data"),
            xytext=(4, 0), textcoords="offset points", va="center", fontsize=8,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.axvline(1, color=MARK, linewidth=0.8)
    ticks = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks], minor=False)
    axes.minorticks_off()
    edges = [edge for row in rows for edge in (row.lowest, row.highest, row.target or 1, 1)]
    axes.set_xlim(0.8 * min(edges), 1.25 * max(edges))
    axes.set_yticks(range(len(rows)), [_label(row) for row in rows], fontsize=8)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel("times as good as the other one; line: lowest and highest of the rounds")
    axes.legend(
        handles=[
            Patch(facecolor=REACHED, label="target reached"),
            Patch(facecolor=SHORT, hatch="///", edgecolor="white", label="target missed"),
            Patch(facecolor=SHOWN, label="no target"),
            Line2D([], [], color=MARK, linewidth=2.5, label="target"),
        ],
        loc="lower center", bbox_to_anchor=(0.5, 1), ncols=4, frameon=False, fontsize=8,
    )  # fmt: skip
    figure.savefig(path, metadata={"Date": None})


def _label(row: Row) -> str:
    work = row.work if row.language == "python" else f"{row.work}, {row.language}"
    return f"{work} / {row.against}"
