"""`factfold add subscription` and `new --subscribe`: what they write, refuse and leave alone."""

import ast
import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from .conftest import INSTALL, User, tree

CONTRACT = "protos/acme/orders/v1/contract.proto"
DOCUMENTS = ["docs/api.md", "docs/asyncapi.json"]
WRITTEN = [
    *DOCUMENTS,
    CONTRACT,
    "src/service/folds/order_created.py",
    "src/service/reactions/create_shipment_for_order.py",
    "src/service/subscriptions/orders.py",
    "src/service/views/orders.py",
    "src/service/views/orders_waiting.py",
    "tests/test_create_shipment_for_order.py",
    "tests/test_order_created.py",
    "tests/test_orders_waiting.py",
]


@pytest.fixture
def orders(user: User) -> Path:
    return _new(user, "orders")


@pytest.fixture
def shipments(user: User) -> Path:
    return _new(user, "shipments")


def test_it_writes_a_contract_a_fold_and_a_reaction(
    user: User, orders: Path, shipments: Path
) -> None:
    before = tree(shipments)
    done = user.factfold("add", "subscription", "../orders", at=shipments)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "Wrote:",
        *(f"  {path}" for path in WRITTEN),
        "",
        "Next:",
        f"  {INSTALL}",
    ]
    after = tree(shipments)
    changed = [path for path in after if after[path] != before.get(path)]
    folders = {path.parent.as_posix() for path in map(Path, WRITTEN)}
    expected = {*WRITTEN, ".factfold/manifest.json"}
    assert set(changed) - folders - {"protos/acme/orders"} == expected
    assert before.keys() <= after.keys()
    assert (shipments / CONTRACT).read_bytes() == (orders / CONTRACT).read_bytes()
    for path in WRITTEN:
        if path.endswith(".py"):
            ast.parse((shipments / path).read_text())


def test_a_dry_run_shows_what_would_be_written(user: User, orders: Path, shipments: Path) -> None:
    before = tree(shipments)
    done = user.factfold("add", "subscription", "../orders", "--dry-run", at=shipments)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[: len(WRITTEN) + 1] == ["Would write:", *(f"  {path}" for path in WRITTEN)]
    assert tree(shipments) == before


def test_the_manifest_knows_of_it(user: User, orders: Path, shipments: Path) -> None:
    before = _manifest(shipments)
    report = json.loads(user.factfold("add", "subscription", orders, "--json", at=shipments).stdout)
    assert report == {
        "dry_run": False,
        "files": WRITTEN,
        "next": [INSTALL],
    }
    after = _manifest(shipments)
    digest = sha256((orders / CONTRACT).read_bytes()).hexdigest()
    assert after.pop("subscriptions") == [
        {"contract": {CONTRACT: digest}, "name": "orders", "source": "../orders"}
    ]
    files, former = after.pop("files"), before.pop("files")
    assert {path: files.pop(path)["zone"] for path in WRITTEN} == dict.fromkeys(WRITTEN, "team") | {
        **dict.fromkeys(DOCUMENTS, "tool"),
        CONTRACT: "tool",
        "src/service/subscriptions/orders.py": "tool",
    }
    assert [former.pop(path)["zone"] for path in DOCUMENTS] == ["tool", "tool"]
    assert files == former
    assert before.pop("subscriptions") == []
    assert after == before
    for path, entry in _manifest(shipments)["files"].items():
        assert entry["sha256"] == sha256((shipments / path).read_bytes()).hexdigest()


