"""Whatever a service is called, it passes its own lint, types and tests, unedited."""

from collections.abc import Callable

import pytest

from .conftest import Generated

NAMES = ["a", "z" * 60, "Größe", "stock keeper", "class", "test", "chassis", "redis"]
CHECKS = [
    ("ruff", "check", "--no-cache"),
    ("ruff", "format", "--check", "--no-cache"),
    ("mypy",),
    ("pytest", "-q", "-p", "no:cacheprovider"),
]
LONG = "Ab" * 19  # its snake case is the longest that 40 characters can have


def check(service: Generated) -> None:
    for module, *arguments in CHECKS:
        done = service.python("-m", module, *arguments)
        assert done.returncode == 0, f"{module}:\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("name", NAMES)
def test_any_name(generate: Callable[..., Generated], name: str) -> None:
    check(generate(name))


@pytest.mark.parametrize("aggregate", [LONG + "Ax", LONG + "Ay"])
def test_a_long_aggregate_and_package(generate: Callable[..., Generated], aggregate: str) -> None:
    organisation = "abcdefghij.klmnopqrst.uvwxy"
    check(generate("z" * 30, "--aggregate", aggregate, "--organisation", organisation))


def test_a_subscription(generate: Callable[..., Generated]) -> None:
    generate("orders")
    check(generate("shipments", "--subscribe", "orders"))
