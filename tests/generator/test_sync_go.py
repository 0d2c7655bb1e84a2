"""`factfold sync` in a Go repository: the same words and guarantees, and what Go needs beside."""

import json
import os
import shutil
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest

from factfold_cli.errors import Refused
from factfold_cli.languages.go_app import App
from factfold_cli.languages.go_names import camel
from factfold_cli.languages.go_source import Source

from .conftest import User, document, tree

APP = "internal/app/app.go"
CONTRACT = "protos/acme/orders/v1/contract.proto"
MANIFEST = ".factfold/manifest.json"
DOCUMENTS = ["docs/api.md", "docs/asyncapi.json"]
HANDLER, FOLD = "internal/handlers/cancelorder", "internal/folds/ordercancelled"
OF_RPC = [f"{HANDLER}.go", f"{HANDLER}_test.go"]
OF_EVENT = [f"{FOLD}.go", f"{FOLD}_test.go"]
LINE = "\t\t\tchassis.NewFold(views.Orders, folds.OrderCancelled),\n"
IN_STEP = "Nothing to write.\n"

RPC = "  rpc {name}({name}Request) returns ({returns}{name}Response){end}\n"
MESSAGES = """
message {name}Request {{
  string id = 1;
  uint64 expected_version = 2;
  double part_1x = 3;
  bytes raw = 4;
  optional bool sure = 5;
  repeated string many = 6;
  string reset = 7;
}}

message {name}Response {{
  string position = 1;
  uint64 version = 2;
}}
"""
EVENT = """
message {name} {{
  option (factfold.v1.event) = {{}};
  string id = 1 [(factfold.v1.key) = true];
}}
"""
QUERY = " { option idempotency_level = NO_SIDE_EFFECTS; }"


@pytest.fixture
def orders(user: User) -> Path:
    done = user.factfold("new", "orders", "--language", "go", "--no-input")
    assert (done.returncode, done.stderr) == (0, "")
    return user.here / "orders"


def test_a_new_repository_is_in_step(user: User, orders: Path) -> None:
    user.factfold("new", "a", "--language", "go", "--no-input", "--aggregate", "A")
    for root in (orders, user.here / "a"):
        before = tree(root)
        for arguments in (["--check"], []):
            done = user.factfold("sync", *arguments, at=root)
            assert (done.returncode, done.stdout, done.stderr) == (0, IN_STEP, "")
        assert tree(root) == before


def test_each_rpc_and_each_event_gets_a_file_and_a_test(user: User, orders: Path) -> None:
    _add(orders, rpc="CancelOrder", event="OrderCancelled")
    before = tree(orders)
    expected = sorted([MANIFEST, APP, *DOCUMENTS, *OF_RPC, *OF_EVENT])
    checked = user.factfold("sync", "--check", at=orders)
    assert checked.returncode == 1
    assert checked.stdout.splitlines() == ["Would write:", *(f"  {path}" for path in expected)]
    assert tree(orders) == before

    done = user.factfold("sync", "--json", at=orders)
    assert json.loads(done.stdout) == {
        "changes": [],
        "check": False,
        "files": expected,
        "next": ["go generate ./..."],
        "notes": [],
    }
    after = tree(orders)
    changed = [path for path in after if before.get(path) != after[path]]
    assert sorted(changed) == expected
    digest = sha256((orders / OF_EVENT[0]).read_bytes()).hexdigest()
    manifest = json.loads((orders / MANIFEST).read_text())
    assert manifest["files"][OF_EVENT[0]] == {"sha256": digest, "zone": "team"}
    # One line, and nothing else of the team's file.
    old, new = before[APP][1].decode(), after[APP][1].decode()
    assert new.replace(LINE, "") == old

    assert user.factfold("sync", at=orders).stdout == IN_STEP
    assert tree(orders) == after


