"""The same fault is the same code, message and details in each language."""

import asyncio
from typing import Any

import grpc
from faults.log import eventually, keys, partition_of
from faults.probe import Probe, contract
from faults.test_lost_log import flush

from .calls import AT_LEAST, POSITION, Answer, call, check_health, matches
from .cases import Case
from .playing import Scenes
from .reading import keyed
from .stage import Stage

FAMILY = "errors"
scenes = Scenes()


async def test_errors(stage: Stage, case: Case) -> None:
    await scenes.play(stage, case)


def request(key: str, first: int = 1, **fields: Any) -> Any:
    return contract.AppendRequest(**{"stream": "inputs", "key": key, "first": first, **fields})


async def read(probe: Probe, position: str, timeout: float = 20) -> Answer:
    asked = contract.DumpRequest(hashes_only=True)
    return await call(probe, "Dump", asked, [(AT_LEAST, position)], timeout)


async def appended(probe: Probe, key: str) -> str:
    """The position of one more fact."""
    answer = await call(probe, "Append", request(key))
    assert answer.code == "OK", answer
    return str(answer.message.position)


@scenes
async def health(stage: Stage, case: Case) -> None:
    probe = await stage.probe()
    for name, wanted in (("", 1), ("factfold.v1.Probe", 1), ("factfold.v1.Guess", "NOT_FOUND")):
        assert await check_health(probe.channel, name) == wanted, name


@scenes
async def no_such_partition(stage: Stage, case: Case) -> None:
    probe = await stage.probe()
    position = await appended(probe, case.key)
    place, rest = position.split("@")
    answer = await read(probe, f"{place.split('/')[0]}/4@{rest}")
    assert answer.code == "INVALID_ARGUMENT", answer
    said = "stream inputs has 4 partitions, there is no 4"
    assert answer.violations == [(AT_LEAST, said)]


@scenes
async def other_epoch(stage: Stage, case: Case) -> None:
    probe = await stage.probe()
    position = await appended(probe, case.key)
    assert (await read(probe, position)).code == "OK"
    place, rest = position.split("@")
    other = f"{place}@00c0ffee00c0ffee:{rest.split(':')[1]}"
    answer = await read(probe, other)
    assert answer.code == "FAILED_PRECONDITION", answer
    assert answer.says == (
        f"the position {other} belongs to another epoch of the log (now {position}); "
        "drop it and read again"
    )
    assert answer.trailers[POSITION] == position


@scenes
async def not_reached(stage: Stage, case: Case) -> None:
    probe = await stage.probe()
    loop = asyncio.get_running_loop()
    position = await appended(probe, case.key)
    before, n = position.rsplit("-", 1)
    ahead = f"{before}-{int(n) + 1000}"
    # The time that FACTFOLD_READ_TIMEOUT allows, or four fifths of what the caller has left.
    for timeout, least, most in ((20.0, 1.9, 4.0), (1.0, 0.7, 1.0)):
        began = loop.time()
        answer = await read(probe, ahead, timeout)
        took = loop.time() - began
        assert answer.code == "UNAVAILABLE", answer
        present = str(answer.trailers[POSITION])
        assert answer.says == (
            f"the position {ahead} was not reached in time (now {present}); retry"
        )
        assert present.startswith(before.rpartition(":")[0])
        assert least <= took <= most, took


@scenes
async def another_fact(stage: Stage, case: Case) -> None:
    probe = await stage.probe()
    position = await appended(probe, case.key)
    before, n = position.rsplit("-", 1)
    start, ms = before.rsplit(":", 1)
    earlier = f"{start}:{int(ms) - 5}-{n}"
    answer = await read(probe, earlier)
    assert answer.code == "FAILED_PRECONDITION", answer
    assert answer.says == (
        f"the position {earlier} is not in the log, which was rolled back (now {position}); "
        "drop it and read again"
    )


@scenes
async def out_of_memory(stage: Stage, case: Case) -> None:
    async with stage.apart() as apart:
        probe = await apart.probe()
        await appended(probe, case.key)
        apart.log.everywhere("CONFIG", "SET", "maxmemory", "1")
        for key in keys(8, case.key):
            answer = await call(probe, "Append", request(key))
            assert answer.code == "RESOURCE_EXHAUSTED", answer
            assert answer.says == (
                "the log of stream inputs is out of memory; nothing was appended; "
                "retry once Redis has room"
            )
        assert apart.log.count("inputs") == 1
        apart.log.everywhere("CONFIG", "SET", "maxmemory", "0")
        await appended(probe, case.key)
        assert len(keyed(apart, "inputs", case.key)) == 2


@scenes
async def silent(stage: Stage, case: Case) -> None:
    """The append may come to the log after its caller was told."""
    async with stage.apart() as apart:
        proxy = await apart.proxy()
        probe = await apart.start(of=proxy, FACTFOLD_APPEND_TIMEOUT="0.5").ready()
        await appended(probe, case.key)
        proxy.flowing.clear()
        answer = await call(probe, "Append", request(case.key, 2))
        assert answer.code == "UNAVAILABLE", answer
        assert matches(
            "the outcome of an append to stream inputs is unknown (*); "
            "repeat the command with the same request_id",
            answer.says,
        ), answer.says
        proxy.flowing.set()
        assert (await call(probe, "Append", request(case.key, 3))).code in ("OK", "UNAVAILABLE")


