"""`factfold contract release` and `check`: what is frozen, what then breaks and what does not."""

import json
import shutil
import subprocess
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from factfold_cli.breaking import broken
from factfold_cli.errors import Failed
from factfold_cli.own_contract import OwnContract

from .conftest import User, tree

CONTRACT = "protos/acme/orders/v1/contract.proto"
PLACED = """\
syntax = "proto3";

package acme.orders.v1;

import "acme/orders/v1/money.proto";
import "factfold/v1/options.proto";
import "google/protobuf/any.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/field_mask.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";

option ruby_package = "Acme";
option (factfold.v1.stream) = {
  name: "orders"
  partitions: 4
  versioned: true
};

service OrderService {
  rpc PlaceOrder(PlaceOrderRequest) returns (PlaceOrderResponse);
  rpc CountOrders(CountOrdersRequest) returns (CountOrdersResponse);
}

message OrderPlaced {
  option (factfold.v1.event) = {};
  string id = 1 [(factfold.v1.key) = true];
  string customer = 2;
  repeated string tags = 3;
  int32 quantity = 4;
  Size size = 5;
  message Line {
    string article = 1;
    int64 pieces = 2;
  }
  repeated Line lines = 6;
  map<string, int32> counts = 7;
  oneof payment {
    string card = 8;
    Money cash = 9;
    Voucher voucher = 10;
  }
  optional int32 discount = 11;
  Tree tree = 12;
}

message OrderCancelled {
  option (factfold.v1.event) = {};
  string id = 1 [(factfold.v1.key) = true];
  string by = 2;
}

message Everything {
  option (factfold.v1.event) = {};
  string id = 1 [(factfold.v1.key) = true];
  double double = 2;
  float float = 3;
  uint32 uint32 = 4;
  uint64 uint64 = 5;
  sint32 sint32 = 6;
  sint64 sint64 = 7;
  fixed32 fixed32 = 8;
  fixed64 fixed64 = 9;
  sfixed32 sfixed32 = 10;
  sfixed64 sfixed64 = 11;
  bool bool = 12;
  bytes bytes = 13;
  google.protobuf.Timestamp at = 14;
  google.protobuf.Duration took = 15;
  google.protobuf.Any any = 16;
  google.protobuf.Struct struct = 17;
  google.protobuf.Value value = 18;
  google.protobuf.FieldMask mask = 19;
  google.protobuf.Int64Value wrapped = 20;
  map<int64, Tree> trees = 21;
}

enum Size {
  SIZE_UNSPECIFIED = 0;
  SIZE_BIG = 1;
  SIZE_SMALL = 2;
}

message Voucher {
  string code = 1;
}

message Tree {
  string leaf = 1;
  Tree left = 2;
  repeated Tree below = 3;
}

message PlaceOrderRequest {
  string request_id = 1;
  string customer = 2;
  int32 quantity = 3;
}

message PlaceOrderResponse {
  string id = 1;
  OrderPlaced placed = 2;
}

message CountOrdersRequest {
  string customer = 1;
  Period period = 2;
}

message Period {
  string from = 1;
  string to = 2;
}

message CountOrdersResponse {
  uint64 count = 1;
  reserved 9;
}
"""
MONEY = """\
syntax = "proto3";

package acme.orders.v1;

message Money {
  int64 units = 1;
  string currency = 2;
}
"""
NEW_FIELD = "change it back; what is new gets a name and a number of its own"
KEEP = "put it back, with [deprecated = true] if it is no longer used: it is in facts of the log"

CANCELLED = PLACED[PLACED.index("message OrderCancelled") : PLACED.index("message Everything")]

Edit = tuple[str, str] | list[tuple[str, str]]