@pytest.mark.parametrize(
    ("returns", "end", "kind"),
    [("", ";", "Command"), ("", QUERY, "Query"), ("stream ", ";", "Watch")],
)
def test_a_handler_is_of_the_kind_that_the_rpc_needs(
    user: User, orders: Path, returns: str, end: str, kind: str
) -> None:
    _add(orders, rpc="CancelOrder", returns=returns, end=end)
    assert user.factfold("sync", at=orders).returncode == 0
    text = (orders / OF_RPC[0]).read_text()
    assert f"chassis.{kind}From(" in text
    assert f'panic("CancelOrder has no answer yet: write {OF_RPC[0]}")' in text
    # It calls what its comment says, and fits; then it calls another.
    (orders / OF_RPC[0]).write_text(
        text.replace("panic(", f"_ = chassis.{kind}From(nil)\n\tpanic(")
    )
    assert user.factfold("sync", at=orders).stdout == IN_STEP


def test_a_handler_of_another_kind_is_said(user: User, orders: Path) -> None:
    contract = orders / CONTRACT
    contract.write_text(contract.read_text().replace("(CreateOrderResponse)", "(stream Order)"))
    document(orders)
    assert _notes(user, orders) == [
        "internal/handlers/createorder.go: the handler CreateOrder is a command"
        " (chassis.CommandFrom), and CreateOrder needs a watch (chassis.WatchFrom); change it"
    ]


def test_what_the_contract_no_longer_has_is_said(user: User, orders: Path) -> None:
    contract = orders / CONTRACT
    text = contract.read_text().replace("rpc GetOrder(GetOrderRequest)", "rpc Get(GetOrderRequest)")
    contract.write_text(text.replace("OrderRenamed", "OrderTitled"))
    report = json.loads(user.factfold("sync", "--json", "--check", at=orders).stdout)
    assert report["notes"] == [
        "internal/folds/orderrenamed.go: the fold OrderRenamed is of OrderRenamed, which the"
        " contract no longer has; remove it, or take the message back",
        "internal/handlers/getorder.go: the handler GetOrder answers no RPC of the contract;"
        " remove it, or name it after one",
    ]


@pytest.mark.parametrize(
    "fold",
    [
        "folds.OrderCancelled",
        "func(row *contract.Order, event *contract.OrderCancelled, _ *chassis.Fact)"
        " *contract.Order { return row }",
    ],
)
def test_a_fold_is_found_by_what_it_is(user: User, orders: Path, fold: str) -> None:
    _add(orders, event="OrderCancelled")
    document(orders)
    made = (orders / "internal/folds/ordercreated.go").read_text()
    (orders / "internal/folds/all.go").write_text(made.replace("OrderCreated", "OrderCancelled"))
    app = orders / APP
    more = f'\t\t// chassis.NewFold(no, "one)\n\t\tMore: chassis.NewFold(views.Orders, {fold}),\n'
    app.write_text(app.read_text().replace("\t\tReactions", f"{more}\t\tReactions"))
    assert user.factfold("sync", "--check", at=orders).stdout == IN_STEP


def test_no_file_of_the_team_is_written_over(user: User, orders: Path) -> None:
    _add(orders, rpc="CancelOrder", event="OrderCancelled")
    for path in (*OF_RPC, *OF_EVENT):
        package = Path(path).parent.name + ("_test" if path.endswith("_test.go") else "")
        (orders / path).write_text(f"package {package}\n")
    document(orders)
    before = tree(orders)
    assert _notes(user, orders) == [
        f"{OF_RPC[0]}: exists and has no handler of acme.orders.v1.OrderService.CancelOrder;"
        " write its method CancelOrder there",
        f"acme.orders.v1.OrderCancelled has no fold, and {OF_EVENT[0]} exists; write one, if it"
        " changes a table",
    ]
    assert tree(orders) == before


def test_what_the_team_deleted_stays_deleted(user: User, orders: Path) -> None:
    _add(orders, event="OrderCancelled")
    before = (orders / APP).read_bytes()
    assert user.factfold("sync", at=orders).returncode == 0
    for path in OF_EVENT:
        (orders / path).unlink()
    (orders / APP).write_bytes(before)
    assert user.factfold("sync", "--check", at=orders).stdout == IN_STEP


