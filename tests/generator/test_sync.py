"""`factfold sync`: what it writes, what it leaves alone, what it says."""

import json
import os
import subprocess
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from .conftest import INSTALL, User, document, tree

CONTRACT = "protos/acme/orders/v1/contract.proto"
MANIFEST = ".factfold/manifest.json"
REFERENCE = "docs/api.md"
DOCUMENTS = [REFERENCE, "docs/asyncapi.json"]
WIRING = "src/service/contract.py"

RPC = "  rpc CancelOrder(CancelOrderRequest) returns (CancelOrderResponse);\n"
MESSAGES = """
message CancelOrderRequest {
  string id = 1;
}

message CancelOrderResponse {
  string id = 1;
}
"""
EVENT = """
message OrderCancelled {
  option (factfold.v1.event) = {};
  string id = 1 [(factfold.v1.key) = true];
}
"""
OF_RPC = ["src/service/handlers/cancel_order.py", "tests/test_cancel_order.py"]
OF_EVENT = ["src/service/folds/order_cancelled.py", "tests/test_order_cancelled.py"]
IN_STEP = "Nothing to write.\n"


@pytest.fixture
def orders(user: User) -> Path:
    return _new(user, "orders")


def test_a_new_repository_is_in_step(user: User, orders: Path) -> None:
    shipments = _new(user, "shipments", "--subscribe", "orders")
    _new(user, "a", "--aggregate", "A")
    for root in (orders, shipments, user.here / "a"):
        before = tree(root)
        for arguments in (["--check"], []):
            done = user.factfold("sync", *arguments, at=root)
            assert (done.returncode, done.stdout, done.stderr) == (0, IN_STEP, "")
        assert tree(root) == before
    user.factfold("add", "subscription", "../a", at=orders)
    assert user.factfold("sync", "--check", at=orders).stdout == IN_STEP


def test_each_rpc_and_each_event_gets_a_file_and_a_test(user: User, orders: Path) -> None:
    _edit(orders, rpc=RPC, messages=MESSAGES + EVENT)
    before = tree(orders)
    expected = sorted([MANIFEST, *DOCUMENTS, *OF_RPC, *OF_EVENT])
    checked = user.factfold("sync", "--check", at=orders)
    assert checked.returncode == 1
    assert checked.stdout.splitlines() == ["Would write:", *(f"  {path}" for path in expected)]
    assert checked.stderr == (
        "factfold: the repository does not match its contract; run: factfold sync\n"
    )
    assert tree(orders) == before

    done = user.factfold("sync", at=orders)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "Wrote:",
        *(f"  {path}" for path in expected),
        "",
        "Next:",
        f"  {INSTALL}",
    ]
    after = tree(orders)
    assert _changed(before, after) == expected
    files = _manifest(orders)["files"]
    for path in (*OF_RPC, *OF_EVENT):
        digest = sha256((orders / path).read_bytes()).hexdigest()
        assert files[path] == {"sha256": digest, "zone": "team"}

    assert user.factfold("sync", at=orders).stdout == IN_STEP
    assert user.factfold("sync", "--check", at=orders).returncode == 0
    assert tree(orders) == after


def test_it_prints_json(user: User, orders: Path) -> None:
    _edit(orders, rpc=RPC, messages=MESSAGES)
    expected = {"changes": [], "files": sorted([MANIFEST, REFERENCE, *OF_RPC]), "notes": []}
    for arguments, check in ((["--check"], True), ([], False)):
        done = user.factfold("sync", "--json", *arguments, at=orders)
        then = [] if check else [INSTALL]
        assert json.loads(done.stdout) == expected | {"check": check, "next": then}
        assert done.returncode == check
    assert json.loads(user.factfold("sync", "--json", at=orders).stdout)["files"] == []


@pytest.mark.parametrize(
    ("rpc", "head"),
    [
        (RPC, "@command\nasync def cancel_order("),
        (
            RPC.replace(";", " { option idempotency_level = NO_SIDE_EFFECTS; }"),
            "@query\ndef cancel_order(",
        ),
        (RPC.replace("returns (", "returns (stream "), "@watch\nasync def cancel_order("),
    ],
)
def test_a_handler_is_of_the_kind_that_the_rpc_needs(
    user: User, orders: Path, rpc: str, head: str
) -> None:
    _edit(orders, rpc=rpc, messages=MESSAGES)
    assert user.factfold("sync", at=orders).returncode == 0
    text = (orders / OF_RPC[0]).read_text()
    assert head in text
    assert '"CancelOrder has no answer yet: write src/service/handlers/cancel_order.py"' in text