def test_new_with_subscribe_gives_the_same_bytes(user: User, orders: Path, shipments: Path) -> None:
    user.factfold("add", "subscription", "../orders", at=shipments)
    (user.here / "two").mkdir()
    orders.rename(user.here / "two/orders")
    done = user.factfold(
        *("new", "shipments", "--no-input", "--output", "two", "--subscribe", "two/orders")
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert tree(user.here / "two/shipments") == tree(shipments)


def test_it_runs_anywhere_in_the_repository(user: User, orders: Path, shipments: Path) -> None:
    below = shipments / "src/service"
    assert user.factfold("add", "subscription", "../../../orders", at=below).returncode == 0
    assert _manifest(shipments)["subscriptions"][0]["source"] == "../orders"


def test_equal_aggregates_do_not_clash(user: User, orders: Path) -> None:
    sales = _new(user, "sales", "--aggregate", "Order")
    before = tree(sales)
    report = json.loads(user.factfold("add", "subscription", orders, "--json", at=sales).stdout)
    assert report["files"] == [
        *DOCUMENTS,
        CONTRACT,
        "src/service/folds/orders_order_created.py",
        "src/service/reactions/create_order_for_orders_order.py",
        "src/service/subscriptions/orders.py",
        "src/service/views/orders_orders.py",
        "src/service/views/orders_orders_waiting.py",
        "tests/test_create_order_for_orders_order.py",
        "tests/test_orders_order_created.py",
        "tests/test_orders_orders_waiting.py",
    ]
    after = tree(sales)
    assert {path for path in before if before[path] != after[path]} == {
        ".factfold/manifest.json",
        *DOCUMENTS,
    }


def test_two_services_can_subscribe_to_each_other(
    user: User, orders: Path, shipments: Path
) -> None:
    assert user.factfold("add", "subscription", "../orders", at=shipments).returncode == 0
    assert user.factfold("add", "subscription", "../shipments", at=orders).returncode == 0
    # Only what is theirs comes over, not what they subscribed to.
    assert _manifest(orders)["subscriptions"][0]["contract"].keys() == {
        "protos/acme/shipments/v1/contract.proto"
    }


def test_what_their_contract_imports_comes_with_it(
    user: User, orders: Path, shipments: Path
) -> None:
    more = orders / "protos/acme/orders/v1/money.proto"
    more.write_text('syntax = "proto3";\npackage acme.orders.v1;\nmessage Money {}\n')
    contract = orders / CONTRACT
    line = 'import "factfold/v1/options.proto";'
    contract.write_text(
        contract.read_text().replace(line, line + '\nimport "acme/orders/v1/money.proto";')
    )
    assert user.factfold("add", "subscription", "../orders", at=shipments).returncode == 0
    assert (shipments / "protos/acme/orders/v1/money.proto").read_bytes() == more.read_bytes()
    assert len(_manifest(shipments)["subscriptions"][0]["contract"]) == 2


def test_a_stream_that_their_contract_imports_is_not_subscribed(
    user: User, orders: Path, shipments: Path
) -> None:
    user.factfold("add", "subscription", "../orders", at=shipments)
    contract = shipments / "protos/acme/shipments/v1/contract.proto"
    line = 'import "factfold/v1/options.proto";'
    contract.write_text(
        contract.read_text().replace(line, line + '\nimport "acme/orders/v1/contract.proto";')
        + "\nmessage Both {\n  acme.orders.v1.Order theirs = 1;\n}\n"
    )
    audit = _new(user, "audit", "--subscribe", "shipments")
    assert (audit / CONTRACT).read_bytes() == (orders / CONTRACT).read_bytes()
    subscriptions = audit / "src/service/subscriptions"
    assert {path.name for path in subscriptions.iterdir()} == {"__init__.py", "shipments.py"}
    document = json.loads((audit / "docs/asyncapi.json").read_text())
    assert document["operations"].keys() == {"append-audit", "read-shipments"}
    assert user.factfold("sync", "--check", at=audit).stdout == "Nothing to write.\n"

    assert user.factfold("add", "subscription", "../orders", at=audit).returncode == 0
    shim = (subscriptions / "orders.py").read_text()
    assert user.factfold("sync", "--check", at=audit).stdout == "Nothing to write.\n"
    # The other way round, the module by which orders is called stays that of orders.
    both = _new(user, "both", "--subscribe", "orders")
    assert user.factfold("add", "subscription", "../shipments", at=both).returncode == 0
    assert (both / "src/service/subscriptions/orders.py").read_text() == shim


def test_refusals_are_one_line_and_change_nothing(
    user: User, orders: Path, shipments: Path
) -> None:
    def refusal(source: str, code: int = 2) -> str:
        before = tree(shipments)
        done = user.factfold("add", "subscription", source, at=shipments)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (code, "", 1)
        assert tree(shipments) == before
        return done.stderr.removeprefix("factfold: ").rstrip("\n")

    assert refusal("../nowhere") == (
        "Invalid value for 'DIRECTORY': Directory '../nowhere' does not exist;"
        " see factfold add subscription --help"
    )
    assert refusal("..") == "'..' is no generated repository: it has no .factfold/manifest.json"
    assert refusal(".") == "'.' is this service itself; subscribe to another one"

    _new(user, "shipments", "--organisation", "other", "--output", "elsewhere")
    assert refusal("../elsewhere/shipments") == (
        "'../elsewhere/shipments' has a stream 'shipments' as this service has; rename one"
    )

    contract = orders / CONTRACT
    good = contract.read_text()
    contract.write_text(good.replace("OrderCreated", "OrderPlaced"))
    assert refusal("../orders") == (
        "'../orders' has no event 'OrderCreated' with the strings id and name, which the fold and"
        " the reaction would be made for; write them yourself"
    )
    contract.write_text(good + "message {}\n")
    line = good.count("\n") + 1
    assert refusal("../orders", code=1) == (
        f"the contract in '../orders' does not compile: {CONTRACT}:{line}:9: Expected message name."
    )
    contract.write_text(good)

    (shipments / CONTRACT).parent.mkdir(parents=True)
    (shipments / CONTRACT).write_text(good + "// of another source\n")
    assert refusal("../orders") == f"{CONTRACT!r} exists and comes from elsewhere; move it first"
    (shipments / CONTRACT).unlink()

    for path in ("src/service/views/orders.py", "src/service/views/orders_orders.py"):
        (shipments / path).write_text("")
    assert refusal("../orders") == (
        "'src/service/views/orders_orders.py' exists and stays as it is; rename it first"
    )
    for path in ("src/service/views/orders.py", "src/service/views/orders_orders.py"):
        (shipments / path).unlink()

    assert user.factfold("add", "subscription", "../orders", at=shipments).returncode == 0
    assert refusal("../orders") == "'orders' is subscribed already; its contract stays as it is"


def test_outside_of_a_repository_it_says_so(user: User, orders: Path) -> None:
    done = user.factfold("add", "subscription", "orders")
    assert done.returncode == 2
    assert done.stderr == (
        f"factfold: {str(user.here)!r} is in no generated repository; run this inside one\n"
    )


@pytest.mark.parametrize(
    ("aggregate", "why"),
    [
        ("../../../Evil", "the aggregate '../../../Evil' is no name of a message; use letters and"
         " digits, a capital first, such as OrderItem, 40 characters at most"),
        ("{{ 7*7 }}", "the aggregate '{{ 7*7 }}' is no name of a message; use letters and digits,"
         " a capital first, such as OrderItem, 40 characters at most"),
    ],
)  # fmt: skip
def test_a_foreign_manifest_is_not_trusted(
    user: User, orders: Path, shipments: Path, aggregate: str, why: str
) -> None:
    manifest = _manifest(orders)
    manifest["answers"]["aggregate"] = aggregate
    (orders / ".factfold/manifest.json").write_text(json.dumps(manifest))
    before = tree(user.here)
    done = user.factfold("add", "subscription", "../orders", at=shipments)
    assert done.returncode == 1
    assert done.stderr == (
        f"factfold: '../orders/.factfold/manifest.json' is damaged ({why}); take it back from git\n"
    )
    assert tree(user.here) == before


def test_a_failure_half_way_leaves_nothing(
    user: User, orders: Path, shipments: Path, clone: Path
) -> None:
    hook = clone / "template/python/hooks/post_gen_project.py"
    text = hook.read_text()
    assert "new.replace(path)" in text
    hook.write_text(text.replace("new.replace(path)", "raise OSError(28, 'No space left')"))
    before = tree(shipments)
    done = user.factfold("add", "subscription", "../orders", at=shipments, clone=clone)
    assert (done.returncode, done.stderr) == (1, "factfold: system: No space left\n")
    assert tree(shipments) == before


def _new(user: User, name: str, *arguments: str) -> Path:
    done = user.factfold("new", name, "--no-input", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return user.here / name


def _manifest(root: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((root / ".factfold/manifest.json").read_text())
    return manifest