@scenes
async def unreachable(stage: Stage, case: Case) -> None:
    async with stage.apart() as apart:
        proxy = await apart.proxy()
        probe = await apart.start(of=proxy, FACTFOLD_APPEND_TIMEOUT="0.5").ready()
        await appended(probe, case.key)
        proxy.refusing = True
        proxy.cut()
        await asyncio.sleep(0.2)  # it knows
        answer = await call(probe, "Append", request(case.key, 2))
        assert answer.code == "UNAVAILABLE", answer
        assert matches(
            "the log of stream inputs is unreachable (*); nothing was appended; retry",
            answer.says,
        ), answer.says
        proxy.refusing = False
        await asyncio.sleep(1)
        assert (await call(probe, "Append", request(case.key, 3))).code == "OK"
        assert [fact.event.number for fact in keyed(apart, "inputs", case.key)] == [1, 3]


@scenes
async def queue_full(stage: Stage, case: Case) -> None:
    probe = await stage.probe(FACTFOLD_APPEND_QUEUE="10")
    outcomes = await probe.append_many([request(key, facts=6) for key in keys(2, case.key)])
    # Whichever of two that begin together comes first.
    taken, refused = sorted(outcomes, key=lambda each: each.code)
    assert (taken.code, refused.code) == (0, grpc.StatusCode.RESOURCE_EXHAUSTED.value[0])
    assert refused.message == (
        "6 facts wait to be appended to stream inputs; nothing was appended; "
        "retry later, with fewer calls at once"
    )
    assert (await call(probe, "Append", request(case.key, facts=10))).code == "OK"


@scenes
async def not_ready(stage: Stage, case: Case) -> None:
    """A subscriber that comes first waits for the owner, and is there once that is."""
    async with stage.apart() as apart:
        reader = apart.start(PROBE_OWNS="outputs", PROBE_NAME="reader")
        await eventually(lambda: reader.said("view probe waits for stream inputs"))
        assert not await reader.serving()
        answer = await call(reader, "Status", contract.StatusRequest())
        assert answer.code == "UNAVAILABLE", answer
        assert matches(
            "not ready: *view probe waits for stream inputs*; retry later", answer.says
        ), answer.says
        owner = apart.start(PROBE_OWNS="inputs,moves")
        await reader.ready()
        await owner.ready()


@scenes
async def flushed(stage: Stage, case: Case) -> None:
    async with stage.apart() as apart:
        probe = await apart.probe()
        await appended(probe, case.key)
        flush(apart.log)
        answer = await call(probe, "Append", request(case.key, 2))
        assert answer.code in ("FAILED_PRECONDITION", "UNAVAILABLE"), answer
        assert matches("*stream inputs*", answer.says), answer.says
        if answer.code == "FAILED_PRECONDITION":
            assert matches(
                "the log of stream inputs was lost or replaced (*); restore it from a backup, or "
                "begin anew without it: `factfold stream recreate inputs`; "
                "then restart the service",
                answer.says,
            ), answer.says

        async def refuses() -> bool:
            return (await call(probe, "Status", contract.StatusRequest())).code == "UNAVAILABLE"

        async with asyncio.timeout(8):
            while not await refuses():
                await asyncio.sleep(0.1)
        assert not await probe.serving()
        # Nobody has made a log of its own out of what was left.
        assert not apart.log.head("inputs", partition_of(case.key))


@scenes
async def given_up(stage: Stage, case: Case) -> None:
    """Callers that go away while their appends are under way, and while reads wait."""
    probe = await stage.probe()
    position = await appended(probe, case.key)
    before, n = position.rsplit("-", 1)
    ahead = f"{before}-{int(n) + 100_000}"
    for _ in range(3):
        some = [call(probe, "Append", request(key), timeout=0.002) for key in keys(30, case.key)]
        some += [read(probe, ahead, 0.05) for _ in range(5)]
        codes = {answer.code for answer in await asyncio.gather(*some)}
        assert codes <= {"OK", "DEADLINE_EXCEEDED", "CANCELLED", "UNAVAILABLE"}, codes
        last = await appended(probe, case.key)
        assert (await read(probe, last)).code == "OK"
    assert len(keyed(stage, "inputs", case.key)) == 4


@scenes
async def long_details(stage: Stage, case: Case) -> None:
    """Of a text of 6,000 bytes: base64 and percent signs make it longer than 8 KiB."""
    probe = await stage.probe()
    answer = await read(probe, "\t".join(["%"] * 1500)[:3000].replace("\t", "~"))
    assert answer.code == "INVALID_ARGUMENT", answer
    ((field, description),) = answer.violations
    assert field == AT_LEAST
    assert len(description.encode()) <= 192
    assert len(answer.says.encode()) <= 512
