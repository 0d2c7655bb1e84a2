"""The golden vectors that every language must meet."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio as redis_py
from google.protobuf.json_format import ParseDict

from factfold.v1.fact_pb2 import DeadLetter, FactMeta, Outcome
from factfold.v1.snapshot_pb2 import SnapshotPart
from factfold_chassis.errors import InvalidRequest
from factfold_chassis.facts import (
    Fact,
    Position,
    format_positions,
    parse_positions,
    partition_of,
    split_id,
)
from factfold_chassis.ids import derived_id
from factfold_chassis.log.read import Anchor
from factfold_chassis.log.redis import Redis
from factfold_chassis.log.scripts import Script
from factfold_chassis.reactions.ownership import chosen
from factfold_chassis.reactions.tenure import Group
from factfold_chassis.testing.redis_server import RedisServer
from factfold_chassis.views.declare import View
from factfold_chassis.views.keep import Home, Keeper
from factfold_chassis.views.snapshot import Snapshots

VECTORS = Path(__file__).parents[1] / "vectors"
READ = """
    cursors dead-letters entries ids outcomes owners partitions positions scripts snapshots
"""


def cases(name: str) -> list[Any]:
    return json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))["cases"]


def test_each_file_of_vectors_is_read_here() -> None:
    assert {path.stem for path in VECTORS.glob("*.json")} == set(READ.split())


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
    group = Group("shipments.ship", "orders", 1, "00c0ffee00c0ffee", own=False)
    assert f"{group.producer(group.epoch)}/{letter.entry_id.decode()}" == case["producer"]


@pytest.mark.parametrize("case", cases("outcomes"), ids=lambda case: case["name"])
def test_outcomes(case: Any) -> None:
    outcome = ParseDict(case["outcome"], Outcome())
    assert outcome.SerializeToString(deterministic=True).hex() == case["bytes"]
    assert Outcome.FromString(bytes.fromhex(case["bytes"])) == outcome


@pytest.mark.parametrize("case", cases("positions"), ids=lambda case: case["text"])
def test_positions(case: Any) -> None:
    if case["positions"] is None:
        with pytest.raises(InvalidRequest):
            parse_positions(case["text"], "x")
        return
    positions = [
        Position(at["stream"], at["partition"], at["epoch"], int(at["ms"]), int(at["n"]))
        for at in case["positions"]
    ]
    assert parse_positions(case["text"], "x") == positions
    assert format_positions(positions) == case.get("written", case["text"])


@pytest.mark.parametrize("case", cases("cursors"))
async def test_cursors(
    case: Any, server: RedisServer, client: redis_py.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(case["service"])
    home.instance = case["instance"]
    keeper = Keeper(home, Redis(server.url), View(case["view"]), lambda: b"")
    place = case["stream"], case["partition"]
    if (at := case["from"]) is not None:
        keeper._again = {place: (at["epoch"], Anchor(int(at["ms"]), int(at["n"])))}
    monkeypatch.setattr(time, "time_ns", lambda: int(case["time"]) * 1_000_000)
    present = Anchor(int(case["present"]["ms"]), int(case["present"]["n"]))
    await keeper.cursors.mark({place: (case["epoch"], present)})
    assert await client.hgetall(case["key"]) == {
        b"_": b"1",
        case["instance"].encode(): case["value"].encode(),
    }


@pytest.mark.parametrize("case", cases("snapshots"), ids=lambda case: case["name"])
def test_snapshots(case: Any, tmp_path: Path) -> None:
    file = tmp_path / "orders.totals-00000000000000000001.snapshot"
    file.write_bytes(bytes.fromhex(case["bytes"]))
    read = Snapshots(tmp_path, "orders", View("totals"), b"\0\1\2")._parts(file)
    if case["parts"] is None:
        with pytest.raises(ValueError, match="checksum"):
            list(read)
    else:
        assert list(read) == [ParseDict(part, SnapshotPart()) for part in case["parts"]]


@pytest.mark.parametrize("case", cases("scripts"), ids=lambda case: case["name"])
async def test_scripts(case: Any, client: redis_py.Redis) -> None:
    for key, given in case["given"].items():
        await client.hset(key, mapping=given)
    for step in case["steps"]:
        source = Script(step["script"]).source.decode()
        reply = await client.eval(source, len(step["keys"]), *step["keys"], *step["argv"])
        assert _text(reply) == step["reply"]
    found = {}
    for key in await client.keys():
        if await client.type(key) == b"hash":
            found[key.decode()] = await client.hgetall(key)
    assert found.keys() == case["after"].keys()
    for key, after in case["after"].items():
        fields = {name.decode(): value.decode() for name, value in found[key].items()}
        for name, value in after.items():
            if value.startswith("*"):  # the server's time
                when, behind, rest = fields[name].partition("|")
                assert when.isdigit()
                fields[name] = f"*{behind}{rest}"
        assert fields == after


def _text(reply: Any) -> Any:
    if isinstance(reply, list):
        return [_text(each) for each in reply]
    return reply.decode() if isinstance(reply, bytes) else str(reply)
