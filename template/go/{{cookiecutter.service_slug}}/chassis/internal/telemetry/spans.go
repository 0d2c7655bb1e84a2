package telemetry

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	factfoldv1 "factfold/chassis/factfold/v1"
	"factfold/chassis/internal/fault"
)

// noSpan is that of an operation that has none of its own.
var noSpan = trace.SpanFromContext(context.Background())

// operation is what is traced. It ends once and records its duration.
type operation struct {
	ctx        context.Context
	span       trace.Span
	context    trace.SpanContext // without a span of its own, of the one around it
	duration   metric.Float64Histogram
	as         described
	attributes []attribute.KeyValue
	started    time.Time
	open       bool // somebody looks, and it has not ended
}

func (o *operation) begin() {
	if o.open = o.duration != nil || o.span.IsRecording(); o.open {
		o.attributes, o.started = o.as.attributes(), time.Now()
	}
}

// add is for the span and the metric: the values must be few.
func (o *operation) add(name, value string) {
	o.attributes = append(o.attributes, attribute.String(name, value))
}

func (o *operation) end(errorType string, err error) {
	if !o.open {
		return
	}
	o.open = false
	if errorType != "" {
		o.add("error.type", errorType)
	}
	o.span.SetAttributes(o.attributes...)
	if errorType != "" {
		description := ""
		if err != nil {
			description = err.Error()
		}
		o.span.SetStatus(otelcodes.Error, description)
		if err != nil && !isFault(err) {
			o.span.RecordError(err)
		}
	}
	o.span.End()
	if o.duration != nil {
		o.duration.Record(o.ctx, time.Since(o.started).Seconds(), metric.WithAttributes(o.attributes...))
	}
}

// Call is a call that is being answered, or one to another service.
type Call struct {
	operation
	fault func(codes.Code) bool
}

// End ends it with the code that the caller sees.
func (c *Call) End(code codes.Code, err error) {
	if !c.open {
		return
	}
	name := codeName(code)
	c.add("rpc.response.status_code", name)
	if !c.fault(code) {
		name = ""
	}
	c.end(name, err)
}

// TraceID is that of the call's trace; empty if it has none.
func (c *Call) TraceID() string {
	if !c.context.IsValid() {
		return ""
	}
	return c.context.TraceID().String()
}

// A server is not to blame for its callers' mistakes (semantic conventions for gRPC).
func serverFault(code codes.Code) bool {
	switch code {
	case codes.Unknown, codes.DeadlineExceeded, codes.Unimplemented, codes.Internal, codes.Unavailable,
		codes.DataLoss:
		return true
	}
	return false
}

func clientFault(code codes.Code) bool { return code != codes.OK }

// Send is one append, from its call to the answer of the log.
type Send struct{ operation }

// Fill writes the trace into meta, whose id is set already.
func (s *Send) Fill(meta *factfoldv1.FactMeta) {
	toFact(s.context, meta)
	if s.span.IsRecording() {
		s.span.SetAttributes(attribute.String("messaging.message.id", factID(meta)))
	}
}

// Placed says where the facts are.
func (s *Send) Placed(partition int, position string) {
	if !s.open {
		return
	}
	s.add("messaging.destination.partition.id", strconv.Itoa(partition))
	s.span.SetAttributes(attribute.String("factfold.position", position))
}

// End ends it, failed if err is one.
func (s *Send) End(err error) { s.end(errorType(err), err) }

// Process is a run on one fact, or on a batch of the past.
type Process struct{ operation }

// End ends it, failed if err is one.
func (p *Process) End(err error) { p.end(errorType(err), err) }

// errorType is the name of the type of err, without its package.
func errorType(err error) string {
	if err == nil {
		return ""
	}
	var refusal *fault.Refusal
	if errors.As(err, &refusal) {
		return string(refusal.Kind)
	}
	name := fmt.Sprintf("%T", err)
	return name[strings.LastIndexAny(name, ".*")+1:]
}

// isFault says whether err is one that callers are told as it is.
func isFault(err error) bool {
	var known interface{ GRPCStatus() *status.Status }
	return errors.As(err, &known)
}

// codeName is a code as gRPC's own documents write it, such as INVALID_ARGUMENT.
func codeName(c codes.Code) string { return code.Code(c).String() }
