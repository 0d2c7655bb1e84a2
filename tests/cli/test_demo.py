"""The demo as a user runs it: two services made, run and called, and the traces that come of it."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from go_tools import go

from .running import FACTFOLD, Command, children, ends, plain_environment

CREATE = "acme.orders.v1.OrderService/CreateOrder"
GET = "acme.orders.v1.OrderService/GetOrder"
RENAME = "acme.orders.v1.OrderService/RenameOrder"
LIST = "acme.shipments.v1.ShipmentService/ListShipments"

Tree = tuple[str, list["Tree"]]


def tree(trace: dict[str, Any]) -> Tree:
    """The trace as nested (text, children), brothers in alphabetical order; it has one root."""
    spans = trace["spans"]
    known = {span["span_id"] for span in spans}
    assert len(known) == len(spans)
    assert [span for span in spans if span["parent_span_id"] not in {"", *known}] == []

    def below(parent: str) -> list[Tree]:
        return sorted(
            (f"{span['kind']} {span['name']} ({span['service']})", below(span["span_id"]))
            for span in spans
            if span["parent_span_id"] == parent
        )

    (root,) = below("")
    return root


def called(method: str, service: str, *below: Tree) -> Tree:
    server = (f"SERVER {method} ({service})", list(below))
    return (f"CLIENT {method} (factfold-demo)", [server])


def with_old_go(folder: Path) -> dict[str, str]:
    """The environment with a `go` in front that is too old."""
    old = folder / "go"
    old.write_text("#!/bin/sh\necho go1.25.9\n")
    old.chmod(0o755)
    return {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


@pytest.fixture(scope="module", params=["go", "python"])
def second(request: pytest.FixtureRequest) -> str:
    """The language of the second service."""
    language: str = request.param
    if language == "go":
        go()
    return language


@pytest.fixture(scope="module")
def demo(second: str, tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    old = with_old_go(tmp_path_factory.mktemp("old")) if second == "python" else {}
    return subprocess.run(
        [*FACTFOLD, "demo", "--exit", "--json"],
        cwd=tmp_path_factory.mktemp("elsewhere"),
        env=plain_environment() | old,
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_trace_is_whole(demo: subprocess.CompletedProcess[str]) -> None:
    assert demo.returncode == 0, demo.stderr
    traces = json.loads(demo.stdout)["traces"]
    assert [tree(trace) for trace in traces] == [
        called(
            CREATE,
            "orders",
            (
                "PRODUCER send orders (orders)",
                [
                    ("CONSUMER process orders (orders)", []),
                    (
                        "CONSUMER process orders (shipments)",
                        [
                            (
                                "PRODUCER send shipments (shipments)",
                                [
                                    ("CONSUMER process shipments (orders)", []),
                                    ("CONSUMER process shipments (shipments)", []),
                                ],
                            )
                        ],
                    ),
                ],
            ),
        ),
        called(GET, "orders"),
        called(RENAME, "orders", ("PRODUCER send orders (orders)", [])),
        called(CREATE, "orders"),  # the same request_id: nothing is appended
        called(LIST, "shipments"),
    ]


def test_processing_is_linked_to_the_send_span(demo: subprocess.CompletedProcess[str]) -> None:
    created = json.loads(demo.stdout)["traces"][0]
    consumers = [span for span in created["spans"] if span["kind"] == "CONSUMER"]
    assert len(consumers) == 4
    for span in consumers:
        assert span["links"] == [
            {"trace_id": created["trace_id"], "span_id": span["parent_span_id"]}
        ]


def test_no_span_begins_before_its_parent(demo: subprocess.CompletedProcess[str]) -> None:
    for trace in json.loads(demo.stdout)["traces"]:
        begun = {span["span_id"]: span["start_unix_nano"] for span in trace["spans"]}
        assert list(begun.values()) == sorted(begun.values())
        for span in trace["spans"]:
            assert begun.get(span["parent_span_id"], 0) <= span["start_unix_nano"]


def test_spans_of_one_kind_have_the_same_attributes_in_both_services(
    demo: subprocess.CompletedProcess[str],
) -> None:
    names: dict[tuple[str, str], set[tuple[str, ...]]] = {}
    for trace in json.loads(demo.stdout)["traces"]:
        for span in trace["spans"]:
            kind = (span["kind"], span["name"].partition(" ")[0] if " " in span["name"] else "")
            names.setdefault(kind, set()).add(tuple(sorted(span["attributes"])))
    assert {kind: len(found) for kind, found in names.items()} == dict.fromkeys(names, 1)


def test_document_has_the_fields_of_each_span(demo: subprocess.CompletedProcess[str]) -> None:
    document = json.loads(demo.stdout)
    assert list(document) == ["traces"]
    for trace in document["traces"]:
        assert list(trace) == ["trace_id", "spans"]
        assert len(bytes.fromhex(trace["trace_id"])) == 16
        for span in trace["spans"]:
            assert list(span) == [
                "service",
                "name",
                "kind",
                "span_id",
                "parent_span_id",
                "links",
                "attributes",
                "start_unix_nano",
                "end_unix_nano",
            ]
            assert len(bytes.fromhex(span["span_id"])) == 8
            assert 0 < span["start_unix_nano"] <= span["end_unix_nano"]
            known = {"SERVER": "rpc.method", "CLIENT": "rpc.method"}
            name = known.get(span["kind"], "messaging.destination.name")
            assert span["attributes"][name] == span["name"].split(" ")[-1]


def test_the_rest_is_on_stderr_and_shows_what_was_typed(
    demo: subprocess.CompletedProcess[str], second: str
) -> None:
    lines = demo.stderr.splitlines()
    without = "no Go 1.26 or newer is on PATH: both services are in Python"
    assert (without in lines) is (second == "python")
    for line in (
        "$ factfold new orders --language python --no-input",
        f"$ factfold new shipments --language {second} --no-input --subscribe orders",
        "orders$ factfold add subscription ../shipments",
        "preparing orders, shipments",
    ):
        assert line in lines
    # Nothing to paste: it is gone when somebody has read it.
    assert [line for line in lines if re.fullmatch(r"log at redis://127\.0\.0\.1:\d+/0", line)]
    for name in ("orders", "shipments"):
        assert [line for line in lines if line.startswith(name) and line.endswith(" ready")]
        assert [line for line in lines if line.startswith(name) and line.endswith(" ended")]


def test_piped_demo_ends_and_leaves_nothing(
    factfold: Callable[..., Command], tmp_path: Path
) -> None:
    # What this shell tells other services is nothing to the demo's.
    command = factfold("demo", TMPDIR=str(tmp_path), OTEL_SDK_DISABLED="true", FACTFOLD_NO="1")
    for name in ("orders", "shipments"):
        command.ready(name)
    below = children(command.pid)
    assert len(below) >= 6
    assert command.code() == 0
    assert [line for line in command.lines if line.endswith(" ms")]
    assert all(map(ends, below))
    assert list(tmp_path.iterdir()) == []


def test_interrupted_demo_fails_and_leaves_nothing(
    factfold: Callable[..., Command], tmp_path: Path
) -> None:
    command = factfold("demo", TMPDIR=str(tmp_path))
    command.line(" starting", count=2)
    below = children(command.pid)
    assert command.send(signal.SIGINT) == 1
    assert command.lines[-1] == "factfold: interrupted"
    assert all(map(ends, below))
    assert list(tmp_path.iterdir()) == []