def test_where_a_fold_would_go_must_be_plain(user: User, orders: Path) -> None:
    _add(orders, event="OrderCancelled")
    document(orders)
    app = orders / APP
    text = app.read_text()
    start, end = (
        "acme.orders.v1.OrderCancelled has no fold, and ",
        "; write one, if it changes a table",
    )
    for old, new, why in [
        (
            "[]chassis.Fold{",
            "all{",
            f"{APP} has no plain list []chassis.Fold{{…}} to name it in",
        ),
        (
            "views.Orders, folds.OrderRenamed",
            "views.Others, folds.OrderRenamed",
            "the folds of stream orders go to several tables",
        ),
        (
            "views.Orders",
            "table()",
            "it cannot be told which table the folds of stream orders go to",
        ),
        (
            "views.Orders",
            "views.OrdersByName",
            "it cannot be told what the rows of service/internal/views.OrdersByName are",
        ),
        (
            "folds.OrderRenamed",
            "which()",
            f"it cannot be told which event the fold in {APP} is of",
        ),
    ]:
        app.write_text(text.replace(old, new))
        assert _notes(user, orders) == [f"{start}{why}{end}"]
    app.write_text(text)
    (orders / "internal/folds/kit.go").write_text("package folds\n\nfunc OrderCancelled() {}\n")
    assert _notes(user, orders) == [
        f"{start}internal/folds/kit.go has a OrderCancelled that is no fold of it in {APP}{end}"
    ]


def test_what_app_go_has_to_name_is_said(user: User, orders: Path) -> None:
    other = orders / "protos/acme/orders/v1/more.proto"
    other.write_text(
        'syntax = "proto3";\npackage acme.orders.v1;\nmessage M {}\n'
        "service MoreService {\n  rpc DoMore(M) returns (M);\n}\n"
    )
    document(orders)
    assert _notes(user, orders) == [
        f"{APP}: protos/acme/orders/v1/more.proto is not part of the service; add"
        " File_acme_orders_v1_more_proto of service/gen/acme/orders/v1 to its Contract",
        "acme.orders.v1.MoreService.DoMore has no handler, and no struct in internal/handlers"
        " embeds UnsafeMoreServiceServer of its stubs; write one, register it there, then sync"
        " again",
    ]


def test_a_file_that_is_no_go_is_named(user: User, orders: Path) -> None:
    (orders / APP).write_text("package app\n\nfunc Service() {\n")
    before = tree(orders)
    done = user.factfold("sync", at=orders)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"factfold: {APP} is no Go (brackets without their counterparts, or no package); mend it,"
        " then sync again\n"
    )
    assert tree(orders) == before


def test_from_a_service_that_is_not_subscribed(user: User, orders: Path) -> None:
    user.factfold("new", "other", "--no-input")
    done = user.factfold("sync", "--from", "../other", at=orders)
    assert done.returncode == 2
    assert done.stderr == (
        "factfold: 'other' is not subscribed; to do so: factfold add subscription ../other\n"
    )


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("cancel_order", "CancelOrder"),
        ("order2go", "Order2Go"),
        ("_hidden", "XHidden"),
        ("part_1x", "Part_1X"),
        ("Order.Line", "Order_Line"),
        ("HTTPCall", "HTTPCall"),
    ],
)
def test_names_are_those_of_protoc_gen_go(name: str, code: str) -> None:
    assert camel(name) == code


def test_declarations_are_read_from_the_text() -> None:
    source = Source(
        "internal/x/x.go",
        "service/internal/x",
        "package x\n\n"
        'import (\n\t"context"\n\n\tc "service/gen/a/v1" // func no() {\n)\n\n'
        "/* func nor() { */\n"
        'type server struct {\n\tc.UnsafeAServer\n\tname string `json:"}"`\n}\n\n'
        "var (\n\tRune = '}'\n\tText = `func {`\n)\n\n"
        "var Typed c.A = c.A{}\n\n"
        "var (\n\tFirst, Second int // x\n\tThird = First +\n\t\tSecond\n"
        "\tRows  = []string{\n\t\t`a`,\n\t}\n\tEnd error\n)\n\n"
        "const (\n\tZero = iota\n\tOne\n)\n\n"
        "type (\n\tKey string\n\tRow struct {\n\t\tName string\n\t}\n)\n\n"
        "func (s *server) Do(ctx context.Context, in *c.A) (*c.B, error) {\n"
        "\tfunc() {}()\n\treturn nil, nil\n}\n\n"
        "func Of[T any](a, b T) map[string]T { return nil }\n",
    )
    source.check()
    assert source.imports == {"context": "context", "c": "service/gen/a/v1"}
    assert [(each.name, each.receiver) for each in source.functions] == [
        ("Do", "server"),
        ("Of", ""),
    ]
    assert source.dotted(source.functions[0].parameters[1]) == "service/gen/a/v1.A"
    assert source.embedded == {"server": ["service/gen/a/v1.UnsafeAServer"]}
    assert source.declares == {
        "server", "Rune", "Text", "Of", "Typed", "First", "Second", "Third", "Rows", "End",
        "Zero", "One", "Key", "Row",
    }  # fmt: skip


