"""Results: a table for people, JSON for programs, and a picture."""

import json
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.machine import Machine
from bench.rounds import Better, Language, Measured, Ratio

TARGETS = tomllib.loads((Path(__file__).parent / "targets.toml").read_text())


@dataclass(frozen=True)
class Row:
    """One comparison; `ratio` is turned so that more is better."""

    work: str
    language: Language
    against: str
    ours: float
    theirs: float
    unit: str
    ratio: float
    lowest: float
    highest: float
    target: float | None

    @property
    def reached(self) -> float | None:
        """The share of the target; None without one."""
        return self.ratio / self.target if self.target else None


@dataclass(frozen=True)
class Series:
    """Figures that are no comparison: how something grows, or what one thing costs."""

    name: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


@dataclass
class Report:
    machine: Machine
    rows: list[Row] = field(default_factory=list)
    series: list[Series] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def compared(
        self,
        work: str,
        unit: str,
        ours: str,
        measured: dict[str, Measured],
        better: Better,
        language: Language = "python",
    ) -> None:
        mine = measured[ours]
        for name, theirs in measured.items():
            if name != ours:
                self.add(work, unit, name, mine.median, theirs.median,
                         Ratio.of(mine, theirs, better), language)  # fmt: skip

    def add(
        self,
        work: str,
        unit: str,
        against: str,
        ours: float,
        theirs: float,
        ratio: Ratio,
        language: Language = "python",
    ) -> None:
        target = TARGETS[language].get(work, {}).get(against)
        self.rows.append(
            Row(work, language, against, ours, theirs, unit,
                ratio.median, ratio.lowest, ratio.highest, target)
        )  # fmt: skip

    def lacks(self, text: str) -> None:
        """Something is not compared, and why."""
        self.missing.append(text)

    @property
    def short(self) -> list[Row]:
        return [row for row in self.rows if row.reached is not None and row.reached < 1]

    def markdown(self) -> str:
        lines = [
            self.machine.sentence,
            "",
            "| work | in | against | ours | theirs | unit | ratio | spread | target | reached |",
            "|---|---|---|--:|--:|---|--:|--:|--:|--:|",
        ]
        for row in self.rows:
            target = f"{row.target:g}" if row.target else ""
            reached = f"{row.reached:.0%}" if row.reached is not None else ""
            spread = f"{row.lowest:.2f}-{row.highest:.2f}"
            lines.append(
                f"| {row.work} | {row.language} | {row.against} | "
                f"{_figure(row.ours)} | {_figure(row.theirs)} | {row.unit} | "
                f"{row.ratio:.2f} | {spread} | {target} | {reached} |"
            )
        for series in self.series:
            lines += ["", f"**{series.name}**", "", "| " + " | ".join(series.columns) + " |"]
            lines.append("|---" + "|--:" * (len(series.columns) - 1) + "|")
            for cells in series.rows:
                lines.append("| " + " | ".join(map(_figure, cells)) + " |")
        lines += ["", *(f"Not compared: {text}" for text in self.missing)]
        return "\n".join(lines).strip() + "\n"

    def write(self, folder: Path) -> None:
        """results.md, .json and .svg, in place of those that are there."""
        from bench.picture import draw  # matplotlib takes a second

        folder.mkdir(parents=True, exist_ok=True)
        (folder / "results.md").write_text(self.markdown() + "\n![](results.svg)\n", "utf-8")
        (folder / "results.json").write_text(self.as_json(), "utf-8")
        draw(self.rows, folder / "results.svg")

    def as_json(self) -> str:
        whole = {
            "machine": asdict(self.machine),
            "rows": [asdict(row) for row in self.rows],
            "series": [asdict(series) for series in self.series],
            "missing": self.missing,
        }
        return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def _figure(value: Any) -> str:
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else str(value)
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"
