"""The gRPC side, over loopback, with a tiny core behind it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import grpc
import pytest
from contracts import compiled
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from factfold_chassis.calls import Handler
from factfold_chassis.contract import Contract
from factfold_chassis.errors import (
    Draining,
    InvalidRequest,
    NotFound,
    PositionNotReached,
    SettingsError,
)
from factfold_chassis.server import ALIVE, Server
from factfold_chassis.settings import Settings
from factfold_chassis.telemetry import Telemetry

FILE = compiled(
    "server_test.proto",
    """
    syntax = "proto3";
    package acme.server.v1;
    message Text { string text = 1; }
    service TestService {
      rpc Put(Text) returns (Text);
      rpc Get(Text) returns (Text) { option idempotency_level = NO_SIDE_EFFECTS; }
      rpc Watch(Text) returns (stream Text) { option idempotency_level = NO_SIDE_EFFECTS; }
    }
    """,
)
CONTRACT = Contract([FILE])
Text: Any = GetMessageClass(FILE.message_types_by_name["Text"])
SERVICE = "acme.server.v1.TestService"
PUT, GET, WATCH = (f"/{SERVICE}/{name}" for name in ("Put", "Get", "Watch"))
Code = grpc.StatusCode


class FakeCommand:
    positions = ""


class FakeWatch:
    last_position = ""


class FakeCore:
    def __init__(self, settings: Settings, telemetry: Telemetry) -> None:
        self.settings = settings
        self.telemetry = telemetry
        self.status = ""
        self.draining = asyncio.Event()
        self.on_ready_change: list[Callable[[bool], None]] = []
        self.asked: tuple[str, float] = ("", 0)
        self.refusal: Exception | None = None

    @property
    def ready(self) -> bool:
        return not self.status

    def becomes(self, status: str) -> None:
        self.status = status
        for tell in self.on_ready_change:
            tell(self.ready)

    def drain(self) -> None:
        self.draining.set()

    async def at_least(self, header: str, seconds: float) -> None:
        self.asked = header, seconds
        if self.refusal:
            raise self.refusal

    def command(self, request: Any) -> FakeCommand:
        return FakeCommand()

    def query(self) -> None:
        return None

    def watch(self) -> FakeWatch:
        return FakeWatch()


class Bench:
    """One server, its client, and what they leave behind."""

    def __init__(
        self,
        core: FakeCore,
        server: Server,
        spans: InMemorySpanExporter,
        channel: grpc.aio.Channel,
    ) -> None:
        self.core = core
        self.server = server
        self.spans = spans
        self.channel = channel

    def call(self, method: str, text: str = "", **options: Any) -> Any:
        make = self.channel.unary_stream if method == WATCH else self.channel.unary_unary
        stub = make(method, Text.SerializeToString, Text.FromString)
        return stub(Text(text=text), **options)

    async def refused(self, *args: Any, **options: Any) -> grpc.aio.AioRpcError:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await self.call(*args, **options)
        return error.value

    async def health(self, service: str = "") -> int:
        stub = health_pb2_grpc.HealthStub(self.channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
        return int(answer.status)

    def span(self) -> Any:
        (span,) = self.spans.get_finished_spans()
        return span


async def put(request: Any, call: Any) -> Any:
    return Text(text=f"put {request.text}")


def get(request: Any, call: Any) -> Any:
    return Text(text=f"got {request.text}")


async def watch(request: Any, call: Any) -> AsyncIterator[Any]:
    yield Text(text="one")
    yield Text(text="two")


@asynccontextmanager
async def bench(
    put: Any = put,
    get: Any = get,
    watch: Any = watch,
    interceptors: tuple[grpc.aio.ServerInterceptor, ...] = (),
    waits: str = "",
    **settings: Any,
) -> AsyncIterator[Bench]:
    spans = InMemorySpanExporter()
    functions = {
        "Put": Handler("command", put),
        "Get": Handler("query", get),
        "Watch": Handler("watch", watch),
    }
    wired = [(method, functions[method.name]) for method in CONTRACT.methods]
    telemetry = Telemetry.for_tests(spans)
    telemetry.activate()
    core = FakeCore(Settings(**{"listen": "127.0.0.1:0", **settings}), telemetry)
    if waits:
        core.becomes(waits)
    server = Server(core, wired, interceptors)
    try:
        await server.start()
        async with grpc.aio.insecure_channel(server.address) as channel:
            yield Bench(core, server, spans, channel)
    finally:
        await server.drain(0.1)


async def test_the_three_kinds_of_call() -> None:
    async with bench() as b:
        assert (await b.call(PUT, "a")).text == "put a"
        assert (await b.call(GET, "a")).text == "got a"
        assert [answer.text async for answer in b.call(WATCH)] == ["one", "two"]


async def test_thousands_of_calls_at_once_are_all_answered() -> None:
    """They wait to be accepted while the service is busy."""

    def slow_at_first(request: Any, call: Any) -> Any:
        time.sleep(0.5 if request.text == "0" else 0)
        return Text(text=request.text)

    async with bench(get=slow_at_first) as b:
        calls = (b.call(GET, str(at), timeout=30) for at in range(5000))
        answers = await asyncio.gather(*calls, return_exceptions=True)
    assert Counter(map(type, answers)) == {Text: 5000}


@pytest.mark.parametrize(
    ("symbol", "known"), [("", True), (".Put", True), (".Guess", False), ("s", False)]
)
async def test_reflection_describes_services_and_methods(symbol: str, known: bool) -> None:
    async with bench() as b:
        stub = reflection_pb2_grpc.ServerReflectionStub(b.channel)
        request = reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE + symbol)
        (answer,) = [answer async for answer in stub.ServerReflectionInfo(iter([request]))]
    assert answer.HasField("file_descriptor_response") is known
    assert known or answer.error_response.error_code == Code.NOT_FOUND.value[0]


async def test_reflection_lists_the_services_and_health_follows_the_core() -> None:
    async with bench() as b:
        stub = reflection_pb2_grpc.ServerReflectionStub(b.channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        async for answer in stub.ServerReflectionInfo(iter([request])):
            names = {service.name for service in answer.list_services_response.service}
        assert names == {
            SERVICE,
            "grpc.health.v1.Health",
            "grpc.reflection.v1alpha.ServerReflection",
        }
        await eventually(b.health, health_pb2.HealthCheckResponse.SERVING)
        b.core.becomes("waiting for stream orders")
        await eventually(b.health, health_pb2.HealthCheckResponse.NOT_SERVING)
        assert await b.health(SERVICE) == health_pb2.HealthCheckResponse.NOT_SERVING
        b.core.becomes("")
        await eventually(b.health, health_pb2.HealthCheckResponse.SERVING)
        assert not b.spans.get_finished_spans()


async def test_health_says_from_the_first_moment_that_it_is_not_ready() -> None:
    async with bench(waits="waiting for stream orders") as b:
        for _ in range(20):
            assert await b.health() == health_pb2.HealthCheckResponse.NOT_SERVING
            await asyncio.sleep(0.01)
        b.core.becomes("")
        await eventually(b.health, health_pb2.HealthCheckResponse.SERVING)


async def test_a_process_that_answers_is_alive_ready_or_not() -> None:
    async with bench(waits="waiting for stream orders") as b:
        assert await b.health(ALIVE) == health_pb2.HealthCheckResponse.SERVING
        b.core.becomes("")
        await eventually(b.health, health_pb2.HealthCheckResponse.SERVING)
        b.core.becomes("rebuilding")
        await eventually(b.health, health_pb2.HealthCheckResponse.NOT_SERVING)
        assert await b.health(ALIVE) == health_pb2.HealthCheckResponse.SERVING


async def eventually(read: Callable[[], Any], wanted: Any) -> None:
    for _ in range(300):
        if await read() == wanted:
            return
        await asyncio.sleep(0.01)
    assert await read() == wanted


async def test_calls_while_not_ready_say_what_the_service_waits_for() -> None:
    async with bench() as b:
        b.core.becomes("waiting for stream orders")
        error = await b.refused(GET)
        assert (error.code(), error.details()) == (
            Code.UNAVAILABLE,
            "not ready: waiting for stream orders; retry later",
        )


async def test_an_invalid_request_names_its_fields() -> None:
    async def put(request: Any, call: Any) -> Any:
        raise InvalidRequest("name", "must not be empty", ("id", "must be a UUID"))

    async with bench(put) as b:
        error = await b.refused(PUT)
        assert error.code() is Code.INVALID_ARGUMENT
        assert error.details() == "name: must not be empty; id: must be a UUID"
        status: Any = rpc_status.from_call(error)
        details = error_details_pb2.BadRequest()
        assert status.details[0].Unpack(details)
        assert [(v.field, v.description) for v in details.field_violations] == [
            ("name", "must not be empty"),
            ("id", "must be a UUID"),
        ]


async def test_errors_of_any_length_arrive_as_what_they_are() -> None:
    async def put(request: Any, call: Any) -> Any:
        rows = [("ü" * 5000, "\n" * 5000)] * 100
        raise InvalidRequest("ü" * 5000, "ü" * 5000, *rows)

    def get(request: Any, call: Any) -> Any:
        raise NotFound("order", "ü" * 5000)

    async with bench(put, get) as b:
        assert (await b.refused(PUT)).code() is Code.INVALID_ARGUMENT
        assert (await b.refused(GET)).code() is Code.NOT_FOUND


async def test_an_unexpected_error_leaks_nothing_and_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def get(request: Any, call: Any) -> Any:
        raise KeyError("hunter2")

    async with bench(get=get) as b:
        error = await b.refused(GET)
        span = b.span()
    trace = f"{span.context.trace_id:032x}"
    assert error.code() is Code.INTERNAL
    assert error.details() == (
        f"internal error in {SERVICE}/Get: see the service's log; trace {trace}"
    )
    (record,) = [record for record in caplog.records if record.exc_info]
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], KeyError)
    assert span.attributes["error.type"] == "INTERNAL"


async def test_an_answer_of_another_type_is_an_internal_error() -> None:
    async def put(request: Any, call: Any) -> Any:
        return None

    async with bench(put) as b:
        assert (await b.refused(PUT)).code() is Code.INTERNAL


async def test_a_cancellation_inside_a_handler_is_an_internal_error() -> None:
    async def put(request: Any, call: Any) -> Any:
        raise asyncio.CancelledError

    async with bench(put) as b:
        assert (await b.refused(PUT, timeout=5)).code() is Code.INTERNAL


async def test_bytes_that_do_not_parse_are_the_callers_error() -> None:
    async with bench() as b:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await b.channel.unary_unary(GET)(b"\xff\xff")
        assert error.value.code() is Code.INVALID_ARGUMENT
        assert error.value.details() == "request: does not parse: use the service's contract"
        assert b.span().attributes["rpc.response.status_code"] == "INVALID_ARGUMENT"


HEALTH, REFLECTION = "/grpc.health.v1.Health", "/grpc.reflection.v1alpha.ServerReflection"


@pytest.mark.parametrize("path", [f"{HEALTH}/Check", f"{HEALTH}/Watch"])
async def test_bytes_that_do_not_parse_are_the_callers_error_for_health_too(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with bench() as b:
        call = b.channel.unary_stream(path)(b"\xff\xff", timeout=5)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await call.read()
        assert await b.health() == health_pb2.HealthCheckResponse.SERVING
    assert_no_parse(error.value)
    assert not caplog.records


async def test_bytes_that_do_not_parse_are_the_callers_error_for_reflection_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    good = reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString()
    async with bench() as b:
        call = b.channel.stream_stream(f"{REFLECTION}/ServerReflectionInfo")(timeout=5)
        await call.write(good)
        assert await call.read()
        await call.write(b"\xff\xff")
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await call.read()
        assert (await b.refused("/grpc.reflection.Guess/Guess")).code() is Code.UNIMPLEMENTED
        assert (await b.refused(f"{HEALTH}/Guess")).code() is Code.UNIMPLEMENTED
    assert_no_parse(error.value)
    assert not caplog.records


def assert_no_parse(error: grpc.aio.AioRpcError) -> None:
    assert error.code() is Code.INVALID_ARGUMENT
    assert error.details() == "request: does not parse: use the service's contract"
    status: Any = rpc_status.from_call(error)
    details = error_details_pb2.BadRequest()
    assert status.details[0].Unpack(details)
    assert [violation.field for violation in details.field_violations] == ["request"]


async def test_a_command_returns_its_position_also_when_it_fails_later() -> None:
    async def put(request: Any, call: Any) -> Any:
        call.positions = "orders/0@0123456789abcdef:1-1"
        if request.text == "fail":
            raise KeyError
        return Text()

    async with bench(put) as b:
        expected = ("factfold-position", "orders/0@0123456789abcdef:1-1")
        call = b.call(PUT)
        await call
        assert expected in tuple(await call.trailing_metadata())
        assert expected in tuple((await b.refused(PUT, "fail")).trailing_metadata())


async def test_at_least_waits_within_the_callers_deadline() -> None:
    async with bench(read_timeout=2.0, default_deadline=1.0) as b:
        metadata = (("factfold-at-least", "p"), ("factfold-at-least", "q"))
        await b.call(GET, metadata=metadata)
        assert b.core.asked == ("p,q", 0.8)
        await b.call(GET, metadata=metadata, timeout=30)
        assert b.core.asked == ("p,q", 2.0)
        await b.call(GET, metadata=metadata, timeout=1)
        assert 0.4 < b.core.asked[1] < 0.85
        b.core.refusal = PositionNotReached("p", "now")
        error = await b.refused(GET, metadata=metadata)
        assert error.code() is Code.UNAVAILABLE
        assert ("factfold-position", "now") in tuple(error.trailing_metadata())


async def test_a_command_without_deadline_gets_the_default_one() -> None:
    async def put(request: Any, call: Any) -> Any:
        await asyncio.sleep(5)

    async with bench(put, default_deadline=0.05) as b:
        error = await b.refused(PUT)
        assert error.code() is Code.DEADLINE_EXCEEDED
        assert str(error.details()).startswith("no answer within 0.05 s, the default deadline")


async def test_the_callers_deadline_cancels_the_handler() -> None:
    async def put(request: Any, call: Any) -> Any:
        await asyncio.sleep(5)

    async with bench(put) as b:
        assert (await b.refused(PUT, timeout=0.1)).code() is Code.DEADLINE_EXCEEDED

        async def ended() -> int:
            return len(b.spans.get_finished_spans())

        await eventually(ended, 1)
        assert b.span().attributes["rpc.response.status_code"] == "DEADLINE_EXCEEDED"


async def test_a_watch_that_nobody_reads_any_more_is_closed() -> None:
    closed = asyncio.Event()

    async def watch(request: Any, call: Any) -> AsyncIterator[Any]:
        try:
            while True:
                yield Text()
                await asyncio.sleep(0.01)
        finally:
            closed.set()

    async with bench(watch=watch) as b:
        call = b.call(WATCH)
        await call.read()
        call.cancel()
        await asyncio.wait_for(closed.wait(), 2)


class Leaving(grpc.aio.ServerInterceptor):
    """The caller of a watch is gone when its second answer is sent, and gRPC has not said so."""

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        handler = await continuation(handler_call_details)

        class Context:
            def __init__(self, context: Any) -> None:
                self.context = context
                self.written = 0

            def __getattr__(self, name: str) -> Any:
                return getattr(self.context, name)

            async def write(self, message: Any) -> None:
                self.written += 1
                if self.written > 1:
                    raise grpc.aio.InternalError
                await self.context.write(message)

        async def watch(request: Any, context: Any) -> None:
            await handler.unary_stream(request, Context(context))

        return grpc.unary_stream_rpc_method_handler(
            watch, handler.request_deserializer, handler.response_serializer
        )


async def test_a_caller_that_left_unnoticed_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    async with bench(interceptors=(Leaving(),)) as b:
        call = b.call(WATCH, timeout=2)
        assert (await call.read()).text == "one"
        with pytest.raises(grpc.aio.AioRpcError):
            await call.read()
        assert b.span().attributes["rpc.response.status_code"] == "CANCELLED"
    assert not [record for record in caplog.records if record.exc_info]


class Auth(grpc.aio.ServerInterceptor):
    """The form that gRPC's own examples have."""

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        metadata = dict(handler_call_details.invocation_metadata)
        if metadata.get("authorization") == "yes":
            return await continuation(handler_call_details)
        if metadata.get("authorization") == "raise":
            raise KeyError("hunter2")

        async def refuse(request: Any, context: Any) -> None:
            await context.abort(Code.UNAUTHENTICATED, "who are you?")

        return grpc.unary_unary_rpc_method_handler(refuse)


