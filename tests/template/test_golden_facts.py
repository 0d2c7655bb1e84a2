"""A generated repository's own tests read what was released of its contract."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Generated, factfold

CONTRACT = "protos/acme/orders/v1/contract.proto"
CREATED = "released/0001/facts/acme.orders.v1.OrderCreated.json"


@pytest.fixture
def orders(generate: Callable[..., Generated]) -> Generated:
    made = generate("orders")
    factfold(made.root, "contract", "release")
    return made


def golden(orders: Generated) -> subprocess.CompletedProcess[str]:
    return orders.python(
        "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "tests/test_golden_facts.py"
    )


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_without_a_release_it_says_that_there_is_none(generate: Callable[..., Generated]) -> None:
    done = golden(generate("orders"))
    assert done.returncode == 0
    assert "1 skipped" in done.stdout
    assert "no version of the contract is released" in done.stdout


def test_each_golden_fact_is_a_test(orders: Generated) -> None:
    done = golden(orders)
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("string name = 2;", "bool name = 2;", "acme.orders.v1.OrderCreated.name was 'name', is"),
        ("string name = 2;", "string called = 2;", "OrderCreated.name was 'name', is read as None"),
        ("string name = 2;", "int32 name = 2;", "OrderCreated.name was 'name', is read as None"),
        (
            "message OrderCreated {\n  option (factfold.v1.event) = {};\n",
            "message OrderCreated {\n",
            "acme.orders.v1.OrderCreated is no event of the contract any more",
        ),
        (
            "string id = 1 [(factfold.v1.key) = true];\n  string name = 2;",
            "string id = 1;\n  string name = 2 [(factfold.v1.key) = true];",
            "acme.orders.v1.OrderCreated: the key was 'id', is read as 'name'",
        ),
    ],
)
def test_it_names_the_event_and_the_field(orders: Generated, old: str, new: str, said: str) -> None:
    change(orders.root / CONTRACT, old, new)
    assert orders.python("hatch_build.py").returncode == 0
    done = golden(orders)
    assert done.returncode == 1
    assert said in done.stdout


def test_an_entry_that_is_no_fact_is_named(orders: Generated) -> None:
    path = orders.root / CREATED
    (fact,) = json.loads(path.read_text())
    fact["entry"]["meta"] = ""
    path.write_text(json.dumps([fact]))
    done = golden(orders)
    assert done.returncode == 1
    assert "acme.orders.v1.OrderCreated cannot be read any more: it has no id" in done.stdout


def test_what_is_written_beside_the_metadata_is_compared_too(orders: Generated) -> None:
    change(orders.root / CREATED, '"/orders"', '"/sales"')
    done = golden(orders)
    assert done.returncode == 1
    assert "meta.source was '/sales', is read as '/orders'" in done.stdout
