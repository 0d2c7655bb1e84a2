"""Spans of both paths: their tree, their names, and what they cost when nobody looks."""

from __future__ import annotations

import socket
import time
import uuid
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from opentelemetry import context as otel_context
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBasedTraceIdRatio, Sampler
from opentelemetry.trace import SpanKind, StatusCode, get_current_span

from factfold.v1.fact_pb2 import FactMeta
from factfold_chassis.errors import NotFound, SettingsError
from factfold_chassis.log.read import Lag
from factfold_chassis.telemetry import Telemetry
from factfold_chassis.telemetry.context import from_metadata, to_metadata
from factfold_chassis.telemetry.encode import encode
from factfold_chassis.telemetry.resource import resource_of

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = [("traceparent", f"00-{TRACE}-{SPAN}-01"), ("tracestate", "a=1,b=2")]
UNSAMPLED = [("traceparent", f"00-{TRACE}-{SPAN}-00")]
METHOD = "/acme.orders.v1.OrderService/CreateOrder"


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("OTEL_TRACES_SAMPLER", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_TRACES_EXPORTER"):
        monkeypatch.delenv(name, raising=False)
    token = otel_context.attach(otel_context.Context())
    yield
    otel_context.detach(token)


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def telemetry(exporter: InMemorySpanExporter) -> Telemetry:
    return Telemetry.for_tests(exporter)


def sampling(sampler: Sampler, exporter: InMemorySpanExporter) -> Telemetry:
    provider = TracerProvider(sampler=sampler)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Telemetry(provider)


def only(exporter: InMemorySpanExporter, name: str) -> ReadableSpan:
    (span,) = [span for span in exporter.get_finished_spans() if span.name == name]
    return span


def new_meta() -> FactMeta:
    return FactMeta(id=uuid.uuid4().bytes)


def test_one_trace_from_the_call_to_the_reaction(
    telemetry: Telemetry, exporter: InMemorySpanExporter
) -> None:
    call = telemetry.server_call(METHOD, SAMPLED)
    meta = new_meta()
    with telemetry.send("orders") as send:
        send.fill(meta)
        send.placed(3, "orders/3@0123456789abcdef:1-1")
    call.end(grpc.StatusCode.OK)
    otel_context.attach(otel_context.Context())
    answer = new_meta()
    with (
        telemetry.process("orders", 3, "shipments.ship", meta, "o-1"),
        telemetry.send("shipments") as send,
    ):
        send.fill(answer)

    server = only(exporter, "acme.orders.v1.OrderService/CreateOrder")
    sent = only(exporter, "send orders")
    processed = only(exporter, "process orders")
    answered = only(exporter, "send shipments")
    assert [span.kind for span in (server, sent, processed, answered)] == [
        SpanKind.SERVER,
        SpanKind.PRODUCER,
        SpanKind.CONSUMER,
        SpanKind.PRODUCER,
    ]
    assert server.parent is not None
    assert f"{server.parent.span_id:016x}" == SPAN
    for parent, child in ((server, sent), (sent, processed), (processed, answered)):
        assert child.parent is not None
        assert child.parent.span_id == parent.context.span_id
        assert f"{child.context.trace_id:032x}" == TRACE
    assert [link.context.span_id for link in processed.links] == [sent.context.span_id]
    assert meta.trace_state == "a=1,b=2"
    assert meta.trace_flags == 1
    assert answer.span_id == answered.context.span_id.to_bytes(8)


def test_attributes_are_those_of_the_conventions(
    telemetry: Telemetry, exporter: InMemorySpanExporter
) -> None:
    call = telemetry.server_call(METHOD, [])
    meta = new_meta()
    with telemetry.send("orders") as send:
        send.fill(meta)
        send.placed(3, "p")
    with telemetry.process("orders", 3, "shipments.ship", meta, "o-1"):
        pass
    call.end(grpc.StatusCode.NOT_FOUND, NotFound("order", "x"))

    fact = str(uuid.UUID(bytes=meta.id))
    server = only(exporter, METHOD[1:])
    assert server.attributes == {
        "rpc.system.name": "grpc",
        "rpc.method": "acme.orders.v1.OrderService/CreateOrder",
        "rpc.response.status_code": "NOT_FOUND",
    }
    assert server.status.status_code is StatusCode.UNSET
    assert only(exporter, "send orders").attributes == {
        "messaging.system": "redis",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.name": "orders",
        "messaging.destination.partition.id": "3",
        "messaging.message.id": fact,
        "factfold.position": "p",
    }
    assert only(exporter, "process orders").attributes == {
        "messaging.system": "redis",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "orders",
        "messaging.destination.partition.id": "3",
        "messaging.consumer.group.name": "shipments.ship",
        "messaging.message.id": fact,
        "factfold.key": "o-1",
    }


def test_a_server_fault_marks_the_span(
    telemetry: Telemetry, exporter: InMemorySpanExporter
) -> None:
    telemetry.server_call(METHOD, []).end(grpc.StatusCode.INTERNAL, KeyError("k"))
    span = only(exporter, METHOD[1:])
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes is not None
    assert span.attributes["error.type"] == "INTERNAL"
    assert [event.name for event in span.events] == ["exception"]


def test_an_exception_marks_a_send_and_is_raised(
    telemetry: Telemetry, exporter: InMemorySpanExporter
) -> None:
    with pytest.raises(NotFound), telemetry.send("orders"):
        raise NotFound("order", "x")
    span = only(exporter, "send orders")
    assert span.attributes is not None
    assert span.attributes["error.type"] == "NotFound"
    assert not span.events


def test_a_failed_process_ends_once(telemetry: Telemetry, exporter: InMemorySpanExporter) -> None:
    with telemetry.process("orders", 0, "g", new_meta(), "k") as process:
        process.end(ValueError("poison"))
    assert only(exporter, "process orders").status.status_code is StatusCode.ERROR


def test_an_unknown_method_has_no_name_of_its_own(
    telemetry: Telemetry, exporter: InMemorySpanExporter
) -> None:
    telemetry.server_call("/x.Y/guess", [], known=False).end(grpc.StatusCode.UNAUTHENTICATED)
    assert only(exporter, "_OTHER").attributes == {
        "rpc.system.name": "grpc",
        "rpc.method": "_OTHER",
        "rpc.response.status_code": "UNAUTHENTICATED",
    }


def test_a_replay_is_a_new_root_linked_to_the_old_traces(
    telemetry: Telemetry, exporter: InMemorySpanExporter
) -> None:
    metas = []
    for _ in range(130):
        metas.append(new_meta())
        with telemetry.send("orders") as send:
            send.fill(metas[-1])
    exporter.clear()
    with (
        telemetry.replay("orders", 1, "g", metas) as replay,
        telemetry.process("orders", 1, "g", metas[0], "k", replay),
    ):
        assert get_current_span().get_span_context().trace_id == replay.context.trace_id
    process, root = exporter.get_finished_spans()
    assert root.parent is None
    assert len(root.links) == 128
    assert root.attributes is not None
    assert root.attributes["messaging.batch.message_count"] == 130
    assert process.parent is not None
    assert process.parent.span_id == root.context.span_id
    assert process.links[0].context.trace_id == int.from_bytes(metas[0].trace_id)
    assert process.context.trace_id != process.links[0].context.trace_id


@pytest.mark.parametrize("make", ["unsampled", "idle"])
def test_an_unsampled_trace_is_handed_on_and_not_recorded(
    make: str, telemetry: Telemetry, exporter: InMemorySpanExporter
) -> None:
    telemetry = telemetry if make == "unsampled" else Telemetry()
    metadata = UNSAMPLED if make == "unsampled" else SAMPLED
    call = telemetry.server_call(METHOD, metadata)
    meta = new_meta()
    with telemetry.send("orders") as send:
        send.fill(meta)
    assert to_metadata(from_metadata(metadata)) == metadata
    assert (meta.trace_id.hex(), meta.span_id.hex()) == (TRACE, SPAN)
    assert meta.trace_flags == (0 if make == "unsampled" else 1)
    assert telemetry.client_call(METHOD).metadata == metadata
    call.end(grpc.StatusCode.OK)
    with telemetry.process("orders", 0, "g", meta, "k"):
        assert get_current_span().get_span_context().trace_id == int(TRACE, 16)
    assert not exporter.get_finished_spans()


def test_the_sampler_decides_for_roots_only() -> None:
    exporter = InMemorySpanExporter()
    telemetry = sampling(ParentBasedTraceIdRatio(0.0), exporter)
    telemetry.server_call(METHOD, []).end(grpc.StatusCode.OK)
    assert not exporter.get_finished_spans()
    telemetry.server_call(METHOD, SAMPLED).end(grpc.StatusCode.OK)
    assert len(exporter.get_finished_spans()) == 1


def test_a_sampler_that_ignores_the_parent_is_asked() -> None:
    exporter = InMemorySpanExporter()
    telemetry = sampling(ALWAYS_ON, exporter)
    telemetry.server_call(METHOD, UNSAMPLED).end(grpc.StatusCode.OK)
    assert len(exporter.get_finished_spans()) == 1


@pytest.mark.parametrize(
    "header",
    [
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        "x",
        "",
    ],
)
def test_a_broken_traceparent_starts_a_new_trace(header: str) -> None:
    assert from_metadata([("traceparent", header)]) is None


def test_a_broken_header_of_a_caller_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    many = ",".join(f"k{n}=v" for n in range(40))
    for state in ("=", "a=b,a=b", "k=" + "v" * 300, many):
        assert from_metadata([*SAMPLED[:1], ("tracestate", state)]) is not None
    assert from_metadata([("traceparent", "0" * 600)]) is None
    assert not caplog.records


def test_a_later_version_of_traceparent_may_be_longer() -> None:
    assert from_metadata([("traceparent", f"01-{TRACE}-{SPAN}-01-more")]) is not None


def test_metrics_by_their_standard_names() -> None:
    reader = InMemoryMetricReader()
    telemetry = Telemetry(meter_provider=MeterProvider([reader]))
    telemetry.lag("view", "orders", lambda: [Lag("orders", 0, 7, 1.5)])
    telemetry.lag("reaction", "announce", lambda: [Lag("orders", 1, 2, None)])
    for _ in range(2):
        telemetry.count("factfold.log.alarms", kind="gap")
    call = telemetry.server_call(METHOD, [])
    with telemetry.send("orders") as send:
        send.placed(1, "p")
    with telemetry.process("orders", 1, "g", new_meta(), "k"):
        pass
    call.end(grpc.StatusCode.UNAVAILABLE)

    data = reader.get_metrics_data()
    assert data is not None
    found = {}
    for scope in data.resource_metrics[0].scope_metrics:
        for metric in scope.metrics:
            points = [dict(point.attributes or {}) for point in metric.data.data_points]
            found[metric.name] = (metric.unit, points)
    assert found["rpc.server.call.duration"] == (
        "s",
        [
            {
                "rpc.system.name": "grpc",
                "rpc.method": METHOD[1:],
                "rpc.response.status_code": "UNAVAILABLE",
                "error.type": "UNAVAILABLE",
            }
        ],
    )
    unit, (attributes,) = found["messaging.client.operation.duration"]
    assert (unit, attributes["messaging.destination.partition.id"]) == ("s", "1")
    assert "factfold.position" not in attributes
    assert found["messaging.process.duration"][0] == "s"
    assert found["factfold.view.lag"][1] == [
        {
            "factfold.view.name": "orders",
            "messaging.destination.name": "orders",
            "messaging.destination.partition.id": "0",
        }
    ]
    assert found["factfold.reaction.lag"][0] == "{fact}"
    assert found["factfold.view.delay"] == ("s", found["factfold.view.lag"][1])
    assert "factfold.reaction.delay" not in found  # nothing is known of it
    assert found["factfold.log.alarms"][1] == [{"kind": "gap"}]


def test_nothing_is_exported_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    telemetry = Telemetry.from_environment("orders")
    assert not telemetry.client_call(METHOD).metadata
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert not Telemetry.from_environment("orders").client_call(METHOD).metadata


def test_each_of_several_processes_is_an_instance_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def instance(process: int | None) -> str:
        return str(resource_of("orders", process).attributes["service.instance.id"])

    assert instance(None) != instance(None)
    assert instance(1) != instance(1)
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=pod-7")
    assert [instance(process) for process in (None, 1, 2)] == ["pod-7", "pod-7-1", "pod-7-2"]


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        (
            "OTEL_TRACES_EXPORTER",
            "zipkin",
            "OTEL_TRACES_EXPORTER is 'zipkin': write otlp or none",
        ),
        (
            "OTEL_EXPORTER_OTLP_PROTOCOL",
            "http/protobuf",
            "the OTLP protocol 'http/protobuf' is not spoken here: write grpc",
        ),
    ],
)
def test_an_exporter_that_is_not_supported_is_one_line(
    variable: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as refusal:
        Telemetry.from_environment("orders")
    assert str(refusal.value) == message


def test_a_collector_that_hangs_costs_only_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", endpoint)
        monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "10")
        monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10")
        telemetry = Telemetry.from_environment("orders")
        begin = time.monotonic()
        for _ in range(1000):
            telemetry.send("orders").end()
        assert time.monotonic() - begin < 1
        telemetry.shutdown(0.3)
        assert time.monotonic() - begin < 2
    assert telemetry.dropped == 1000