def test_streams_of_requests_are_left_to_the_team(user: User, orders: Path) -> None:
    _edit(orders, rpc=RPC.replace("Order(", "Order(stream "), messages=MESSAGES)
    document(orders)
    assert _notes(user, orders) == [
        "acme.orders.v1.OrderService.CancelOrder: streams of requests are not supported; let it"
        " take one request"
    ]


@pytest.mark.parametrize(
    "code",
    [
        "from factfold_chassis import command\n\n@command\nasync def cancel_order(r, c): ...\n",
        "import factfold_chassis as f\n\n@f.command\nasync def cancelOrder(r, c): ...\n",
        "from factfold_chassis import *\n\n@command\nasync def cancel_order(r, c): ...\n",
        "from factfold_chassis.calls import command as does\n\nasync def cancel_order(r, c): ...\n"
        "\ncancel = does(cancel_order)\n",
        "from service.kit import audited\n\n@audited\nasync def cancel_order(r, c): ...\n",
        "from factfold_chassis import command\n\ndef quick(f): return f\n\n@quick\n@command\n"
        "async def cancel_order(r, c): ...\n",
    ],
)
def test_a_handler_is_found_by_what_it_is(user: User, orders: Path, code: str) -> None:
    _edit(orders, rpc=RPC, messages=MESSAGES)
    document(orders)
    (orders / "src/service/handlers/all_of_them.py").write_text(code)
    assert user.factfold("sync", "--check", at=orders).stdout == IN_STEP


@pytest.mark.parametrize(
    "code",
    [
        "from service import contract\n@fold(contract.OrderCancelled, into=orders.TABLE)",
        "import service.contract as c\n@fold(c.OrderCancelled, into=orders.TABLE)",
        "import service.contract\n@fold(service.contract.OrderCancelled, into=orders.TABLE)",
        "from service.contract import OrderCancelled as E\n@fold(E, into=orders.TABLE)",
        "from .. import contract\n@fold(event=contract.OrderCancelled, into=orders.TABLE)",
        "from acme.orders.v1 import contract_pb2\n"
        "@fold(contract_pb2.OrderCancelled, into=orders.TABLE)",
        "from service import contract\nE = contract.OrderCancelled\n@fold(E, into=orders.TABLE)",
    ],
)
def test_a_fold_is_found_by_what_it_is(user: User, orders: Path, code: str) -> None:
    _edit(orders, messages=EVENT)
    document(orders)
    (orders / "src/service/folds/all_of_them.py").write_text(
        "from factfold_chassis import fold\nfrom service.views import orders\n"
        f"{code}\ndef gone(row, event, fact): ...\n"
    )
    done = user.factfold("sync", "--check", at=orders)
    assert (done.stdout, done.stderr) == (IN_STEP, "")


def test_what_the_team_deleted_stays_deleted(user: User, orders: Path) -> None:
    _edit(orders, messages=EVENT)
    # The starter's, before anything was scaffolded, and what was scaffolded.
    (orders / "src/service/folds/order_renamed.py").unlink()
    report = json.loads(user.factfold("sync", "--json", at=orders).stdout)
    assert report["files"] == sorted([MANIFEST, *DOCUMENTS, *OF_EVENT])
    assert _manifest(orders)["scaffolded"] == [
        f"acme.orders.v1.Order{word}" for word in ("Cancelled", "Created", "Renamed")
    ]
    for path in OF_EVENT:
        (orders / path).unlink()
    assert user.factfold("sync", "--check", at=orders).stdout == IN_STEP


def test_the_starter_is_remembered_after_an_rpc_alone(user: User, orders: Path) -> None:
    _edit(orders, rpc=RPC, messages=MESSAGES)
    assert _files(user, orders) == sorted([MANIFEST, REFERENCE, *OF_RPC])
    (orders / "src/service/folds/order_renamed.py").unlink()
    assert user.factfold("sync", "--check", at=orders).stdout == IN_STEP


