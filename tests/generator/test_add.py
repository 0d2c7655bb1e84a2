"""`factfold add rpc|event|view|reaction`: what they write, say, refuse and leave alone."""

import ast
import json
import shlex
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from .conftest import INSTALL, User, tree

CONTRACT = "protos/acme/orders/v1/contract.proto"
LONG = "A" * 61
CAMEL = "letters and digits, a capital first, such as {}, 60 characters at most"
CANCEL, LOST, TOTAL = map(CAMEL.format, ("CancelOrder", "OrderCancelled", "OrderTotal"))
SNAKE = "a-z, 0-9 and single _, a letter first, 60 characters at most"
TYPE = "use a scalar such as string, or a message or enum of the contract or of google.protobuf"


@pytest.fixture
def orders(user: User) -> Path:
    return _new(user, "orders")


def test_an_rpc(user: User, orders: Path) -> None:
    before = tree(orders)
    done = user.factfold(
        *("add", "rpc", "CancelOrder", "--field", "id:string", "--field", "at:Timestamp"),
        *("--returns", "version:uint64"),
        at=orders,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (
        done.stdout
        == f"""\
Changed {CONTRACT}:
  @@ -5,4 +5,5 @@

   import "factfold/v1/options.proto";
  +import "google/protobuf/timestamp.proto";

   option (factfold.v1.stream) = {{
  @@ -24,4 +25,5 @@
       option idempotency_level = NO_SIDE_EFFECTS;
     }}
  +  rpc CancelOrder(CancelOrderRequest) returns (CancelOrderResponse);
   }}

  @@ -109,2 +111,13 @@
     }}
   }}
  +
  +message CancelOrderRequest {{
  +  // A UUID made by the caller (AIP-155): a repeated call gets the first answer.
  +  string request_id = 1;
  +  string id = 2;
  +  google.protobuf.Timestamp at = 3;
  +}}
  +
  +message CancelOrderResponse {{
  +  uint64 version = 1;
  +}}

Wrote:
  docs/api.md
  src/service/handlers/cancel_order.py
  tests/test_cancel_order.py

Note:
  CancelOrder is a command, by its name; --command, --query and --watch say otherwise

Next:
  {INSTALL}
  write src/service/handlers/cancel_order.py
  .venv/bin/python -m pytest tests/test_cancel_order.py
"""
    )
    after = tree(orders)
    assert {path for path in after if after[path] != before.get(path)} == {
        "docs/api.md",
        ".factfold/manifest.json",
        CONTRACT,
        "src/service/handlers/cancel_order.py",
        "tests/test_cancel_order.py",
    }
    assert before.keys() <= after.keys()


@pytest.mark.parametrize(
    ("name", "arguments", "kind", "said"),
    [
        ("CountOrders", (), "query", True),
        ("WatchOrder", (), "watch", True),
        ("Getaway", (), "command", True),
        ("GetThrough", ("--command",), "command", False),
        ("OrdersOf", ("--query",), "query", False),
        ("FollowOrders", ("--watch",), "watch", False),
    ],
)
def test_what_an_rpc_is(
    user: User, orders: Path, name: str, arguments: tuple[str, ...], kind: str, said: bool
) -> None:
    report = _report(user, orders, "rpc", name, *arguments)
    added = [line for line in report["changed"][CONTRACT] if line.startswith("+")]
    stream = "stream " if kind == "watch" else ""
    (rpc,) = (line for line in added if line.startswith("+  rpc "))
    assert (
        rpc.rstrip("{ ").rstrip(";")
        == f"+  rpc {name}({name}Request) returns ({stream}{name}Response)"
    )
    assert ("+    option idempotency_level = NO_SIDE_EFFECTS;" in added) == (kind != "command")
    assert ("+  string request_id = 1;" in added) == (kind == "command")
    assert any(f"{name} is a {kind}, by its name" in note for note in report["notes"]) == said
    (handler,) = (path for path in report["files"] if path.startswith("src/service/handlers/"))
    assert f"@{kind}\n" in (orders / handler).read_text()


def test_an_event(user: User, orders: Path) -> None:
    report = _report(user, orders, "event", "OrderLost", "--field", "tags:map<string, Order>")
    assert report == {
        "changed": {
            CONTRACT: [
                "@@ -38,4 +38,10 @@",
                "   string id = 1 [(factfold.v1.key) = true];",
                "   string name = 2;",
                "+}",
                "+",
                "+message OrderLost {",
                "+  option (factfold.v1.event) = {};",
                "+  string id = 1 [(factfold.v1.key) = true];",
                "+  map<string, Order> tags = 2;",
                " }",
                " ",
                "@@ -107,4 +113,5 @@",
                "     OrderCreated created = 2;",
                "     OrderRenamed renamed = 3;",
                "+    OrderLost lost = 4;",
                "   }",
                " }",
            ]
        },
        "dry_run": False,
        "files": [
            "docs/api.md",
            "docs/asyncapi.json",
            "src/service/folds/order_lost.py",
            "tests/test_order_lost.py",
        ],
        "next": [
            INSTALL,
            "write src/service/folds/order_lost.py",
            ".venv/bin/python -m pytest tests/test_order_lost.py",
        ],
        "notes": [
            "WatchOrders can give out OrderLost as 'lost': add its case to"
            " src/service/handlers/watch_orders.py"
        ],
    }


def test_the_key_of_an_event(user: User, orders: Path) -> None:
    _report(user, orders, "event", "OrderMoved", "--key", "place", "--field", "by:string")
    _report(
        user,
        orders,
        "event",
        "OrderSold",
        "--key",
        "to",
        "--field",
        "a:int32",
        "--field",
        "to:string",
    )
    # As the last event has it.
    _report(user, orders, "event", "OrderEaten")
    text = (orders / CONTRACT).read_text()
    assert "OrderMoved {\n  option (factfold.v1.event) = {};\n  string place = 1 [(factfold" in text
    assert "  int32 a = 1;\n  string to = 2 [(factfold.v1.key) = true];\n" in text
    assert "OrderEaten {\n  option (factfold.v1.event) = {};\n  string to = 1 [(factfold" in text


def test_a_watch_without_a_oneof_is_left_alone(user: User, orders: Path) -> None:
    contract = orders / CONTRACT
    text = contract.read_text()
    contract.write_text(text.replace("  oneof change {", "  oneof change {\n    string other = 9;"))
    report = _report(user, orders, "event", "OrderLost")
    assert report["notes"] == [
        "no watch gives out OrderLost: there is no oneof of events alone to put it into"
    ]


def test_a_view(user: User, orders: Path) -> None:
    report = _report(
        user, orders, "view", "order_names", "--from", "OrderCreated", "--from", "OrderRenamed"
    )
    assert report["files"] == [
        "docs/api.md",
        "src/service/folds/order_created_into_order_names.py",
        "src/service/folds/order_renamed_into_order_names.py",
        "src/service/views/order_names.py",
        "tests/test_order_created_into_order_names.py",
        "tests/test_order_renamed_into_order_names.py",
    ]
    assert [line for line in report["changed"][CONTRACT] if line.startswith("+")] == [
        "+}",
        "+",
        "+// A row of the view order_names.",
        "+message OrderName {",
        "+  string id = 1;",
        "+  string name = 2;",
    ]
    # The folds are whole.
    assert [step for step in report["next"] if step.startswith("write")] == []


def test_a_view_with_rows_that_the_contract_has(user: User, orders: Path) -> None:
    report = _report(user, orders, "view", "others", "--row", "Order", "--from", "OrderCreated")
    assert report["changed"] == {}
    fold = (orders / "src/service/folds/order_created_into_others.py").read_text()
    # The row has a version, the event has none.
    assert "    row.id = event.id\n    row.name = event.name\n    return row\n" in fold


def test_a_view_alone(user: User, orders: Path) -> None:
    report = _report(user, orders, "view", "cash", "--row", "Money")
    assert report["notes"] == ["cash has no fold yet: write one; with --from EVENT it is written"]
    assert report["files"] == ["docs/api.md", "src/service/views/cash.py"]
    assert "message Money {\n  string id = 1;\n}\n" in (orders / CONTRACT).read_text()


def test_a_reaction(user: User, orders: Path) -> None:
    (orders / ".venv").mkdir()  # so that what stands there makes the stubs
    done = user.factfold("add", "reaction", "thank", "--on", "OrderCreated", at=orders)
    assert (done.returncode, done.stderr) == (0, "")
    assert (
        done.stdout
        == """\
Wrote:
  src/service/reactions/thank.py
  tests/test_thank.py

Next:
  .venv/bin/python hatch_build.py
  write src/service/reactions/thank.py
  .venv/bin/python -m pytest tests/test_thank.py
"""
    )
    again = user.factfold("add", "reaction", "thank", "--on", "OrderCreated", at=orders)
    assert again.stderr == (
        "factfold: 'src/service/reactions/thank.py' has a reaction 'thank' already, and its"
        " position is kept under that name; choose another one\n"
    )


def test_a_reaction_that_may_answer_itself(user: User, orders: Path) -> None:
    report = _report(
        user, orders, "reaction", "again", "--on", "OrderCreated", "--appends", "OrderCreated"
    )
    assert report["notes"] == [
        "again answers what it appends itself: return None once there is nothing to answer"
    ]


def test_events_of_a_subscription(user: User, orders: Path) -> None:
    sales = _new(user, "sales", "--aggregate", "Order")
    assert user.factfold("add", "subscription", "../orders", at=sales).returncode == 0
    both = "acme.orders.v1.OrderCreated, acme.sales.v1.OrderCreated"
    assert _refusal(user, sales, "reaction", "copy", "--on", "OrderCreated") == (
        f"several events are named 'OrderCreated'; say which: {both}"
    )
    _report(
        *(user, sales, "reaction", "copy", "--on", "acme.orders.v1.OrderCreated"),
        *("--appends", "acme.sales.v1.OrderCreated"),
    )
    text = (sales / "src/service/reactions/copy.py").read_text()
    assert "import service.subscriptions.orders as theirs\nfrom service import contract\n" in text
    assert "@reaction(\n    theirs.OrderCreated,\n)" in text
    assert "contract.OrderCreated(\n        id=call.new_id(),\n        name=event.name,\n" in text
    assert _refusal(
        *(user, sales, "reaction", "other", "--on", "acme.sales.v1.OrderCreated"),
        *("--appends", "acme.orders.v1.OrderRenamed"),
    ) == (
        "'acme.orders.v1.OrderRenamed' is of the stream orders, and a service appends to its own"
        " alone; append an event of its contract"
    )
    assert _refusal(
        *(user, sales, "view", "all", "--from", "acme.sales.v1.OrderCreated"),
        *("--from", "acme.orders.v1.OrderCreated"),
    ) == (
        "the events are of the streams orders and sales, and a table has rows of one; make a view"
        " for each, and join them"
    )
    _report(user, sales, "view", "theirs", "--from", "acme.orders.v1.OrderRenamed")
    (sales / "src/service/subscriptions/orders.py").write_text("")
    assert _refusal(user, sales, "reaction", "x", "--on", "acme.orders.v1.OrderCreated") == (
        "no module in src/service/subscriptions has what 'protos/acme/orders/v1/contract.proto'"
        " declares; take it back from git"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("rpc", "CancelOrder"),
        ("event", "OrderLost"),
        ("view", "names", "--from", "OrderCreated"),
        ("reaction", "thank", "--on", "OrderCreated"),
    ],
)
def test_a_dry_run_says_the_same_and_changes_nothing(
    user: User, orders: Path, arguments: tuple[str, ...]
) -> None:
    before = tree(user.here)
    said = user.factfold("add", *arguments, "--dry-run", at=orders)
    assert (said.returncode, said.stderr) == (0, "")
    tried = _report(user, orders, *arguments, "--dry-run")
    assert tree(user.here) == before
    assert tried.pop("dry_run") is True
    done = user.factfold("add", *arguments, at=orders)
    assert done.stdout == said.stdout.replace("Would change", "Changed").replace(
        "Would write", "Wrote"
    )
    assert all((orders / path).is_file() for path in tried["files"])
    assert list(user.temporary.iterdir()) == []


