"""What holds for all tests."""

import signal

import pytest

# A job that a script starts in the background ignores SIGINT, and so would all that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults", "the fault suite (tests/faults/README.md)")
    group.addoption(
        "--long",
        action="store_true",
        help="all faults, not a tenth of them, and tests that take long",
    )
    group.addoption(
        "--server",
        default="default",
        help="all, or of redis-6.2,redis-7.0,valkey-8,cluster,cluster-7.0,cluster-valkey-8 some",
    )
    group.addoption("--language", default="python", help="of the probe, as in languages.toml")
    group.addoption("--seed", type=int, help="the dice of a run that failed")
    group.addoption("--table", metavar="FILE", help="write the table of faults, in Markdown")
    conformance = parser.getgroup("conformance", "all languages (tests/conformance/README.md)")
    conformance.addoption("--languages", default="all", help="all, or of languages.toml some")
    conformance.addoption("--matrix", metavar="FILE", help="write the matrix, in Markdown")
    rights = parser.getgroup("rights", "roles and commands (tests/rights)")
    rights.addoption("--rights", metavar="FILE", help="write the table of rights, in Markdown")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "at_least(number): faults that a row injects with --long")
    config.addinivalue_line("markers", "long(reason): a test that only --long runs")
    config.addinivalue_line("markers", "servers(name): the only server that a row can run on")
    config.addinivalue_line("markers", "alone(reason): a row that needs a server without others")
    config.addinivalue_line("markers", "topology(name): the only one that a row can run on")


def pytest_runtest_setup(item: pytest.Item) -> None:
    long = item.get_closest_marker("long")
    if long and not item.config.getoption("--long"):
        pytest.skip(f"{long.args[0]}: --long runs it")
