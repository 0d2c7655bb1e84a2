"""The golden vectors that every language must meet."""

import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict

from factfold.v1.fact_pb2 import DeadLetter, FactMeta
from factfold_chassis.facts import Fact, Position, parse_positions, partition_of, split_id
from factfold_chassis.ids import derived_id
from factfold_chassis.reactions.ownership import chosen

VECTORS = Path(__file__).parents[1] / "vectors"


def cases(name: str) -> list[Any]:
    return json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))["cases"]


def test_each_file_of_vectors_is_read_here() -> None:
    read = {"partitions", "entries", "owners", "dead-letters", "ids"}
    assert {path.stem for path in VECTORS.glob("*.json")} == read


@pytest.mark.parametrize("case", cases("partitions"))
def test_partitions(case: Any) -> None:
    for count, partition in case["partitions"].items():
        assert partition_of(case["key"], int(count)) == partition


@pytest.mark.parametrize("case", cases("owners"))
def test_owners(case: Any) -> None:
    assert chosen(case["scores"], case["partition"]) == case["owner"]


@pytest.mark.parametrize("case", cases("ids"))
def test_derived_ids(case: Any) -> None:
    assert derived_id(case["stream"], case["seed"]) == case["id"]


@pytest.mark.parametrize("case", cases("entries"))
def test_entries(case: Any) -> None:
    fields = [bytes.fromhex(field) for field in case["fields"]]
    fact = Fact(
        case["stream"], case["partition"], "00c0ffee00c0ffee", (case["id"].encode(), fields)
    )
    assert (fact.type, fact.key) == (case["type"], case["key"])
    assert str(fact.position) == case["position"]
    assert parse_positions(case["position"], "x") == [
        Position(case["stream"], case["partition"], "00c0ffee00c0ffee", *split_id(fact.entry[0]))
    ]
    says = dict(case["meta"])
    made = FactMeta(
        id=bytes.fromhex(says.pop("id")),
        trace_id=bytes.fromhex(says.pop("trace_id", "")),
        span_id=bytes.fromhex(says.pop("span_id", "")),
        causation_id=bytes.fromhex(says.pop("causation_id", "")),
        time_unix_nano=int(says.pop("time_unix_nano")),
        version=int(says.pop("version", 0)),
        **says,
    )
    assert fact.meta == made
    assert made.SerializeToString(deterministic=True) == fields[5]


@pytest.mark.parametrize("case", cases("dead-letters"), ids=lambda case: case["name"])
def test_dead_letters(case: Any) -> None:
    stored = bytes.fromhex(case["bytes"])
    letter = ParseDict(case["letter"], DeadLetter())
    assert DeadLetter.FromString(stored) == letter
    assert letter.SerializeToString(deterministic=True) == stored
    fact = Fact("orders", 1, "00c0ffee00c0ffee", (letter.entry_id, list(letter.fields)))
    assert str(fact.n) == case["dead"]["field"]
    assert fact.raw_key.hex() == case["dead-keys"]["field"]