def test_the_manifest_knows_of_it(user: User, orders: Path) -> None:
    before = _manifest(orders)
    written = _report(user, orders, "reaction", "thank", "--on", "OrderCreated")["files"]
    files = _manifest(orders)["files"]
    for path in written:
        assert files.pop(path) == {
            "sha256": sha256((orders / path).read_bytes()).hexdigest(),
            "zone": "team",
        }
    assert files == before["files"]


def test_a_contract_in_two_files(user: User, orders: Path) -> None:
    (orders / "protos/acme/orders/v1/money.proto").write_text(
        'syntax = "proto3";\npackage acme.orders.v1;\nservice Till {}\nmessage Money {}\n'
    )
    assert _refusal(user, orders, "rpc", "PayOrder") == (
        "the contract has several services; name one with --service: OrderService, Till"
    )
    assert _refusal(user, orders, "rpc", "PayOrder", "--service", "Shop") == (
        "the contract has no service 'Shop'; there is OrderService, Till"
    )
    assert _refusal(user, orders, "event", "Money") == (
        "'Money' is in 'protos/acme/orders/v1/money.proto' already; choose another name"
    )
    _report(user, orders, "rpc", "PayOrder", "--service", "Till", "--returns", "all:repeated Money")
    _report(user, orders, "event", "OrderPaid", "--field", "price:Money")
    assert (
        (orders / "protos/acme/orders/v1/money.proto")
        .read_text()
        .endswith(
            "service Till {\n  rpc PayOrder(PayOrderRequest) returns (PayOrderResponse);\n}\n"
            "message Money {}\n\nmessage PayOrderRequest {\n"
            "  // A UUID made by the caller (AIP-155): a repeated call gets the first answer.\n"
            "  string request_id = 1;\n}\n\n"
            "message PayOrderResponse {\n  repeated Money all = 1;\n}\n"
        )
    )
    text = (orders / CONTRACT).read_text()
    assert '\nimport "acme/orders/v1/money.proto";\n' in text
    assert "  Money price = 2;\n" in text