def test_an_event_that_comes_back_is_new(user: User, orders: Path) -> None:
    before = (orders / CONTRACT).read_text()
    _edit(orders, messages=EVENT)
    after = (orders / CONTRACT).read_text()
    user.factfold("sync", at=orders)
    for path in OF_EVENT:
        (orders / path).unlink()
    (orders / CONTRACT).write_text(before)
    document(orders)
    assert _files(user, orders) == [MANIFEST]
    (orders / CONTRACT).write_text(after)
    assert OF_EVENT[0] in _files(user, orders)


def test_files_may_be_renamed_and_merged(user: User, orders: Path) -> None:
    handlers = orders / "src/service/handlers"
    (handlers / "get_order.py").rename(handlers / "reads.py")
    with (handlers / "reads.py").open("a") as file:
        file.write((handlers / "list_orders.py").read_text())
    (handlers / "list_orders.py").unlink()
    folds = orders / "src/service/folds"
    (folds / "all").mkdir()
    (folds / "order_created.py").rename(folds / "all/__init__.py")
    before = tree(orders)
    assert user.factfold("sync", at=orders).stdout == IN_STEP
    assert tree(orders) == before


def test_a_handler_is_made_again_but_not_its_test(user: User, orders: Path) -> None:
    _edit(orders, rpc=RPC, messages=MESSAGES)
    user.factfold("sync", at=orders)
    made = tree(orders)
    for path in OF_RPC:
        (orders / path).unlink()
    assert _files(user, orders) == [OF_RPC[0]]
    assert (orders / OF_RPC[0]).read_bytes() == made[OF_RPC[0]][1]
    assert not (orders / OF_RPC[1]).exists()


def test_no_file_of_the_team_is_written_over(user: User, orders: Path) -> None:
    _edit(orders, rpc=RPC, messages=MESSAGES + EVENT)
    for path in (*OF_RPC, *OF_EVENT):
        (orders / path).write_text("# ours\n")
    document(orders)
    before = tree(orders)
    assert _notes(user, orders) == [
        "src/service/handlers/cancel_order.py: exists and has no handler of"
        " acme.orders.v1.OrderService.CancelOrder; write cancel_order(request, call) as"
        " `@command async def` there",
        "acme.orders.v1.OrderCancelled has no fold, and src/service/folds/order_cancelled.py"
        " exists; write one, if it changes a table",
    ]
    assert tree(orders) == before


def test_a_test_of_that_name_stays(user: User, orders: Path) -> None:
    _edit(orders, rpc=RPC, messages=MESSAGES)
    (orders / OF_RPC[1]).write_text("# ours\n")
    report = json.loads(user.factfold("sync", "--json", at=orders).stdout)
    assert report["files"] == [MANIFEST, REFERENCE, OF_RPC[0]]
    assert report["notes"] == [
        "tests/test_cancel_order.py: exists and stays as it is; write a test of"
        " src/service/handlers/cancel_order.py elsewhere"
    ]
    assert (orders / OF_RPC[1]).read_text() == "# ours\n"


def test_what_the_contract_no_longer_has_is_said(user: User, orders: Path) -> None:
    shipments = _new(user, "shipments", "--subscribe", "orders")
    contract = orders / CONTRACT
    text = contract.read_text().replace("OrderRenamed", "OrderTitled")
    text = text.replace("rpc GetOrder(GetOrderRequest)", "rpc ReadOrder(GetOrderRequest)")
    text = text.replace(
        "message OrderCreated {\n  option (factfold.v1.event) = {};", "message OrderCreated {"
    )
    contract.write_text(text)
    before = tree(orders)
    report = json.loads(user.factfold("sync", "--json", "--check", at=orders).stdout)
    assert report["notes"][:4] == [
        "src/service/folds/order_created.py: the fold order_created is of OrderCreated, which is"
        " no event of the contract; remove it, or mark the message as one",
        "src/service/folds/order_renamed.py: the fold order_renamed is of OrderRenamed, which the"
        " contract no longer has; remove it, or take the message back",
        "src/service/handlers/get_order.py: the handler get_order answers no RPC of the contract;"
        " remove it, or name it after one",
        "src/service/reactions/announce_order.py: the reaction announce_order is of OrderCreated,"
        " which is no event of the contract; remove it, or mark the message as one",
    ]
    assert tree(orders) == before

    contract.write_text(text.replace("OrderCreated", "OrderMade"))
    done = user.factfold("sync", "--from", "../orders", "--json", at=shipments)
    assert json.loads(done.stdout)["notes"] == [
        f"src/service/{path}: the {kind} {name} is of OrderCreated, which the contract no longer"
        " has; remove it, or take the message back"
        for path, kind, name in (
            ("folds/order_created.py", "fold", "order_created"),
            (
                "reactions/create_shipment_for_order.py",
                "reaction",
                "create_shipment_for_order",
            ),
        )
    ]


