"""What could not be answered waits, keeps its key in order, and is redriven by the command line."""

from typing import Any

from faults.log import eventually, keys, partition_of

from factfold.v1.fact_pb2 import DeadLetter

from . import entries
from .cases import Case
from .playing import Scenes
from .reacting import GROUP, answered, answers, append, committed, document, factfold
from .reading import keyed
from .stage import Stage

FAMILY = "dead_letters"
HELD, RETRYING, DEAD = DeadLetter.HELD, DeadLetter.RETRYING, DeadLetter.DEAD
scenes = Scenes()


async def test_dead_letters(stage: Stage, case: Case) -> None:
    await scenes.play(stage, case)


def letters(stage: Stage, key: str) -> list[DeadLetter]:
    """Of a key, in their order; asserts that they are written as protobuf's rules say."""
    place, found = f"{{inputs/{partition_of(key)}}}", []
    with stage.log.redis() as client:
        listed = client.hget(f"{place}:dead-keys:{GROUP}", key.encode())
        for n in (listed or b"").split(b","):
            if n and (data := client.hget(f"{place}:dead:{GROUP}", n)) is not None:
                found.append(DeadLetter.FromString(data))
                assert found[-1].SerializeToString(deterministic=True) == data
                assert found[-1].entry_id.endswith(b"-" + n)
    return found


def states(stage: Stage, key: str) -> list[int]:
    return [letter.state for letter in letters(stage, key)]


async def dead(stage: Stage, key: str, *rest: int) -> None:
    """Wait until a key's first letter is given up, and the rest is as told."""
    await eventually(
        lambda: states(stage, key) == [DEAD, *rest], 20, lambda: f"{states(stage, key)}"
    )


async def gone(stage: Stage, key: str) -> None:
    await eventually(lambda: not letters(stage, key), 20, lambda: f"{states(stage, key)}")


async def hindered(stage: Stage, case: Case, facts: int = 3) -> Any:
    """The case's key fails while a file is there: `facts` of it, the first one given up."""
    probe = await stage.probe(**case.probe)
    flag = stage.shared / case.key
    flag.touch()
    for first in range(1, facts + 1):
        await append(probe, [case.key], first=first, do={"fail_while": case.key})
    await dead(stage, case.key, *[HELD] * (facts - 1))
    return flag


def told(stage: Stage, *words: str) -> None:
    done = factfold(stage, "dead-letters", *words, "--wait", "20")
    assert done.returncode == 0, done


@scenes
async def failing(stage: Stage, case: Case) -> None:
    probe = await stage.probe(**case.probe)
    (stage.shared / case.key).touch()
    do = {"fail_while": case.key}
    await append(probe, [case.key], first=1, do=do)
    await eventually(lambda: letters(stage, case.key))
    await append(probe, [case.key], first=2, do=do)
    await append(probe, [case.key], first=3)
    await eventually(lambda: committed(stage, case.key))
    first, *rest = letters(stage, case.key)
    (fact, *_) = keyed(stage, "inputs", case.key)
    assert first.state in (RETRYING, DEAD)
    assert first.attempts in (1, 2, 3)
    assert first.error.endswith(f"told to fail for {case.key}")
    assert abs(first.failed_unix_nano / 1e9 - stage.log.now()) < 60
    assert first.entry_id.decode() == fact.position.rpartition(":")[2]
    assert entries.first(first.fields, b"key") == case.key.encode()
    assert (first.round, len(first.applied), first.HasField("outcome")) == (0, 0, False)
    assert [(each.state, each.attempts, each.error) for each in rest] == [(HELD, 0, "")] * 2
    assert not answers(stage, case.key)


@scenes
async def mended(stage: Stage, case: Case) -> None:
    """While its letter is tried still."""
    probe = await stage.probe(**case.probe)
    now = int(stage.log.now() * 1000)
    await append(probe, [case.key], first=1, do={"fail_until_ms": now + 300})
    await append(probe, [case.key], first=2)
    await eventually(lambda: letters(stage, case.key))
    await append(probe, [case.key], first=3, facts=3)
    if states(stage, case.key)[:1] == [DEAD]:  # the machine was busy
        told(stage, "redrive", GROUP, "--key", case.key)
    await answered(stage, case.key, [1, 2, 3, 4, 5])
    await gone(stage, case.key)


