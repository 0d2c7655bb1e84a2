"""docs/operating.md of a generated repository: each message and metric, as the chassis has it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import SERVICE

PAGE = (SERVICE / "docs/operating.md").read_text()
CHASSIS = SERVICE / "chassis/src/factfold_chassis"
LEVELS = {"error": "ERROR", "exception": "ERROR", "alarm": "ERROR", "_alarm": "ERROR"}
LEVELS |= {"critical": "ERROR", "warning": "WARNING"}
LOGGERS = ("log", "logger", "logging")
# Lines of others, passed on: where, and the row that has their words.
PASSED_ON = {
    ("core.py", "…"): "a part of the service has failed: …",
    ("log/sender.py", "error.message"): "the log of stream … was lost or replaced (…); restore it "
    "from a backup, or begin anew without it: factfold stream recreate …; then restart the service",
    ("reactions/engine.py", "…"): "reaction … has stopped: …; it goes on once that is mended and "
    "the service restarted",
    ("reactions/worker.py", "…: …"): "…, partition … of stream …",
    ("views/engine.py", "…"): "view … cannot be complete: …",
}


def plain(text: str) -> str:
    """`…` for what is filled in, and code without its signs."""
    text = re.sub(r"%(\.\d)?[sdf]", "…", text).replace("`", "")
    return re.sub(r"…([/@:]…)+", "…", text)


def text_of(node: ast.expr) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return plain(node.value)
    if isinstance(node, ast.JoinedStr):
        parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
        return plain("".join(map(str, parts)))
    return None


def nodes() -> Iterator[tuple[str, ast.AST]]:
    for path in sorted(CHASSIS.rglob("*.py")):
        name = path.relative_to(CHASSIS).as_posix()
        if not name.startswith("testing/"):
            yield from ((name, node) for node in ast.walk(ast.parse(path.read_text())))


def called(node: ast.AST) -> str:
    """The last name of what is called; empty if nothing is."""
    if not isinstance(node, ast.Call):
        return ""
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def said() -> Iterator[tuple[str, str, str]]:
    """(file, level, text) of each message of level WARNING and above."""
    for name, node in nodes():
        if (level := LEVELS.get(called(node))) and isinstance(node, ast.Call) and node.args:
            logger = getattr(getattr(node.func, "value", None), "id", "")
            if "alarm" in called(node) or logger in LOGGERS:
                text = text_of(node.args[0])
                yield name, level, ast.unparse(node.args[0]) if text is None else text


def rows(title: str) -> list[list[str]]:
    (section,) = re.findall(rf"^##+ {title}.*?\n(.*?)(?=^##|\Z)", PAGE, re.M | re.S)
    found = [line.strip("|").split(" | ") for line in section.splitlines() if line[:3] == "| `"]
    assert found
    return [[cell.strip() for cell in row] for row in found]


def messages(level: str) -> list[str]:
    return [row[0].strip("`") for row in rows(level)]


@pytest.mark.parametrize("level", ["ERROR", "WARNING"])
def test_each_message_has_a_row(level: str) -> None:
    found = {PASSED_ON.get((name, text), text) for name, of, text in said() if of == level}
    assert found - set(messages(level)) == set()


def test_each_row_has_a_message() -> None:
    texts = {text_of(node) for _, node in nodes() if isinstance(node, ast.expr)}
    listed = [*messages("ERROR"), *messages("WARNING")]
    assert [text for text in listed if text not in texts] == []
    assert len(listed) == len(set(listed))


def test_what_is_passed_on_is_still_there() -> None:
    found = {(name, text) for name, _, text in said()}
    assert PASSED_ON.keys() - found == set()


def test_each_row_says_why_and_what_to_do() -> None:
    for row in [*rows("ERROR"), *rows("WARNING"), *rows("Metrics")]:
        assert len(row) == 3, row
        assert all(row), row


def test_each_metric_has_a_row() -> None:
    makers = ("count", "_count", "seconds", "create_observable_gauge", "create_observable_counter")
    found = {
        text.replace("…", kind)
        for _, node in nodes()
        if called(node) in makers and isinstance(node, ast.Call)
        for text in [text_of(node.args[0])]
        if text and "." in text
        for kind in ("view", "reaction")
    }
    assert {row[0].strip("`") for row in rows("Metrics")} == found


def test_settings_that_it_names_exist() -> None:
    settings = (SERVICE / "docs/settings.md").read_text()
    for name in sorted(set(re.findall(r"FACTFOLD_[A-Z_]+", PAGE))):
        assert f"`{name}`" in settings, name


def test_links_lead_somewhere() -> None:
    titles = {
        f"#{title.lower().replace(' ', '-')}" for title in re.findall(r"^##+ (.+)", PAGE, re.M)
    }
    for link in re.findall(r"\]\(([^)]+)\)", PAGE):
        assert link in titles or (SERVICE / "docs" / link).exists(), link


def test_files_that_it_names_exist() -> None:
    for name in re.findall(r"`((?:src/|\.venv/bin/python )?[\w/]+\.(?:py|yaml))`", PAGE):
        assert (SERVICE / Path(name.split()[-1])).exists(), name
