// Package telemetry has the traces and metrics of the chassis, on the RPC path and on the log path.
//
// The sampling decision comes first: what is not sampled carries its context on and does no other
// work. Nothing is exported unless the OTEL_* variables ask for it; without an exporter a caller's
// trace is still handed on, in facts and in calls. Names and attributes are those of the semantic
// conventions 1.44.0 for RPC and messaging, set here for all languages alike.
package telemetry

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"sync"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/metadata"

	factfoldv1 "factfold/chassis/factfold/v1"
)

const (
	scope     = "factfold" // what the chassis' own spans and instruments are under
	schemaURL = "https://opentelemetry.io/schemas/1.44.0"
	maxLinks  = 128
)

var buckets = []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10} // seconds

// What has a duration.
const (
	serverCalls = iota
	clientCalls
	sends
	processes
	unmeasured
)

var durations = [unmeasured]string{
	serverCalls: "rpc.server.call.duration",
	clientCalls: "rpc.client.call.duration",
	sends:       "messaging.client.operation.duration",
	processes:   "messaging.process.duration",
}

var labels = map[string]string{
	"view":     "factfold.view.name",
	"reaction": "factfold.reaction.name",
	"stream":   "messaging.destination.name",
}

// Telemetry is made once per service. A nil one is idle, and may be used.
type Telemetry struct {
	traces  *sdktrace.TracerProvider
	metrics *sdkmetric.MeterProvider
	queue   *queue
	scrape  io.Closer

	tracer        trace.Tracer
	followsParent bool

	meter     metric.Meter
	durations [unmeasured]metric.Float64Histogram

	mu       sync.Mutex
	lags     map[string][]lagOf
	heldBack func() map[Place]int
}

type lagOf struct {
	name string
	read func() []Lag
}

// Place is one partition of a stream.
type Place struct {
	Stream    string
	Partition int
}

// New makes one whose spans and metrics go to these providers; either may be nil. followsParent
// says that the sampler takes no span whose parent is not sampled.
func New(traces *sdktrace.TracerProvider, metrics *sdkmetric.MeterProvider, followsParent bool) (*Telemetry, error) {
	t := &Telemetry{traces: traces, metrics: metrics, followsParent: followsParent, lags: map[string][]lagOf{}}
	if traces != nil {
		t.tracer = traces.Tracer(scope, trace.WithSchemaURL(schemaURL))
	}
	if metrics != nil {
		t.meter = metrics.Meter(scope, metric.WithSchemaURL(schemaURL))
		return t, t.addInstruments()
	}
	return t, nil
}

func (t *Telemetry) addInstruments() error {
	var failed []error
	for i, name := range durations {
		var err error
		t.durations[i], err = t.meter.Float64Histogram(
			name, metric.WithUnit("s"), metric.WithExplicitBucketBoundaries(buckets...))
		failed = append(failed, err)
	}
	for _, kind := range []string{"view", "reaction"} {
		_, err := t.meter.Int64ObservableGauge("factfold."+kind+".lag", metric.WithUnit("{fact}"),
			metric.WithInt64Callback(func(_ context.Context, to metric.Int64Observer) error {
				t.eachLag(kind, func(lag Lag, at metric.MeasurementOption) { to.Observe(int64(lag.Facts), at) })
				return nil
			}))
		failed = append(failed, err)
		_, err = t.meter.Float64ObservableGauge("factfold."+kind+".delay", metric.WithUnit("s"),
			metric.WithFloat64Callback(func(_ context.Context, to metric.Float64Observer) error {
				t.eachLag(kind, func(lag Lag, at metric.MeasurementOption) {
					if lag.Seconds >= 0 {
						to.Observe(lag.Seconds, at)
					}
				})
				return nil
			}))
		failed = append(failed, err)
	}
	_, err := t.meter.Int64ObservableGauge("factfold.log.held_back", metric.WithUnit("{fact}"),
		metric.WithInt64Callback(t.observeHeldBack))
	failed = append(failed, err)
	_, err = t.meter.Int64ObservableCounter("factfold.trace.dropped",
		metric.WithInt64Callback(func(_ context.Context, to metric.Int64Observer) error {
			to.Observe(t.Dropped())
			return nil
		}))
	return errors.Join(append(failed, err)...)
}