APPS = {
    "one line": ("\tx := []chassis.Fold{chassis.NewFold(a, b)}\n", ""),
    "empty": ("\tx := []chassis.Fold{}\n", ""),
    "a comment last": ("\tx := []chassis.Fold{\n\t\ty, // y\n\t\t// z\n\t}\n", ""),
    "own imports": ("\tx := []chassis.Fold{}\n", '\n\t"service/internal/app2"\n\t"service/zz"\n'),
    "another's name": ("\tx := []chassis.Fold{}\n", '\n\t"other/folds"\n'),
}


@pytest.mark.parametrize("case", APPS)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_gofmt_leaves_app_go_as_it_is(case: str, end: str) -> None:
    body, imports = APPS[case]
    text = (
        f'package app\n\nimport (\n\t"factfold/chassis"\n{imports})\n\n'
        f"func Service() {{\n{body}\t_ = x\n}}\n"
    ).replace("\n", end)
    app = App(text, "Fold")
    assert app.problem == ""
    app.add_fold("service/internal/views.Orders", "service/internal/folds.OrderCancelled")
    alias = "internalfolds" if case == "another's name" else "folds"
    assert f"chassis.NewFold(views.Orders, {alias}.OrderCancelled)" in app.text
    assert app.text.replace("\r\n", "").count("\r") == 0
    if (gofmt := shutil.which("gofmt")) is not None:
        plain = app.text.replace("\r\n", "\n")
        done = subprocess.run([gofmt], input=plain, capture_output=True, text=True)
        assert (done.stdout, done.stderr) == (plain, "")


LISTED = "[]protoreflect.FileDescriptor{"
SUBSCRIBED = {
    "none yet": (
        f"\t\tContract: {LISTED}\n\t\t\tcontract.File_a,\n\t\t}},\n",
        f"Subscriptions: {LISTED}\n\t\t\tordersv1.File_orders,\n\t\t}},\n",
    ),
    "none yet, in one line": (
        f"\t\tContract: {LISTED}contract.File_a}},\n",
        f"Subscriptions: {LISTED}\n\t\t\tordersv1.File_orders,\n\t\t}},\n",
    ),
    "one": (
        f"\t\tContract: {LISTED}contract.File_a}},\n"
        f"\t\tSubscriptions: {LISTED}\n\t\t\tbillingv1.File_b,\n\t\t}},\n",
        "\t\t\tbillingv1.File_b,\n\t\t\tordersv1.File_orders,\n\t\t},\n",
    ),
    "one, in the same line": (
        f"\t\tContract: {LISTED}contract.File_a}},\n"
        f"\t\tSubscriptions: {LISTED}billingv1.File_b}},\n",
        f"Subscriptions: {LISTED}billingv1.File_b, ordersv1.File_orders}},\n",
    ),
}


def _app(fields: str) -> str:
    return (
        'package app\n\nimport (\n\t"google.golang.org/protobuf/reflect/protoreflect"\n\n'
        '\t"factfold/chassis"\n\n\tbillingv1 "service/gen/acme/billing/v1"\n'
        '\tcontract "service/gen/acme/shipments/v1"\n)\n\n'
        f"func Service() chassis.Service {{\n\treturn chassis.Service{{\n{fields}\t}}\n}}\n"
    )


