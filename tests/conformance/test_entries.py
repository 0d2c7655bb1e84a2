"""What stands in Redis, to the byte, and that each language reads what each other wrote."""

import hashlib
import json
import re
import uuid
from typing import Any

from faults.log import FIELDS, PARTITIONS, STREAMS, eventually, keys, partition_of
from faults.probe import ROOT, contract

from factfold.v1.fact_pb2 import FactMeta

from .calls import AT_LEAST, call
from .cases import Case
from .entries import first
from .playing import Scenes
from .reading import keyed
from .stage import Stage

FAMILY = "entries"
VECTORS = ROOT / "tests" / "vectors"
HEX = re.compile(r"[0-9a-f]{16}")
TRACE = [("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")]
BATCH = r"\d+;\d+;\d+;\d+;[\d:,]*;[^|;]*"
scenes = Scenes()


async def test_entries(stage: Stage, case: Case) -> None:
    await scenes.play(stage, case)


def vectors(name: str) -> list[Any]:
    cases: list[Any] = json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))["cases"]
    return cases


async def append(stage: Stage, key: str, at: int = 0, **fields: Any) -> Any:
    told = {"stream": "inputs", "key": key, "first": 1, **fields}
    metadata = told.pop("metadata", ())
    probe = await stage.probe(at)
    answer = await call(probe, "Append", contract.AppendRequest(**told), metadata)
    assert answer.code == "OK", answer
    return answer.message


def raw(stage: Stage, stream: str, key: str) -> list[list[bytes]]:
    """The fields of a key's entries, names and values in turn."""
    found = stage.log.entries(stream, partition_of(key))
    return [fields for _, fields in found if first(fields, b"key") == key.encode()]


def hash_of(stage: Stage, key: str) -> dict[str, str]:
    return stage.log._hash(key)


@scenes
async def fields(stage: Stage, case: Case) -> None:
    await append(stage, case.key, stream="moves")
    await append(stage, case.key)
    for stream, kind in (("moves", b"probe.v1.Moved"), ("inputs", b"probe.v1.Input")):
        (entry,) = raw(stage, stream, case.key)
        assert entry[::2] == FIELDS
        assert entry[1:4:2] == [kind, case.key.encode()]


@scenes
async def meta(stage: Stage, case: Case) -> None:
    await append(stage, case.key, stream="moves", facts=2, request_id="r-1", metadata=TRACE)
    for version, entry in enumerate(raw(stage, "moves", case.key), 1):
        found = FactMeta.FromString(entry[5])
        assert found.SerializeToString(deterministic=True) == entry[5]
        assert (found.source, found.request_id, found.version) == ("/probe", "r-1", version)
        assert abs(found.time_unix_nano / 1e9 - stage.log.now()) < 60
        assert found.trace_id.hex() == "0af7651916cd43dd8448eb211c80319c"
        assert (len(found.span_id), found.trace_flags) == (8, 1)


@scenes
async def bare_meta(stage: Stage, case: Case) -> None:
    await append(stage, case.key)
    (entry,) = raw(stage, "inputs", case.key)
    names = [field.name for field, _ in FactMeta.FromString(entry[5]).ListFields()]
    assert names == ["id", "source", "time_unix_nano"]


@scenes
async def ids(stage: Stage, case: Case) -> None:
    for number in range(1, 4):
        await append(stage, case.key, first=number)
    found = [uuid.UUID(bytes=fact.meta.id) for fact in keyed(stage, "inputs", case.key)]
    assert len(set(found)) == 3
    now = stage.log.now() * 1000
    for each in found:
        assert (each.version, each.variant) == (7, uuid.RFC_4122)
        assert abs((each.int >> 80) - now) < 60_000
    assert found == sorted(found)


@scenes
async def data(stage: Stage, case: Case) -> None:
    do = contract.Instructions(only="nobody", outputs=3, expected=2**63)
    await append(stage, case.key, first=2**40, payload_bytes=3, do=do)
    (entry,) = raw(stage, "inputs", case.key)
    event = contract.Input(key=case.key, number=2**40, payload=bytes(3), do=do)
    assert entry[7] == event.SerializeToString(deterministic=True)


@scenes
async def partitions(stage: Stage, case: Case) -> None:
    for vector in vectors("partitions"):
        wanted = vector["partitions"][str(PARTITIONS)]
        place = (await append(stage, vector["key"])).position.partition("@")[0]
        assert place == f"inputs/{wanted}", vector["key"]


@scenes
async def tokens(stage: Stage, case: Case) -> None:
    """A token that is read names streams of which the probe has no view."""
    probe = await stage.probe()
    for vector in vectors("positions"):
        metadata = [(AT_LEAST, vector["text"])]
        answer = await call(probe, "Dump", contract.DumpRequest(hashes_only=True), metadata)
        if vector["text"] != vector["text"].strip():
            continue  # some of gRPC's libraries strip the blanks around a header
        wanted = "FAILED_PRECONDITION" if vector["text"] else "OK"
        if vector["positions"] is None:
            wanted = "INVALID_ARGUMENT"
        assert answer.code == wanted, (vector, answer)