// Install lets the team's own spans and instruments, made through OpenTelemetry's API, join.
func (t *Telemetry) Install() {
	if t == nil {
		return
	}
	if t.traces != nil {
		otel.SetTracerProvider(t.traces)
	}
	if t.metrics != nil {
		otel.SetMeterProvider(t.metrics)
	}
}

// ServerCall begins the span of a call that has come in. method is "/package.Service/Method".
func (t *Telemetry) ServerCall(ctx context.Context, method string, header metadata.MD, known bool) (context.Context, *Call) {
	name := method[1:]
	if !known {
		name = "_OTHER"
	}
	ctx, its := t.begin(fromHeader(ctx, header), name, trace.SpanKindServer, serverCalls, rpc{name: name})
	return ctx, &Call{its, serverFault}
}

// ClientCall begins the span of a call to another service; the context that it returns carries the
// trace there.
func (t *Telemetry) ClientCall(ctx context.Context, method, host string, port int) (context.Context, *Call) {
	as := rpc{name: method[1:], host: host, port: port}
	ctx, its := t.begin(ctx, as.name, trace.SpanKindClient, clientCalls, as)
	return toHeader(ctx), &Call{its, clientFault}
}

// Send begins the span of one append to a stream. It is not the current span of any context.
func (t *Telemetry) Send(ctx context.Context, stream string) *Send {
	_, its := t.begin(ctx, "send "+stream, trace.SpanKindProducer, sends, messaging{operation: "send", stream: stream})
	return &Send{its}
}

// Process begins the span of a reaction of group on one fact: child of its send span, or of replay.
func (t *Telemetry) Process(
	ctx context.Context, stream string, partition int, group string,
	meta *factfoldv1.FactMeta, key string, replay *Process,
) (context.Context, *Process) {
	sent := fromFact(meta)
	parent := sent
	if replay != nil {
		parent = replay.context
	}
	var links []trace.Link
	if sent.IsValid() {
		links = []trace.Link{{SpanContext: sent}}
	}
	as := messaging{"process", stream, partition, group}
	ctx, its := t.begin(around(ctx, parent), "process "+stream, trace.SpanKindConsumer, processes, as, links...)
	if its.span.IsRecording() {
		its.span.SetAttributes(
			attribute.String("messaging.message.id", factID(meta)), attribute.String("factfold.key", key))
	}
	return ctx, &Process{its}
}

// Replay begins the span of a batch of facts of the past: a new root, linked to the first 128.
func (t *Telemetry) Replay(
	ctx context.Context, stream string, partition int, group string, metas []*factfoldv1.FactMeta,
) *Process {
	var links []trace.Link
	if t != nil && t.tracer != nil {
		for _, meta := range metas[:min(maxLinks, len(metas))] {
			if sent := fromFact(meta); sent.IsValid() {
				links = append(links, trace.Link{SpanContext: sent})
			}
		}
	}
	as := messaging{"process", stream, partition, group}
	root := around(ctx, trace.SpanContext{})
	_, its := t.begin(root, "process "+stream, trace.SpanKindConsumer, unmeasured, as, links...)
	if its.span.IsRecording() {
		its.span.SetAttributes(attribute.Int("messaging.batch.message_count", len(metas)))
	}
	return &Process{its}
}

// Lag reports what read returns as factfold.<kind>.lag and factfold.<kind>.delay; kind is view or
// reaction.
func (t *Telemetry) Lag(kind, name string, read func() []Lag) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lags[kind] = append(t.lags[kind], lagOf{name, read})
}

// HeldBack reports what read returns as factfold.log.held_back.
func (t *Telemetry) HeldBack(read func() map[Place]int) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.heldBack = read
}

// Count adds to the counter name; 0 begins it: one that first appears at 1 has not increased, to
// Prometheus. The rest are names and values in turn; "view", "reaction" and "stream" are names.
func (t *Telemetry) Count(name string, amount int64, namesAndValues ...string) {
	if t == nil || t.meter == nil {
		return
	}
	var attributes []attribute.KeyValue
	for pair := range slices.Chunk(namesAndValues, 2) {
		label, ok := labels[pair[0]]
		if !ok {
			label = pair[0]
		}
		attributes = append(attributes, attribute.String(label, pair[1]))
	}
	counter, err := t.meter.Int64Counter(name, metric.WithUnit("1"))
	if err == nil {
		counter.Add(context.Background(), amount, metric.WithAttributes(attributes...))
	}
}