@scenes
async def others(stage: Stage, case: Case) -> None:
    probe = await stage.probe(**case.probe)
    (stage.shared / case.key).touch()
    await append(probe, [case.key], do={"fail_while": case.key})
    beside = [key for key in keys(60, case.key) if partition_of(key) == partition_of(case.key)]
    for first in (1, 2):
        await append(probe, beside, first=first)
    for key in beside:
        await answered(stage, key, [1, 2])
    assert letters(stage, case.key)


@scenes
async def given_up(stage: Stage, case: Case) -> None:
    await hindered(stage, case)
    (first, *_) = letters(stage, case.key)
    assert first.attempts == 3
    (fact, *_) = keyed(stage, "inputs", case.key)
    where = f"inputs/{fact.partition}:{fact.n}"
    probe = await stage.probe(**case.probe)
    said = (
        f"reaction {GROUP} gives up on fact {fact.n} of inputs/{fact.partition} (tries: 3): "
        f"{first.error}; mend the cause, then `factfold dead-letters redrive {GROUP} {where}`"
    )
    await eventually(lambda: probe.said(said))


@scenes
async def redriven(stage: Stage, case: Case) -> None:
    flag = await hindered(stage, case)
    flag.unlink()
    told(stage, "redrive", GROUP, "--key", case.key)
    await answered(stage, case.key, [1, 2, 3])
    await gone(stage, case.key)
    await append(await stage.probe(**case.probe), [case.key], first=4)
    await answered(stage, case.key, [1, 2, 3, 4])


@scenes
async def redriven_in_vain(stage: Stage, case: Case) -> None:
    flag = await hindered(stage, case)
    done = factfold(stage, "dead-letters", "redrive", GROUP, "--key", case.key, "--wait", "20")
    assert done.returncode == 1, done
    await dead(stage, case.key, HELD, HELD)
    assert letters(stage, case.key)[0].attempts == 3
    assert not answers(stage, case.key)
    flag.unlink()
    told(stage, "redrive", GROUP, "--key", case.key)
    await answered(stage, case.key, [1, 2, 3])


@scenes
async def redriven_twice(stage: Stage, case: Case) -> None:
    """Queued both before the owner looks, by the script that the command line calls."""
    flag = await hindered(stage, case, facts=2)
    flag.unlink()
    (fact, *_) = keyed(stage, "inputs", case.key)
    script = (stage.made[0].scripts / "ask.lua").read_text()
    request = f"redrive:{fact.n}"
    with stage.log.redis() as client:
        redrive = f"{{inputs/{fact.partition}}}:redrive:{GROUP}"
        reply = client.eval(script, 1, redrive, request, request)
    assert reply[0] == b"OK"
    await answered(stage, case.key, [1, 2])
    await gone(stage, case.key)
    await eventually(lambda: stage.log._hash(redrive).keys() == {"_", "last"})
    await answered(stage, case.key, [1, 2])


@scenes
async def discarded(stage: Stage, case: Case) -> None:
    await hindered(stage, case)
    (fact, *_) = keyed(stage, "inputs", case.key)
    (stage.shared / case.key).unlink()
    where = f"inputs/{fact.partition}:{fact.n}"
    told(stage, "discard", GROUP, where, "--yes")
    await answered(stage, case.key, [2, 3])
    await gone(stage, case.key)


@scenes
async def listed(stage: Stage, case: Case) -> None:
    await hindered(stage, case, facts=2)
    shown = document(stage, "dead-letters", "list", GROUP, "--key", case.key)["letters"]
    facts = keyed(stage, "inputs", case.key)
    assert [each["key"] for each in shown] == [case.key] * 2
    assert [each["state"] for each in shown] == ["dead", "held"]
    assert [each["tries"] for each in shown] == [3, 0]
    assert [each["type"] for each in shown] == ["probe.v1.Input"] * 2
    assert shown[0]["error"].endswith(f"told to fail for {case.key}")
    places = [f"inputs/{fact.partition}:{fact.n}" for fact in facts]
    assert [each["position"] for each in shown] == places
    assert [each["behind"] for each in shown] == [None, places[0]]


