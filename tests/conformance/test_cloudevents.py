"""Facts as CloudEvents, and CloudEvents as facts."""

import json
import os
import uuid
from typing import Any
from unittest.mock import patch

from cli.piped import piped
from faults.log import eventually, partition_of
from faults.probe import contract

from factfold.v1.fact_pb2 import FactMeta

from . import entries
from .calls import call, matches
from .cases import Case
from .playing import Scenes
from .reading import keyed
from .stage import Stage

FAMILY = "cloudevents"
REACTING = {"PROBE_REACTIONS": "answer", "FACTFOLD_REACTION_ATTEMPTS": "1"}
scenes = Scenes()


async def test_cloudevents(stage: Stage, case: Case) -> None:
    await scenes.play(stage, case)


def tail(stage: Stage, stream: str, key: str) -> list[dict[str, Any]]:
    """A key's facts as CloudEvents, as the one command line shows them."""
    options = ["--no-follow", "--format", "cloudevents", "--key", key]
    contract_of = ["--contract", str(stage.made[0].root)]
    with patch.dict(os.environ, {"FACTFOLD_REDIS_URL": stage.server.url}):
        done = piped("tail", stream, *options, *contract_of, at=stage.folder)
    assert done.returncode == 0, done
    return [json.loads(line) for line in done.stdout.splitlines()]


def filled(told: Any, **texts: str) -> Any:
    if isinstance(told, dict):
        return {name: filled(value, **texts) for name, value in told.items()}
    if isinstance(told, str):
        for name, text in texts.items():
            told = told.replace(f"{{{name}}}", text)
    return told


def check(event: dict[str, Any], wanted: dict[str, Any]) -> None:
    for name, value in wanted.items():
        found = event.get(name)
        same = matches(value, str(found)) if isinstance(value, str) else found == value
        assert same, f"{name} is {found!r}, not {value!r}"


@scenes
async def out(stage: Stage, case: Case) -> None:
    probe = await stage.probe(**REACTING)
    told = filled({"key": "{key}", "first": 1, **case.more["append"]}, key=case.key)
    request = contract.AppendRequest(**told)
    metadata = list(case.more.get("metadata", {}).items())
    answer = await call(probe, "Append", request, metadata)
    assert answer.code == "OK", answer
    (event,) = tail(stage, request.stream, request.key)
    (fact,) = keyed(stage, request.stream, request.key)
    id_ = str(uuid.UUID(bytes=fact.meta.id))
    check(event, filled(case.more["event"], key=case.key, id=id_, n=str(fact.n)))
    assert not set(case.more["lacks"]) & event.keys()


@scenes
async def sequence(stage: Stage, case: Case) -> None:
    async with stage.apart() as apart:
        probe = await apart.probe()
        request = contract.AppendRequest(stream="inputs", key=case.key, first=1, facts=5)
        assert (await call(probe, "Append", request)).code == "OK"
        found = tail(apart, "inputs", case.key)
        assert [event["sequence"] for event in found] == ["1", "2", "3", "4", "5"]
        assert len({event["id"] for event in found}) == 5


@scenes
async def answered(stage: Stage, case: Case) -> None:
    probe = await stage.probe(**REACTING)
    request = contract.AppendRequest(stream="inputs", key=case.key, first=1)
    assert (await call(probe, "Append", request)).code == "OK"
    await eventually(lambda: keyed(stage, "outputs", case.key))
    (cause,) = tail(stage, "inputs", case.key)
    (event,) = tail(stage, "outputs", case.key)
    assert event["causationid"] == cause["id"]
    assert (event["type"], event["source"]) == ("probe.v1.Output", "/probe")
    assert event["data"]["of"] == case.key


def meta_of(event: dict[str, Any]) -> FactMeta:
    """Of a CloudEvent, as docs/wire-format.md maps it."""
    meta = FactMeta(
        id=uuid.UUID(event["id"]).bytes if event["id"] else b"",
        source=event["source"],
        time_unix_nano=event["time"],
        trace_state=event.get("tracestate", ""),
        extensions=event.get("extensions", {}),
    )
    if "traceparent" in event:
        _, trace_id, span_id, flags = event["traceparent"].split("-")
        meta.trace_id, meta.span_id = bytes.fromhex(trace_id), bytes.fromhex(span_id)
        meta.trace_flags = int(flags, 16)
    return meta


# `in` is a word of Python.
async def _in(stage: Stage, case: Case) -> None:
    probe = await stage.probe(**REACTING)
    told = filled(case.more["event"], key=case.key)
    event = contract.Input(key=case.key, **told["data"])
    position = entries.write_event(stage.log, "inputs", event, meta_of(told))
    dumped = await probe.dump(position)
    (rows,) = (table.row for table in dumped.tables if table.name == "inputs")
    (row,) = (contract.Seen.FromString(each.value) for each in rows if each.key == case.key)
    for name, value in case.more["row"].items():
        assert getattr(row, name) == value, row
    partition = partition_of(case.key)
    await eventually(lambda: _committed(stage, partition))
    answers = keyed(stage, "outputs", case.key)
    if case.more.get("unanswered"):
        assert not answers
        assert not tail(stage, "inputs", case.key)  # nor is it a CloudEvent
        return
    (answer,) = answers
    (back,) = tail(stage, "inputs", case.key)
    assert answer.meta.causation_id == meta_of(told).id
    assert back["id"] == told["id"]
    assert back.get("traceparent") == told.get("traceparent")
    assert back.get("tracestate") == told.get("tracestate")
    assert back.get("tenant") == told.get("extensions", {}).get("tenant")
    assert answer.meta.trace_id == meta_of(told).trace_id
    assert answer.meta.trace_state == told.get("tracestate", "")


scenes.by_name["in"] = _in


def _committed(stage: Stage, partition: int) -> bool:
    position = stage.log.group("inputs", partition, "answer").get("position", "0-0")
    return position.split("-")[1] == stage.log.head("inputs", partition)["n"]


@scenes
async def through(stage: Stage, case: Case) -> None:
    """Out of the log of one, and as an entry of another stream's key to the other."""
    one, other = [await stage.probe(at, **REACTING) for at in range(2)]
    request = contract.AppendRequest(stream="inputs", key=case.key, first=8, payload_bytes=2)
    assert (await call(one, "Append", request)).code == "OK"
    (event,) = tail(stage, "inputs", case.key)
    again = contract.Input(key=f"{case.key}-again", number=int(event["data"]["number"]))
    told = {**event, "time": 1, "id": str(uuid.UUID(bytes=entries.new_id()))}
    position = entries.write_event(stage.log, "inputs", again, meta_of(told))
    dumped = await other.dump(position)
    (rows,) = (table.row for table in dumped.tables if table.name == "inputs")
    found = {each.key: contract.Seen.FromString(each.value) for each in rows}
    assert found[again.key].last_number == found[case.key].last_number == 8