# What somebody does → what is said of it: the line, what was there and is now, what to do.
BREAKING: dict[str, tuple[Edit, list[str]]] = {
    "a number gets another meaning": (
        ("int32 quantity = 4;", "bool gift = 4;"),
        [f":31: OrderPlaced: int32 quantity = 4 is now bool gift = 4 | {NEW_FIELD}"],
    ),
    "a field is renamed": (
        ("string customer = 2;\n  repeated", "string buyer = 2;\n  repeated"),
        [f":29: OrderPlaced: string customer = 2 is now string buyer = 2 | {NEW_FIELD}"],
    ),
    "a type is widened": (
        ("int32 quantity = 4;", "int64 quantity = 4;"),
        [f":31: OrderPlaced: int32 quantity = 4 is now int64 quantity = 4 | {NEW_FIELD}"],
    ),
    "a field gets another number": (
        ("int32 quantity = 4;", "int32 quantity = 40;"),
        [f":26: OrderPlaced: int32 quantity = 4 is gone | {KEEP}"],
    ),
    "a field is deleted": (
        ("  int32 quantity = 4;\n", ""),
        [f":26: OrderPlaced: int32 quantity = 4 is gone | {KEEP}"],
    ),
    "a field is deleted and reserved": (
        ("int32 quantity = 4;", 'reserved 4;\n  reserved "quantity";'),
        [f":26: OrderPlaced: int32 quantity = 4 is gone | {KEEP}"],
    ),
    "several values become one": (
        ("repeated string tags = 3;", "string tags = 3;"),
        [f":30: OrderPlaced: repeated string tags = 3 is now string tags = 3 | {NEW_FIELD}"],
    ),
    "a field loses its presence": (
        ("optional int32 discount", "int32 discount"),
        [
            ":44: OrderPlaced: optional int32 discount = 11 is now int32 discount = 11"
            f" | {NEW_FIELD}"
        ],
    ),
    "a nested message is changed": (
        ("int64 pieces = 2;", "string pieces = 2;"),
        [f":35: OrderPlaced.Line: int64 pieces = 2 is now string pieces = 2 | {NEW_FIELD}"],
    ),
    "a map is changed": (
        ("map<string, int32> counts", "map<string, bool> counts"),
        [
            ":38: OrderPlaced: map<string, int32> counts = 7 is now map<string, bool> counts = 7"
            f" | {NEW_FIELD}"
        ],
    ),
    "a field leaves its oneof": (
        [
            ("    Voucher voucher = 10;\n", ""),
            ("Tree tree = 12;", "Voucher voucher = 10;\n  Tree tree = 12;"),
        ],
        [
            ":44: OrderPlaced: Voucher voucher = 10 in oneof payment is now Voucher voucher = 10"
            f" | {NEW_FIELD}"
        ],
    ),
    "a oneof is renamed": (
        ("oneof payment", "oneof paid"),
        [
            ':26: Previously present oneof "payment" on message "OrderPlaced" was deleted'
            " | change it back",
            *(
                f":{line}: OrderPlaced: {field} in oneof payment is now {field} in oneof paid"
                f" | {NEW_FIELD}"
                for line, field in (
                    (40, "string card = 8"),
                    (41, "Money cash = 9"),
                    (42, "Voucher voucher = 10"),
                )
            ),
        ],
    ),
    "a field gets another name in JSON": (
        ("string leaf = 1;", 'string leaf = 1 [json_name = "blade"];'),
        [
            ':90: Field "1" with name "leaf" on message "Tree" changed option "json_name" from'
            ' "leaf" to "blade" | change it back'
        ],
    ),
    "what was reserved is free again": (
        ("  reserved 9;\n", ""),
        [
            ':116: Previously present reserved range "[9]" on message "CountOrdersResponse" is'
            " missing values: [9] were removed | change it back"
        ],
    ),
    "a message in another file is changed": (
        ("int64 units = 1;", "int32 units = 1;"),
        [f"money.proto:6: Money: int64 units = 1 is now int32 units = 1 | {NEW_FIELD}"],
    ),
    "a message is deleted that events contain": (
        [("    Voucher voucher = 10;\n", ""), ("message Voucher {\n  string code = 1;\n}\n", "")],
        [
            f": message Voucher is gone | {KEEP}",
            f":26: OrderPlaced: Voucher voucher = 10 in oneof payment is gone | {KEEP}",
        ],
    ),
    "an event is deleted": (
        (CANCELLED, ""),
        [f": message OrderCancelled is gone | {KEEP}"],
    ),
    "an event moves to another file": (
        [
            (CANCELLED, ""),
            (
                "message Money {",
                f'import "factfold/v1/options.proto";\n\n{CANCELLED}message Money {{',
            ),
        ],
        [f": message OrderCancelled is gone | {KEEP}"],
    ),
    "an event is renamed": (
        ("message OrderCancelled", "message OrderRevoked"),
        [f": message OrderCancelled is gone | {KEEP}"],
    ),
    "an event is an event no more": (
        (
            "message OrderCancelled {\n  option (factfold.v1.event) = {};\n",
            "message OrderCancelled {\n",
        ),
        [
            ":48: OrderCancelled: option (factfold.v1.event) = {} is gone"
            " | put it back: facts of it are in the log"
        ],
    ),
    "another field is the key": (
        [
            (
                "string id = 1 [(factfold.v1.key) = true];\n  string by = 2;",
                "string id = 1;\n  string by = 2 [(factfold.v1.key) = true];",
            ),
        ],
        [
            ":48: OrderCancelled: [(factfold.v1.key) = true] was at id = 1, is now at by = 2"
            " | change it back: facts of one key would lose order"
        ],
    ),
    "a value of an enum is renamed": (
        ("SIZE_BIG = 1", "SIZE_LARGE = 1"),
        [f":81: Size: SIZE_BIG = 1 is now SIZE_LARGE = 1 | {NEW_FIELD}"],
    ),
    "a value of an enum is deleted": (
        ("  SIZE_SMALL = 2;\n", ""),
        [f":79: Size: SIZE_SMALL = 2 is gone | {KEEP}"],
    ),
    "there are more partitions": (
        ("partitions: 4", "partitions: 8"),
        [
            ":15: stream orders: partitions: 4 is now partitions: 8"
            " | change it back: keys would move to other partitions"
        ],
    ),
    "the stream is renamed": (
        ('name: "orders"', 'name: "sales"'),
        [
            ':15: stream orders: name: "orders" is now name: "sales"'
            " | change it back: its facts are in the log under that name"
        ],
    ),
    "versions are turned off": (
        ("  versioned: true\n", ""),
        [
            ":15: stream orders: versioned: true is now versioned: false"
            " | change it back: repeated commands would append again"
        ],
    ),
    "the stream is taken away": (
        (PLACED[PLACED.index("option (factfold.v1.stream)") : PLACED.index("service ")], ""),
        [": stream orders: its option (factfold.v1.stream) is gone | change it back"],
    ),
    "a number of a request gets another type": (
        ("int32 quantity = 3;", "string quantity = 3;"),
        [f":98: PlaceOrderRequest: int32 quantity = 3 is now string quantity = 3 | {NEW_FIELD}"],
    ),
    "a field of what a request contains is renamed": (
        ("string to = 2;", "string until = 2;"),
        [f":113: Period: string to = 2 is now string until = 2 | {NEW_FIELD}"],
    ),
    "a field of a request is deleted": (
        ("  int32 quantity = 3;\n", ""),
        [
            ":95: PlaceOrderRequest: int32 quantity = 3 is gone"
            ' | put it back, or write in its place: reserved 3; reserved "quantity";'
        ],
    ),
    "an RPC answers with something else": (
        ("returns (CountOrdersResponse)", "returns (PlaceOrderResponse)"),
        [
            ':23: RPC "CountOrders" on service "OrderService" changed response type from'
            ' "acme.orders.v1.CountOrdersResponse" to "acme.orders.v1.PlaceOrderResponse"'
            " | change it back, and add another RPC beside it"
        ],
    ),
    "generated code goes elsewhere": (
        ('ruby_package = "Acme"', 'ruby_package = "Shop"'),
        [':14: File option "ruby_package" changed from "Acme" to "Shop" | change it back'],
    ),
    "the package is another one": (
        [
            ("package acme.orders.v1;\n\nimport", "package acme.sales.v1;\n\nimport"),
            ("package acme.orders.v1;\n\nmessage", "package acme.sales.v1;\n\nmessage"),
        ],
        ['File package changed from "acme.orders.v1" to "acme.sales.v1" | change it back'],
    ),
}

