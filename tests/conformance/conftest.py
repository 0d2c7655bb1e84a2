"""Cases by languages, what is known to fail, and the matrix at the end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from faults.probe import Made, compile_stubs, make

from .cases import Case, family, is_known
from .languages import languages, missing, required
from .matrix import Matrix
from .stage import Stage

MATRIX = pytest.StashKey[Matrix]()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One loop for all, and a stage's cases one after the other.

    A module's cases share channels, which belong to a loop. Each change of the stage ends its
    processes; pytest's own order goes from one to the other with each case.
    """
    here = Path(__file__).parent
    at = [n for n, item in enumerate(items) if here in item.path.parents]
    staged: dict[tuple[Path, object], int] = {}
    for n in at:
        if "stage" in getattr(items[n], "fixturenames", ()):
            items[n].add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)
        staged.setdefault(_stage_of(items[n]), n)
    ordered = sorted((items[n] for n in at), key=lambda item: staged[_stage_of(item)])
    for n, item in zip(at, ordered, strict=True):
        items[n] = item


def _stage_of(item: pytest.Item) -> tuple[Path, object]:
    call = getattr(item, "callspec", None)
    return item.path, call.params.get("stage") if call else None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" not in metafunc.fixturenames:
        return
    asked = metafunc.config.getoption("--languages")
    if unknown := set(asked.split(",")) - {"all", *languages()}:
        raise pytest.UsageError(f"languages.toml has no row {', '.join(sorted(unknown))}")
    names = [each for each in languages() if asked == "all" or each in asked.split(",")]
    # A stage's cases one after the other: a change of the stage ends its processes.
    cases = family(metafunc.module.FAMILY)
    found: list[tuple[tuple[str, ...], Case]] = [
        ((name,), case) for name in names for case in cases if not case.pairs
    ]
    found += [(p, case) for p in product(names, repeat=2) for case in cases if case.pairs]
    metafunc.parametrize(
        ("stage", "case"),
        [_parameters(each, case) for each, case in found],
        indirect=["stage"],
        scope="module",
    )


def _parameters(names: tuple[str, ...], case: Case) -> Any:
    marks = []
    if is_known(case, names):
        marks.append(pytest.mark.xfail(reason="known_failing", strict=True))
    return pytest.param(names, case, marks=marks, id=f"{'+'.join(names)}-{case.name}")


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Made]:
    """The probe of a language, rendered and built once."""
    compile_stubs(tmp_path_factory.mktemp("stubs"))
    built: dict[str, Made] = {}

    def of(language: str) -> Made:
        if language not in built:
            built[language] = make(language, tmp_path_factory.mktemp(language))
        return built[language]

    return of


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stage(
    request: pytest.FixtureRequest,
    made: Callable[[str], Made],
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Stage]:
    for language in request.param:
        if reason := missing(language):
            (pytest.fail if required(language) else pytest.skip)(reason)
    stage = Stage([made(each) for each in request.param], tmp_path_factory.mktemp("stage"))
    yield stage
    await stage.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    excuse_no_setup(report)
    if (spec := getattr(item, "callspec", None)) and "case" in spec.params:
        end = _end(report)
        if end:
            matrix = item.config.stash.setdefault(MATRIX, Matrix())
            matrix.add(spec.params["case"].family, spec.params["stage"], end)
    return report


def excuse_no_setup(report: pytest.TestReport) -> None:
    """What is known to fail is a case, and not a probe that does not build or start."""
    if report.when == "setup" and hasattr(report, "wasxfail"):
        report.outcome = "failed"
        del report.wasxfail


def _end(report: pytest.TestReport) -> str:
    """How the case ended; empty for a part of it that ended nothing."""
    if report.failed:
        return "failed"
    if report.skipped:
        return "known failing" if hasattr(report, "wasxfail") else "skipped"
    return "passed" if report.when == "call" else ""


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if not (matrix := config.stash.get(MATRIX, Matrix())):
        return
    terminalreporter.section("conformance")
    writer = config.get_terminal_writer()
    terminalreporter.write(matrix.drawn(writer.fullwidth) if writer.hasmarkup else matrix.plain())
    if (path := config.getoption("--matrix")) is not None:
        Path(path).write_text(matrix.plain(), encoding="utf-8")