def test_a_handler_of_another_kind_is_said(user: User, orders: Path) -> None:
    contract = orders / CONTRACT
    contract.write_text(contract.read_text().replace("(CreateOrderResponse)", "(stream Order)"))
    document(orders)
    assert _notes(user, orders) == [
        "src/service/handlers/create_order.py: the handler create_order is a @command, and"
        " CreateOrder needs a @watch async def with yield; change it"
    ]


def test_where_a_fold_would_go_must_be_plain(user: User, orders: Path) -> None:
    _edit(orders, messages=EVENT)
    document(orders)
    fold = orders / "src/service/folds/order_renamed.py"
    good = fold.read_text()
    (orders / "src/service/views/names.py").write_text(
        "from service import contract\nfrom service.views.orders import VIEW\n"
        'TABLE = VIEW.table("names", contract.Order)\n'
    )
    fold.write_text(
        good.replace("from service.views import orders", "from service.views import names").replace(
            "orders.TABLE", "names.TABLE"
        )
    )
    end = "; write one, if it changes a table"
    start = "acme.orders.v1.OrderCancelled has no fold, and "
    assert _notes(user, orders) == [f"{start}the folds of stream orders go to several tables{end}"]
    fold.write_text(good.replace("orders.TABLE", "next(tables)"))
    (orders / "src/service/folds/order_created.py").rename(user.here / "created")
    assert _notes(user, orders) == [
        f"{start}it cannot be told which table the folds of stream orders go to{end}"
    ]
    fold.write_text(good)
    view = orders / "src/service/views/orders.py"
    text = view.read_text()
    for rows in ("type(which)", "contract.Former"):
        view.write_text(text.replace("    contract.Order,", f"    {rows},"))
        assert _notes(user, orders) == [
            f"{start}it cannot be told what the rows of service.views.orders.TABLE are{end}"
        ]
    view.write_text(text)
    (user.here / "created").rename(orders / "src/service/folds/order_created.py")
    fold.write_text(good.replace("contract.OrderRenamed,\n", "which(),\n"))
    assert _notes(user, orders)[-1] == (
        f"{start}it cannot be told which event the fold in src/service/folds/order_renamed.py is"
        f" of{end}"
    )
    fold.unlink()
    (orders / "src/service/folds/order_created.py").unlink()
    assert _notes(user, orders) == [
        f"{start}stream orders has no other fold whose table it could go to{end}"
    ]


def test_several_files_of_a_contract_are_passed_on(user: User, orders: Path) -> None:
    money = orders / "protos/acme/orders/v1/money.proto"
    money.write_text('syntax = "proto3";\npackage acme.orders.v1;\nmessage Money {}\n')
    starter = [(orders / path).read_bytes() for path in (REFERENCE, WIRING)]
    assert _files(user, orders) == [MANIFEST, REFERENCE, WIRING]
    assert "### Money" in (orders / REFERENCE).read_text().splitlines()
    text = (orders / WIRING).read_text()
    assert "from acme.orders.v1.money_pb2 import *\n" in text
    assert "    contract_pb2.DESCRIPTOR,\n    money_pb2.DESCRIPTOR,\n" in text
    digest = sha256(text.encode()).hexdigest()
    assert _manifest(orders)["files"][WIRING] == {"sha256": digest, "zone": "tool"}
    money.write_text('syntax = "proto3";\npackage acme.money.v1;\nmessage Order {}\n')
    # Somebody else's file, which no RPC and no stream needs.
    assert _files(user, orders) == [MANIFEST, REFERENCE, WIRING]
    assert [(orders / path).read_bytes() for path in (REFERENCE, WIRING)] == starter
    money.write_text(money.read_text() + "service Banks {}\n")
    _refused(
        user,
        orders,
        "'Order' is in 'protos/acme/orders/v1/contract.proto' and in"
        " 'protos/acme/orders/v1/money.proto', and service.contract can have one of that name;"
        " rename one",
    )
    money.unlink()
    assert user.factfold("sync", "--check", at=orders).stdout == IN_STEP