ALLOWED: dict[str, Edit] = {
    "nothing": [],
    "a new event": (
        "enum Size",
        "message OrderPaid {\n  option (factfold.v1.event) = {};\n"
        "  string id = 1 [(factfold.v1.key) = true];\n}\n\nenum Size",
    ),
    "a new field of an event": ("int32 quantity = 4;", "int32 quantity = 4;\n  bool gift = 20;"),
    "a new member of a oneof": (
        "    string card = 8;",
        "    string card = 8;\n    bool free = 20;",
    ),
    "a new value of an enum": ("SIZE_SMALL = 2;", "SIZE_SMALL = 2;\n  SIZE_MIDDLE = 3;"),
    "a new RPC": (
        "  rpc CountOrders",
        "  rpc CountAll(CountOrdersRequest) returns (CountOrdersResponse);\n  rpc CountOrders",
    ),
    "an RPC that is no longer there": (
        "  rpc CountOrders(CountOrdersRequest) returns (CountOrdersResponse);\n",
        "",
    ),
    "a field of a request that is reserved": (
        "int32 quantity = 3;",
        'reserved 3;\n  reserved "quantity";',
    ),
    "a field of a request that reads the same": ("int32 quantity = 3;", "uint32 quantity = 3;"),
    "a field that nobody is to use": (
        "int32 quantity = 4;",
        "int32 quantity = 4 [deprecated = true];",
    ),
    "a place for code of one more language": (
        "option ruby_package",
        'option go_package = "acme.example/orders";\noption ruby_package',
    ),
    "a comment": ("message OrderPlaced {", "// Said once.\nmessage OrderPlaced {"),
    "a message elsewhere in its file": [
        ("message Voucher {\n  string code = 1;\n}\n", ""),
        ("enum Size", "message Voucher {\n  string code = 1;\n}\n\nenum Size"),
    ],
    "the default number of partitions": ("  partitions: 4\n", ""),
    "a message that nobody outside sees": (
        "enum Size",
        "message Row {\n  string id = 1;\n}\n\nenum Size",
    ),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the contract above, released once; to be copied."""
    here = tmp_path_factory.mktemp("made")
    (here / "tmp").mkdir()
    user = User(here, here, here / "tmp")
    assert user.factfold("new", "orders", "--no-input").returncode == 0
    orders = here / "orders"
    (orders / CONTRACT).write_text(PLACED)
    (orders / CONTRACT).with_name("money.proto").write_text(MONEY)
    assert user.factfold("contract", "release", at=orders).returncode == 0
    return orders


@pytest.fixture
def orders(user: User, made: Path) -> Path:
    """Where the path has a space."""
    return Path(shutil.copytree(made, user.here / "our services" / "orders"))


@pytest.fixture
def fresh(user: User) -> Path:
    assert user.factfold("new", "orders", "--no-input").returncode == 0
    return user.here / "orders"


def edit(orders: Path, changes: Edit) -> None:
    """Each change is made where its text is, which is in one place."""
    files = sorted((orders / CONTRACT).parent.iterdir())
    for old, new in [changes] if isinstance(changes, tuple) else changes:
        (path,) = (path for path in files if old in path.read_text())
        text = path.read_text()
        assert text.count(old) == 1
        path.write_text(text.replace(old, new))


def check(user: User, orders: Path) -> dict[str, Any]:
    done = user.factfold("contract", "check", "--json", at=orders)
    document: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (1 if document["problems"] else 0)
    return document


def lines(document: dict[str, Any]) -> list[str]:
    """In one line each, without what is the same in all."""
    return [
        f"{each['file']}{':' * bool(each['line'])}{each['line'] or ''}: {each['problem']}"
        f" | {each['instead']}"
        for each in document["problems"]
    ]


@pytest.mark.parametrize("what", BREAKING)
def test_it_breaks_what_was_released(user: User, orders: Path, what: str) -> None:
    changes, expected = BREAKING[what]
    edit(orders, changes)
    said = lines(check(user, orders))
    for line in expected:
        assert [each for each in said if each.endswith(line)] != [], said
    if what not in ("the package is another one", "the stream is taken away"):
        assert len(said) == len(expected), said


@pytest.mark.parametrize("what", ALLOWED)
def test_it_breaks_nothing(user: User, orders: Path, what: str) -> None:
    edit(orders, ALLOWED[what])
    assert check(user, orders) == {"versions": [1], "problems": []}


def test_each_conflict_is_one_line_and_the_last_says_how_many(user: User, orders: Path) -> None:
    edit(orders, [("int32 quantity = 4;", "bool gift = 4;"), ("partitions: 4", "partitions: 5")])
    done = user.factfold("contract", "check", at=orders)
    assert done.returncode == 1
    assert done.stdout == (
        f"{CONTRACT}:15: stream orders: partitions: 4 is now partitions: 5"
        " (released in version 1); change it back: keys would move to other partitions\n"
        f"{CONTRACT}:31: OrderPlaced: int32 quantity = 4 is now bool gift = 4"
        f" (released in version 1); {NEW_FIELD}\n"
    )
    assert done.stderr == ("factfold: 2 conflicts with what was released; mend the contract\n")


def test_a_release_freezes_descriptors_and_golden_facts(user: User, made: Path) -> None:
    version = made / "released/0001"
    names = ["Everything", "OrderCancelled", "OrderPlaced"]
    assert sorted(tree(version)) == [
        "contract.binpb",
        "facts",
        *(f"facts/acme.orders.v1.{name}.json" for name in names),
        "release.json",
    ]
    assert json.loads((version / "release.json").read_text()) == {
        "events": [f"acme.orders.v1.{name}" for name in names],
        "format": 1,
        "own": ["acme/orders/v1/contract.proto", "acme/orders/v1/money.proto"],
    }
    files = FileDescriptorSet.FromString((version / "contract.binpb").read_bytes()).file
    assert {name for file in files for name in file.dependency} <= {file.name for file in files}
    assert not any(file.HasField("source_code_info") for file in files)


def test_golden_facts_say_something_in_every_field(made: Path) -> None:
    files = FileDescriptorSet.FromString((made / "released/0001/contract.binpb").read_bytes()).file
    contract = OwnContract(files, ["acme/orders/v1/contract.proto"])
    for name in ("OrderPlaced", "Everything"):
        path = made / f"released/0001/facts/acme.orders.v1.{name}.json"
        facts = json.loads(path.read_text("utf-8"))
        fields = {field.name for field in contract.message(f"acme.orders.v1.{name}").fields}
        assert {field for fact in facts for field in fact["event"]} == fields
        for fact in facts:
            assert [*fact] == ["entry", "meta", "event"]
            assert [*fact["entry"]] == ["type", "key", "meta", "data"]
            assert (fact["entry"]["type"], fact["entry"]["key"]) == (f"acme.orders.v1.{name}", "id")
    placed = json.loads(
        (made / "released/0001/facts/acme.orders.v1.OrderPlaced.json").read_text("utf-8")
    )
    # One for each member of the oneof, and all else is the same in each.
    assert [fact["event"] for fact in placed] == [
        {
            "id": "id",
            "customer": "customer",
            "tags": ["tags"],
            "quantity": -4,
            "size": "SIZE_BIG",
            "lines": [{"article": "article", "pieces": "-8589934594"}],
            "counts": {"key": -2},
            **member,
            "discount": -11,
            "tree": {"leaf": "leaf", "left": {}, "below": [{}]},
        }
        for member in (
            {"card": "card"},
            {"cash": {"units": "-8589934593", "currency": "currency"}},
            {"voucher": {"code": "code"}},
        )
    ]


def test_the_same_contract_gives_the_same_bytes(user: User, made: Path, orders: Path) -> None:
    shutil.rmtree(orders / "released")
    manifest = json.loads((orders / ".factfold/manifest.json").read_text())
    manifest["files"] = {
        path: entry for path, entry in manifest["files"].items() if not path.startswith("released/")
    }
    (orders / ".factfold/manifest.json").write_text(json.dumps(manifest))
    edit(orders, ("message OrderPlaced {", "// A comment is no part of it.\nmessage OrderPlaced {"))
    assert user.factfold("contract", "release", at=orders).returncode == 0
    assert tree(orders / "released") == tree(made / "released")


def test_the_manifest_knows_the_files_as_the_teams(user: User, fresh: Path) -> None:
    before = tree(fresh)
    report = json.loads(user.factfold("contract", "release", "--json", at=fresh).stdout)
    assert report["version"] == 1
    written = {path for path in tree(fresh) if (fresh / path).is_file()} - set(before)
    assert set(report["files"]) == written
    changed = [path for path in before if before[path] != tree(fresh)[path]]
    assert [path for path in changed if (fresh / path).is_file()] == [".factfold/manifest.json"]
    files = json.loads((fresh / ".factfold/manifest.json").read_text())["files"]
    for path in written:
        digest = sha256((fresh / path).read_bytes()).hexdigest()
        assert files[path] == {"sha256": digest, "zone": "team"}


def test_releases_are_counted_and_nothing_new_is_no_release(user: User, fresh: Path) -> None:
    done = user.factfold("contract", "release", at=fresh)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "Released version 1:",
        "  released/.gitattributes",
        "  released/0001/contract.binpb",
        "  released/0001/facts/acme.orders.v1.OrderCreated.json",
        "  released/0001/facts/acme.orders.v1.OrderRenamed.json",
        "  released/0001/release.json",
        "  released/README.md",
        "",
        "Next:",
        "  git add .factfold released && git commit",
    ]
    before = tree(fresh)
    edit(fresh, ("message OrderCreated {", "// A comment.\nmessage OrderCreated {"))
    again = user.factfold("contract", "release", at=fresh / "src")
    assert (again.returncode, again.stdout) == (
        0,
        "Nothing has changed since version 1 was released\n",
    )
    edit(fresh, ("// A comment.\n", ""))
    assert tree(fresh) == before
    edit(fresh, ("message CreateOrderRequest {", "message CreateOrderRequest {\n  bool gift = 9;"))
    report = json.loads(user.factfold("contract", "release", "--json", at=fresh).stdout)
    assert report["version"] == 2
    assert {path.split("/")[1] for path in report["files"]} == {"0002"}
    done = user.factfold("contract", "check", at=fresh)
    assert done.stdout == "The contract keeps to versions 1 and 2\n"


def test_without_a_release_it_says_how_to_make_one(user: User, fresh: Path) -> None:
    done = user.factfold("contract", "check", at=fresh)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "Nothing is released yet: `factfold contract release` freezes the contract\n"
    )
    assert check(user, fresh) == {"versions": [], "problems": []}


def test_what_was_deleted_is_remembered_by_the_version_that_had_it(
    user: User, orders: Path
) -> None:
    """Compared in pairs each step is allowed: an RPC's message may go, and another one come."""
    edit(
        orders,
        [
            ("  rpc CountOrders(CountOrdersRequest) returns (CountOrdersResponse);\n", ""),
            ("message CountOrdersRequest {\n  string customer = 1;\n  Period period = 2;\n}\n", ""),
        ],
    )
    assert (
        json.loads(user.factfold("contract", "release", "--json", at=orders).stdout)["version"] == 2
    )
    again = "message CountOrdersRequest {\n  bool customer = 1;\n  Period period = 2;\n}\n"
    edit(
        orders,
        [
            (
                "  rpc PlaceOrder",
                "  rpc CountOrders(CountOrdersRequest) returns (CountOrdersResponse);\n"
                "  rpc PlaceOrder",
            ),
            ("enum Size", f"{again}\nenum Size"),
        ],
    )
    (problem,) = check(user, orders)["problems"]
    assert problem["problem"] == (
        "CountOrdersRequest: string customer = 1 is now bool customer = 1"
    )
    assert problem["released"] == [1]


def test_a_conflict_with_several_versions_is_said_once(user: User, orders: Path) -> None:
    edit(orders, ("int32 quantity = 4;", "int32 quantity = 4;\n  bool gift = 20;"))
    assert user.factfold("contract", "release", at=orders).returncode == 0
    edit(orders, ("int32 quantity = 4;", "bool quantity = 4;"))
    done = user.factfold("contract", "check", at=orders)
    assert done.stdout.count("\n") == 1
    assert "(released in versions 1 and 2)" in done.stdout


def _golden_says_another(orders: Path) -> None:
    """Golden facts are compared by themselves: as if buf had missed something."""
    path = "released/0001/facts/acme.orders.v1.OrderCancelled.json"
    text = (orders / path).read_text().replace('"by": "by"', '"by": "me"')
    (orders / path).write_text(text)
    manifest = json.loads((orders / ".factfold/manifest.json").read_text())
    manifest["files"][path]["sha256"] = sha256(text.encode()).hexdigest()
    (orders / ".factfold/manifest.json").write_text(json.dumps(manifest))


def test_a_golden_fact_that_reads_otherwise_is_named(user: User, orders: Path) -> None:
    _golden_says_another(orders)
    assert lines(check(user, orders)) == [
        f"{CONTRACT}: acme.orders.v1.OrderCancelled.by was 'me', is read as 'by'"
        " | change the contract back"
    ]


BACK = "what is released stays; take it back from git"
TAMPERED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "edited": (
        lambda path: path.write_text(path.read_text().replace('"by"', '"by" ')),
        f"was changed: {BACK}",
    ),
    "deleted": (Path.unlink, f"is gone: {BACK}"),
    "with other line ends": (
        lambda path: path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n")),
        f"has other line ends than it was released with: {BACK}, with released/.gitattributes",
    ),
}


