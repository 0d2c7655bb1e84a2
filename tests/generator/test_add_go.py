"""`factfold add rpc|event|reaction` in a Go repository: what they write, say and refuse."""

import json
from pathlib import Path
from typing import Any

import pytest

from .conftest import User, tree

APP = "internal/app/app.go"
CONTRACT = "protos/acme/orders/v1/contract.proto"
MANIFEST = ".factfold/manifest.json"


@pytest.fixture
def orders(user: User) -> Path:
    done = user.factfold("new", "orders", "--language", "go", "--no-input")
    assert (done.returncode, done.stderr) == (0, "")
    return user.here / "orders"


def test_an_rpc(user: User, orders: Path) -> None:
    before = tree(orders)
    fields = ("--field", "id:string", "--returns", "version:uint64")
    report = _report(user, orders, "rpc", "CancelOrder", *fields)
    files = ["internal/handlers/cancelorder.go", "internal/handlers/cancelorder_test.go"]
    assert list(report["changed"]) == [CONTRACT]
    assert report["files"] == ["docs/api.md", *files]
    assert report["next"] == [
        "go generate ./...",
        f"write {files[0]}",
        "go test ./internal/handlers",
    ]
    assert report["notes"] == [
        "CancelOrder is a command, by its name; --command, --query and --watch say otherwise"
    ]
    assert _changed(before, tree(orders)) == sorted([MANIFEST, CONTRACT, *report["files"]])
    assert user.factfold("sync", "--check", at=orders).returncode == 0


def test_an_event(user: User, orders: Path) -> None:
    before = tree(orders)
    dry = _report(user, orders, "event", "OrderLost", "--field", "why:string", "--dry-run")
    assert tree(orders) == before
    report = _report(user, orders, "event", "OrderLost", "--field", "why:string")
    assert dry == report | {"dry_run": True}
    # The team's file is shown with what was put into it.
    assert list(report["changed"]) == [APP, CONTRACT]
    line = "\t\t\tchassis.NewFold(views.Orders, folds.OrderLost),"
    assert [each for each in report["changed"][APP] if each[0] in "+-"] == [f"+{line}"]
    assert report["files"] == [
        "docs/api.md",
        "docs/asyncapi.json",
        "internal/folds/orderlost.go",
        "internal/folds/orderlost_test.go",
    ]
    assert report["notes"] == [
        "WatchOrders can give out OrderLost as 'lost': add its case to"
        " internal/handlers/watchorders.go"
    ]
    changed = _changed(before, tree(orders))
    assert changed == sorted([MANIFEST, APP, CONTRACT, *report["files"]])


def test_a_reaction(user: User, orders: Path) -> None:
    before = tree(orders)
    report = _report(user, orders, "reaction", "thank_all", "--on", "OrderCreated")
    line = '\t\t\tchassis.NewReaction("thank_all", reactions.ThankAll),'
    assert list(report["changed"]) == [APP]
    assert [each for each in report["changed"][APP] if each[0] in "+-"] == [f"+{line}"]
    files = ["internal/reactions/thankall.go", "internal/reactions/thankall_test.go"]
    assert report["files"] == files
    assert report["next"] == [
        "go generate ./...",
        f"write {files[0]}",
        "go test ./internal/reactions",
    ]
    after = tree(orders)
    assert _changed(before, after) == sorted([MANIFEST, APP, *files])
    again = user.factfold("add", "reaction", "thank_all", "--on", "OrderCreated", at=orders)
    assert again.stderr == (
        f"factfold: '{files[0]}' has a reaction 'thank_all' already, and its position is kept"
        " under that name; choose another one\n"
    )
    assert tree(orders) == after


def test_a_reaction_that_appends(user: User, orders: Path) -> None:
    appends = ("--on", "OrderRenamed", "--appends", "OrderCreated")
    report = _report(user, orders, "reaction", "copy_order", *appends)
    assert report["notes"] == []
    text = (orders / "internal/reactions/copyorder.go").read_text()
    assert "answer := &contract.OrderCreated{Id: call.NewID(), Name: event.GetName()}\n" in text
    report = _report(user, orders, "reaction", "again", "--on", appends[1], "--appends", appends[1])
    assert report["notes"] == [
        "again answers what it appends itself: return nil once there is nothing to answer"
    ]


def test_a_reaction_needs_a_plain_list_to_be_named_in(user: User, orders: Path) -> None:
    app = orders / APP
    app.write_text(app.read_text().replace("[]chassis.Reaction{", "all{"))
    before = tree(orders)
    done = user.factfold("add", "reaction", "thank", "--on", "OrderCreated", at=orders)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"factfold: {APP} has no plain list []chassis.Reaction{{…}} to name it in; write one\n"
    )
    assert tree(orders) == before


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("event Order", f"'Order' is in '{CONTRACT}' already; choose another name"),
        (
            "event OrderServiceClient",
            f"'OrderServiceClient' is in '{CONTRACT}' already; choose another name",
        ),
        (
            "event Doc",
            "'internal/folds/doc.go' exists and stays as it is; choose another name",
        ),
        (
            "rpc Handlers",
            "'internal/handlers/handlers.go' exists and stays as it is; choose another name",
        ),
        (
            "rpc Getorder",
            "the RPC 'acme.orders.v1.OrderService.GetOrder' is there already; choose another name",
        ),
    ],
)
def test_refusals_are_one_line_and_change_nothing(
    user: User, orders: Path, words: str, line: str
) -> None:
    before = tree(orders)
    done = user.factfold("add", *words.split(), at=orders)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"factfold: {line}\n")
    assert tree(orders) == before


def test_a_failure_half_way_leaves_nothing(user: User, orders: Path) -> None:
    before = tree(orders)
    (orders / "internal/folds").chmod(0o500)
    try:
        done = user.factfold("add", "event", "OrderLost", at=orders)
    finally:
        (orders / "internal/folds").chmod(before["internal/folds"][0])
    if done.returncode == 0:
        pytest.skip("this user may write everywhere")
    assert tree(orders) == before


def _report(user: User, root: Path, *words: str) -> dict[str, Any]:
    done = user.factfold("add", *words, "--json", at=root)
    assert (done.returncode, done.stderr) == (0, "")
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def _changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return sorted(
        path for path in before.keys() | after.keys() if before.get(path) != after.get(path)
    )