def test_a_share_of_new_traces_is_sampled_by_their_ids() -> None:
    exporter = InMemorySpanExporter()
    telemetry = sampling(ParentBasedTraceIdRatio(0.5), exporter)
    contexts = []
    for _ in range(500):
        call = telemetry.server_call(METHOD, [])
        with telemetry.send("orders") as send:
            assert send.context.trace_id == call.context.trace_id
        call.end(grpc.StatusCode.OK)
        contexts.append(call.context)
        otel_context.attach(otel_context.Context())
    sampled = {context.trace_id for context in contexts if context.trace_flags.sampled}
    assert sampled == {c.trace_id for c in contexts if c.trace_id % 2**64 < 2**63}
    assert 150 < len(sampled) < 350
    assert len({context.span_id for context in contexts}) == 500
    assert len(exporter.get_finished_spans()) == 2 * len(sampled)


def test_spans_are_encoded_as_the_sdk_does_it(
    telemetry: Telemetry, exporter: InMemorySpanExporter
) -> None:
    for metadata in ([], SAMPLED[:1], SAMPLED):
        for code in (grpc.StatusCode.OK, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INTERNAL):
            for extra in ("", "note", "event"):
                call = telemetry.server_call(METHOD, metadata)
                if extra == "note":
                    get_current_span().set_attribute("note", [1, 2])
                if extra == "event":
                    get_current_span().add_event("event")
                telemetry.send("orders").end()
                call.end(code, KeyError("k") if code is grpc.StatusCode.INTERNAL else None)
                otel_context.attach(otel_context.Context())
    spans = exporter.get_finished_spans()

    def encoded(request: Any) -> list[bytes]:
        return sorted(
            type(whole)(
                resource=whole.resource,
                schema_url=whole.schema_url,
                scope_spans=[
                    type(scope)(scope=scope.scope, schema_url=scope.schema_url, spans=[span])
                ],
            ).SerializeToString(deterministic=True)
            for whole in request.resource_spans
            for scope in whole.scope_spans
            for span in scope.spans
        )

    assert len(spans) == 54
    assert encoded(encode(spans)) == encoded(encode_spans(spans))