// Dropped counts sampled spans that were never delivered.
func (t *Telemetry) Dropped() int64 {
	if t == nil || t.queue == nil {
		return 0
	}
	return t.queue.lost()
}

// Shutdown sends what is left, until ctx ends. Errors are none of the service's.
func (t *Telemetry) Shutdown(ctx context.Context) {
	if t == nil {
		return
	}
	if t.scrape != nil {
		t.scrape.Close()
	}
	var ending sync.WaitGroup
	if t.traces != nil {
		ending.Go(func() { _ = t.traces.Shutdown(ctx) })
	}
	if t.metrics != nil {
		ending.Go(func() { _ = t.metrics.Shutdown(ctx) })
	}
	ending.Wait()
	if t.queue != nil {
		t.queue.abandon()
	}
	if dropped := t.Dropped(); dropped > 0 {
		slog.Warn("spans were dropped", "logger", logger, "spans", dropped)
	}
}

func (t *Telemetry) eachLag(kind string, observe func(Lag, metric.MeasurementOption)) {
	t.mu.Lock()
	lags := slices.Clone(t.lags[kind])
	t.mu.Unlock()
	for _, each := range lags {
		for _, lag := range each.read() {
			attributes := append(place(lag.Stream, lag.Partition),
				attribute.String("factfold."+kind+".name", each.name))
			observe(lag, metric.WithAttributes(attributes...))
		}
	}
}

func (t *Telemetry) observeHeldBack(_ context.Context, to metric.Int64Observer) error {
	t.mu.Lock()
	read := t.heldBack
	t.mu.Unlock()
	if read == nil {
		return nil
	}
	for at, facts := range read() {
		to.Observe(int64(facts), metric.WithAttributes(place(at.Stream, at.Partition)...))
	}
	return nil
}

// begin starts an operation below the span of ctx. One that is not sampled is in that of its parent.
func (t *Telemetry) begin(
	ctx context.Context, name string, kind trace.SpanKind, duration int, as described, links ...trace.Link,
) (context.Context, operation) {
	its := operation{ctx: ctx, span: noSpan, context: trace.SpanContextFromContext(ctx), as: as}
	if t == nil {
		return ctx, its
	}
	unsampled := its.context.IsValid() && !its.context.IsSampled()
	if t.tracer != nil && (!t.followsParent || !unsampled) {
		its.ctx, its.span = t.tracer.Start(ctx, name, trace.WithSpanKind(kind), trace.WithLinks(links...))
		its.context = its.span.SpanContext()
	}
	if duration < unmeasured {
		its.duration = t.durations[duration]
	}
	its.begin()
	return its.ctx, its
}

func place(stream string, partition int) []attribute.KeyValue {
	return []attribute.KeyValue{
		attribute.String("messaging.destination.name", stream),
		attribute.String("messaging.destination.partition.id", strconv.Itoa(partition)),
	}
}

// described makes attributes, once it is known that somebody looks at them.
type described interface{ attributes() []attribute.KeyValue }

type rpc struct {
	name string
	host string // of a call to another service
	port int
}

func (r rpc) attributes() []attribute.KeyValue {
	found := []attribute.KeyValue{
		attribute.String("rpc.system.name", "grpc"),
		attribute.String("rpc.method", r.name),
	}
	if r.host != "" {
		found = append(found, attribute.String("server.address", r.host))
	}
	if r.port != 0 {
		found = append(found, attribute.Int("server.port", r.port))
	}
	return found
}

type messaging struct {
	operation, stream string
	partition         int // of what is processed
	group             string
}

func (m messaging) attributes() []attribute.KeyValue {
	found := []attribute.KeyValue{
		// The conventions name no value for Redis Streams and allow others.
		attribute.String("messaging.system", "redis"),
		attribute.String("messaging.operation.name", m.operation),
		attribute.String("messaging.operation.type", m.operation),
		attribute.String("messaging.destination.name", m.stream),
	}
	if m.group != "" {
		found = append(found,
			attribute.String("messaging.destination.partition.id", strconv.Itoa(m.partition)),
			attribute.String("messaging.consumer.group.name", m.group))
	}
	return found
}

func environment(names ...string) string {
	for _, name := range names {
		if text := os.Getenv(name); text != "" {
			return text
		}
	}
	return ""
}
