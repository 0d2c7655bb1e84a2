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


def edit_contract(path: Path) -> None:
    text = path.read_text()
    for where, addition in blocks("proto"):
        if where == "at the end":
            text += "\n" + addition
            continue
        opening = where.removeprefix("in ").split(", ")[-1] + " {\n"
        assert text.count(opening) == 1, opening
        text = text.replace(opening, opening + addition)
    path.write_text(text)


def test_the_guide_works(generate: Callable[..., Generated]) -> None:
    orders = generate("orders")
    edit_contract(orders.root / "protos/acme/orders/v1/contract.proto")
    for name, code in blocks("python"):
        path = orders.root / name
        assert not path.exists()
        path.write_text(code)
    for command in (
        ["hatch_build.py"],
        ["-m", "ruff", "check", "--no-cache"],
        ["-m", "ruff", "format", "--check", "--no-cache"],
        ["-m", "mypy"],
        ["-m", "pytest", "-q", "-p", "no:cacheprovider"],
    ):
        done = orders.python(*command)
        assert done.returncode == 0, done.stdout + done.stderr
