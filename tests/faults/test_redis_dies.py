"""The append path when Redis is killed, and when it does not answer."""

import asyncio
import uuid

import grpc
import pytest

from .load import Load
from .log import Log, Sent, keys
from .probe import Probe
from .proxy import Trap
from .row import Row

KEYS = keys(500)
OUTCOME_UNKNOWN = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,  # by a server whose timer was first: so does grpc-go
)


@pytest.mark.at_least(20)
async def test_redis_is_killed(row: Row) -> None:
    """SIGKILL Redis (fsync always), restart"""
    server = row.redis()
    proxy = await row.proxy(server)
    log, sent = Log(server), Sent()
    probe = await row.probe(proxy, FACTFOLD_APPEND_TIMEOUT="0.5").ready()
    async with Load(row, probe, sent, KEYS) as load:
        while row.more:
            await load.acknowledged(500)
            kill = row.counts.injected
            # Between an execution and its reply, and at any moment.
            if kill % 2:
                await asyncio.sleep(row.random.uniform(0, 0.02))
                if not load.under_way:
                    continue
                server.kill()
            else:
                of_append = Trap(lambda command: command.name == "append", server.kill)
                await proxy.spring(of_append)
            row.injected()
            # Back in time for what is in flight, or too late.
            await asyncio.sleep(0.8 if kill // 2 % 2 else 0)
            await asyncio.to_thread(server.start_again)
        await load.acknowledged(500)
    row.appended(log, sent)
    await row.view_is_rebuild(log, probe, at=server)


class Repeating:
    """Commands of one key after the other, each repeated until it is answered."""

    def __init__(self, probe: Probe, sent: Sent, key: str):
        self.stopping = False
        self._probe = probe
        self._sent = sent
        self._key = key

    async def run(self) -> None:
        seen = ""
        while not self.stopping:
            unit = self._sent.unit(self._key, request_id=str(uuid.uuid4()))
            while True:
                # The version comes from the view, which must have what this caller wrote before.
                metadata = (("factfold-at-least", seen),) if seen else ()
                try:
                    answer = await self._probe.stub.Append(unit, timeout=0.4, metadata=metadata)
                except grpc.aio.AioRpcError as error:
                    if error.code() not in OUTCOME_UNKNOWN:
                        raise
                    await asyncio.sleep(0.05)
                else:
                    seen = answer.position
                    self._sent.outcome(unit, seen, "")
                    break


@pytest.mark.at_least(20)
async def test_redis_is_stopped(row: Row) -> None:
    """SIGSTOP Redis past deadlines, SIGCONT"""
    server = row.redis()
    log, sent, moved = Log(server), Sent(), Sent("moves")
    probe = await row.probe(server, FACTFOLD_APPEND_TIMEOUT="0.3").ready()
    repeating = [Repeating(probe, moved, key) for key in KEYS[:16]]
    commands = [asyncio.create_task(each.run()) for each in repeating]
    async with Load(row, probe, sent, KEYS) as load:
        while row.more:
            await load.acknowledged(500)
            failed, repeated = len(sent.unknown) + len(sent.refused), len(moved.acknowledged)
            while not load.under_way:
                await asyncio.sleep(0.001)
            server.pause()
            try:
                await asyncio.sleep(row.random.uniform(0.4, 1.0))
            finally:
                server.go_on()
            await load.acknowledged(500)
            # A stop that nobody has felt is none.
            felt = len(sent.unknown) + len(sent.refused) > failed
            row.injected(felt and len(moved.acknowledged) > repeated)
        for each in repeating:
            each.stopping = True
        await asyncio.gather(*commands)
    # An old connection may deliver what was given up, until Redis has read it to its end.
    row.appended(log, sent, moved)
    assert not moved.unknown
    await row.view_is_rebuild(log, probe, at=server)
