"""The AsyncAPI document and the API reference, made from contracts."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from factfold_cli import manifest as manifests
from factfold_cli.declared import copies, declared
from factfold_cli.documents import documents

from .conftest import User

CONTRACT = """\
syntax = "proto3";
package acme.orders.v1;
import "factfold/v1/options.proto";
import "google/protobuf/timestamp.proto";
option (factfold.v1.stream) = { name: "orders" };

// Takes orders, and
// ships them.
service OrderService {
  // Ships it | or not.
  rpc ShipOrder(ShipOrderRequest) returns (ShipOrderResponse);
  rpc GetOrder(ShipOrderRequest) returns (ShipOrderResponse) {
    option idempotency_level = NO_SIDE_EFFECTS;
  }
}

message ShipOrderRequest {}
message ShipOrderResponse { Parcel parcel = 1; }

// It has left.
message OrderShipped {
  option (factfold.v1.event) = {};
  string order_id = 1 [(factfold.v1.key) = true];
  repeated Parcel parcels = 2;
  google.protobuf.Timestamp at = 3;
  map<string, uint64> weights = 4;
  optional int32 stars = 5;
  oneof paid { bytes cheque = 6; bool cash = 7; }
  Mood mood = 8;  // behind the field: nobody's
}

message Parcel {
  // May hold others.
  repeated Parcel inside = 1;
}

enum Mood {
  MOOD_UNSPECIFIED = 0;
  // Very.
  MOOD_GLAD = 1;
}
"""


@pytest.fixture
def orders(user: User) -> Path:
    return made(user, "orders")


def _documents(root: Path) -> dict[str, bytes]:
    manifest = manifests.read(root)
    return documents(manifest, declared(root / "protos", copies(manifest)))


def made(user: User, name: str, *arguments: str) -> Path:
    before = set(user.here.iterdir())
    done = user.factfold("new", name, "--language", "python", "--no-input", *arguments)
    assert done.returncode == 0, done.stderr
    (root,) = set(user.here.iterdir()) - before
    return root


@pytest.fixture
def changed(orders: Path) -> dict[str, bytes]:
    (orders / "protos/acme/orders/v1/contract.proto").write_text(CONTRACT)
    return _documents(orders)


@pytest.mark.parametrize("name", ["a", "no", "z" * 60, "Größe", "stock keeper", "class", "boxes"])
def test_a_new_service_has_them(user: User, name: str) -> None:
    root = made(user, name)
    for path, content in _documents(root).items():
        assert (root / path).read_bytes() == content


def test_the_reference_says_what_the_contract_says(changed: dict[str, bytes]) -> None:
    text = changed["docs/api.md"].decode()
    for line in (
        "Takes orders, and ships them.",
        "Ships it | or not.",
        "Command: may append facts. `acme.orders.v1.OrderService/ShipOrder`",
        "Query: no side effects. `acme.orders.v1.OrderService/GetOrder`",
        "`ShipOrderRequest`: see there.",
        "No fields.",
        "4 partitions. Facts of one key stay in order.",
        "| `order_id` | `string` | The key. |",
        "| `parcels` | `repeated Parcel` |  |",
        "| `at` | `google.protobuf.Timestamp` |  |",
        "| `weights` | `map<string, uint64>` |  |",
        "| `stars` | `optional int32` |  |",
        "| `cheque` | `bytes` | One of `paid`. |",
        "| `mood` | `Mood` |  |",
        "| `inside` | `repeated Parcel` | May hold others. |",
        "| `MOOD_GLAD` = 1 | Very. |",
    ):
        assert line in text.splitlines(), line


def test_the_asyncapi_document_describes_the_stream(changed: dict[str, bytes]) -> None:
    document = json.loads(changed["docs/asyncapi.json"])
    assert document["asyncapi"] == "3.0.0"
    assert document["info"] == {"title": "orders", "version": "v1"}
    (channel,) = document["channels"].values()
    assert (channel["x-partitions"], channel["x-versioned"]) == (4, False)
    (operation,) = document["operations"].values()
    assert operation["action"] == "send"
    (message,) = document["components"]["messages"].values()
    assert (message["title"], message["x-key"]) == ("OrderShipped", "order_id")
    assert message["description"] == "It has left."
    schemas = document["components"]["schemas"]
    assert schemas["acme.orders.v1.OrderShipped"]["properties"] == {
        "orderId": {"type": "string"},
        "parcels": {
            "type": "array", "items": {"$ref": "#/components/schemas/acme.orders.v1.Parcel"}
        },
        "at": {"type": "string", "format": "date-time"},
        "weights": {
            "type": "object", "additionalProperties": {"type": "string", "format": "uint64"}
        },
        "stars": {"type": "integer"},
        "cheque": {"type": "string", "contentEncoding": "base64"},
        "cash": {"type": "boolean"},
        "mood": {"$ref": "#/components/schemas/acme.orders.v1.Mood"},
    }  # fmt: skip
    assert schemas["acme.orders.v1.Mood"]["enum"] == ["MOOD_UNSPECIFIED", "MOOD_GLAD"]
    assert len(schemas) == 3


def test_vendored_files_are_described_where_they_are_needed(orders: Path) -> None:
    before = _documents(orders)
    money = orders / "protos/aaa/money.proto"
    money.parent.mkdir()
    money.write_text('syntax = "proto3";\npackage aaa;\nmessage Money {}\n')
    assert _documents(orders) == before

    contract = orders / "protos/acme/orders/v1/contract.proto"
    text = contract.read_text()
    line = 'import "factfold/v1/options.proto";'
    contract.write_text(
        text.replace(line, line + '\nimport "aaa/money.proto";')
        + "\nmessage Price {\n  aaa.Money total = 1;\n}\n"
    )
    after = _documents(orders)
    lines = after["docs/api.md"].decode().splitlines()
    assert lines.index("| `total` | `aaa.Money` |  |") < lines.index("### Money")
    assert "In [`aaa/money.proto`](../protos/aaa/money.proto), package `aaa`." in lines
    assert json.loads(after["docs/asyncapi.json"])["info"]["version"] == "v1"


def test_every_reference_in_it_leads_somewhere(user: User, orders: Path) -> None:
    shipments = made(user, "shipments", "--subscribe", orders.name)
    document = json.loads(_documents(shipments)["docs/asyncapi.json"])
    assert document["operations"]["read-orders"]["action"] == "receive"
    found = re.findall(r'"\$ref": "#/(.+?)"', json.dumps(document))
    assert len(found) > 10
    for path in found:
        here: Any = document
        for word in path.split("/"):
            here = here[word]
