"""What the generator does for Go as for Python, and never takes for Python."""

import json

import pytest

from .conftest import User


@pytest.fixture
def orders(user: User) -> User:
    made = user.factfold("new", "orders", "--language", "go", "--no-input")
    assert (made.returncode, made.stderr) == (0, "")
    return user


def test_go_is_rendered_and_says_what_comes_next(user: User) -> None:
    made = user.factfold("new", "orders", "--language", "go", "--no-input")
    first, _, _, *following = made.stdout.splitlines()
    assert first.startswith("Made orders, a Go service about Order facts: ")
    assert following == [
        "  cd orders",
        "  go generate ./... && go test ./...",
        "  factfold up",
    ]


def test_what_is_rendered_has_no_tags_left(orders: User) -> None:
    for path in (orders.here / "orders").rglob("*"):
        if path.is_file() and "chassis" not in path.parts and ".github" not in path.parts:
            assert "cookiecutter" not in path.read_text("utf-8"), path


def test_help_offers_it(user: User) -> None:
    assert "--language [python|go] " in user.factfold("new", "--help").stdout


def test_a_new_one_that_subscribes_folds_and_answers(user: User) -> None:
    assert user.factfold("new", "other", "--no-input").returncode == 0
    made = user.factfold(
        *("new", "orders", "--language", "go", "--no-input", "--subscribe", "other")
    )
    assert (made.returncode, made.stderr) == (0, "")
    root = user.here / "orders"
    contract = "protos/acme/other/v1/contract.proto"
    assert (root / contract).read_bytes() == (user.here / "other" / contract).read_bytes()
    app = (root / "internal/app/app.go").read_text("utf-8")
    for line in (
        '\n\totherv1 "service/gen/acme/other/v1"\n',
        "\n\t\t\totherv1.File_acme_other_v1_contract_proto,\n",
        "\n\t\t\tchassis.NewFold(views.Others, folds.OtherCreated),\n",
        'NewReaction("create_order_for_other", reactions.CreateOrderForOther),\n',
    ):
        assert line in app


def test_a_subscription_says_how_stubs_are_made(orders: User) -> None:
    assert orders.factfold("new", "other", "--no-input").returncode == 0
    added = orders.factfold("add", "subscription", "../other", at=orders.here / "orders")
    assert (added.returncode, added.stderr) == (0, "")
    assert added.stdout.endswith("\nNext:\n  go generate ./...\n")


def test_doctor_looks_at_what_go_needs(orders: User) -> None:
    done = orders.factfold("doctor", "--json", at=orders.here / "orders")
    found = json.loads(done.stdout)["findings"]
    names = {each["name"] for each in found if each["part"] == "repository"}
    assert {"factfold", "owned files", "go", "modules", "stubs", "code"} <= names
    assert ".venv" not in names


def test_its_contract_is_released_and_kept_to(orders: User) -> None:
    at = orders.here / "orders"
    assert orders.factfold("contract", "release", at=at).returncode == 0
    kept = orders.factfold("contract", "check", at=at)
    assert (kept.returncode, kept.stdout) == (0, "The contract keeps to version 1\n")