@scenes
async def poison(stage: Stage, case: Case) -> None:
    probe = await stage.probe(**case.probe)
    fields = [
        (b"type", b"probe.v1.Input"), (b"key", case.key.encode()), (b"more", b"\xff\x00"),
        (b"meta", entries.new_meta().SerializeToString()), (b"data", b"\xff"),
    ]  # fmt: skip
    _, entry_id = entries.write(stage.log, "inputs", fields, partition_of(case.key))
    await append(probe, [case.key], first=2)
    await dead(stage, case.key, HELD)
    letter = letters(stage, case.key)[0]
    assert letter.entry_id.decode() == entry_id
    assert list(letter.fields) == [part for pair in fields for part in pair]
    assert (letter.attempts, bool(letter.error)) == (1, True)
    n = entry_id.split("-")[1]
    told(stage, "discard", GROUP, f"inputs/{partition_of(case.key)}:{n}", "--yes")
    await answered(stage, case.key, [2])


@scenes
async def keyless(stage: Stage, case: Case) -> None:
    async with stage.apart() as apart:
        probe = await apart.probe(**case.probe)
        meta = (b"meta", entries.new_meta().SerializeToString())
        some = [[(b"type", b"probe.v1.Input"), meta, (b"data", b"")],
                [(b"type", b"probe.v1.Input"), (b"key", b"_"), meta, (b"data", b"")],
                [(b"nothing", b"")]]  # fmt: skip
        for fields in some:
            entries.write(apart.log, "inputs", fields, 1)
        await append(probe, keys(20, case.key))
        await eventually(lambda: len(letters(apart, "_no-key")) == 0 and _empty(apart) == "1,2,3")
        await apart.log.reacted("answer")
        assert len(apart.log.facts("outputs")) == 20
        assert await probe.serving()


def _empty(stage: Stage) -> str:
    """The letters under the empty key, in partition 1."""
    return stage.log._hash(f"{{inputs/1}}:dead-keys:{GROUP}").get("", "")


@scenes
async def long_error(stage: Stage, case: Case) -> None:
    probe = await stage.probe(**case.probe)
    key = case.key.ljust(512, "x")
    await append(probe, [key], do={"fail_always": True})
    await eventually(lambda: letters(stage, key))
    (letter,) = letters(stage, key)
    assert len(letter.error) == 500
    assert f"told to fail for {key}".startswith(letter.error[letter.error.index("told") :])


@scenes
async def refused(stage: Stage, case: Case) -> None:
    """Its Moved expects a version that comes later; its Output goes into another stream."""
    probe = await stage.probe(**case.probe)
    await append(probe, [case.key], first=1, do={"moves": True, "expected": 1})
    await append(probe, [case.key], first=2)
    await dead(stage, case.key, HELD)
    letter = letters(stage, case.key)[0]
    place = partition_of(case.key)
    assert [(each.stream, each.partition) for each in letter.applied] == [("outputs", place)]
    assert not letter.HasField("outcome")
    assert "is at version 0, not 1" in letter.error
    await answered(stage, case.key, [1])
    assert not keyed(stage, "moves", case.key)
    await append(probe, [case.key], first=9, stream="moves", expected_version=0)
    told(stage, "redrive", GROUP, "--key", case.key)
    await answered(stage, case.key, [1, 2])
    moved = keyed(stage, "moves", case.key)
    assert [(fact.event.number, fact.meta.version) for fact in moved] == [(9, 1), (1, 2)]


@scenes
async def restarted(stage: Stage, case: Case) -> None:
    async with stage.apart() as apart:
        probe = await apart.probe(**case.probe)
        await hindered(apart, case)
        probe.kill()
        (apart.shared / case.key).unlink()
        again = await apart.probe(**case.probe)
        await append(again, [case.key], first=4)
        await eventually(lambda: states(apart, case.key) == [DEAD, HELD, HELD, HELD])
        told(apart, "redrive", GROUP, "--all")
        await answered(apart, case.key, [1, 2, 3, 4])
        await gone(apart, case.key)


@scenes
async def handed_over(stage: Stage, case: Case) -> None:
    """The first one writes letters and is killed, the second one has them redriven."""
    async with stage.apart() as apart:
        one = await apart.probe(0, **case.probe)
        await hindered(apart, case)
        before = letters(apart, case.key)
        other = await apart.start(1, **case.probe).ready()
        one.kill()
        owner = (await other.status()).instance
        group = partition_of(case.key)
        await eventually(lambda: apart.log.group("inputs", group, "answer")["owner"] == owner)
        assert letters(apart, case.key) == before
        (apart.shared / case.key).unlink()
        told(apart, "redrive", GROUP, "--key", case.key)
        await answered(apart, case.key, [1, 2, 3])
        await append(other, [case.key], first=4)
        await answered(apart, case.key, [1, 2, 3, 4])
