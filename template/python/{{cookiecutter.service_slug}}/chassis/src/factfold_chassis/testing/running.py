"""A service under test: in this process, on a free port, against a real Redis."""

import asyncio
import contextlib
import inspect
import uuid
from collections.abc import Awaitable, Callable
from typing import Self, TypeVar, cast

import grpc
from google.protobuf.message import Message

from factfold_chassis import client
from factfold_chassis.calls import Appended
from factfold_chassis.core import Core
from factfold_chassis.facts import Fact, new_meta
from factfold_chassis.log.append import Appender
from factfold_chassis.log.lane import NewFact
from factfold_chassis.log.link import Redis
from factfold_chassis.log.read import Reader
from factfold_chassis.log.streams import create_stream, wait_for_stream
from factfold_chassis.service import Running as Process
from factfold_chassis.service import Service
from factfold_chassis.settings import Settings
from factfold_chassis.telemetry import Telemetry
from factfold_chassis.testing.spans import SpanRecorder
from factfold_chassis.views.declare import Table
from factfold_chassis.views.tables import Rows

Row = TypeVar("Row", bound=Message)
Event = TypeVar("Event", bound=Message)
Result = TypeVar("Result")

PATIENCE = 10.0  # seconds until something that must happen counts as not happening


class Running:
    """Runs from entering to leaving `async with`; once entered, it is ready.

    Streams that it subscribes to exist and are empty; `publish` plays their owners.

    Attributes:
        channel: to its gRPC server; calls are traced and end after 10 s.
        core: what runs behind the gRPC server.
        spans: that have ended so far.
    """

    def __init__(self, app: Service, redis_url: str, spans: SpanRecorder):
        settings = Settings(redis_url=redis_url, listen="127.0.0.1:0", drain_timeout=2.0)
        self.spans = spans
        self._process = Process(app, settings, Telemetry.for_tests(spans))
        self._settings = settings
        self._redis = Redis(redis_url)
        self._appenders: dict[str, Appender] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._stack = contextlib.AsyncExitStack()
        self.core: Core = self._process.core
        of = self.core.contract.event_of
        folded = {of(fold.event).stream.name for fold in app.wire().folds}
        self._viewed = folded | {stream.name for stream in self.core.contract.own_streams}
        self.channel: grpc.aio.Channel

    async def __aenter__(self) -> Self:
        async with self._stack:
            for stream in self.core.contract.streams.values():
                epochs = await create_stream(self._redis, stream, expect=False)
                appender = Appender(
                    self._redis,
                    stream.name,
                    epochs,
                    timeout=PATIENCE,
                    limit=self._settings.append_queue,
                    max_fact_bytes=self._settings.max_fact_bytes,
                    alarm=_fail,
                )
                self._appenders[stream.name] = appender
                self._tasks.append(asyncio.create_task(appender.run()))
            self._stack.push_async_callback(self._end_appenders)
            await self._stack.enter_async_context(self._process)
            self.channel = await self._stack.enter_async_context(
                client.channel(self._process.address)
            )
            try:
                async with asyncio.timeout(PATIENCE):
                    await self.core.wait_ready()
            except TimeoutError:
                raise AssertionError(f"the service is not ready: {self.core.status}") from None
            self._stack = self._stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _end_appenders(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

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
        if stream.name in self._viewed:
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
