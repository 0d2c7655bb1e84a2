"""The suite itself: names, what the cases show, known failures, the matrix."""

from __future__ import annotations

import tomllib
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Literal

import pytest
from faults.probe import CONFORMANCE

from . import languages as table
from .cases import KNOWN, Case, families, family, is_known, known_failing
from .conftest import excuse_no_setup
from .languages import languages, missing, required
from .matrix import Matrix
from .steps import VERBS

ALL = [case for name in families() for case in family(name)]
NAMES = {f"{case.family}: {case.name}": case for case in ALL}
PROMISES = tomllib.loads((CONFORMANCE / "promises.toml").read_text(encoding="utf-8"))
LEAST = 10  # cases of a family


def promised() -> dict[str, dict[str, str]]:
    """By the words that a case has for it: guarantee 1, pitfall 17."""
    return {
        f"{kind} {number}": told for kind, its in PROMISES.items() for number, told in its.items()
    }


@pytest.mark.parametrize("name", families())
def test_a_family_has_ten_cases_and_more_each_with_a_name_of_its_own(name: str) -> None:
    names = [case.name for case in family(name)]
    assert len(names) >= LEAST
    assert len(set(names)) == len(names)
    assert all(len(each.split()) >= 4 and not each.endswith(".") for each in names)


@pytest.mark.parametrize("name", families())
def test_each_case_is_played_and_each_scene_is_a_case(name: str) -> None:
    module = import_module(f".test_{name}", __package__)
    assert name == module.FAMILY
    scenes = set(module.scenes.by_name)
    played = {case.play for case in family(name) if case.play}
    # What settings refuse is looked at in one go.
    assert played - {"refuse"} == scenes
    for case in family(name):
        assert case.play or case.steps, case.name
        for step in case.steps:
            assert len(step.keys() & VERBS.keys()) == 1, (case.name, step)


def test_each_module_of_cases_has_a_file_and_each_file_a_module() -> None:
    modules = {path.stem.removeprefix("test_") for path in CONFORMANCE.glob("test_*.py")}
    assert modules - {"suite"} == set(families())


@pytest.mark.parametrize("name", promised())
def test_each_guarantee_and_pitfall_is_shown_by_a_case_or_elsewhere(name: str) -> None:
    cases = [case.name for case in ALL if name in case.shows]
    assert bool(cases) != ("where" in promised()[name]), cases
    if (
        where := promised()[name].get("where", "").partition(":")[0].split(",")[0]
    ) and "/" in where:
        assert (CONFORMANCE.parents[1] / where).exists()


def test_no_case_shows_what_nobody_promised() -> None:
    assert {name for case in ALL for name in case.shows} <= promised().keys()


# Known failures.


def test_each_known_failure_is_of_a_language_and_of_a_case() -> None:
    assert {path.stem for path in KNOWN.glob("*.toml")} <= languages().keys()
    for language in languages():
        for entry in known_failing(language):
            name, _, pair = entry.partition(" [")
            assert name in NAMES, f"{language}: {entry!r} names no case"
            if pair:
                names = pair.removesuffix("]").split("+")
                assert NAMES[name].pairs, entry
                assert language in names, entry
                assert set(names) <= languages().keys(), entry


@pytest.mark.parametrize("path", sorted(KNOWN.glob("*.toml")), ids=lambda path: path.stem)
def test_each_known_failure_has_a_reason_above_it(path: Path) -> None:
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    for before, line in pairwise(lines):
        if line.startswith(('"', "'")):
            assert before.startswith("# "), f"{line}: say why it fails, in a comment above it"


def _case(pairs: bool) -> Case:
    return Case("append", 1, "a b c d", (), pairs, "", [], {}, {})


def test_an_entry_is_about_all_pairs_of_its_language_or_about_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    listed = {"go": ["append: a b c d"], "rust": ["append: a b c d [python+rust]"]}
    monkeypatch.setattr(
        "conformance.cases.known_failing", lambda language: listed.get(language, [])
    )
    assert is_known(_case(False), ("go",))
    assert not is_known(_case(False), ("python",))
    assert is_known(_case(True), ("python", "go"))
    assert is_known(_case(True), ("python", "rust"))
    assert not is_known(_case(True), ("rust", "python"))


@pytest.mark.parametrize(("when", "outcome"), [("setup", "failed"), ("call", "skipped")])
def test_a_probe_that_does_not_build_is_no_known_failure(
    when: Literal["setup", "call"], outcome: str
) -> None:
    report = pytest.TestReport("row", ("row.py", 0, "row"), {}, "skipped", "it said why", when)
    report.wasxfail = "known_failing"
    excuse_no_setup(report)
    assert (report.outcome, hasattr(report, "wasxfail")) == (outcome, when == "call")


# Languages.


def test_a_language_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "python" in languages()
    rows = {"go": {"needs": ["no-such-program", "sh"]}, "python": {}}
    monkeypatch.setattr(table, "languages", lambda: rows)
    assert missing("go") == "go: no-such-program not on PATH"
    assert missing("python") == ""
    monkeypatch.setenv("FACTFOLD_REQUIRE", "rust,go")
    assert (required("go"), required("python")) == (True, False)


# The matrix.


def test_the_matrix_counts_a_pair_for_both_and_once_for_one() -> None:
    matrix = Matrix()
    assert not matrix
    matrix.add("views", ("python",), "passed")
    matrix.add("views", ("python", "go"), "failed")
    matrix.add("append", ("python", "python"), "passed")
    matrix.add("append", ("go",), "skipped")
    matrix.add("append", ("go",), "known failing")
    cells = [[cell.strip() for cell in line.strip("|").split("|")]
             for line in matrix.plain().splitlines()]  # fmt: skip
    assert cells[0] == ["family", "go", "python"]
    assert cells[2:] == [
        ["append", "1 known failing, 1 skipped", "1 passed"],
        ["views", "1 failed", "1 passed, 1 failed"],
        ["all", "1 known failing, 1 failed, 1 skipped", "2 passed, 1 failed"],
    ]
    drawn = matrix.drawn(120)
    assert "family" in drawn
    assert "\x1b[" in drawn
