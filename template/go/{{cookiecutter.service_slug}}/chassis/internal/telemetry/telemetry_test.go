package telemetry

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	factfoldv1 "factfold/chassis/factfold/v1"
	"factfold/chassis/internal/fault"
)

const (
	traceID = "0af7651916cd43dd8448eb211c80319c"
	spanID  = "b7ad6b7169203331"
	method  = "/acme.orders.v1.OrderService/CreateOrder"
)

var (
	ctx       = context.Background()
	sampled   = metadata.Pairs("traceparent", "00-"+traceID+"-"+spanID+"-01", "tracestate", "a=1,b=2")
	unsampled = metadata.Pairs("traceparent", "00-"+traceID+"-"+spanID+"-00")
)

func recording(t *testing.T, sampler sdktrace.Sampler, followsParent bool) (*Telemetry, *tracetest.InMemoryExporter) {
	t.Helper()
	exporter := tracetest.NewInMemoryExporter()
	made, err := New(sdktrace.NewTracerProvider(
		sdktrace.WithSampler(sampler), sdktrace.WithSyncer(exporter)), nil, followsParent)
	if err != nil {
		t.Fatal(err)
	}
	return made, exporter
}

func onByDefault(t *testing.T) (*Telemetry, *tracetest.InMemoryExporter) {
	return recording(t, sdktrace.ParentBased(sdktrace.AlwaysSample()), true)
}

func newMeta() *factfoldv1.FactMeta {
	id := uuid.New()
	return &factfoldv1.FactMeta{Id: id[:]}
}