def test_line_ends_stay_as_they_are(user: User, orders: Path) -> None:
    contract = orders / CONTRACT
    contract.write_bytes(contract.read_bytes().replace(b"\n", b"\r\n").removesuffix(b"\r\n"))
    before = contract.read_bytes()
    _report(user, orders, "rpc", "CancelOrder", "--field", "id:string")
    after = contract.read_bytes()
    assert after.startswith(before[: before.index(b"}\r\n\r\n// Events")])
    assert b"\n" not in after.replace(b"\r\n", b"")
    assert after.endswith(b"\r\n\r\nmessage CancelOrderResponse {}")


def test_a_path_with_spaces_and_a_link(user: User, orders: Path) -> None:
    real = user.here / "a place of its own"
    orders.rename(real)
    (real / "protos").rename(user.here / "shared protos")
    (real / "protos").symlink_to("../shared protos")
    _report(user, real, "event", "OrderLost")
    assert (real / "protos").is_symlink()
    assert "message OrderLost" in (real / CONTRACT).read_text()


REFUSALS = {
    "rpc cancel": f"the RPC name 'cancel' is not in camel case; use {CANCEL}",
    "rpc ../Evil": f"the RPC name '../Evil' is not in camel case; use {CANCEL}",
    f"rpc {LONG}": f"the RPC name '{LONG[:60]}…' has 61 characters, 1 too many; use {CANCEL}",
    "rpc Import": f"the RPC name 'Import' is a reserved word; use another name of {CANCEL}",
    "rpc Getorder": "the RPC 'acme.orders.v1.OrderService.GetOrder' is there already;"
    " choose another name",
    "rpc Create": "'tests/test_create.py' exists and stays as it is; choose another name",
    "rpc X --service T": "the contract has no service 'T'; there is OrderService",
    "rpc X --command --watch": "'X' cannot be a command and a watch; choose one",
    "rpc X --field a": "the field 'a' is no name:type, such as quantity:int32",
    "rpc X --field aB:string": f"the field name 'aB' is not in snake case; use {SNAKE}",
    "rpc X --field class:string": "the field name 'class' is a keyword of Python; use another name"
    f" of {SNAKE}",
    "rpc X --returns a:Foo": f"the field 'a:Foo' is of an unknown type 'Foo'; {TYPE}",
    "rpc X --field 'a:map<float, int32>'": "the field 'a:map<float, int32>' has keys of 'float';"
    " the keys of a map are a whole number, bool or string",
    "rpc X --field 'a:map<string, repeated Order>'": "the field 'a:map<string, repeated Order>' is"
    f" of an unknown type 'repeated Order'; {TYPE}",
    "rpc X --field a:bool --field a:int32": "the field 'a' is there twice; give each another name",
    "event lost": f"the event name 'lost' is not in camel case; use {LOST}",
    "event Event": f"the event name 'Event' is a reserved word; use another name of {LOST}",
    "event DESCRIPTOR": "the event name 'DESCRIPTOR' is a reserved word; use another name of"
    f" {LOST}",
    "event Order": f"'Order' is in '{CONTRACT}' already; choose another name",
    "event OrderServiceStub": f"'OrderServiceStub' is in '{CONTRACT}' already; choose another name",
    "event Created": "'tests/test_created.py' exists and stays as it is; choose another name",
    "event A --key b --field 'b:repeated string'": "the key 'b' is of repeated string; a key is a"
    " string",
    "view Foo": f"the view name 'Foo' is not in snake case; use {SNAKE}",
    "view orders": "'src/service/views/orders.py' exists and stays as it is; choose another name",
    "view import": f"the view name 'import' is a reserved word; use another name of {SNAKE}",
    "view foo --row foo": f"the row name 'foo' is not in camel case; use {TOTAL}",
    "view foo --row OrderService": f"'OrderService' is in '{CONTRACT}' already; choose another"
    " name",
    "view foo --from Order": "no event is named 'Order', here or in a contract that is subscribed"
    " to; there is: OrderCreated, OrderRenamed",
    "reaction Foo --on OrderCreated": f"the reaction name 'Foo' is not in snake case; use {SNAKE}",
    "reaction theirs --on OrderCreated": "the reaction name 'theirs' is a reserved word; use"
    f" another name of {SNAKE}",
    "reaction foo": "Missing option '--on'; see factfold add reaction --help",
}


