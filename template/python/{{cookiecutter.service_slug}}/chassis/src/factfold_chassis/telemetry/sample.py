"""Whether a new trace is sampled, said before there is a span."""

from collections import deque

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, Sampler, TraceIdRatioBased
from opentelemetry.trace import SpanContext, TraceFlags

_UNSAMPLED = TraceFlags(TraceFlags.RANDOM_TRACE_ID)


class Roots(RandomIdGenerator):
    """Draws the ids of traces; the tracer takes those that were found to be sampled."""

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._sampled: deque[int] = deque()

    def unsampled(self) -> SpanContext | None:
        """The context of a new trace that is not sampled; None: the tracer's next one is."""
        trace_id = super().generate_trace_id()
        if trace_id & TraceIdRatioBased.TRACE_ID_LIMIT < self._bound:
            self._sampled.append(trace_id)
            return None
        return SpanContext(trace_id, self.generate_span_id(), False, _UNSAMPLED)

    def generate_trace_id(self) -> int:
        try:
            return self._sampled.pop()
        except IndexError:
            return super().generate_trace_id()


def roots(provider: TracerProvider) -> Roots | None:
    """None: the sampler must be asked, or takes all."""
    sampler: Sampler = provider.sampler
    if isinstance(sampler, ParentBased):
        sampler = getattr(sampler, "_root", sampler)
    if sampler is ALWAYS_OFF:
        return Roots(0)
    if type(sampler) is TraceIdRatioBased and sampler.rate < 1:
        return Roots(sampler.bound)
    return None
