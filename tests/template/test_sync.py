"""What `factfold sync` scaffolds passes lint and types; its tests fail until it is filled in."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Generated, factfold

LONG = "Ab" * 30
STATIC = [
    ("ruff", "check", "--no-cache"),
    ("ruff", "format", "--check", "--no-cache"),
    ("mypy",),
]
# Of one letter and of sixty, of names that the code itself uses, of types that are elsewhere.
ODD = f"""
service Cd{LONG[2:]} {{
  rpc {LONG}({LONG}Request) returns ({LONG}Response);
  rpc Find{LONG[4:]}({LONG}Request) returns ({LONG}Response) {{
    option idempotency_level = NO_SIDE_EFFECTS;
  }}
  rpc Follow{LONG[6:]}({LONG}Request) returns (stream {LONG}Response);
}}

service B {{
  rpc X(google.protobuf.Empty) returns (google.protobuf.Empty);
  rpc Import(Outer.Inner) returns (Money) {{ option idempotency_level = NO_SIDE_EFFECTS; }}
  rpc Watch(Outer.Inner) returns (stream google.protobuf.StringValue);
  rpc Command(Outer) returns (google.protobuf.StringValue);
}}

message {LONG}Request {{
  string id = 1;
  uint64 expected_version = 2;
}}

message {LONG}Response {{
  string id = 1;
  string position = 2;
  uint64 version = 3;
}}

message {LONG} {{
  option (factfold.v1.event) = {{}};
  string id = 1 [(factfold.v1.key) = true];
}}

message Y {{
  option (factfold.v1.event) = {{}};
  string key = 1 [(factfold.v1.key) = true];
}}

message Fold {{
  option (factfold.v1.event) = {{}};
  string id = 1 [(factfold.v1.key) = true];
}}

message Outer {{
  message Inner {{
    bool from = 1;
    optional double self = 2;
    oneof either {{
      bytes one = 3;
      int32 other = 4;
    }}
    repeated string many = 5;
    Inner inner = 6;
  }}
}}
"""
MONEY = """syntax = "proto3";

package {package};

message Money {{
  int64 units = 1;
}}
"""

CANCEL = """
message CancelOrderRequest {
  string request_id = 1;
  string id = 2;
  uint64 expected_version = 3;
}

message CancelOrderResponse {
  string id = 1;
  uint64 version = 2;
}

message OrderCancelled {
  option (factfold.v1.event) = {};
  string id = 1 [(factfold.v1.key) = true];
}

message CountOrdersRequest {
  string name = 1;
}

message CountOrdersResponse {
  uint64 count = 1;
  string position = 2;
}

message FollowOrdersRequest {
  string after = 1;
}

message FollowOrdersResponse {
  string id = 1;
  string position = 2;
}
"""
RPCS = """
  rpc CancelOrder(CancelOrderRequest) returns (CancelOrderResponse);
  rpc CountOrders(CountOrdersRequest) returns (CountOrdersResponse) {
    option idempotency_level = NO_SIDE_EFFECTS;
  }
  rpc FollowOrders(FollowOrdersRequest) returns (stream FollowOrdersResponse);
"""
# In place of `raise NotImplementedError(…)`, and what that needs beyond what is imported.
FILLED = {
    "handlers/cancel_order.py": """
    done = await call.append(
        contract.OrderCancelled(id=request.id),
        expected_version=request.expected_version,
    )
    return contract.CancelOrderResponse(id=done.event.id, version=done.version)
""",
    "handlers/count_orders.py": """
    from service.views import orders

    rows = call.rows(orders.TABLE).items()
    named = [id for id, row in rows if row.name == request.name]
    return contract.CountOrdersResponse(
        count=len(named),
        position=call.position(orders.TABLE),
    )
""",
    "handlers/follow_orders.py": """
    async for change in call.changes(after=request.after):
        yield contract.FollowOrdersResponse(id=change.fact.key, position=change.position)