def test_refusals_are_one_line_and_change_nothing(user: User, orders: Path) -> None:
    assert {asked: _refusal(user, orders, *shlex.split(asked)) for asked in REFUSALS} == REFUSALS


def test_what_a_contract_lacks_is_said(user: User, orders: Path) -> None:
    contract = orders / CONTRACT
    good = contract.read_text()
    head, tail = good.index("service OrderService"), good.index("// Events")
    contract.write_text(good[:head] + good[tail:])
    assert _refusal(user, orders, "rpc", "CancelOrder") == (
        f"the contract has no service; write 'service OrderService {{}}' into {CONTRACT!r} first"
    )
    contract.write_text("")
    assert _refusal(user, orders, "event", "OrderLost") == (
        f"{str(orders)!r} has no contract of its own with a stream; give one below protos the"
        " option (factfold.v1.stream)"
    )
    contract.write_text(good + "message {}\n")
    line = good.count("\n") + 1
    assert _refusal(user, orders, "event", "OrderLost", code=1) == (
        f"the contract in {str(orders)!r} does not compile:"
        f" {CONTRACT}:{line}:9: Expected message name."
    )


def test_what_protoc_refuses_changes_nothing(user: User, orders: Path) -> None:
    more = orders / "protos/acme/orders/v1/more.proto"
    more.write_text(
        'syntax = "proto3";\npackage acme.orders.v1;\n'
        'import "acme/orders/v1/contract.proto";\nmessage More { Order order = 1; }\n'
    )
    assert _refusal(user, orders, "event", "OrderLost", "--field", "more:More", code=1) == (
        "with what was asked for the contract does not compile, and nothing was changed:"
        " protos/acme/orders/v1/contract.proto:7:1: File recursively imports itself:"
        " acme/orders/v1/contract.proto -> acme/orders/v1/more.proto ->"
        " acme/orders/v1/contract.proto"
    )


