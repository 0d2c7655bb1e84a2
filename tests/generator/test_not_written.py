"""A language that has a template alone: plain cookiecutter renders it, all else refuses it."""

import shutil
from pathlib import Path

import pytest

from .conftest import User

# Nobody adds this one, so its folder is free.
LANGUAGE = "cobol"
NO_CODE = "factfold: no code is written in Cobol yet; write it by hand\n"


@pytest.fixture
def orders(user: User, clone: Path) -> Path:
    template = clone / "template" / LANGUAGE
    shutil.copytree(clone / "template/go", template)
    variables = template / "cookiecutter.json"
    text = variables.read_text("utf-8")
    assert text.count('"_language": "go"') == 1
    ours = text.replace('"_language": "go"', f'"_language": "{LANGUAGE}"')
    variables.write_text(ours, "utf-8")
    made = user.cookiecutter("service_name=orders", clone=clone, language=LANGUAGE)
    assert (made.returncode, made.stderr) == (0, "")
    return user.here / "orders"


def test_a_factfold_without_its_template_says_so(user: User, orders: Path) -> None:
    refused = user.factfold("contract", "check", at=orders)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == (
        f"factfold: {str(orders)!r} is in {LANGUAGE!r}, of which this factfold has no template;"
        " install the factfold that made it\n"
    )


def test_new_does_not_offer_it(user: User, orders: Path, clone: Path) -> None:
    refused = user.factfold("new", "x", "--language", LANGUAGE, "--no-input", clone=clone)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert f"'{LANGUAGE}' is not one of 'python', 'go'" in refused.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("sync",),
        ("add", "rpc", "GetAll"),
        ("add", "view", "totals", "--from", "OrderCreated"),
        ("add", "subscription", "../other"),
    ],
    ids=" ".join,
)
def test_what_writes_code_refuses_in_one_line(
    user: User, orders: Path, clone: Path, words: tuple[str, ...]
) -> None:
    assert user.factfold("new", "other", "--no-input").returncode == 0
    refused = user.factfold(*words, at=orders, clone=clone)
    assert (refused.returncode, refused.stdout, refused.stderr) == (2, "", NO_CODE)


def test_what_does_not_depend_on_a_language_works(user: User, orders: Path, clone: Path) -> None:
    for words in (("release",), ("check",)):
        done = user.factfold("contract", *words, at=orders, clone=clone)
        assert (done.returncode, done.stderr) == (0, "")
    found = user.factfold("doctor", at=orders, clone=clone).stdout.splitlines()
    rows = {row.split("\t")[2]: row.split("\t") for row in found}
    assert rows["owned files"][0] == rows["released contract"][0] == "ok"
    assert rows["code"][3] == NO_CODE.removeprefix("factfold: ").rstrip()