def test_a_renamed_contract_is_followed(user: User, orders: Path) -> None:
    (orders / CONTRACT).rename(orders / "protos/acme/orders/v1/orders.proto")
    assert _files(user, orders) == [MANIFEST, *DOCUMENTS, WIRING]
    assert "from acme.orders.v1.orders_pb2 import *\n" in (orders / WIRING).read_text()
    assert user.factfold("sync", "--check", at=orders).stdout == IN_STEP


def test_tool_owned_files_are_mended(user: User, orders: Path) -> None:
    shipments = _new(user, "shipments", "--subscribe", "orders")
    before = tree(shipments)
    (shipments / "src/service/subscriptions/orders.py").unlink()
    (shipments / WIRING).write_text("# mine\n")
    assert _files(user, shipments) == [WIRING, "src/service/subscriptions/orders.py"]
    assert tree(shipments) == before


def test_line_ends_of_a_checkout_do_not_matter(user: User, orders: Path) -> None:
    shipments = _new(user, "shipments", "--subscribe", "orders")
    for root in (orders, shipments):
        for path in root.rglob("*"):
            if path.is_file() and path.suffix in (".py", ".proto", ".json"):
                path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    before = tree(shipments)
    assert user.factfold("sync", at=shipments).stdout == IN_STEP
    assert user.factfold("sync", "--from", "../orders", at=shipments).stdout == IN_STEP
    assert tree(shipments) == before
    contract = orders / CONTRACT
    contract.write_bytes(
        contract.read_bytes().replace(
            b"service OrderService {\r\n", b"service OrderService {\r\n" + RPC.encode()
        )
        + MESSAGES.encode()
    )
    assert _files(user, orders) == sorted([MANIFEST, REFERENCE, *OF_RPC])
    assert _files(user, shipments, "--from", "../orders") == [MANIFEST, CONTRACT]
    assert b"\r" not in (shipments / CONTRACT).read_bytes()


def test_git_worktrees_shallow_clones_and_spaces(user: User, orders: Path) -> None:
    _edit(orders, rpc=RPC, messages=MESSAGES)
    _git(orders, "init", "--quiet", "--initial-branch", "main")
    for message in ("one", "two"):
        _git(orders, "add", "--all")
        _git(orders, "commit", "--quiet", "--allow-empty", "--message", message)
    clone, worktree = user.here / "a shallow clone", user.here / "a work tree"
    _git(user.here, "clone", "--quiet", "--depth", "1", f"file://{orders}", str(clone))
    _git(orders, "worktree", "add", "--quiet", "-b", "other", str(worktree))
    for root in (clone, worktree):
        assert _files(user, root, at=root / "src/service") == sorted([MANIFEST, REFERENCE, *OF_RPC])
        assert user.factfold("sync", "--check", at=root / "tests").returncode == 0


def test_refusals_are_one_line_and_change_nothing(user: User, orders: Path) -> None:
    contract = orders / CONTRACT
    good = contract.read_text()
    contract.write_text(good + "message {}\n")
    line = good.count("\n") + 1
    _refused(
        user,
        orders,
        f"the contract in {str(orders)!r} does not compile:"
        f" {CONTRACT}:{line}:9: Expected message name.",
        code=1,
    )
    contract.write_text(good)
    handler = orders / "src/service/handlers/get_order.py"
    code = handler.read_text()
    handler.write_text(code + "def\n")
    line = code.count("\n") + 1
    _refused(
        user,
        orders,
        f"src/service/handlers/get_order.py:{line} is no Python (invalid syntax); mend it, then"
        " sync again",
        code=1,
    )
    handler.write_text(code)
    keyword = orders / "protos/acme/class/contract.proto"
    keyword.parent.mkdir()
    contract.rename(keyword)
    _refused(user, orders, f"'{_below(orders, keyword)}' is no path of a Python module; rename it")
    keyword.unlink()
    _refused(
        user,
        orders,
        "no .proto file below protos/ declares a stream or a service of this repository; take its"
        " contract back from git",
    )
    contract.write_text(good)
    manifest = _manifest(orders)
    for field, value, said in (
        ("generator", "0.2.0rc1", "by factfold 0.2.0rc1, and this is 0.1.0; install the newer"),
        ("format", 2, "by another factfold; install the one that made it"),
    ):
        (orders / MANIFEST).write_text(json.dumps(manifest | {field: value}))
        _refused(user, orders, f"{str(orders)!r} was made {said}")


