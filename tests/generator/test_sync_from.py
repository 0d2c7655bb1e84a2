"""`factfold sync --from`: a newer contract of a service that the repository subscribes to."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from .conftest import INSTALL, User, document, tree

CONTRACT = "protos/acme/orders/v1/contract.proto"
MONEY = "protos/acme/orders/v1/money.proto"
MANIFEST = ".factfold/manifest.json"
SHIM = "src/service/subscriptions/orders.py"


@pytest.fixture
def orders(user: User) -> Path:
    return _new(user, "orders")


@pytest.fixture
def shipments(user: User, orders: Path) -> Path:
    return _new(user, "shipments", "--subscribe", "orders")


def test_what_is_different_is_said_in_words(user: User, orders: Path, shipments: Path) -> None:
    _replace(orders, "partitions: 4", "partitions: 8")
    _replace(orders, "OrderRenamed", "OrderTitled")
    _replace(orders, "  rpc CreateOrder", "  rpc MakeOrder")
    _replace(orders, "(stream WatchOrdersResponse)", "(WatchOrdersResponse)")
    _replace(orders, "  int32 page_size = 1;", "  optional bool all = 1;")
    _replace(
        orders,
        "message Order {\n",
        "message Order {\n  map<string, Colour> colours = 7;\n  repeated bytes more = 8;\n",
    )
    _replace(orders, "  uint64 version = 3;\n}", "}")
    with (orders / CONTRACT).open("a") as file:
        file.write("\nenum Colour {\n  NONE = 0;\n}\n")
    before = tree(shipments)
    checked = user.factfold("sync", "--from", "../orders", "--check", at=shipments)
    assert checked.returncode == 1
    assert checked.stdout.splitlines() == [
        "Their contract:",
        "  changed: stream orders: 4 partitions, versioned is now 8 partitions, versioned",
        "  new: enum acme.orders.v1.Colour",
        "  changed: field of acme.orders.v1.ListOrdersRequest: int32 page_size = 1 is now"
        " optional bool all = 1",
        "  gone: field of acme.orders.v1.Order: uint64 version = 3",
        "  new: field of acme.orders.v1.Order: map<string, acme.orders.v1.Colour> colours = 7",
        "  new: field of acme.orders.v1.Order: repeated bytes more = 8",
        "  gone: event acme.orders.v1.OrderRenamed; facts of it that are in the log are passed"
        " over, with a warning",
        "  gone: rpc acme.orders.v1.OrderService.CreateOrder",
        "  new: rpc acme.orders.v1.OrderService.MakeOrder: (acme.orders.v1.CreateOrderRequest)"
        " returns (acme.orders.v1.CreateOrderResponse), a command",
        "  changed: rpc acme.orders.v1.OrderService.WatchOrders:"
        " (acme.orders.v1.WatchOrdersRequest) returns (acme.orders.v1.WatchOrdersResponse), a"
        " watch is now (acme.orders.v1.WatchOrdersRequest) returns"
        " (acme.orders.v1.WatchOrdersResponse), a query",
        "  new: event acme.orders.v1.OrderTitled: its key is id",
        "  changed: field of acme.orders.v1.WatchOrdersResponse: acme.orders.v1.OrderRenamed"
        " renamed = 3 in oneof change is now acme.orders.v1.OrderTitled renamed = 3 in oneof"
        " change",
        "",
        "Would write:",
        f"  {MANIFEST}",
        "  docs/api.md",
        "  docs/asyncapi.json",
        f"  {CONTRACT}",
    ]
    assert checked.stderr == (
        "factfold: the repository does not match its contract; run: factfold sync --from"
        " ../orders\n"
    )
    assert tree(shipments) == before

    done = user.factfold("sync", "--from", "../orders", at=shipments)
    assert (done.returncode, done.stderr) == (0, "")
    said = checked.stdout.replace("Would write", "Wrote")
    assert done.stdout == said + f"\nNext:\n  {INSTALL}\n"
    assert (shipments / CONTRACT).read_bytes() == (orders / CONTRACT).read_bytes()
    digest = sha256((orders / CONTRACT).read_bytes()).hexdigest()
    manifest = _manifest(shipments)
    assert manifest["subscriptions"] == [
        {"contract": {CONTRACT: digest}, "name": "orders", "source": "../orders"}
    ]
    assert manifest["files"][CONTRACT] == {"sha256": digest, "zone": "tool"}
    after = tree(shipments)
    for arguments in (["--check"], []):
        again = user.factfold("sync", "--from", "../orders", *arguments, at=shipments)
        assert (again.returncode, again.stdout) == (0, "Nothing to write.\n")
    assert tree(shipments) == after


def test_an_event_that_is_none_any_more_is_said(user: User, orders: Path, shipments: Path) -> None:
    _replace(
        orders,
        "message OrderRenamed {\n  option (factfold.v1.event) = {};",
        "message OrderRenamed {",
    )
    assert _report(user, shipments)["changes"] == [
        "changed: event acme.orders.v1.OrderRenamed is now message acme.orders.v1.OrderRenamed;"
        " facts of it that are in the log are passed over, with a warning"
    ]


def test_comments_alone_are_no_difference(user: User, orders: Path, shipments: Path) -> None:
    _replace(orders, "// A row of the view.", "// A row.")
    report = _report(user, shipments)
    assert (report["changes"], report["files"]) == ([], [MANIFEST, CONTRACT])


def test_files_come_and_go_with_imports(user: User, orders: Path, shipments: Path) -> None:
    before = tree(shipments)
    (orders / MONEY).write_text('syntax = "proto3";\npackage acme.orders.v1;\nmessage Money {}\n')
    line = 'import "factfold/v1/options.proto";'
    _replace(orders, line, f'{line}\nimport "acme/orders/v1/money.proto";')
    report = _report(user, shipments)
    assert report["changes"] == ["new: message acme.orders.v1.Money"]
    assert report["files"] == [MANIFEST, CONTRACT, MONEY]
    assert (shipments / MONEY).read_bytes() == (orders / MONEY).read_bytes()
    _replace(orders, '\nimport "acme/orders/v1/money.proto";', "")
    report = _report(user, shipments)
    assert report["changes"] == ["gone: message acme.orders.v1.Money"]
    assert report["files"] == [MANIFEST, CONTRACT, MONEY]
    assert tree(shipments) == before


def test_a_contract_that_was_renamed_is_followed(user: User, orders: Path, shipments: Path) -> None:
    (orders / CONTRACT).rename(orders / "protos/acme/orders/v1/shared.proto")
    report = _report(user, shipments)
    assert report["changes"] == []
    shared = "protos/acme/orders/v1/shared.proto"
    # The AsyncAPI document says of each event which file it is from.
    assert report["files"] == [MANIFEST, "docs/asyncapi.json", CONTRACT, shared, SHIM]
    assert not (shipments / CONTRACT).exists()
    assert "from acme.orders.v1.shared_pb2 import *\n" in (shipments / SHIM).read_text()


def test_a_contract_that_imports_another_stream_is_followed(
    user: User, orders: Path, shipments: Path
) -> None:
    theirs = shipments / "protos/acme/shipments/v1/contract.proto"
    alone = theirs.read_text()
    line = 'import "factfold/v1/options.proto";'
    theirs.write_text(
        alone.replace(line, f'{line}\nimport "acme/orders/v1/contract.proto";')
        + "\nmessage Both {\n  acme.orders.v1.Order theirs = 1;\n}\n"
    )
    audit = _new(user, "audit", "--subscribe", "orders")
    done = user.factfold("add", "subscription", "../shipments", at=audit)
    assert (done.returncode, done.stderr) == (0, "")
    # With the import gone, the copy is that of the subscription to its owner alone.
    theirs.write_text(alone)
    done = user.factfold("sync", "--from", "../shipments", "--json", at=audit)
    assert (done.returncode, done.stderr) == (0, "")
    copy = "protos/acme/shipments/v1/contract.proto"
    assert json.loads(done.stdout) == {
        "changes": ["gone: message acme.shipments.v1.Both"],
        "check": False,
        "files": [MANIFEST, copy],
        "next": [INSTALL],
        "notes": [],
    }
    subscriptions = _manifest(audit)["subscriptions"]
    assert {each["name"]: [*each["contract"]] for each in subscriptions} == {
        "orders": [CONTRACT],
        "shipments": [copy],
    }
    assert (audit / CONTRACT).read_bytes() == (orders / CONTRACT).read_bytes()
    for source in ("../orders", "../shipments"):
        done = user.factfold("sync", "--from", source, at=audit)
        assert (done.returncode, done.stdout) == (0, "Nothing to write.\n")


def test_refusals_are_one_line_and_change_nothing(
    user: User, orders: Path, shipments: Path
) -> None:
    def refused(line: str, source: str = "../orders", code: int = 2) -> None:
        before = tree(shipments)
        done = user.factfold("sync", "--from", source, at=shipments)
        assert (done.returncode, done.stdout) == (code, "")
        assert done.stderr == f"factfold: {line}\n"
        assert tree(shipments) == before

    refused("'..' is no generated repository: it has no .factfold/manifest.json", "..")
    refused("'.' is this service itself; name one that it subscribes to", ".")
    _new(user, "other")
    refused("'other' is not subscribed; to do so: factfold add subscription ../other", "../other")
    good = (orders / CONTRACT).read_text()
    (orders / CONTRACT).write_text(good + "message {}\n")
    line = good.count("\n") + 1
    refused(
        f"the contract in '../orders' does not compile: {CONTRACT}:{line}:9:"
        " Expected message name.",
        code=1,
    )
    (orders / CONTRACT).write_text(good.replace('name: "orders"', 'name: "sales"'))
    refused("'../orders' has no stream 'orders' any more; the copy stays as it is")
    (orders / CONTRACT).write_text(good.replace("package acme.orders.v1", "package acme.sales.v1"))
    refused(
        "'../orders' has moved its stream from package acme.orders.v1 to acme.sales.v1; subscribe"
        " anew once the code here does without the old"
    )
    (orders / CONTRACT).write_text(good)
    (shipments / CONTRACT).write_text(good + "// ours\n")
    refused(
        f"{CONTRACT!r} was edited here and would be replaced; have it edited at its owner's, and"
        f" take it back: git checkout -- {CONTRACT}"
    )
    (shipments / CONTRACT).unlink()
    refused(f"{CONTRACT!r} is gone; take it back: git checkout -- {CONTRACT}")
    (shipments / CONTRACT).write_text(good)
    (orders / MONEY).write_text('syntax = "proto3";\n')
    (shipments / MONEY).write_text('syntax = "proto3";\n// another\n')
    import_ = 'import "factfold/v1/options.proto";'
    _replace(orders, import_, f'{import_}\nimport "acme/orders/v1/money.proto";')
    refused(f"{MONEY!r} exists and comes from elsewhere; move it first")


def test_a_contract_that_does_not_fit_ours_is_refused(
    user: User, orders: Path, shipments: Path
) -> None:
    ours = shipments / "protos/acme/shipments/v1/contract.proto"
    text = ours.read_text()
    line = 'import "factfold/v1/options.proto";'
    text = text.replace(line, f'{line}\nimport "acme/orders/v1/contract.proto";')
    text += "\nmessage Both {\n  acme.orders.v1.OrderRenamed theirs = 1;\n}\n"
    ours.write_text(text)
    document(shipments)
    assert user.factfold("sync", "--check", at=shipments).returncode == 0
    _replace(orders, "OrderRenamed", "OrderTitled")
    before = tree(shipments)
    done = user.factfold("sync", "--from", "../orders", at=shipments)
    at = text.splitlines().index("  acme.orders.v1.OrderRenamed theirs = 1;") + 1
    assert done.returncode == 1
    assert done.stderr == (
        f"factfold: the contract in {str(shipments)!r} does not compile:"
        f" protos/acme/shipments/v1/contract.proto:{at}:3:"
        ' "acme.orders.v1.OrderRenamed" is not defined.\n'
    )
    assert tree(shipments) == before


def _new(user: User, name: str, *arguments: str) -> Path:
    done = user.factfold("new", name, "--no-input", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return user.here / name


def _replace(orders: Path, old: str, new: str) -> None:
    text = (orders / CONTRACT).read_text()
    assert old in text
    (orders / CONTRACT).write_text(text.replace(old, new))


def _report(user: User, shipments: Path) -> dict[str, Any]:
    done = user.factfold("sync", "--from", "../orders", "--json", at=shipments)
    assert (done.returncode, done.stderr) == (0, "")
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def _manifest(root: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((root / MANIFEST).read_text())
    return manifest