@pytest.mark.parametrize(
    ("happens", "said"),
    [
        ("raise OSError(28, 'No space left')", "system: No space left"),
        ("os.kill(os.getpid(), 15)", "interrupted"),
    ],
)
def test_a_failure_half_way_leaves_nothing(
    user: User, orders: Path, clone: Path, happens: str, said: str
) -> None:
    hook = clone / "template/python/hooks/post_gen_project.py"
    text = hook.read_text()
    assert "        new.replace(path)" in text
    # In the working copy it works; in the repository, the manifest is written last.
    hook.write_text(
        text.replace(
            "        new.replace(path)",
            "        if 'factfold-' not in str(root):\n"
            f"            {happens}\n"
            "        new.replace(path)",
        )
    )
    before = tree(orders)
    done = user.factfold("add", "rpc", "CancelOrder", at=orders, clone=clone)
    # An interrupt ends the line that a terminal shows ^C on.
    assert (done.returncode, done.stderr.lstrip("\n")) == (1, f"factfold: {said}\n")
    assert tree(orders) == before
    assert list(user.temporary.iterdir()) == []


def test_what_is_written_is_python(user: User, orders: Path) -> None:
    for arguments in (
        ("rpc", "GetA"),
        ("event", "A", "--field", f"{'a' * 60}:string"),
        ("view", "a", "--row", "B" * 60, "--from", "A"),
        ("reaction", "b" * 60, "--on", "A", "--appends", "A"),
    ):
        for path in _report(user, orders, *arguments)["files"]:
            if path.endswith(".py"):
                ast.parse((orders / path).read_text())


def _new(user: User, name: str, *arguments: str) -> Path:
    done = user.factfold("new", name, "--no-input", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return user.here / name


def _report(user: User, root: Path, *arguments: str) -> dict[str, Any]:
    done = user.factfold("add", *arguments, "--json", at=root)
    assert (done.returncode, done.stderr) == (0, "")
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def _refusal(user: User, root: Path, *arguments: str, code: int = 2) -> str:
    before = tree(user.here)
    done = user.factfold("add", *arguments, at=root)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (code, "", 1)
    assert tree(user.here) == before
    return done.stderr.removeprefix("factfold: ").rstrip("\n")


def _manifest(root: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((root / ".factfold/manifest.json").read_text())
    return manifest
