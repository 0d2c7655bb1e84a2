"""Writes the table of `docs/settings.md` in the template from the typed settings of the chassis.

    python scripts/settings_table.py

With `--check` it writes nothing, names the page if it is not the same and ends with 1.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SERVICE = ROOT / "template" / "python" / "{{cookiecutter.service_slug}}"
PAGE = SERVICE / "docs" / "settings.md"
# That of `OTEL_*` variables is written by hand.
TABLE = re.compile(r"^\| variable .*\n\|---.*\n(?:\| `FACTFOLD_.*\n)+", re.M)

sys.path.insert(0, str(SERVICE / "chassis" / "src"))

from factfold_chassis.settings import PREFIX, Settings  # noqa: E402  found by the line above


def table() -> str:
    """A row for each setting, in the order of their declaration."""
    return "".join(f"{row}\n" for row in _rows())


def _rows() -> Iterator[str]:
    yield "| variable | default | |"
    yield "|---|---|---|"
    for item in fields(Settings):
        doc = item.metadata["doc"].replace("|", "\\|")
        default = _shown(item.default) if item.default != "" and _may_be_set(item) else ""
        yield f"| `{PREFIX}{item.name.upper()}` | {default} | {doc} |"


def _may_be_set(item: Field[Any]) -> bool:
    """Whether its default is a value that somebody can give."""
    try:
        item.metadata["parse"](str(item.default))
    except ValueError:
        return False
    return True


def _shown(default: object) -> str:
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def main(arguments: list[str]) -> int:
    text = PAGE.read_text("utf-8")
    made, tables = TABLE.subn(lambda _: table(), text)
    if tables != 1:
        sys.exit(f"{PAGE.relative_to(ROOT)} has {tables} tables of settings: leave one")
    if made == text:
        return 0
    print(PAGE.relative_to(ROOT))
    if arguments == ["--check"]:
        return 1
    PAGE.write_text(made, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
