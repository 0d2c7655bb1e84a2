"""The chassis' README is followed to the letter, and what comes out passes all checks."""

import re
from collections.abc import Callable
from pathlib import Path

from .conftest import SERVICE, Generated

GUIDE = SERVICE / "chassis/README.md"


def blocks(language: str) -> list[tuple[str, str]]:
    """(first line without its comment sign, the rest) of each block."""
    found = re.findall(
        rf"^```{language}\n(?:#|//) ([^\n]+)\n(.*?)^```$", GUIDE.read_text(), re.M | re.S
    )
    assert found
    return [(first, rest) for first, rest in found]


def edit_contracts(orders: Path) -> None:
    """The guide is about `orders`, and names the file of another service."""
    for where, addition in blocks("proto"):
        place, _, elsewhere = where.partition(" of ")
        path = orders / (elsewhere or "protos/acme/orders/v1/contract.proto")
        text = path.read_text()
        if place == "at the end":
            path.write_text(text + "\n" + addition)
            continue
        opening = place.removeprefix("in ").split(", ")[-1] + " {\n"
        assert text.count(opening) == 1, opening
        path.write_text(text.replace(opening, opening + addition))


def test_the_guide_works(generate: Callable[..., Generated]) -> None:
    orders = generate("orders")
    shipments = generate("shipments", "--subscribe", "orders")
    edit_contracts(orders.root)
    for where, code in blocks("python"):
        path = orders.root / where.removeprefix("at the end of ")
        assert path.exists() == where.startswith("at the end of ")
        with path.open("a") as file:
            file.write(code)
    for service in (orders, shipments):
        for command in (
            ["hatch_build.py"],
            ["-m", "ruff", "check", "--no-cache"],
            ["-m", "ruff", "format", "--check", "--no-cache"],
            ["-m", "mypy"],
            ["-m", "pytest", "-q", "-p", "no:cacheprovider"],
        ):
            done = service.python(*command)
            assert done.returncode == 0, done.stdout + done.stderr
