"""The spans of a service under test."""

from collections.abc import Sequence

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult


class SpanRecorder(SpanExporter):
    """Keeps every span that has ended, in that order, in `ended`."""

    def __init__(self) -> None:
        self.ended: list[ReadableSpan] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.ended += spans
        return SpanExportResult.SUCCESS

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.ended if span.name == name]

    def children(self, span: ReadableSpan) -> list[ReadableSpan]:
        parent = span.get_span_context()
        return [
            child
            for child in self.ended
            if child.parent and parent and child.parent.span_id == parent.span_id
        ]