@pytest.mark.parametrize("how", TAMPERED)
@pytest.mark.parametrize("command", ["check", "release"])
def test_a_frozen_file_that_is_not_as_it_was_is_named(
    user: User, orders: Path, how: str, command: str
) -> None:
    path = "released/0001/facts/acme.orders.v1.OrderCancelled.json"
    tamper, said = TAMPERED[how]
    tamper(orders / path)
    before = tree(orders)
    done = user.factfold("contract", command, at=orders)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"factfold: {path} {said}\n"
    assert tree(orders) == before


def test_a_version_that_the_manifest_does_not_know_is_named(user: User, orders: Path) -> None:
    shutil.copytree(orders / "released/0001", orders / "released/0002")
    done = user.factfold("contract", "check", at=orders)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "factfold: released/0002/contract.binpb was not released by factfold;"
        " move it away, or take the manifest back from git\n"
    )


def test_refusals_change_nothing(user: User, orders: Path) -> None:
    def refusal(changes: Edit, code: int = 2) -> list[str]:
        text = (orders / CONTRACT).read_text()
        edit(orders, changes)
        before = tree(orders)
        done = user.factfold("contract", "release", at=orders)
        assert done.returncode == code
        assert tree(orders) == before
        (orders / CONTRACT).write_text(text)
        return (done.stdout + done.stderr).splitlines()

    broken, last = refusal(("int32 quantity = 4;", "bool gift = 4;"))
    assert broken.startswith(f"{CONTRACT}:31: OrderPlaced: int32 quantity = 4 is now bool gift = 4")
    assert last == ("factfold: 1 conflict with what was released; nothing is released until mended")
    (line,) = refusal(("int32 quantity = 4;", "int33 quantity = 4;"), code=1)
    assert line.startswith(
        f"factfold: the contract in {str(orders)!r} does not compile: {CONTRACT}:31:3: "
    )
    assert line.endswith('"int33" is not defined.')
    unkeyed = "message OrderPaid {\n  option (factfold.v1.event) = {};\n  int32 id = 1;\n}\n\n"
    assert refusal(("enum Size", f"{unkeyed}enum Size")) == [
        f"factfold: {CONTRACT}: the event acme.orders.v1.OrderPaid needs one string field with"
        " [(factfold.v1.key) = true], it has 0"
    ]


