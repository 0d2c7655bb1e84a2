"""Rows: which servers, how many faults, and the table at the end."""

import random
import signal
from collections.abc import AsyncIterator, Generator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from . import servers
from .probe import Made, compile_stubs, make, tables
from .row import Line, Row, markdown

LINES = pytest.StashKey[list[Line]]()
ROW = pytest.StashKey[Row]()
SAMPLE = 10  # the normal run injects one in ten
LONGEST = 300.0  # seconds: a row that hangs must not hold up the others


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "row" in metafunc.fixturenames:
        if (language := metafunc.config.getoption("--language")) not in tables():
            raise pytest.UsageError(f"languages.toml has no row {language}")
        asked = metafunc.config.getoption("--server")
        if mark := metafunc.definition.get_closest_marker("servers"):
            asked = mark.args[0] if asked in ("default", "all", mark.args[0]) else ""
        mark = metafunc.definition.get_closest_marker("topology")
        found = servers.kinds(asked, mark.args[0] if mark else "")
        names = [kind if isinstance(kind, str) else kind.name for kind in found]
        metafunc.parametrize("kind", found, ids=names, scope="session")


@pytest.fixture(scope="session")
def made(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The probe, rendered and built once."""
    compile_stubs(tmp_path_factory.mktemp("stubs"))
    return make(pytestconfig.getoption("--language"), tmp_path_factory.mktemp("probe"))


@pytest_asyncio.fixture
async def row(
    request: pytest.FixtureRequest, kind: servers.Kind | str, made: Made, tmp_path: Path
) -> AsyncIterator[Row]:
    if isinstance(kind, str):
        pytest.skip(f"no {kind} is on this machine")
    if kind.topology and (mark := request.node.get_closest_marker("alone")):
        pytest.skip(mark.args[0])
    mark = request.node.get_closest_marker("at_least")
    assert mark is not None, "a row says how many faults it injects: @pytest.mark.at_least(30)"
    (full,) = mark.args
    times = full if request.config.getoption("--long") else -(-full // SAMPLE)
    seed = request.config.getoption("--seed")
    seed = random.randrange(2**32) if seed is None else seed
    async with Row(kind, made, tmp_path, times, seed) as row:
        request.node.stash[ROW] = row
        yield row


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """A row that injected too little has shown nothing."""
    row = item.stash.get(ROW, None)
    if row is None:
        return (yield)
    passed = skipped = False
    limit = LONGEST * (SAMPLE if item.config.getoption("--long") else 1)
    signal.signal(signal.SIGALRM, _give_up)
    # Again and again: what is raised may end up in a task that nobody looks at.
    signal.setitimer(signal.ITIMER_REAL, limit, 5)
    try:
        result = yield
        assert row.counts.injected >= row.times, (
            f"{row.counts.injected} faults injected, not {row.times}"
        )
        passed = True
        return result
    except pytest.skip.Exception:
        skipped = True  # what the machine lacks: no row that failed
        raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert isinstance(item, pytest.Function)
        name = (item.function.__doc__ or item.name).strip().splitlines()[0].rstrip(".")
        if row.label:
            name = f"{name}: {row.label}"
        line = Line(row.kind.name, name, row.counts, passed)
        if not skipped:
            item.config.stash.setdefault(LINES, []).append(line)
        if not (passed or skipped):
            print(f"\nrepeat with --seed {row.seed}")
            for probe in row._probes:
                print("\n".join([f"--- {probe.address}", *probe.lines[-50:]]))


def _give_up(*_: object) -> None:
    raise AssertionError(f"the row takes longer than {LONGEST:g} s, or {SAMPLE} times that")


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    lines = config.stash.get(LINES, [])
    if not lines:
        return
    table = markdown(lines)
    terminalreporter.section("faults")
    terminalreporter.write(table)
    if (path := config.getoption("--table")) is not None:
        Path(path).write_text(table, encoding="utf-8")