async def test_a_refusal_by_an_interceptor_is_traced() -> None:
    async with bench(interceptors=(Auth(),)) as b:
        assert (await b.refused(GET)).code() is Code.UNAUTHENTICATED
        assert b.span().name == f"{SERVICE}/Get"
        assert b.span().attributes["rpc.response.status_code"] == "UNAUTHENTICATED"
        b.spans.clear()
        assert (await b.refused("/acme.Other/Guess")).code() is Code.UNAUTHENTICATED
        assert b.span().name == "_OTHER"
        await b.call(GET, metadata=(("authorization", "yes"),))
        await b.health()


async def test_an_interceptor_that_fails_leaks_nothing() -> None:
    async with bench(interceptors=(Auth(),)) as b:
        error = await b.refused(GET, metadata=(("authorization", "raise"),))
        assert error.code() is Code.INTERNAL
        assert "hunter2" not in str(error.details())


async def test_interceptors_run_in_the_callers_trace_first_one_outermost() -> None:
    order: list[str] = []

    class Note(grpc.aio.ServerInterceptor):
        def __init__(self, name: str) -> None:
            self.name = name

        async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
            order.append(self.name)
            Telemetry.active().send(self.name).end()
            return await continuation(handler_call_details)

    async with bench(interceptors=(Note("outer"), Note("inner"))) as b:
        await b.call(GET)
        outer, inner, server = b.spans.get_finished_spans()
    assert order == ["outer", "inner"]
    for span in (outer, inner):
        assert span.parent is not None
        assert span.parent.span_id == server.context.span_id