""",
    "folds/order_cancelled.py": """
    if row is not None:
        row.version = fact.version
    return row
""",
}
TESTS = ["cancel_order", "count_orders", "follow_orders", "order_cancelled"]


def test_the_tests_fail_until_the_files_are_filled_in(generate: Callable[..., Generated]) -> None:
    orders = generate("orders")
    contract = _contract(orders)
    head = "service OrderService {"
    text = contract.read_text().replace(head, head + RPCS)
    watched = "OrderRenamed renamed = 3;"
    text = text.replace(watched, f"{watched}\n    OrderCancelled cancelled = 4;")
    contract.write_text(text + CANCEL)
    factfold(orders.root, "sync")
    _passes(orders, ("hatch_build.py",), *STATIC)
    for name in TESTS:
        done = _tests(orders, f"tests/test_{name}.py")
        assert done.returncode == 1, done.stdout
        part = "folds" if name == "order_cancelled" else "handlers"
        assert re.search(
            rf"NotImplementedError: \w+ .* yet: write src/service/{part}/{name}\.py\n", done.stdout
        ), done.stdout
    for path, body in FILLED.items():
        _fill(orders.root / "src/service" / path, body)
    watch = orders.root / "src/service/handlers/watch_orders.py"
    watch.write_text(
        watch.read_text()
        + "            case contract.OrderCancelled() as cancelled:\n"
        + "                yield contract.WatchOrdersResponse(\n"
        + "                    position=change.position,\n"
        + "                    cancelled=cancelled,\n"
        + "                )\n"
    )
    factfold(orders.root, "sync", "--check")
    _passes(orders, *STATIC, ("pytest", "-q", "-p", "no:cacheprovider"))


@pytest.mark.parametrize("name", ["a", "z" * 60])
def test_whatever_it_is_called_it_passes_lint_and_types(
    generate: Callable[..., Generated], name: str
) -> None:
    service = generate(name)
    contract = _contract(service)
    text = contract.read_text()
    (package,) = re.findall(r"^package (.*);$", text, re.M)
    path = package.replace(".", "/")
    line = 'import "factfold/v1/options.proto";\n'
    more = [f"{path}/money.proto", "google/protobuf/empty.proto", "google/protobuf/wrappers.proto"]
    text = text.replace(line, line + "".join(f'import "{each}";\n' for each in more))
    contract.write_text(text + ODD)
    contract.with_name("money.proto").write_text(MONEY.format(package=package))
    factfold(service.root, "sync")
    handlers = {path.stem for path in (service.root / "src/service/handlers").iterdir()}
    assert {"x", "import_", "watch_", "command_"} <= handlers
    folds = {path.stem for path in (service.root / "src/service/folds").iterdir()}
    assert {"y", "fold_"} <= folds
    _passes(service, ("hatch_build.py",), *STATIC)
    # It starts: each RPC has its handler.
    done = _tests(service, "tests/test_create.py", "tests/test_get.py")
    assert done.returncode == 0, done.stdout
    factfold(service.root, "sync", "--check")


def _contract(service: Generated) -> Path:
    (path,) = (service.root / "protos").rglob("contract.proto")
    return path


def _fill(path: Path, body: str) -> None:
    text, found = re.subn(
        r"\n    raise NotImplementedError\(\n.*?\n    \)\n(.*\n)*", lambda _: body, path.read_text()
    )
    assert found == 1
    path.write_text(text)


def _passes(service: Generated, *commands: tuple[str, ...]) -> None:
    for words in commands:
        done = service.python(*([] if words[0].endswith(".py") else ["-m"]), *words)
        assert done.returncode == 0, f"{words}:\n{done.stdout}{done.stderr}"


def _tests(service: Generated, *paths: str) -> subprocess.CompletedProcess[str]:
    return service.python("-m", "pytest", "-q", "-p", "no:cacheprovider", *paths)
