"""What becomes of the figures of the bench. Nothing is measured here."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from bench import report as reports
from bench.machine import Machine
from bench.pauses import Pauses
from bench.report import Report, Row, Series
from bench.rounds import AGAIN, Contender, Died, Measured, Ratio, alternate, once, undisturbed

MACHINE = Machine(
    "2026-11-25", "A processor", 2, 8.0, "Linux 6.1", "3.11.7", "Redis 7.0.15", {"grpcio": "1.85.1"}
)
FIELDS = {
    "work", "language", "against", "ours", "theirs", "unit", "ratio", "lowest", "highest", "target",
}  # fmt: skip


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> Report:
    targets = {
        "python": {"append": {"redis-py": 2.0, "kafka": 8.0}},
        "go": {"append": {"kafka": 4.0}},
    }
    monkeypatch.setattr(reports, "TARGETS", targets)
    return Report(MACHINE)


def measured(**values: list[float]) -> dict[str, Measured]:
    return {name.replace("_", "-"): Measured(each) for name, each in values.items()}


def test_ratios_are_of_the_same_round() -> None:
    # The second round was slow for both: the ratio has not changed.
    ours, theirs = Measured([30.0, 3.0, 20.0]), Measured([10.0, 1.0, 10.0])
    assert Ratio.of(ours, theirs, "more") == Ratio(3.0, 2.0, 3.0)


def test_a_ratio_is_turned_so_that_more_is_better() -> None:
    ours, theirs = Measured([2.0, 4.0]), Measured([4.0, 4.0])
    assert Ratio.of(ours, theirs, "less") == Ratio(1.5, 1.0, 2.0)
    assert Ratio.of(ours, theirs, "more") == Ratio(0.75, 0.5, 1.0)


def test_each_of_the_others_gets_a_row(report: Report) -> None:
    report.compared(
        "append", "facts/s", "factfold",
        measured(factfold=[9.0, 10.0, 30.0], redis_py=[5.0, 4.0, 6.0], kafka=[2.0, 1.0, 1.0]),
        "more",
    )  # fmt: skip
    assert report.rows == [
        Row("append", "python", "redis-py", 10.0, 5.0, "facts/s", 2.5, 1.8, 5.0, 2.0),
        Row("append", "python", "kafka", 10.0, 1.0, "facts/s", 10.0, 4.5, 30.0, 8.0),
    ]


def test_what_is_short_of_its_target_is_said(report: Report) -> None:
    report.add("append", "facts/s", "redis-py", 19.0, 10.0, Ratio(1.9, 1.5, 2.1))
    report.add("append", "facts/s", "kafka", 80.0, 10.0, Ratio(8.0, 8.0, 8.0))
    report.add("append", "facts/s", "somebody", 1.0, 10.0, Ratio(0.1, 0.1, 0.1))
    assert [row.against for row in report.short] == ["redis-py"]
    assert [row.reached for row in report.rows] == [0.95, 1.0, None]
    reached = [line.split("|")[-2].strip() for line in report.markdown().splitlines()[4:7]]
    assert reached == ["95%", "100%", ""]


def test_a_target_is_one_of_a_language(report: Report) -> None:
    report.compared(
        "append", "facts/s", "factfold", measured(factfold=[8.0], kafka=[2.0]), "more", "go"
    )
    assert [(row.language, row.target, row.reached) for row in report.rows] == [("go", 4.0, 1.0)]
    assert "| append | go | kafka | 8 | 2 |" in report.markdown()


def test_markdown_and_json_carry_everything(report: Report) -> None:
    report.add("append", "facts/s", "redis-py", 123456.0, 4.5678, Ratio(2.36, 1.5, 3.25))
    report.series.append(Series("growth", ["facts", "s"], [[10_000, 0.125]]))
    report.lacks("append against kafka: it is not installed")
    text = report.markdown()
    assert "2026-11-25: A processor, 2 cores, 8 GiB" in text
    assert (
        "| append | python | redis-py | 123,456 | 4.57 | facts/s | 2.36 | 1.50-3.25 | 2 | 118% |"
        in text
    )
    assert "| facts | s |\n|---|--:|\n| 10,000 | 0.125 |" in text
    assert "Not compared: append against kafka: it is not installed" in text
    whole = json.loads(report.as_json())
    assert set(whole) == {"machine", "rows", "series", "missing"}
    assert whole["machine"]["cores"] == 2
    assert set(whole["rows"][0]) == FIELDS
    assert (whole["rows"][0]["ratio"], whole["rows"][0]["target"]) == (2.36, 2.0)
    assert whole["series"] == [
        {"name": "growth", "columns": ["facts", "s"], "rows": [[10_000, 0.125]]}
    ]


def test_the_picture_has_a_bar_for_each_row(report: Report, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    report.add("append", "facts/s", "redis-py", 19.0, 10.0, Ratio(1.9, 1.5, 2.1))
    report.add("append", "facts/s", "somebody", 1.0, 10.0, Ratio(0.1, 0.1, 0.1))
    report.write(tmp_path)
    picture = (tmp_path / "results.svg").read_text("utf-8")
    assert "append / redis-py" in picture
    assert "append / somebody" in picture
    assert {path.name for path in tmp_path.iterdir()} == {
        "results.md", "results.json", "results.svg",
    }  # fmt: skip


def program(name: str, code: str) -> Contender:
    """`code` is run for each turn, with its number from 1 on as `n`."""
    whole = f"import sys\nfor n, line in enumerate(sys.stdin, 1):\n    {code}"
    return Contender(name, [sys.executable, "-c", whole])


def test_contenders_take_turns_and_the_first_is_not_counted(tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    code = "open({!r}, 'a').write({!r}); print('{{\"value\": %d, \"more\": 0}}' % n, flush=True)"
    contenders = [program(name, code.format(str(diary), name)) for name in "ab"]
    measured = alternate(contenders, rounds=3, seconds=0.1, say=lambda text: None)
    assert diary.read_text() == "ab" + "ab" + "ba" + "ab"
    assert measured["a"].values == measured["b"].values == [2, 3, 4]
    assert measured["a"].median == 3
    assert measured["a"].extras == [{"more": 0}] * 3


def test_a_turn_in_which_the_machine_stood_still_is_taken_again() -> None:
    pauses, taken = Pauses(), []

    def turn(seconds: float) -> dict[str, Any]:
        taken.append(seconds)
        pauses.count += len(taken) < 3
        return {"value": len(taken)}

    assert undisturbed(turn, pauses, 0.1) == {"value": 3}
    assert taken == [0.1] * 3


def test_a_machine_that_stands_still_all_the_time_does_not_hold_up_the_bench() -> None:
    pauses = Pauses()

    def turn(seconds: float) -> dict[str, Any]:
        pauses.count += 1
        return {"value": pauses.count}

    assert undisturbed(turn, pauses, 0.1) == {"value": AGAIN}


@pytest.mark.parametrize("turn", [1, 2])
def test_a_contender_that_dies_is_one_error(turn: int) -> None:
    code = f"n == {turn} and sys.exit(3); print('{{\"value\": 1}}', flush=True)"
    contenders = [program("fine", "print('{\"value\": 1}', flush=True)"), program("ill", code)]
    with pytest.raises(Died, match=r"^ill has ended with 3$"):
        alternate(contenders, rounds=2, seconds=0.1, say=lambda text: None)


def test_without_go_its_rows_are_left_out_and_that_is_said(
    report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("grpc_health")
    from bench.stage import Stage

    monkeypatch.setenv("PATH", str(tmp_path))
    assert Stage(tmp_path, report, False, 1, 0.1).go("rebuild") is None
    assert report.missing == ["rebuild in Go: Go is not installed"]


def test_a_program_that_fails_is_one_error() -> None:
    with pytest.raises(Died, match=r"^nothing_like_it has ended with 1$"):
        once("nothing_like_it")