async def test_an_unknown_method_is_unimplemented() -> None:
    async with bench() as b:
        assert (await b.refused("/acme.Other/Guess")).code() is Code.UNIMPLEMENTED
        assert b.span().attributes["rpc.response.status_code"] == "UNIMPLEMENTED"


async def test_drain_finishes_calls_ends_watches_and_takes_no_more() -> None:
    begun = asyncio.Event()

    async def put(request: Any, call: Any) -> Any:
        begun.set()
        await asyncio.sleep(0.3)
        return Text(text="done")

    async def watch(request: Any, call: Any) -> AsyncIterator[Any]:
        yield Text()
        call.last_position = "here"
        await b.core.draining.wait()
        raise Draining(call.last_position)

    async with bench(put, watch=watch) as b:
        health = health_pb2_grpc.HealthStub(b.channel).Watch(health_pb2.HealthCheckRequest())
        await health.read()
        slow = b.call(PUT)
        watching = b.call(WATCH)
        await watching.read()
        await asyncio.wait_for(begun.wait(), 2)
        begin = asyncio.get_running_loop().time()
        draining = asyncio.create_task(b.server.drain(5))
        assert (await slow).text == "done"
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await watching.read()
        assert error.value.code() is Code.UNAVAILABLE
        assert ("factfold-position", "here") in tuple(error.value.trailing_metadata())
        assert (await b.refused(PUT)).code() is Code.UNAVAILABLE
        await draining
        assert asyncio.get_running_loop().time() - begin < 2


