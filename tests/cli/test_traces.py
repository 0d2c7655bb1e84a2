"""The trace receiver, fed by the exporter that services use."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from typing import Any

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Link, SpanKind, Status, StatusCode, set_span_in_context
from rich.console import Console

from factfold_cli.trace_tree import tree
from factfold_cli.traces import Span, Trace, TraceReceiver, TraceStore


def span(span_id: str, parent: str = "", *, trace_id: str = "t", **more: Any) -> Span:
    made = Span(
        trace_id=trace_id,
        span_id=span_id,
        parent_span_id=parent,
        service="orders",
        name=f"span {span_id}",
        kind="INTERNAL",
        links=(),
        attributes={},
        start=1_000_000,
        end=3_500_000,
        failed=False,
    )
    return replace(made, **more)


async def in_thread(work: Callable[[], object]) -> None:
    """An exporter blocks, and the receiver answers it on this thread's loop."""
    await asyncio.to_thread(work)


def drawn(trace: Trace) -> list[str]:
    text = StringIO()
    Console(file=text, width=120).print(tree(trace))
    return [line.rstrip() for line in text.getvalue().splitlines()]


async def test_spans_of_two_services_become_one_trace() -> None:
    async with TraceReceiver() as receiver:
        providers = {}
        for name in ("orders", "shipments"):
            provider = TracerProvider(ALWAYS_ON, Resource({"service.name": name}))
            exporter = OTLPSpanExporter(endpoint=receiver.endpoint, insecure=True)
            provider.add_span_processor(SimpleSpanProcessor(exporter))
            providers[name] = provider
        send = providers["orders"].get_tracer("t").start_span("send orders", kind=SpanKind.PRODUCER)
        context = send.get_span_context()
        process = (
            providers["shipments"]
            .get_tracer("t")
            .start_span(
                "process orders",
                context=set_span_in_context(send),
                kind=SpanKind.CONSUMER,
                links=[Link(context)],
                attributes={"text": "a", "number": 7, "list": ["x", "y"], "yes": True},
            )
        )
        await in_thread(process.end)
        assert [one.name for one in receiver.store.get(f"{context.trace_id:032x}").orphans()] == [
            "process orders"
        ]
        await in_thread(send.end)
        trace = receiver.store.get(f"{context.trace_id:032x}")
        for provider in providers.values():
            await in_thread(provider.shutdown)
    ids = {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}
    sent, processed = trace.document()["spans"]
    assert trace.orphans() == []
    assert trace.document()["trace_id"] == ids["trace_id"]
    assert sent["parent_span_id"] == ""
    assert {**processed, "start_unix_nano": 0, "end_unix_nano": 0} == {
        "service": "shipments",
        "name": "process orders",
        "kind": "CONSUMER",
        "span_id": f"{process.get_span_context().span_id:016x}",
        "parent_span_id": ids["span_id"],
        "links": [ids],
        "attributes": {"text": "a", "number": 7, "list": ["x", "y"], "yes": True},
        "start_unix_nano": 0,
        "end_unix_nano": 0,
    }
    assert sent["start_unix_nano"] <= processed["start_unix_nano"] < processed["end_unix_nano"]


async def test_failed_span_is_seen() -> None:
    async with TraceReceiver() as receiver:
        provider = TracerProvider(ALWAYS_ON, Resource({"service.name": "orders"}))
        exporter = OTLPSpanExporter(endpoint=receiver.endpoint, insecure=True)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        made = provider.get_tracer("t").start_span("x")
        made.set_status(Status(StatusCode.ERROR))
        await in_thread(made.end)
        await in_thread(provider.shutdown)
        (trace_id,) = receiver.store.trace_ids()
        assert [one.failed for one in receiver.store.get(trace_id).in_order()] == [True]


def test_oldest_traces_go_first() -> None:
    store = TraceStore(most=3)
    store.add([span("1", trace_id="a"), span("2", trace_id="a"), span("1", trace_id="b")])
    store.add([span("1", trace_id="a")])
    assert store.trace_ids() == ["a", "b"]
    store.add([span("1", trace_id="c")])
    assert store.trace_ids() == ["b", "c"]
    assert store.get("a").spans == {}


def test_tree_shows_children_under_parents_in_order() -> None:
    trace = Trace("t")
    for one in (
        span("5", "3", name="send shipments", kind="PRODUCER", service="shipments", start=5),
        span("1", name="CreateOrder", kind="CLIENT", service="factfold-demo", start=1),
        span("3", "2", name="process orders", kind="CONSUMER", service="shipments", start=4),
        span("2", "1", name="send orders", kind="PRODUCER", start=2),
        span("4", "1", name="check", start=9),
        span("7", "6", name="late", start=10),
        span("8", "7", name="later", start=11),
    ):
        trace.spans[one.span_id] = one
    assert drawn(trace) == [
        "CreateOrder              factfold-demo  CLIENT    3.50 ms",
        "├─ send orders           orders         PRODUCER  3.50 ms",
        "│  └─ process orders     shipments      CONSUMER  3.50 ms",
        "│     └─ send shipments  shipments      PRODUCER  3.50 ms",
        "└─ check                 orders         INTERNAL  3.50 ms",
        "… late                   orders         INTERNAL  3.50 ms",
        "  └─ later               orders         INTERNAL  3.50 ms",
    ]