@pytest.mark.parametrize("case", SUBSCRIBED)
def test_a_subscription_is_named_in_app_go_where_a_person_would(case: str) -> None:
    fields, wanted = SUBSCRIBED[case]
    app = App(_app(fields))
    app.add_subscription("service/gen/acme/orders/v1.File_orders", "ordersv1")
    assert wanted in app.text
    assert '/billing/v1"\n\tordersv1 "service/gen/acme/orders/v1"\n\tcontract' in app.text
    if (gofmt := shutil.which("gofmt")) is not None:
        done = subprocess.run([gofmt], input=app.text, capture_output=True, text=True)
        assert (done.stderr, done.returncode) == ("", 0)


@pytest.mark.parametrize("fields", ["", "\t\tContract: descriptors(),\n"])
def test_a_subscription_that_has_no_place_is_refused(fields: str) -> None:
    app = App(_app(fields))
    with pytest.raises(Refused, match=r"no list Subscriptions"):
        app.add_subscription("service/gen/acme/orders/v1.File_orders", "ordersv1")


def test_what_is_made_is_built_and_fails_until_it_is_written(user: User, orders: Path) -> None:
    _needs_go()
    for name in ("Z", "Q" + "xY" * 29 + "z"):
        for kind, returns, end in (("A", "", ";"), ("B", "", QUERY), ("C", "stream ", ";")):
            _add(orders, rpc=kind + name[1:], returns=returns, end=end)
        _add(orders, event=name)
    contract = orders / CONTRACT
    head = "service OrderService {\n"
    empty = "google.protobuf.Empty"
    text = contract.read_text().replace(head, f"{head}  rpc Nil({empty}) returns ({empty});\n")
    options = 'import "factfold/v1/options.proto";\n'
    contract.write_text(text.replace(options, f'{options}import "google/protobuf/empty.proto";\n'))
    done = user.factfold("sync", "--json", at=orders)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["notes"] == []
    made = [path for path in report["files"] if path.endswith(".go")]
    assert len(made) == 1 + 2 * (2 + 6 + 1)
    assert _go(orders, "gofmt", "-l", *made).stdout == ""
    for words in (("generate", "./..."), ("vet", "./internal/...")):
        assert _go(orders, "go", *words).returncode == 0
    long = "t" + "_xy" * 19 + "zz"
    for words in (("t",), (long, "--appends", "OrderCreated")):
        done = user.factfold("add", "reaction", *words, "--on", "OrderRenamed", at=orders)
        assert done.returncode == 0, done.stderr
    assert _go(orders, "gofmt", "-l", "internal").stdout == ""
    assert _go(orders, "go", "vet", "./internal/...").returncode == 0
    failing = _go(orders, "go", "test", "-run", "TestZMakes", "./internal/folds")
    assert failing.returncode == 1
    assert "Z changes nothing yet: write internal/folds/z.go" in failing.stdout
    fold = orders / "internal/folds/z.go"
    before = fold.read_text()
    start = before.index("\tpanic(")
    fold.write_text(before[:start] + "\trow.Version = fact.Version()\n\treturn row\n}\n")
    assert _go(orders, "go", "test", "-run", "TestZMakes", "./internal/folds").returncode == 0


def _add(root: Path, *, rpc: str = "", event: str = "", returns: str = "", end: str = ";") -> None:
    contract = root / CONTRACT
    head = "service OrderService {\n"
    text = contract.read_text()
    assert text.count(head) == 1
    if rpc:
        line = RPC.format(name=rpc, returns=returns, end=end)
        text = text.replace(head, head + line) + MESSAGES.format(name=rpc)
    contract.write_text(text + (EVENT.format(name=event) if event else ""))


def _notes(user: User, root: Path) -> list[str]:
    """What `factfold sync` says, having nothing to write."""
    done = user.factfold("sync", "--json", at=root)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["files"] == []
    notes: list[str] = report["notes"]
    return notes


def _needs_go() -> None:
    if shutil.which("go") is None:
        reason = "go is not on PATH"
        if "go" in os.environ.get("FACTFOLD_REQUIRE", "").split(","):
            pytest.fail(reason)
        pytest.skip(reason)


def _go(root: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=root, capture_output=True, text=True)
