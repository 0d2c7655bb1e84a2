"""Calls to other services: in the caller's trace, and within the caller's time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from opentelemetry.trace import SpanKind
from test_server import GET, PUT, SERVICE, WATCH, Text, bench

from factfold_chassis.client import channel
from factfold_chassis.rpc import time_left


async def test_a_call_stays_in_the_trace_and_in_the_callers_time() -> None:
    left: list[float | None] = []

    async def far_put(request: Any, call: Any) -> Any:
        left.append(time_left())
        return Text(text="far")

    async with bench(far_put) as far:

        async def near_put(request: Any, call: Any) -> Any:
            async with channel(far.server.address) as there:
                return await there.unary_unary(PUT, Text.SerializeToString, Text.FromString)(Text())

        async with bench(near_put) as near:
            assert (await near.call(PUT, timeout=3)).text == "far"
            await asyncio.sleep(0.05)
            spans = {span.kind: span for span in near.spans.get_finished_spans()}
    client, caller = spans[SpanKind.CLIENT], spans[SpanKind.SERVER]
    (answered,) = far.spans.get_finished_spans()
    assert client.parent is not None
    assert client.parent.span_id == caller.context.span_id
    assert answered.parent is not None
    assert answered.parent.span_id == client.context.span_id
    assert client.name == f"{SERVICE}/Put"
    host, _, port = far.server.address.rpartition(":")
    assert client.attributes == {
        "rpc.system.name": "grpc",
        "rpc.method": f"{SERVICE}/Put",
        "rpc.response.status_code": "OK",
        "server.address": host,
        "server.port": int(port),
    }
    assert left[0] is not None
    assert 1 < left[0] <= 3.1


async def test_streams_and_errors_pass_through_and_end_their_spans() -> None:
    def get(request: Any, call: Any) -> Any:
        raise KeyError

    async with bench(get=get) as far, channel(far.server.address) as there:
        stream = there.unary_stream(WATCH, Text.SerializeToString, Text.FromString)
        assert [answer.text async for answer in stream(Text())] == ["one", "two"]
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await there.unary_unary(GET, Text.SerializeToString, Text.FromString)(
                Text(), metadata=(("factfold-at-least", "p"),)
            )
        assert error.value.code() is grpc.StatusCode.INTERNAL
        assert far.core.asked[0] == "p"
        await asyncio.sleep(0.05)
        codes = {
            span.attributes and span.attributes["rpc.response.status_code"]
            for span in far.spans.get_finished_spans()
            if span.kind is SpanKind.CLIENT
        }
        assert codes == {"OK", "INTERNAL"}


async def test_a_call_of_its_own_has_a_deadline_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def put(request: Any, call: Any) -> Any:
        await asyncio.sleep(5)

    monkeypatch.setattr("factfold_chassis.client.DEFAULT_DEADLINE", 0.05)
    async with bench(put) as far, channel(far.server.address) as there:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await there.unary_unary(PUT, Text.SerializeToString, Text.FromString)(Text())
        assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_stream_that_is_left_early_ends_its_span() -> None:
    async def watch(request: Any, call: Any) -> AsyncIterator[Any]:
        while True:
            yield Text()
            await asyncio.sleep(0.01)

    async with bench(watch=watch) as far, channel(far.server.address) as there:
        call = there.unary_stream(WATCH, Text.SerializeToString, Text.FromString)(Text())
        async for _ in call:
            break
        call.cancel()
        await asyncio.sleep(0.05)
        names = [s.name for s in far.spans.get_finished_spans() if s.kind is SpanKind.CLIENT]
    assert names == [f"{SERVICE}/Watch"]