def test_what_fails_half_way_leaves_nothing(user: User, fresh: Path) -> None:
    before = tree(fresh)
    (fresh / ".factfold/manifest.new").mkdir()
    done = user.factfold("contract", "release", at=fresh)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    (fresh / ".factfold/manifest.new").rmdir()
    assert {path: tree(fresh)[path][1] for path in tree(fresh)} == {
        path: before[path][1] for path in before
    }


def test_what_others_released_is_not_released_here(user: User, orders: Path) -> None:
    (orders / CONTRACT).write_text(
        PLACED.replace("message OrderPlaced", "message OrderCreated")
        .replace("OrderPlaced placed", "OrderCreated placed")
        .replace("string customer = 2;\n  repeated", "string name = 2;\n  repeated")
    )
    assert user.factfold("new", "shipments", "--no-input", at=user.here).returncode == 0
    shipments = user.here / "shipments"
    added = user.factfold("add", "subscription", orders, at=shipments)
    assert (added.returncode, added.stderr) == (0, "")
    report = json.loads(user.factfold("contract", "release", "--json", at=shipments).stdout)
    facts = [Path(path).stem for path in report["files"] if "/facts/" in path]
    assert facts == ["acme.shipments.v1.ShipmentCreated", "acme.shipments.v1.ShipmentRenamed"]
    (shipments / CONTRACT).unlink()
    (shipments / CONTRACT).with_name("money.proto").unlink()
    assert check(user, shipments) == {"versions": [1], "problems": []}


