"""Generated services brought up, changed and ended."""

import signal
from collections.abc import Callable
from pathlib import Path
from subprocess import run

import pytest
from go_tools import go

from factfold_cli import redis_server
from factfold_cli.demo_calls import Client
from factfold_cli.errors import Failed
from factfold_cli.traces import TraceStore

from .running import FACTFOLD, Command, children, ends, plain_environment


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_services_come_up_answer_and_end_with_it(
    factfold: Callable[..., Command], services: Path, number: signal.Signals
) -> None:
    command = factfold("up", "--traces", str(services))
    command.ready("shipments")
    # As a user who pastes the first line into another shell.
    name, _, url = command.lines[0].removeprefix("log: export ").partition("=")
    assert command.lines[0] == f"log: export {name}={url}"
    listed = run([*FACTFOLD, "dead-letters", "list"], env=plain_environment() | {name: url})
    assert listed.returncode == 0
    client = Client(command.ready("orders"), TraceStore())
    made = client.call("CreateOrder", {"request_id": "one", "name": "Tea"})
    with pytest.raises(Failed, match=r"^CreateOrder of 127.0.0.1:\d+: INVALID_ARGUMENT, .+$"):
        client.call("CreateOrder", {"request_id": "two"})
    client.close()
    command.line(f"trace {made.trace_id}")
    command.line("send shipments")
    below = children(command.pid)
    code = command.send(number)
    assert all(map(ends, below))
    if number != signal.SIGKILL:
        assert code == 0
        assert [line for line in command.lines if line.endswith(" ended")]


def test_service_started_first_waits_for_the_other(
    factfold: Callable[..., Command], services: Path
) -> None:
    with redis_server.start() as server:
        shipments = factfold("up", str(services / "shipments"), FACTFOLD_REDIS_URL=server.url)
        assert shipments.line("log") == f"log at {server.url}"
        shipments.line(" not ready yet")
        orders = factfold("up", str(services / "orders"), FACTFOLD_REDIS_URL=server.url)
        orders.ready("orders")
        shipments.ready("shipments")
        shipments.send(signal.SIGINT)
        orders.send(signal.SIGINT)
        assert server.running


def test_data_keeps_the_log_and_snapshots(
    factfold: Callable[..., Command], services: Path, tmp_path: Path
) -> None:
    names: list[str] = []
    for name in ("Tea", "Milk"):
        command = factfold("up", "--data", str(tmp_path / "data"), str(services / "orders"))
        client = Client(command.ready("orders"), TraceStore())
        made = client.call("CreateOrder", {"request_id": name, "name": name})
        listed = client.call("ListOrders", {}, made.position).fields
        names.append(name)
        assert sorted(row["name"] for row in listed["items"]) == sorted(names)
        client.close()
        assert command.send(signal.SIGINT) == 0
    assert [line for line in command.lines if "begins with a snapshot of 1 rows" in line]


def test_changes_restart_the_service_that_changed(
    factfold: Callable[..., Command], services: Path
) -> None:
    command = factfold("up", "--watch", str(services))
    for name in ("orders", "shipments"):
        command.ready(name)
    handler = services / "orders" / "src" / "service" / "handlers" / "get_order.py"
    handler.write_text(handler.read_text() + "\n")
    command.ready("orders", count=2)

    contract = services / "orders" / "protos" / "acme" / "orders" / "v1" / "contract.proto"
    text = contract.read_text()
    contract.write_text(text + "message Half {\n")
    command.line("orders: no stubs were made: ")
    stubs = services / "orders" / "gen" / "acme" / "orders" / "v1" / "contract_pb2.pyi"
    assert "class Half" not in stubs.read_text()
    contract.write_text(text + "message Half {}\n")
    command.ready("orders", count=3)
    assert "class Half" in stubs.read_text()
    assert len([line for line in command.lines if line.startswith("shipments | 127")]) <= 3
    assert command.send(signal.SIGINT) == 0


def test_service_in_go_is_built_answers_restarts_and_ends_with_its_parent(
    factfold: Callable[..., Command], tmp_path: Path
) -> None:
    go()
    new = [*FACTFOLD, "new", "orders", "--language", "go", "--no-input"]
    run(new, cwd=tmp_path, check=True, capture_output=True)
    orders = tmp_path / "orders"
    command = factfold("up", "--watch", "--traces", str(tmp_path))
    client = Client(command.ready("orders"), TraceStore())
    made = client.call("CreateOrder", {"request_id": "one", "name": "Tea"})
    got = client.call("GetOrder", {"id": made.fields["id"]}, made.position)
    assert got.fields["item"]["name"] == "Tea"
    client.close()
    command.line(f"trace {made.trace_id}")
    command.line("announced")

    handler = orders / "internal" / "handlers" / "getorder.go"
    text = handler.read_text()
    handler.write_text(text + "\nvar half int = one\nvar more int = two\n")
    command.line("orders: it was not built: internal/handlers/getorder.go:")
    assert not [line for line in command.lines if "undefined: two" in line]
    handler.write_text(text + "\n")
    command.ready("orders", count=2)

    contract = orders / "protos" / "acme" / "orders" / "v1" / "contract.proto"
    text = contract.read_text()
    contract.write_text(text + "message Half {\n")
    command.line("orders: no stubs were made: acme/orders/v1/contract.proto:")
    contract.write_text(text + "message Half {}\n")
    command.ready("orders", count=3)
    stubs = orders / "gen" / "acme" / "orders" / "v1" / "contract.pb.go"
    assert "type Half struct" in stubs.read_text()

    below = children(command.pid)
    command.send(signal.SIGKILL)
    assert all(map(ends, below))


def test_service_that_cannot_start_ends_it(
    factfold: Callable[..., Command], services: Path
) -> None:
    (services / "orders" / "src" / "service" / "app.py").write_text("raise SystemExit('broken')\n")
    command = factfold("up", str(services / "orders"))
    assert command.line("broken") == "orders | broken"
    assert command.code() == 1
    assert command.lines[-1] == (
        "factfold: every service has ended: the last lines of each say why"
    )


def test_folder_without_services_is_refused(
    factfold: Callable[..., Command], tmp_path: Path
) -> None:
    command = factfold("up", str(tmp_path))
    assert command.code() == 2
    assert command.lines == [f"factfold: no service below {tmp_path}: make one with `factfold new`"]
