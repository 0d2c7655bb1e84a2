package telemetry

import (
	"context"
	"encoding/hex"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/metadata"

	factfoldv1 "factfold/chassis/factfold/v1"
)

// carrier reads and writes W3C trace context in gRPC metadata.
type carrier metadata.MD

func (c carrier) Get(name string) string {
	if values := metadata.MD(c).Get(name); len(values) > 0 {
		return values[len(values)-1]
	}
	return ""
}

func (c carrier) Set(name, value string) { metadata.MD(c).Set(name, value) }

func (c carrier) Keys() []string {
	names := make([]string, 0, len(c))
	for name := range c {
		names = append(names, name)
	}
	return names
}

// fromHeader is ctx below the caller's span, if the header names one that is valid.
func fromHeader(ctx context.Context, header metadata.MD) context.Context {
	if len(header["traceparent"]) == 0 {
		return ctx
	}
	return propagation.TraceContext{}.Extract(ctx, carrier(header))
}

// toHeader is ctx with the trace in what a call sends.
func toHeader(ctx context.Context) context.Context {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return ctx
	}
	header, _ := metadata.FromOutgoingContext(ctx)
	header = header.Copy()
	propagation.TraceContext{}.Inject(ctx, carrier(header))
	return metadata.NewOutgoingContext(ctx, header)
}

// fromFact is the span that sent the fact; not valid if it was sent without one.
func fromFact(meta *factfoldv1.FactMeta) trace.SpanContext {
	if len(meta.GetTraceId()) != 16 || len(meta.GetSpanId()) != 8 {
		return trace.SpanContext{}
	}
	// A state that does not parse is left out; the trace goes on without it.
	state, _ := trace.ParseTraceState(meta.GetTraceState())
	return trace.NewSpanContext(trace.SpanContextConfig{
		TraceID:    trace.TraceID(meta.GetTraceId()),
		SpanID:     trace.SpanID(meta.GetSpanId()),
		TraceFlags: trace.TraceFlags(meta.GetTraceFlags()),
		TraceState: state,
		Remote:     true,
	})
}

// toFact leaves meta alone for a context that is not valid.
func toFact(from trace.SpanContext, meta *factfoldv1.FactMeta) {
	if !from.IsValid() {
		return
	}
	traceID, spanID := from.TraceID(), from.SpanID()
	meta.TraceId, meta.SpanId = traceID[:], spanID[:]
	meta.TraceFlags = uint32(from.TraceFlags())
	meta.TraceState = from.TraceState().String()
}

// around is ctx with parent in the place of its present span; without a valid one it has none.
func around(ctx context.Context, parent trace.SpanContext) context.Context {
	return trace.ContextWithSpanContext(ctx, parent)
}

// factID is a fact's id as text; of a foreign fact it may be anything.
func factID(meta *factfoldv1.FactMeta) string {
	if id, err := uuid.FromBytes(meta.GetId()); err == nil {
		return id.String()
	}
	return hex.EncodeToString(meta.GetId())
}
