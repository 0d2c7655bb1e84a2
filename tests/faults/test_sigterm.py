"""SIGTERM while calls are in flight."""

import asyncio

import grpc
import pytest

from .log import Counts, Log, Sent, keys
from .row import Row

KEYS = keys(500)
CALLS = 500


@pytest.mark.at_least(10)
async def test_calls_in_flight(row: Row) -> None:
    """SIGTERM under 500 calls in flight"""
    server = row.redis()
    proxy = await row.proxy(server)
    log, sent, failed = Log(server), Sent(), Counts()
    while row.more:
        probe = await row.probe(proxy).ready()
        proxy.flowing.clear()
        # Some wait for the log, some have not come so far.
        units = [
            sent.unit(key, sleep_ms=row.random.choice([0, 0, row.random.randrange(1000)]))
            for key in KEYS
        ]
        calls = [probe.stub.Append(unit, timeout=20) for unit in units]
        # On the same connection, so behind them: all are accepted.
        await probe.status()
        assert not [call for call in calls if call.done()]
        probe.terminate()
        await asyncio.sleep(row.random.uniform(0, 1))
        proxy.flowing.set()
        row.injected()
        answers = await asyncio.gather(*calls, return_exceptions=True)
        for unit, answer in zip(units, answers, strict=True):
            if isinstance(answer, grpc.aio.AioRpcError):
                failed.find("lost", f"{answer.code()}: {answer.details()}")
            elif isinstance(answer, BaseException):
                raise answer
            else:
                sent.outcome(unit, answer.position, "")
        assert await probe.ends() == 0
    row.count(failed)
    row.appended(log, sent)
