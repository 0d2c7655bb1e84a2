"""One trace: exact tree, kinds, names, attributes and links, in all languages alike."""

import asyncio
import secrets
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio
from faults.log import Logged, eventually, keys
from faults.probe import Probe, contract

from factfold_cli.redis_server import free_port
from factfold_cli.traces import Span, Trace, TraceReceiver

from .calls import AT_LEAST, Answer, Metadata, call, call_raw
from .cases import Case
from .playing import Scenes
from .reacting import append, committed
from .reading import everything, keyed
from .stage import Stage

FAMILY = "tracing"
QUIET = 0.4  # seconds in which more spans would have come
NAMES = ("one", "two")
GROUPS = {"inputs": "probe.answer", "outputs": "probe.confirm"}
SYSTEM = {"rpc.system.name": "grpc"}
scenes = Scenes()


@pytest_asyncio.fixture(scope="module", loop_scope="session", autouse=True)
async def receiver(stage: Stage) -> AsyncIterator[TraceReceiver]:
    async with TraceReceiver() as receiver:
        stage.receiver = receiver
        yield receiver


async def test_tracing(stage: Stage, case: Case) -> None:
    await scenes.play(stage, case)


def told(stage: Stage, at: int = 0) -> dict[str, str]:
    """How a probe is told where its spans go to."""
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": stage.receiver.endpoint,
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_BSP_SCHEDULE_DELAY": "50",
        "OTEL_SERVICE_NAME": NAMES[at],
    }


async def probes(stage: Stage) -> Probe:
    """The first one, which appends. In a pair the second one reacts."""
    if len(stage.languages) > 1:
        await stage.probe(1, **told(stage, 1), PROBE_REACTIONS="answer")
    return await stage.probe(0, **told(stage))


class Caller:
    """A caller with a sampled trace of its own."""

    def __init__(self, flags: str = "01") -> None:
        self.trace_id, self.span_id = secrets.token_hex(16), secrets.token_hex(8)
        header = f"00-{self.trace_id}-{self.span_id}-{flags}"
        self.metadata: Metadata = [("traceparent", header), ("tracestate", "a=1")]


async def spans(stage: Stage, trace_id: str, number: int) -> Trace:
    """A trace that has so many spans, and gets no more."""
    await eventually(
        lambda: len(stage.receiver.store.get(trace_id).spans) >= number,
        20,
        lambda: str([span.name for span in stage.receiver.store.get(trace_id).in_order()]),
    )
    await asyncio.sleep(QUIET)
    return stage.receiver.store.get(trace_id)


def drawn(trace: Trace, parent: str, depth: int = 0) -> list[str]:
    """As the cases have it; siblings by name, those that failed first."""
    lines = []
    own = [span for span in trace.in_order() if span.parent_span_id == parent]
    for span in sorted(own, key=lambda span: (span.name, not span.failed)):
        linked = [trace.spans[span_id].name for _, span_id in span.links if span_id in trace.spans]
        words = [span.name, span.kind, span.service, *["!"] * span.failed]
        line = " ".join(words) + "".join(f" -> {name}" for name in linked)
        assert len(linked) == len(span.links), "a link leads out of the trace"
        lines.append("  " * depth + line)
        lines += drawn(trace, span.span_id, depth + 1)
    return lines


async def has_tree(stage: Stage, case: Case, caller: Caller) -> list[Span]:
    """Asserts that the caller's trace is that of the case; its spans in their order."""
    wanted = case.more["tree"].strip("\n").splitlines()
    trace = await spans(stage, caller.trace_id, len(wanted))
    assert drawn(trace, caller.span_id) == wanted
    assert len(trace.spans) == len(wanted)
    for span in trace.in_order():
        assert span.start <= span.end
        has_attributes(stage, case, span)
    return trace.in_order()


