"""The same variables mean the same in each language, and the same values are refused."""

import asyncio
import json
import subprocess
from contextlib import suppress
from typing import Any

import grpc
import pytest
import pytest_asyncio
from faults.probe import Probe, contract

from factfold_cli.redis_server import free_port

from .calls import call, check_health, matches
from .cases import Case, family
from .playing import Scenes
from .stage import Stage

FAMILY = "settings"
SIDE_BY_SIDE = 3  # processes that start: as many as a small machine has room for
scenes = Scenes()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def refused(stage: Stage) -> dict[str, tuple[int | None, list[str]]]:
    """Exit code and lines of the probe of each case that must be refused, started side by side.

    A probe that serves instead has no code: that fails its case, and no other one.
    """
    places = asyncio.Semaphore(SIDE_BY_SIDE)
    serving = await stage.probe()

    async def end(case: Case) -> tuple[str, tuple[int | None, list[str]]]:
        told = dict(case.more["set"])
        if case.more.get("taken"):
            told["FACTFOLD_LISTEN"] = serving.address
        async with places:
            probe = stage.start(**told)
            code: int | None = None
            with suppress(subprocess.TimeoutExpired):
                code = await probe.ends()
            await probe.close()
        return case.name, (code, probe.lines)

    cases = [case for case in family(FAMILY) if case.play == "refuse"]
    return dict(await asyncio.gather(*map(end, cases)))


async def test_settings(
    stage: Stage, case: Case, refused: dict[str, tuple[int | None, list[str]]]
) -> None:
    if case.play != "refuse":
        await scenes.play(stage, case)
        return
    code, lines = refused[case.name]
    assert code == 2, lines
    *before, line = lines
    assert matches(f"probe: {case.more['says']}", line), line
    # What the environment alone tells is told before anything is begun.
    assert not before or "taken" in case.more, before
    assert "not" not in case.more or case.more["not"] not in line


async def once(stage: Stage, **settings: str) -> Probe:
    return await stage.start(**settings).ready()


def request(key: str, **fields: Any) -> Any:
    return contract.AppendRequest(stream="inputs", key=key, first=1, **fields)


@scenes
async def take(stage: Stage, case: Case) -> None:
    probe = await once(stage, **case.more["set"])
    assert (await call(probe, "Append", request(case.key))).code == "OK"
    probe.terminate()
    assert await probe.ends() == 0


@scenes
async def secret_file(stage: Stage, case: Case) -> None:
    secret = stage.folder / "url"
    secret.write_text(f"\n  {stage.server.url}\n\n")
    probe = await once(stage, FACTFOLD_REDIS_URL="", FACTFOLD_REDIS_URL_FILE=str(secret))
    assert (await call(probe, "Append", request(case.key))).code == "OK"


@scenes
async def expected_log(stage: Stage, case: Case) -> None:
    async with stage.apart() as apart:
        probe = apart.start(FACTFOLD_EXPECT_LOG="true")
        async with asyncio.timeout(20):
            while not probe.said("FACTFOLD_EXPECT_LOG is set"):
                await asyncio.sleep(0.05)
        answer = await call(probe, "Status", contract.StatusRequest())
        assert answer.code == "UNAVAILABLE", answer
        assert matches("not ready: *was lost or replaced*; retry later", answer.says), answer.says
        with apart.log.redis() as client:
            assert not client.keys("*:log")


@scenes
async def json_lines(stage: Stage, case: Case) -> None:
    probe = await once(stage)
    probe.terminate()
    assert await probe.ends() == 0
    await probe.close()
    lines = [json.loads(line) for line in probe.lines]
    assert all({"timestamp", "level", "message"} <= line.keys() for line in lines)
    messages = [line["message"] for line in lines]
    assert {"starting", "serving", "ended"} <= set(messages), messages
    (serving,) = (line for line in lines if line["message"] == "serving")
    assert serving["address"] == probe.address
    assert serving["level"] == "INFO"


@scenes
async def password(stage: Stage, case: Case) -> None:
    """Right and wrong: the error of a server repeats what it was sent."""
    async with stage.apart("--requirepass", "s%40cret-word") as apart:
        url = apart.server.url.replace("redis://", "redis://:{}@")
        right = apart.start(FACTFOLD_REDIS_URL=url.format("s%2540cret-word"))
        wrong = apart.start(FACTFOLD_REDIS_URL=url.format("not-the-cret-word"))
        await right.ready()
        await asyncio.sleep(0.5)
        assert not await wrong.serving()
        for probe in (right, wrong):
            assert not probe.said("cret-word"), probe.said("cret-word")


@scenes
async def health_listen(stage: Stage, case: Case) -> None:
    address = f"127.0.0.1:{free_port()}"
    await once(stage, FACTFOLD_HEALTH_LISTEN=address)
    async with grpc.aio.insecure_channel(address) as channel:
        assert await check_health(channel) == 1
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await contract.ProbeStub(channel).Status(contract.StatusRequest(), timeout=5)
        assert refusal.value.code() is grpc.StatusCode.UNIMPLEMENTED


@scenes
async def max_fact(stage: Stage, case: Case) -> None:
    probe = await once(stage, FACTFOLD_MAX_FACT_BYTES="2000")
    assert (await call(probe, "Append", request(case.key, payload_bytes=1500))).code == "OK"
    answer = await call(probe, "Append", request(case.key, payload_bytes=2000))
    assert answer.code == "INVALID_ARGUMENT", answer
    ((field, description),) = answer.violations
    assert field == "probe.v1.Input"
    assert matches("a fact has at most 2000 bytes, not *", description)
