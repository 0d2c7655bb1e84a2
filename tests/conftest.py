"""What holds for all tests."""

import signal

import pytest

# A job that a script starts in the background ignores SIGINT, and so would all that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults", "the fault suite (tests/faults/README.md)")
    group.addoption("--long", action="store_true", help="inject all faults, not a tenth of them")
    group.addoption(
        "--server", default="default", help="all, or of redis-6.2,redis-7.0,valkey-8 some"
    )
    group.addoption("--seed", type=int, help="the dice of a run that failed")
    group.addoption("--table", metavar="FILE", help="write the table of faults, in Markdown")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "at_least(number): faults that a row injects with --long")
    config.addinivalue_line("markers", "servers(name): the only server that a row can run on")