def has_attributes(stage: Stage, case: Case, span: Span) -> None:
    """All of them, and no others: old and new names must not mix."""
    operation, _, stream = span.name.partition(" ")
    if span.kind == "SERVER":
        code = case.more.get("code", "OK")
        failed = {"error.type": code} if span.failed else {}
        wanted = {**SYSTEM, "rpc.method": span.name, "rpc.response.status_code": code, **failed}
        assert span.attributes == wanted
        return
    found = dict(span.attributes)
    wanted = {
        "messaging.system": "redis",
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": stream,
    }
    if span.failed:
        assert found.pop("error.type"), "a span that failed says how"
    fact = _fact(stage, stream, str(found.pop("messaging.message.id")))
    if fact is not None:  # it was appended
        assert found.pop("messaging.destination.partition.id") == str(fact.partition)
    if operation == "process":
        assert fact is not None
        assert found.pop("factfold.key") == fact.key
        assert found.pop("messaging.consumer.group.name") == GROUPS[stream]
        assert span.failed or fact.meta.span_id.hex() == span.links[0][1]
    elif fact is not None:
        assert found.pop("factfold.position") == fact.position
        # What the fact carries is what leads back here.
        assert (fact.meta.trace_id.hex(), fact.meta.span_id.hex()) == (span.trace_id, span.span_id)
        assert fact.meta.trace_flags & 1
        assert fact.meta.trace_state == "a=1"
    assert found == wanted


def _fact(stage: Stage, stream: str, id_: str) -> Logged | None:
    raw = uuid.UUID(id_).bytes
    return next((fact for fact in everything(stage, stream) if fact.meta.id == raw), None)


def request(key: str, **fields: Any) -> Any:
    return contract.AppendRequest(**{"stream": "inputs", "key": key, "first": 1, **fields})


def is_ok(answer: Answer, case: Case) -> None:
    assert answer.code == case.more.get("code", "OK"), answer


@scenes
async def tree(stage: Stage, case: Case) -> None:
    probe, caller = await probes(stage), Caller()
    asked = request(case.key, **case.more["append"])
    is_ok(await call(probe, "Append", asked, caller.metadata), case)
    await has_tree(stage, case, caller)


@scenes
async def there_and_back(stage: Stage, case: Case) -> None:
    async with stage.apart() as apart:
        apart.receiver = stage.receiver
        await apart.probe(1, **told(stage, 1), PROBE_REACTIONS="answer")
        probe, caller = await apart.probe(0, **told(stage), PROBE_REACTIONS="confirm"), Caller()
        asked = request(case.key, **case.more["append"])
        is_ok(await call(probe, "Append", asked, caller.metadata), case)
        await has_tree(apart, case, caller)


@scenes
async def many(stage: Stage, case: Case) -> None:
    probe, caller = await probes(stage), Caller()
    units = [request(case.key), request(f"{case.key}-b"), request(case.key, stream="moves")]
    asked = contract.AppendManyRequest(units=units)
    is_ok(await call(probe, "AppendMany", asked, caller.metadata), case)
    await has_tree(stage, case, caller)


@scenes
async def query(stage: Stage, case: Case) -> None:
    probe, caller = await probes(stage), Caller()
    is_ok(await call(probe, "Status", contract.StatusRequest(), caller.metadata), case)
    await has_tree(stage, case, caller)


@scenes
async def behind(stage: Stage, case: Case) -> None:
    probe, caller = await probes(stage), Caller()
    answer = await call(probe, "Append", request(case.key))
    before, n = answer.message.position.rsplit("-", 1)
    metadata = [*caller.metadata, (AT_LEAST, f"{before}-{int(n) + 1000}")]
    is_ok(await call(probe, "Dump", contract.DumpRequest(), metadata, timeout=1), case)
    await has_tree(stage, case, caller)


@scenes
async def unknown(stage: Stage, case: Case) -> None:
    probe, caller = await probes(stage), Caller()
    is_ok(await call_raw(probe, "/factfold.v1.Probe/Guess", b"", caller.metadata), case)
    await has_tree(stage, case, caller)


@scenes
async def repeated(stage: Stage, case: Case) -> None:
    probe, caller = await probes(stage), Caller()
    asked = request(case.key, stream="moves", request_id=case.key)
    first = await call(probe, "Append", asked)
    await probe.dump(first.message.position)
    is_ok(await call(probe, "Append", asked, caller.metadata), case)
    await has_tree(stage, case, caller)


