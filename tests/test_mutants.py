"""Mutants run for long and rarely: that each still finds what it breaks is looked at each time."""

import re
import runpy
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from conformance.cases import families, family
from conformance.languages import languages

ROOT = Path(__file__).parent.parent
RUN: dict[str, Any] = runpy.run_path(str(ROOT / "tests/mutants/run.py"))
MUTANTS: list[Any] = RUN["mutants"]()
CASES = {
    f"test_{name}[{'+'.join(of)}-{case.name}]"
    for name in families()
    for case in family(name)
    for of in product(languages(), repeat=2 if case.pairs else 1)
}


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_what_it_breaks_is_there_once(mutant: Any) -> None:
    for place in mutant.places():
        assert (ROOT / place).read_text(encoding="utf-8").count(mutant.old) == 1


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_its_rows_are_tests(mutant: Any) -> None:
    assert mutant.rows
    assert [row for row in mutant.rows if not is_test(row, mutant.language)] == []


def is_test(row: str, language: str) -> bool:
    file, _, name = row.partition("::")
    if not file.endswith(".py"):
        own = RUN["LANGUAGES"][language].own
        folder, of_folder = row.split()
        paths = (ROOT / own.folder / folder).glob(own.files)
        return any(own.defined.format(of_folder) in each.read_text("utf-8") for each in paths)
    if name and "/conformance/" in file:
        return name in CASES
    defined = rf"\bdef {name.partition('[')[0]}\(" if name else ""
    return re.search(defined, (ROOT / file).read_text("utf-8")) is not None


@pytest.mark.parametrize(
    "row",
    [
        "internal/redislog TestThatNobodyWrote",
        "internal/nowhere TestFactsAreAppendedInTheOrderOfTheirCalls",
        "tests/test_mutants.py::test_that_nobody_wrote",
        "tests/conformance/test_append.py::test_append[go-a case that nobody wrote]",
    ],
)
def test_a_row_that_names_no_test_is_found(row: str) -> None:
    assert not is_test(row, "go")
