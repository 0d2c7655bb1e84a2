"""A service under test: in this process, on a free port, against a real Redis."""

import asyncio
import contextlib
import inspect
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar, cast

import grpc
from google.protobuf.message import Message

from factfold_chassis import client
from factfold_chassis.calls import Appended
from factfold_chassis.core import Core
from factfold_chassis.errors import FailedPrecondition
from factfold_chassis.facts import Fact, new_meta
from factfold_chassis.log.append import Appender
from factfold_chassis.log.lane import NewFact
from factfold_chassis.log.read import Reader
from factfold_chassis.log.redis import Redis
from factfold_chassis.log.streams import create_stream, wait_for_stream
from factfold_chassis.service import Running as Process
from factfold_chassis.service import Service
from factfold_chassis.settings import Settings
from factfold_chassis.tasks import cancel
from factfold_chassis.telemetry import Telemetry
from factfold_chassis.testing.spans import SpanRecorder
from factfold_chassis.views.declare import Table
from factfold_chassis.views.tables import Rows

Row = TypeVar("Row", bound=Message)
Event = TypeVar("Event", bound=Message)
Result = TypeVar("Result")

PATIENCE = 10.0  # seconds until something that must happen counts as not happening


@contextlib.asynccontextmanager
async def run(app: Service, redis_url: str, spans: SpanRecorder) -> "AsyncIterator[Running]":
    """`app`, ready, until the `async with` block is left.

    Streams that it subscribes to exist and are empty; `Running.publish` plays their owners.
    """
    settings = Settings(redis_url=redis_url, listen="127.0.0.1:0", drain_timeout=2.0)
    process = Process(app, settings, Telemetry.for_tests(spans))
    redis = Redis(redis_url)
    appenders: dict[str, Appender] = {}
    for stream in process.core.contract.streams.values():
        appenders[stream.name] = Appender(
            redis,
            stream.name,
            await create_stream(redis, stream),
            timeout=PATIENCE,
            limit=settings.append_queue,
            max_fact_bytes=settings.max_fact_bytes,
            alarm=_fail,
        )
    tasks = [asyncio.create_task(appender.run()) for appender in appenders.values()]
    try:
        async with process, client.channel(process.address) as channel:
            try:
                async with asyncio.timeout(PATIENCE):
                    await process.core.wait_ready()
            except TimeoutError:
                raise AssertionError(f"not ready: {process.core.status}") from None
            yield Running(process.core, channel, spans, redis, appenders)
    finally:
        await cancel(tasks)


@dataclass(frozen=True)
class Running:
    """A service that runs, and what its tests do with it.

    Attributes:
        core: what runs behind the gRPC server.
        channel: to that server; calls are traced and end after 10 s.
        spans: that have ended so far.
    """

    core: Core
    channel: grpc.aio.Channel
    spans: SpanRecorder
    _redis: Redis
    _appenders: dict[str, Appender]

    def rows(self, table: Table[Row]) -> Rows[Row]:
        """What the service has in `table` now."""
        return self.core.query().rows(table)

    async def publish(
        self,
        event: Event,
        *,
        expected_version: int | None = None,
        cause: uuid.UUID | None = None,
    ) -> Appended[Event]:
        """Append an event as the owner of its stream, and wait until the service's views have it.

        `expected_version` as in Command.append; `cause` is the id of the fact that this one
        answers. Raises what the append path raises.
        """
        spec = self.core.contract.event_of(event)
        stream = spec.stream
        version = 0 if expected_version is None else expected_version + 1
        meta = new_meta(f"/{stream.name}", cause=cause.bytes if cause else b"", version=version)
        fact = NewFact(
            key=spec.key_of(event),
            type=spec.name,
            meta=meta.SerializeToString(),
            data=event.SerializeToString(),
            expected_version=expected_version,
        )
        position = await self._appenders[stream.name].append([fact])
        with contextlib.suppress(FailedPrecondition):  # no view of this stream: nothing to wait for
            await self.core.at_least(str(position), PATIENCE)
        return Appended(event, version, position, repeated=False)

    async def facts(self, stream: str) -> list[tuple[Fact, Message]]:
        """Everything in `stream`, partition after partition, as the service's reader reads it."""
        events = self.core.contract.streams[stream].events
        found: list[tuple[Fact, Message]] = []
        for partition, head in enumerate(await wait_for_stream(self._redis, stream)):
            if head.n:
                reader = Reader(self._redis, stream, partition, head.epoch)
                async with contextlib.aclosing(reader.batches()) as batches:
                    async for batch in batches:
                        facts = [Fact(stream, partition, head.epoch, e) for e in batch.entries]
                        found += [(f, events[f.type].message.FromString(f.data)) for f in facts]
                        if batch.anchor.n >= head.n:
                            break
        return found

    async def eventually(self, check: Callable[[], Result | Awaitable[Result]]) -> Result:
        """The first true result of `check()`, which may be awaitable.

        Raises:
            AssertionError: there was none within 10 seconds.
        """
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while True:
            result = check()
            value = cast(Result, await result if inspect.isawaitable(result) else result)
            if value:
                return value
            if asyncio.get_running_loop().time() > deadline:
                raise AssertionError(f"not true within {PATIENCE:g} s; the last result: {value!r}")
            await asyncio.sleep(0.01)


def _fail(alarm: str) -> None:
    raise AssertionError(alarm)