def test_outside_of_a_repository_it_says_so(user: User) -> None:
    done = user.factfold("sync")
    assert done.returncode == 2
    assert done.stderr == (
        f"factfold: {str(user.here)!r} is in no generated repository; run this inside one\n"
    )


@pytest.mark.parametrize("blocked", ["src/service/handlers", "tests"])
def test_a_failure_half_way_leaves_nothing(user: User, orders: Path, blocked: str) -> None:
    _edit(orders, rpc=RPC, messages=MESSAGES + EVENT)
    money = orders / "protos/acme/orders/v1/money.proto"
    money.write_text('syntax = "proto3";\npackage acme.orders.v1;\nmessage Money {}\n')
    # What a folder that may not be written to is for everyone but root.
    folder = orders / blocked
    folder.rename(user.here / "elsewhere")
    folder.write_text("")
    before = tree(orders)
    done = user.factfold("sync", at=orders)
    assert (done.returncode, done.stdout) == (1, "")
    assert (
        done.stderr.removeprefix("factfold: ")
        .rstrip("\n")
        .endswith((": File exists", ": Not a directory"))
    )
    assert done.stderr.count("\n") == 1
    assert tree(orders) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_a_read_only_folder_is_named(user: User, orders: Path) -> None:
    _edit(orders, rpc=RPC, messages=MESSAGES)
    before = tree(orders)
    (orders / "tests").chmod(0o555)
    done = user.factfold("sync", at=orders)
    (orders / "tests").chmod(before["tests"][0])
    assert done.returncode == 1
    assert done.stderr == f"factfold: {orders / OF_RPC[1]}: Permission denied\n"
    assert tree(orders) == before


def _new(user: User, name: str, *arguments: str) -> Path:
    done = user.factfold("new", name, "--no-input", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return user.here / name


def _edit(root: Path, rpc: str = "", messages: str = "") -> None:
    contract = root / CONTRACT
    head = "service OrderService {\n"
    text = contract.read_text()
    assert text.count(head) == 1
    contract.write_text(text.replace(head, head + rpc) + messages)


def _files(user: User, root: Path, *arguments: str, at: Path | None = None) -> list[str]:
    """What `factfold sync` writes; `--check` says the same first."""
    checked = user.factfold("sync", "--json", "--check", *arguments, at=at or root)
    done = user.factfold("sync", "--json", *arguments, at=at or root)
    assert (done.returncode, done.stderr) == (0, "")
    files: list[str] = json.loads(done.stdout)["files"]
    assert json.loads(checked.stdout)["files"] == files
    return files


def _notes(user: User, root: Path) -> list[str]:
    """What `factfold sync` says, having nothing to write."""
    report = json.loads(user.factfold("sync", "--json", at=root).stdout)
    assert report["files"] == []
    notes: list[str] = report["notes"]
    return notes


def _refused(user: User, root: Path, line: str, code: int = 2) -> None:
    before = tree(root)
    done = user.factfold("sync", at=root)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", f"factfold: {line}\n")
    assert tree(root) == before


def _changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return sorted(
        path for path in before.keys() | after.keys() if before.get(path) != after.get(path)
    )


def _below(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()


def _manifest(root: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((root / MANIFEST).read_text())
    return manifest


def _git(at: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=Someone", "-c", "user.email=someone@example.com")
    subprocess.run(["git", *identity, *arguments], cwd=at, check=True, capture_output=True)