@scenes
async def created(stage: Stage, case: Case) -> None:
    async with stage.apart() as apart:
        await apart.probe()
        with apart.log.redis() as client:
            for stream in STREAMS:
                for partition in range(PARTITIONS):
                    place = f"{{{stream}/{partition}}}"
                    assert client.type(f"{place}:log") == b"stream"
                    assert client.xlen(f"{place}:log") == 0
                    for name in ("head", "producers", "versions", "cursors:probe.probe"):
                        assert client.hget(f"{place}:{name}", "_") == b"1", f"{place}:{name}"


@scenes
async def head(stage: Stage, case: Case) -> None:
    for number in range(1, 4):
        await append(stage, case.key, first=number)
    facts = stage.log.facts("inputs")  # asserts that heads count them
    heads = [stage.log.head("inputs", partition) for partition in range(PARTITIONS)]
    assert len({each["epoch"] for each in heads}) == 1
    for partition, each in enumerate(heads):
        assert each.keys() == {"_", "format", "partitions", "epoch", "n", "ms", "trimmed"}
        assert (each["format"], each["partitions"], each["trimmed"]) == ("1", "4", "0")
        assert HEX.fullmatch(each["epoch"])
        own = [fact for fact in facts if fact.partition == partition]
        last = own[-1].position.rpartition(":")[2] if own else "0-0"
        assert f"{each['ms']}-{each['n']}" == last
    epochs = {stage.log.head(stream, 0)["epoch"] for stream in STREAMS}
    assert len(epochs) == len(STREAMS)


@scenes
async def versions(stage: Stage, case: Case) -> None:
    await append(stage, case.key)
    await append(stage, case.key, stream="moves", facts=3)
    partition = partition_of(case.key)
    assert hash_of(stage, f"{{moves/{partition}}}:versions")[case.key] == "3"
    assert hash_of(stage, f"{{inputs/{partition}}}:versions") == {"_": "1"}


@scenes
async def producers(stage: Stage, case: Case) -> None:
    async with stage.apart() as apart:
        for number in range(1, 9):
            await append(apart, case.key, first=number, stream="moves")
        probe = await apart.probe()
        refused = contract.AppendRequest(stream="moves", key=case.key, first=9, expected_version=1)
        assert (await call(probe, "Append", refused)).code == "ABORTED"
        found = hash_of(apart, f"{{moves/{partition_of(case.key)}}}:producers")
        (name,) = found.keys() - {"_"}
        assert re.fullmatch(r"[0-9a-f]{32}", name)
        time, *batches = found[name].split("|")
        assert abs(int(time) / 1000 - apart.log.now()) < 60
        assert all(re.fullmatch(BATCH, batch) for batch in batches), batches
        split = [batch.split(";") for batch in batches]
        assert [each[0] for each in split] == ["5", "6", "7", "8", "9"]
        assert [each[2:] for each in split[:4]] == [[f"{n}", "1", "", ""] for n in range(5, 9)]
        assert split[4][2:] == ["9", "0", "0:8", ""]


@scenes
async def cursors(stage: Stage, case: Case) -> None:
    async with stage.apart() as apart:
        probe = await apart.probe()
        await append(apart, case.key)
        key = f"{{inputs/{partition_of(case.key)}}}:cursors:probe.probe"
        tail = apart.log.tail("inputs").rpartition(":")[2]

        def written() -> list[str]:
            found = hash_of(apart, key)
            (name,) = found.keys() - {"_"}
            assert HEX.fullmatch(name)
            words = found[name].split(" ")
            return words if words[2] == tail else []

        again, time, present = await eventually(written, 10)
        assert (again, present) == ("0-0", tail)  # it keeps no snapshots
        assert abs(int(time) / 1000 - apart.log.now()) < 60
        assert probe.running