async def test_calls_that_keep_coming_while_it_drains_are_refused() -> None:
    # gRPC itself would end those that it has not handed on yet as CANCELLED.
    begun: set[str] = set()
    done: set[str] = set()
    refusals: list[grpc.aio.AioRpcError] = []

    async def put(request: Any, call: Any) -> Any:
        begun.add(request.text)
        await asyncio.sleep(0.02)
        return request

    async with bench(put) as b:

        async def caller(name: int) -> None:
            try:
                for call in count():
                    done.add((await b.call(PUT, f"{name} {call}")).text)
            except grpc.aio.AioRpcError as refusal:
                refusals.append(refusal)

        callers = asyncio.gather(*map(caller, range(100)))
        while len(done) < 200:
            await asyncio.sleep(0.001)
        await b.server.drain(5)
        await callers
    assert begun == done
    assert {(refusal.code(), refusal.details()) for refusal in refusals} == {
        (Code.UNAVAILABLE, "not ready: the service is shutting down; retry later")
    }


async def test_drain_gives_up_after_its_time() -> None:
    async def put(request: Any, call: Any) -> Any:
        await asyncio.sleep(60)

    async with bench(put) as b:
        call = b.call(PUT, timeout=50)
        await asyncio.sleep(0.1)
        await asyncio.wait_for(b.server.drain(0.2), 2)
        with pytest.raises(grpc.aio.AioRpcError):
            await call


async def test_an_address_in_use_is_one_line() -> None:
    async with bench() as b:
        with pytest.raises(SettingsError) as refusal:
            async with bench(listen=b.server.address):
                pass
    assert str(refusal.value) == (
        f"FACTFOLD_LISTEN: {b.server.address} cannot be listened on; is another process there?"
    )
