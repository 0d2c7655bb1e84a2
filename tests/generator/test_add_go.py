"""`factfold add rpc|event|view|reaction` in a Go repository: what they write, say and refuse."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.go_tools import go

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


def test_a_view(user: User, orders: Path) -> None:
    before = tree(orders)
    words = ("view", "order_names", "--from", "OrderCreated", "--from", "OrderRenamed")
    dry = _report(user, orders, *words, "--dry-run")
    assert tree(orders) == before
    report = _report(user, orders, *words)
    assert dry == report | {"dry_run": True}
    assert list(report["changed"]) == [APP, CONTRACT]
    assert [each for each in report["changed"][APP] if each[0] in "+-"] == [
        "+\t\t\tchassis.NewFold(views.OrderNames, folds.OrderCreatedIntoOrderNames),",
        "+\t\t\tchassis.NewFold(views.OrderNames, folds.OrderRenamedIntoOrderNames),",
    ]
    assert [each for each in report["changed"][CONTRACT] if each.startswith("+")] == [
        "+}",
        "+",
        "+// A row of the view order_names.",
        "+message OrderName {",
        "+  string id = 1;",
        "+  string name = 2;",
    ]
    assert report["files"] == [
        "docs/api.md",
        "internal/folds/ordercreatedintoordernames.go",
        "internal/folds/ordercreatedintoordernames_test.go",
        "internal/folds/orderrenamedintoordernames.go",
        "internal/folds/orderrenamedintoordernames_test.go",
        "internal/views/ordernames.go",
    ]
    # The folds are whole.
    assert report["next"] == ["go generate ./...", "go test ./internal/folds"]
    after = tree(orders)
    assert _changed(before, after) == sorted([MANIFEST, APP, CONTRACT, *report["files"]])
    assert user.factfold("sync", "--check", at=orders).returncode == 0


def test_a_view_with_rows_that_the_contract_has(user: User, orders: Path) -> None:
    report = _report(user, orders, "view", "others", "--row", "Order", "--from", "OrderCreated")
    assert list(report["changed"]) == [APP]
    fold = (orders / "internal/folds/ordercreatedintoothers.go").read_text()
    # The row has a version, the event has none.
    assert "\trow.Id = event.GetId()\n\trow.Name = event.GetName()\n\treturn row\n" in fold


def test_a_view_alone(user: User, orders: Path) -> None:
    report = _report(user, orders, "view", "cash", "--row", "Money")
    assert list(report["changed"]) == [CONTRACT]
    assert report["files"] == ["docs/api.md", "internal/views/cash.go"]
    assert report["next"] == ["go generate ./..."]


def test_a_view_of_a_subscription(user: User, orders: Path) -> None:
    assert user.factfold("new", "other", "--no-input").returncode == 0
    assert user.factfold("add", "subscription", "../other", at=orders).returncode == 0
    _report(user, orders, "view", "theirs", "--row", "Order", "--from", "OtherRenamed")
    fold = (orders / "internal/folds/otherrenamedintotheirs.go").read_text()
    assert '\n\totherv1 "service/gen/acme/other/v1"\n' in fold
    assert "\tevent *otherv1.OtherRenamed,\n" in fold
    before = tree(orders)
    both = ("--from", "OtherRenamed", "--from", "OrderRenamed")
    done = user.factfold("add", "view", "all", *both, at=orders)
    assert (done.returncode, done.stderr) == (
        2,
        "factfold: the events are of the streams orders and other, and a table has rows of one;"
        " make a view for each, and join them\n",
    )
    assert tree(orders) == before


@pytest.mark.parametrize("kind", ["Fold", "Reaction"])
def test_what_is_named_in_app_go_needs_a_plain_list(user: User, orders: Path, kind: str) -> None:
    app = orders / APP
    app.write_text(app.read_text().replace(f"[]chassis.{kind}{{", "all{"))
    words = {
        "Fold": ("view", "names", "--from", "OrderCreated"),
        "Reaction": ("reaction", "thank", "--on", "OrderCreated"),
    }[kind]
    before = tree(orders)
    done = user.factfold("add", *words, at=orders)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"factfold: {APP} has no plain list []chassis.{kind}{{…}} to name it in; write one\n"
    )
    assert tree(orders) == before
    app.unlink()
    assert user.factfold("add", *words, at=orders).stderr == (
        f"factfold: there is no {APP} to name it in; take it back from git\n"
    )


def test_what_a_view_takes_over_is_built_and_tested(user: User, orders: Path) -> None:
    go()
    kinds = ("string", "bytes", "bool", "double", "int32", "fixed64", "uint32", "sint64")
    # Pointers in the event, in the row, in both and in neither; and what the row has no place for.
    _report(user, orders, "event", "OrderPaid", *_fields("f{}:optional {}", kinds))
    _report(user, orders, "event", "OrderMoved", *_fields("f{}:{}", kinds), "--field", "x:Order")
    rows = {
        "paid_rows": ("--row", "Paid", "--from", "OrderPaid"),
        "moved_rows": ("--row", "Moved", "--from", "OrderMoved"),
        "mixed_rows": ("--row", "Moved", "--from", "OrderPaid", "--from", "OrderMoved"),
        "same_rows": ("--row", "OrderPaid", "--from", "OrderPaid", "--from", "OrderMoved"),
        "v" + "_xy" * 19 + "zz": ("--row", "B" * 60, "--from", "OrderPaid"),
    }
    made = [
        path
        for name, words in rows.items()
        for path in _report(user, orders, "view", name, *words)["files"]
        if path.endswith(".go")
    ]
    assert len(made) == 5 + 2 * 7
    assert _go(orders, "gofmt", "-l", *made, APP).stdout == ""
    for words in (("generate", "./..."), ("vet", "./internal/...")):
        done = _go(orders, "go", *words)
        assert done.returncode == 0, done.stderr
    tests = ("go", "test", "-run", "Into.*RowsMakesTheRowAsTheFactSays", "-v", "./internal/folds")
    passed = _go(orders, *tests)
    assert (passed.returncode, passed.stdout.count("--- PASS")) == (0, 6), passed.stdout
    for name, gone in (
        ("orderpaidintopaidrows", "\trow.FInt32 = event.GetFInt32()\n"),
        ("ordermovedintosamerows", "\trow.FDouble = new(event.GetFDouble())\n"),
        ("orderpaidintosamerows", "\trow.FString = event.FString\n"),
    ):
        fold = orders / f"internal/folds/{name}.go"
        text = fold.read_text()
        assert gone in text
        fold.write_text(text.replace(gone, ""))
    failed = _go(orders, *tests)
    assert (failed.returncode, failed.stdout.count("--- FAIL")) == (1, 3), failed.stdout


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
        (
            "view orders",
            "'internal/views/orders.go' has a Orders already; choose another name",
        ),
        (
            "view doc",
            "'internal/views/doc.go' exists and stays as it is; choose another name",
        ),
        (
            "view order_names --row orderName",
            "the row name 'orderName' is not in camel case; use letters and digits, a capital"
            " first, such as OrderTotal, 60 characters at most",
        ),
        (
            "view order_names --from OrderLost",
            "no event is named 'OrderLost', here or in a contract that is subscribed to; there is:"
            " OrderCreated, OrderRenamed",
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


def test_what_another_file_declares_is_not_declared_again(user: User, orders: Path) -> None:
    (orders / "internal/views/kit.go").write_text("package views\n\nvar OrderNames = 1\n")
    folds = orders / "internal/folds/kit.go"
    folds.write_text("package folds\n\nfunc OrderCreatedIntoTotals() {}\n")
    before = tree(orders)
    for view, said in (
        ("order_names", "'internal/views/kit.go' has a OrderNames already"),
        ("totals", "'internal/folds/kit.go' has a OrderCreatedIntoTotals already"),
    ):
        done = user.factfold("add", "view", view, "--from", "OrderCreated", at=orders)
        assert (done.returncode, done.stderr) == (2, f"factfold: {said}; choose another name\n")
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


def _fields(form: str, kinds: tuple[str, ...]) -> Iterator[str]:
    for kind in kinds:
        yield from ("--field", form.format(f"_{kind}", kind))


def _go(root: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=root, capture_output=True, text=True)


def _changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return sorted(
        path for path in before.keys() | after.keys() if before.get(path) != after.get(path)
    )