@scenes
async def group(stage: Stage, case: Case) -> None:
    async with stage.apart() as apart:
        probe = await apart.probe(PROBE_REACTIONS="answer")
        units = [contract.AppendRequest(stream="inputs", key=key, first=1) for key in keys(20)]
        assert not any(each.code for each in await probe.append_many(units))
        await apart.log.reacted("answer")
        name = (await probe.status()).instance
        assert re.fullmatch(r"probe-[0-9a-f]{8}", name)
        assert hash_of(apart, "{inputs}:members:probe.answer").keys() == {"_", name}
        for partition in range(PARTITIONS):
            found = apart.log.group("inputs", partition, "answer")
            head = apart.log.head("inputs", partition)
            assert found.keys() == {
                "_", "epoch", "position", "fact", "settled", "owner", "token", "beat",
            }  # fmt: skip
            assert found["epoch"] == head["epoch"]
            assert found["position"] == f"{head['ms']}-{head['n']}"
            last = [fact for fact in apart.log.facts("inputs") if fact.partition == partition][-1]
            assert found["fact"] == last.meta.id.hex()
            assert found["owner"] == name
            assert re.fullmatch(r"1:[0-9a-f]{16}", found["token"])
            for rest in ("outbox", "dead", "dead-keys", "redrive"):
                key = f"{{inputs/{partition}}}:{rest}:probe.answer"
                assert hash_of(apart, key) == {"_": "1"}, key


@scenes
async def mirrored(stage: Stage, case: Case) -> None:
    async with stage.apart() as apart:
        probe = await apart.probe(PROBE_REACTIONS="answer")
        units = [contract.AppendRequest(stream="inputs", key=key, first=1) for key in keys(20)]
        await probe.append_many(units)
        await apart.log.reacted("answer")
        with apart.log.redis() as client:
            for partition in range(PARTITIONS):
                (found,) = client.xinfo_groups(f"{{inputs/{partition}}}:log")
                assert found["name"] == b"probe.answer"
                position = apart.log.group("inputs", partition, "answer")["position"]
                assert found["last-delivered-id"].decode() == position
                assert (found["consumers"], found["pending"]) == (0, 0)
                assert client.xinfo_groups(f"{{outputs/{partition}}}:log") == []


@scenes
async def scripts(stage: Stage, case: Case) -> None:
    """Redis has what the service called under the SHA-1 of the one set of files."""
    async with stage.apart() as apart:
        probe = await apart.probe(PROBE_REACTIONS="answer")
        await probe.append_many([contract.AppendRequest(stream="inputs", key=case.key, first=1)])
        await apart.log.reacted("answer")
        masters = [ROOT / "template" / "common" / "lua", *ROOT.glob("template/common/**/lua")]
        (folder,) = {path for path in masters if path.is_dir()}
        used = ["create", "append", "claim", "member", "settle", "commit"]
        with apart.log.redis() as client:
            hashes = [hashlib.sha1((folder / f"{n}.lua").read_bytes()).hexdigest() for n in used]
            assert dict(zip(used, client.script_exists(*hashes), strict=True)) == dict.fromkeys(
                used, True
            )


@scenes
async def lasting(stage: Stage, case: Case) -> None:
    async with stage.apart() as apart:
        probe = await apart.probe(PROBE_REACTIONS="answer,scatter")
        await probe.append_many([contract.AppendRequest(stream="inputs", key=case.key, first=1)])
        await apart.log.reacted("answer", "scatter")
        with apart.log.redis() as client:
            names = list(client.scan_iter("*"))
            assert len(names) > 40
            assert {name: client.ttl(name) for name in names} == dict.fromkeys(names, -1)
            # One tag a partition, or the stream's for its members: so one slot each.
            pattern = re.compile(rb"\{(inputs|moves|outputs)(/[0-3])?\}:[a-z-]+(:[a-z.-]+)?")
            assert all(pattern.fullmatch(name) for name in names), names


@scenes
async def left(stage: Stage, case: Case) -> None:
    async with stage.apart() as apart:
        probe = await apart.start(PROBE_REACTIONS="answer").ready()
        await eventually(lambda: apart.log.group("inputs", 0, "answer").get("owner"))
        probe.terminate()
        assert await probe.ends() == 0
        assert hash_of(apart, "{inputs}:members:probe.answer") == {"_": "1"}
        for partition in range(PARTITIONS):
            assert hash_of(apart, f"{{inputs/{partition}}}:cursors:probe.probe") == {"_": "1"}
            assert apart.log.group("inputs", partition, "answer")["owner"] == ""
            assert apart.log.group("inputs", partition, "answer")["token"] == "1:"


@scenes
async def same_bytes(stage: Stage, case: Case) -> None:
    """The same command at both, under two keys of one length."""
    found = []
    for at in range(2):
        key = f"{case.key}-{at}"
        request = {"first": 3, "facts": 2, "payload_bytes": 5, "request_id": f"{key}-r"}
        await append(stage, key, at, stream="moves", group="g", amount=-1, to="x",
                     metadata=TRACE, **request)  # fmt: skip
        entries = []
        for entry in raw(stage, "moves", key):
            told = FactMeta.FromString(entry[5])
            told.id, told.span_id, told.time_unix_nano = bytes(16), bytes(8), 1
            text = [*entry[:5], told.SerializeToString(deterministic=True), *entry[6:]]
            entries.append([part.replace(key.encode(), b"KEY") for part in text])
        found.append(entries)
    assert found[0] == found[1]