func only(t *testing.T, exporter *tracetest.InMemoryExporter, name string) tracetest.SpanStub {
	t.Helper()
	var found []tracetest.SpanStub
	for _, span := range exporter.GetSpans() {
		if span.Name == name {
			found = append(found, span)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d spans are named %s", len(found), name)
	}
	return found[0]
}

func attributes(span tracetest.SpanStub) string {
	set := attribute.NewSet(span.Attributes...)
	return set.Encoded(attribute.DefaultEncoder())
}

func TestOneTraceFromTheCallToTheReaction(t *testing.T) {
	made, exporter := onByDefault(t)
	in, call := made.ServerCall(ctx, method, sampled, true)
	meta := newMeta()
	send := made.Send(in, "orders")
	send.Fill(meta)
	send.Placed(3, "p")
	send.End(nil)
	call.End(codes.NotFound, fault.NotFound("order", "x"))
	reacting, process := made.Process(ctx, "orders", 3, "shipments.ship", meta, "o-1", nil)
	made.Send(reacting, "shipments").End(nil)
	process.End(nil)

	spans := []tracetest.SpanStub{
		only(t, exporter, method[1:]), only(t, exporter, "send orders"),
		only(t, exporter, "process orders"), only(t, exporter, "send shipments"),
	}
	kinds := []trace.SpanKind{
		trace.SpanKindServer, trace.SpanKindProducer, trace.SpanKindConsumer, trace.SpanKindProducer,
	}
	parent := spanID
	for i, span := range spans {
		if span.SpanKind != kinds[i] || span.Parent.SpanID().String() != parent ||
			span.SpanContext.TraceID().String() != traceID {
			t.Errorf("%s: %v below %s", span.Name, span.SpanKind, span.Parent.SpanID())
		}
		parent = span.SpanContext.SpanID().String()
	}
	if links := spans[2].Links; len(links) != 1 || links[0].SpanContext.SpanID() != spans[1].SpanContext.SpanID() {
		t.Error(links)
	}
	if meta.TraceState != "a=1,b=2" || meta.TraceFlags != 1 {
		t.Error(meta)
	}
	fact := factID(meta)
	for i, want := range []string{
		"rpc.method=acme.orders.v1.OrderService/CreateOrder,rpc.response.status_code=NOT_FOUND,rpc.system.name=grpc",
		"factfold.position=p,messaging.destination.name=orders,messaging.destination.partition.id=3," +
			"messaging.message.id=" + fact + ",messaging.operation.name=send,messaging.operation.type=send," +
			"messaging.system=redis",
		"factfold.key=o-1,messaging.consumer.group.name=shipments.ship,messaging.destination.name=orders," +
			"messaging.destination.partition.id=3,messaging.message.id=" + fact +
			",messaging.operation.name=process,messaging.operation.type=process,messaging.system=redis",
	} {
		if got := attributes(spans[i]); got != want {
			t.Errorf("%s: %s", spans[i].Name, got)
		}
	}
	if spans[0].Status.Code != otelcodes.Unset {
		t.Error("a server is not to blame for its callers' mistakes")
	}
}

func TestWhatFailsMarksItsSpan(t *testing.T) {
	made, exporter := onByDefault(t)
	_, call := made.ServerCall(ctx, method, nil, true)
	call.End(codes.Internal, errors.New("the disk is full"))
	made.Send(ctx, "orders").End(fault.NotFound("order", "x"))
	made.Send(ctx, "ships").End(&fault.VersionConflict{})
	_, unknown := made.ServerCall(ctx, "/x.Y/guess", nil, false)
	unknown.End(codes.Unauthenticated, nil)
	for name, want := range map[string]string{
		method[1:]: "INTERNAL", "send orders": "NotFound", "send ships": "VersionConflict",
	} {
		span := only(t, exporter, name)
		if !strings.Contains(attributes(span), "error.type="+want) || span.Status.Code != otelcodes.Error {
			t.Errorf("%s: %s", name, attributes(span))
		}
		if (len(span.Events) > 0) != (want == "INTERNAL") {
			t.Errorf("%s: only what nobody expects has its stack", name)
		}
	}
	if got := attributes(only(t, exporter, "_OTHER")); !strings.Contains(got, "rpc.method=_OTHER") {
		t.Error(got)
	}
}

func TestAReplayIsANewRootLinkedToTheOldTraces(t *testing.T) {
	made, exporter := onByDefault(t)
	var metas []*factfoldv1.FactMeta
	for range 130 {
		metas = append(metas, newMeta())
		send := made.Send(ctx, "orders")
		send.Fill(metas[len(metas)-1])
		send.End(nil)
	}
	exporter.Reset()
	replay := made.Replay(ctx, "orders", 1, "g", metas)
	_, process := made.Process(ctx, "orders", 1, "g", metas[0], "k", replay)
	process.End(nil)
	replay.End(nil)
	spans := exporter.GetSpans()
	child, root := spans[0], spans[1]
	if root.Parent.IsValid() || len(root.Links) != 128 ||
		!strings.Contains(attributes(root), "messaging.batch.message_count=130") {
		t.Errorf("root: %v", root)
	}
	if child.Parent.SpanID() != root.SpanContext.SpanID() ||
		hex.EncodeToString(metas[0].TraceId) != child.Links[0].SpanContext.TraceID().String() {
		t.Errorf("child: %v", child)
	}
}

func TestAnUnsampledTraceIsHandedOnAndNotRecorded(t *testing.T) {
	idle, exporter := onByDefault(t)
	for header, made := range map[string]*Telemetry{"00": idle, "01": nil} {
		in, call := made.ServerCall(ctx, method, metadata.Pairs("traceparent", "00-"+traceID+"-"+spanID+"-"+header), true)
		meta := newMeta()
		send := made.Send(in, "orders")
		send.Fill(meta)
		send.End(nil)
		out, client := made.ClientCall(in, method, "h", 1)
		client.End(codes.OK, nil)
		call.End(codes.OK, nil)
		sent, _ := metadata.FromOutgoingContext(out)
		if got := sent.Get("traceparent"); len(got) != 1 || got[0] != "00-"+traceID+"-"+spanID+"-"+header {
			t.Error(got)
		}
		if hex.EncodeToString(meta.TraceId) != traceID || hex.EncodeToString(meta.SpanId) != spanID {
			t.Error(meta)
		}
		reacting, process := made.Process(ctx, "orders", 0, "g", meta, "k", nil)
		process.End(nil)
		if trace.SpanContextFromContext(reacting).TraceID().String() != traceID {
			t.Error("a reaction is in the trace of its fact")
		}
	}
	if len(exporter.GetSpans()) > 0 {
		t.Error(exporter.GetSpans())
	}
}

func TestASamplerThatIgnoresTheParentIsAsked(t *testing.T) {
	made, exporter := recording(t, sdktrace.AlwaysSample(), false)
	_, call := made.ServerCall(ctx, method, unsampled, true)
	call.End(codes.OK, nil)
	if len(exporter.GetSpans()) != 1 {
		t.Error(exporter.GetSpans())
	}
}

func TestMetricsHaveTheirStandardNames(t *testing.T) {
	reader := sdkmetric.NewManualReader()
	made, err := New(nil, sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)), true)
	if err != nil {
		t.Fatal(err)
	}
	made.Lag("view", "orders", func() []Lag { return []Lag{{"orders", 0, 7, 1.5}} })
	made.Lag("reaction", "announce", func() []Lag { return []Lag{{"orders", 1, 2, -1}} })
	made.HeldBack(func() map[Place]int { return map[Place]int{{"orders", 1}: 4} })
	made.Count("factfold.view.errors", 1, "view", "orders", "stream", "orders")
	in, call := made.ServerCall(ctx, method, nil, true)
	send := made.Send(in, "orders")
	send.Placed(1, "p")
	send.End(nil)
	_, process := made.Process(ctx, "orders", 1, "g", newMeta(), "k", nil)
	process.End(nil)
	call.End(codes.Unavailable, nil)
	var data metricdata.ResourceMetrics
	if err := reader.Collect(ctx, &data); err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, each := range data.ScopeMetrics[0].Metrics {
		found = append(found, each.Name+" "+each.Unit)
	}
	slices.Sort(found)
	// Of the reaction's delay nothing is known.
	if want := []string{
		"factfold.log.held_back {fact}", "factfold.reaction.lag {fact}", "factfold.trace.dropped ",
		"factfold.view.delay s", "factfold.view.errors 1", "factfold.view.lag {fact}",
		"messaging.client.operation.duration s", "messaging.process.duration s", "rpc.server.call.duration s",
	}; !slices.Equal(found, want) {
		t.Error(found)
	}
}