@scenes
async def replay(stage: Stage, case: Case) -> None:
    """Of a partition's batch: one root, linked to each send, with a child for each fact."""
    async with stage.apart() as apart:
        apart.receiver = stage.receiver
        writer, caller = await apart.probe(0, **told(stage)), Caller()
        for number in (1, 2, 3):
            asked = request(case.key, first=number)
            assert (await call(writer, "Append", asked, caller.metadata)).code == "OK"
        old = await spans(stage, caller.trace_id, 6)
        sends = {span.span_id for span in old.in_order() if span.kind == "PRODUCER"}
        await apart.probe(1, **told(stage, 1), PROBE_REACTIONS="answer")
        await eventually(lambda: committed(apart, case.key))
        assert len((await spans(stage, caller.trace_id, 6)).spans) == 6
        answers = keyed(apart, "outputs", case.key)
        (trace_id,) = {fact.meta.trace_id.hex() for fact in answers}
        assert trace_id != caller.trace_id
        trace = await spans(stage, trace_id, 7)
        (root,) = [span for span in trace.in_order() if not span.parent_span_id]
        assert (root.name, root.kind, root.service) == ("process inputs", "CONSUMER", "two")
        assert {span_id for _, span_id in root.links} == sends
        assert {trace_id for trace_id, _ in root.links} == {caller.trace_id}
        assert root.attributes == {
            "messaging.system": "redis",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": "inputs",
            "messaging.destination.partition.id": str(answers[0].partition),
            "messaging.consumer.group.name": "probe.answer",
            "messaging.batch.message_count": 3,
        }
        below = [span for span in trace.in_order() if span.parent_span_id == root.span_id]
        assert [span.name for span in below] == ["process inputs"] * 3
        assert {span.links[0][1] for span in below} == sends
        assert len(trace.spans) == 7


@scenes
async def unsampled(stage: Stage, case: Case) -> None:
    probe, caller = await probes(stage), Caller("00")
    assert (await call(probe, "Append", request(case.key), caller.metadata)).code == "OK"
    (fact,) = keyed(stage, "inputs", case.key)
    assert fact.meta.trace_id.hex() == caller.trace_id
    assert fact.meta.span_id.hex() == caller.span_id
    assert (fact.meta.trace_flags, fact.meta.trace_state) == (0, "a=1")
    await asyncio.sleep(QUIET)
    assert not stage.receiver.store.get(caller.trace_id).spans


@scenes
async def handed_on(stage: Stage, case: Case) -> None:
    async with stage.apart() as apart:
        probe, caller = await apart.probe(PROBE_REACTIONS="answer"), Caller()
        assert (await call(probe, "Append", request(case.key), caller.metadata)).code == "OK"
        await eventually(lambda: keyed(apart, "outputs", case.key))
        for stream in ("inputs", "outputs"):
            (fact,) = keyed(apart, stream, case.key)
            assert fact.meta.trace_id.hex() == caller.trace_id
            assert fact.meta.span_id.hex() == caller.span_id
            assert (fact.meta.trace_flags, fact.meta.trace_state) == (1, "a=1")


@scenes
async def idle(stage: Stage, case: Case) -> None:
    """For longer than a blocking read; each trace before belongs to somebody's call."""
    probe = await probes(stage)
    await asyncio.sleep(QUIET)
    before = Counter(stage.receiver.store.trace_ids())
    end = time.monotonic() + 2.5
    while time.monotonic() < end:
        assert await probe.serving()
        await asyncio.sleep(0.2)
    await asyncio.sleep(QUIET)
    assert Counter(stage.receiver.store.trace_ids()) == before


@scenes
async def root(stage: Stage, case: Case) -> None:
    probe = await probes(stage)
    assert (await call(probe, "Append", request(case.key))).code == "OK"
    (fact,) = keyed(stage, "inputs", case.key)
    trace = await spans(stage, fact.meta.trace_id.hex(), 2)
    assert drawn(trace, "") == [
        "factfold.v1.Probe/Append SERVER one",
        "  send inputs PRODUCER one",
    ]


@scenes
async def away(stage: Stage, case: Case) -> None:
    async with stage.apart() as apart:
        nobody = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}",
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_BSP_MAX_QUEUE_SIZE": "20",
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "10",
            "FACTFOLD_DRAIN_TIMEOUT": "3",
        }
        probe = await apart.probe(**nobody)
        began = time.monotonic()
        for number in range(1, 11):
            await append(probe, keys(40, case.key), first=number)
        assert time.monotonic() - began < 10
        # A call's span, and one for each append.
        made = 10 * 41
        status = await probe.status()
        assert made - 20 - 10 <= status.spans_dropped <= made + 1
        assert await probe.serving()
        probe.terminate()
        assert await probe.ends() == 0
        assert probe.said("spans were dropped")