def test_buf_sees_neither_the_users_configuration_nor_their_folders(
    user: User, orders: Path
) -> None:
    (orders / "buf.yaml").write_text("version: v2\nbreaking:\n  use: [WIRE]\n")
    (user.home / ".config/buf").mkdir(parents=True)
    (user.home / ".config/buf/config.yaml").write_text("nonsense")
    edit(orders, ("int32 quantity = 4;", "bool gift = 4;"))
    before = tree(user.home)
    assert len(check(user, orders)["problems"]) == 1
    assert tree(user.home) == before
    assert tree(user.temporary) == {}


def _git(at: Path, *arguments: str | Path) -> None:
    names = ("-c", "user.name=a", "-c", "user.email=a@example.com")
    subprocess.run(["git", *names, *arguments], cwd=at, check=True, capture_output=True)


def test_in_a_shallow_clone_a_worktree_and_a_checkout_with_other_line_ends(
    user: User, orders: Path
) -> None:
    _git(orders, "init", "-q")
    _git(orders, "add", ".")
    _git(orders, "commit", "-qm", "one")
    _git(orders, "commit", "-qm", "two", "--allow-empty")
    _git(user.here, "clone", "-q", "--depth=1", orders.as_uri(), "shallow")
    _git(orders, "worktree", "add", "-qb", "other", user.here / "work tree")
    _git(user.here, "clone", "-q", "-c", "core.autocrlf=true", orders, "crlf")
    assert b"\r\n" in (user.here / "crlf" / CONTRACT).read_bytes()
    for name in ("shallow", "work tree", "crlf"):
        here = user.here / name
        assert check(user, here) == {"versions": [1], "problems": []}
        assert tree(here / "released") == tree(orders / "released")
        edit_crlf = (here / CONTRACT).read_bytes().replace(b"int32 quantity = 4", b"bool gift = 4")
        (here / CONTRACT).write_bytes(edit_crlf)
        (problem,) = check(user, here)["problems"]
        assert problem["problem"] == "OrderPlaced: int32 quantity = 4 is now bool gift = 4"


def test_a_file_that_is_gone_is_named(user: User, orders: Path) -> None:
    money = (orders / CONTRACT).with_name("money.proto")
    money.rename(money.with_name("cash.proto"))
    edit(orders, ("orders/v1/money.proto", "orders/v1/cash.proto"))
    assert lines(check(user, orders)) == [
        "protos/acme/orders/v1/money.proto: the file is gone | put it back where it was"
    ]


def test_without_buf_it_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, made: Path
) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    files = FileDescriptorSet.FromString((made / "released/0001/contract.binpb").read_bytes()).file
    contract = OwnContract(files, ["acme/orders/v1/contract.proto"])
    with pytest.raises(Failed, match=r"^buf is not installed: pip install buf-bin$"):
        broken(contract, contract)