func TestNothingIsExportedUnlessAsked(t *testing.T) {
	if made, err := FromEnvironment(ctx, "orders"); made != nil || err != nil {
		t.Error(made, err)
	}
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
	t.Setenv("OTEL_SDK_DISABLED", "true")
	if made, err := FromEnvironment(ctx, "orders"); made != nil || err != nil {
		t.Error(made, err)
	}
}

func TestAnExporterThatIsNotSupportedIsOneLine(t *testing.T) {
	for variable, each := range map[string][2]string{
		"OTEL_TRACES_EXPORTER":  {"zipkin", "OTEL_TRACES_EXPORTER is 'zipkin': write otlp or none"},
		"OTEL_METRICS_EXPORTER": {"x", "OTEL_METRICS_EXPORTER is 'x': write otlp, prometheus or none"},
		"OTEL_EXPORTER_OTLP_PROTOCOL": {
			"http/protobuf", "the OTLP protocol 'http/protobuf' is not spoken here: write grpc",
		},
	} {
		t.Run(variable, func(t *testing.T) {
			t.Setenv("OTEL_TRACES_EXPORTER", "otlp")
			t.Setenv(variable, each[0])
			if _, err := FromEnvironment(ctx, "orders"); err == nil || err.Error() != each[1] {
				t.Error(err)
			}
		})
	}
}

func TestACollectorThatHangsCostsOnlySpans(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://"+silent.Addr().String())
	t.Setenv("OTEL_BSP_MAX_QUEUE_SIZE", "10")
	t.Setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10")
	made, err := FromEnvironment(ctx, "orders")
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	for range 1000 {
		made.Send(ctx, "orders").End(nil)
	}
	ending, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	made.Shutdown(ending)
	if took := time.Since(begin); took > 2*time.Second || made.Dropped() != 1000 {
		t.Errorf("%d dropped after %v", made.Dropped(), took)
	}
}

func TestPrometheusFindsWhatOperatorsLookAt(t *testing.T) {
	port := freePort(t)
	t.Setenv("OTEL_METRICS_EXPORTER", "prometheus")
	t.Setenv("OTEL_EXPORTER_PROMETHEUS_PORT", port)
	t.Setenv("OTEL_SERVICE_NAME", "desk-lamps")
	made, err := FromEnvironment(ctx, "lamps")
	if err != nil {
		t.Fatal(err)
	}
	defer made.Shutdown(ctx)
	made.Count("factfold.log.alarms", 0)
	made.Count("factfold.view.errors", 0, "view", "lamps", "stream", "lamps")
	made.Lag("view", "lamps", func() []Lag { return []Lag{{"lamps", 0, 7, 1.5}} })
	_, call := made.ServerCall(ctx, method, nil, true)
	call.End(codes.OK, nil)
	answer, err := http.Get("http://localhost:" + port + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, _ := io.ReadAll(answer.Body)
	for _, want := range []string{
		"factfold_log_alarms_total{", "factfold_view_errors_total{factfold_view_name=\"lamps\"",
		"factfold_view_lag{", "factfold_view_delay_seconds{", "rpc_server_call_duration_seconds_count{",
		"factfold_trace_dropped_total{", `service_name="desk-lamps"`,
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %s in %s", want, text)
		}
	}
}

func TestAPortThatIsTakenCostsTheMetricsAlone(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, port, _ := net.SplitHostPort(taken.Addr().String())
	t.Setenv("OTEL_METRICS_EXPORTER", "prometheus")
	t.Setenv("OTEL_EXPORTER_PROMETHEUS_HOST", "127.0.0.1")
	t.Setenv("OTEL_EXPORTER_PROMETHEUS_PORT", port)
	made, err := FromEnvironment(ctx, "lamps")
	if err != nil {
		t.Fatal(err)
	}
	made.Count("factfold.log.alarms", 0)
	made.Shutdown(ctx)
}

func freePort(t *testing.T) string {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer free.Close()
	_, port, _ := net.SplitHostPort(free.Addr().String())
	return port
}
