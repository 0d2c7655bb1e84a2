package telemetry

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/exemplar"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"factfold/chassis/internal/fault"
)

const logger = "factfold.telemetry"

// FromEnvironment makes what OTEL_TRACES_EXPORTER, OTEL_METRICS_EXPORTER or an OTLP endpoint ask
// for; nil if nothing.
func FromEnvironment(ctx context.Context, service string) (*Telemetry, error) {
	traces, err := asked("TRACES", "otlp", "none")
	if err != nil {
		return nil, err
	}
	metrics, err := asked("METRICS", "otlp", "prometheus", "none")
	if err != nil {
		return nil, err
	}
	if traces == "none" && metrics == "none" {
		return nil, nil
	}
	// A collector that is away is no fault of the service, and only worth a line.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		slog.Warn("telemetry: "+err.Error(), "logger", logger)
	}))
	from, err := resource.New(ctx,
		resource.WithTelemetrySDK(),
		resource.WithAttributes(
			attribute.String("service.name", service),
			attribute.String("service.instance.id", uuid.NewString())),
		resource.WithFromEnv()) // wins over the service's own name
	if err != nil {
		return nil, fault.CannotStart("OTEL_RESOURCE_ATTRIBUTES cannot be used: %v", err)
	}
	var spans *queue
	var tracing *sdktrace.TracerProvider
	if traces == "otlp" {
		exporter, err := otlptracegrpc.New(ctx)
		if err != nil {
			return nil, fault.CannotStart("traces cannot be exported: %v", err)
		}
		if spans, err = newQueue(exporter); err != nil {
			return nil, err
		}
		tracing = sdktrace.NewTracerProvider(sdktrace.WithResource(from), sdktrace.WithSpanProcessor(spans))
	}
	var metering *sdkmetric.MeterProvider
	var scrape *http.Server
	if metrics != "none" {
		var reader sdkmetric.Reader
		if metrics == "otlp" {
			exporter, err := otlpmetricgrpc.New(ctx)
			if err != nil {
				return nil, fault.CannotStart("metrics cannot be exported: %v", err)
			}
			reader = sdkmetric.NewPeriodicReader(exporter)
		} else if reader, scrape, err = scraped(); err != nil {
			return nil, err
		}
		if reader != nil {
			options := []sdkmetric.Option{sdkmetric.WithReader(reader), sdkmetric.WithResource(from)}
			// Unless they are asked for: looking for one costs each measurement more than counting it.
			if os.Getenv("OTEL_METRICS_EXEMPLAR_FILTER") == "" {
				options = append(options, sdkmetric.WithExemplarFilter(exemplar.AlwaysOffFilter))
			}
			metering = sdkmetric.NewMeterProvider(options...)
		}
	}
	sampler := strings.TrimSpace(os.Getenv("OTEL_TRACES_SAMPLER"))
	t, err := New(tracing, metering, !slices.Contains([]string{"always_on", "always_off", "traceidratio"}, sampler))
	if err != nil {
		return nil, err
	}
	t.queue = spans
	if scrape != nil {
		t.scrape = scrape
	}
	return t, nil
}

// asked is the exporter that OTEL_<signal>_EXPORTER or an OTLP endpoint asks for.
func asked(signal string, known ...string) (string, error) {
	if strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") {
		return "none", nil
	}
	const otlp = "OTEL_EXPORTER_OTLP"
	name := environment("OTEL_" + signal + "_EXPORTER")
	if name == "" {
		name = "none"
		if environment(otlp+"_"+signal+"_ENDPOINT", otlp+"_ENDPOINT") != "" {
			name = "otlp"
		}
	}
	if !slices.Contains(known, name) {
		last := len(known) - 1
		return "", fault.CannotStart("OTEL_%s_EXPORTER is '%s': write %s or %s",
			signal, name, strings.Join(known[:last], ", "), known[last])
	}
	protocol := environment(otlp+"_"+signal+"_PROTOCOL", otlp+"_PROTOCOL")
	if name == "otlp" && protocol != "" && protocol != "grpc" {
		return "", fault.CannotStart("the OTLP protocol '%s' is not spoken here: write grpc", protocol)
	}
	return name, nil
}

// scraped answers Prometheus at /metrics. Without an address to listen on there are no metrics, and
// a line in the log: the service is worth more.
func scraped() (sdkmetric.Reader, *http.Server, error) {
	host, text := environment("OTEL_EXPORTER_PROMETHEUS_HOST"), environment("OTEL_EXPORTER_PROMETHEUS_PORT")
	if host == "" {
		host = "localhost"
	}
	if text == "" {
		text = "9464"
	}
	if _, err := strconv.ParseUint(text, 10, 16); err != nil {
		return nil, nil, fault.CannotStart("OTEL_EXPORTER_PROMETHEUS_PORT is '%s': it must be a port, such as 9464", text)
	}
	address := net.JoinHostPort(host, text)
	listener, err := net.Listen("tcp", address)
	if err != nil {
		slog.Error("there are no metrics, as OTEL_EXPORTER_PROMETHEUS_HOST and _PORT cannot be listened "+
			"on; is another process there?",
			"logger", logger, "address", address, "why", fault.Reason(err))
		return nil, nil, nil
	}
	registry := prometheus.NewRegistry()
	reader, err := otelprometheus.New(otelprometheus.WithRegisterer(registry))
	if err != nil {
		listener.Close()
		return nil, nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(listener) }()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	slog.Info("metrics for Prometheus", "logger", logger, "address", net.JoinHostPort(host, port))
	return reader, server, nil
}

// queue is a bounded one of spans on their way out, which counts those that never arrive.
type queue struct {
	sdktrace.SpanProcessor
	exporter sdktrace.SpanExporter
	capacity int

	mu      sync.Mutex
	waiting int
	dropped int64
}

func newQueue(exporter sdktrace.SpanExporter) (*queue, error) {
	q := &queue{exporter: exporter, capacity: sdktrace.DefaultMaxQueueSize}
	if text := os.Getenv("OTEL_BSP_MAX_QUEUE_SIZE"); text != "" {
		size, err := strconv.Atoi(text)
		if err != nil || size < 1 {
			return nil, fault.CannotStart("an OTEL_BSP_… variable cannot be used: %s", text)
		}
		q.capacity = size
	}
	q.SpanProcessor = sdktrace.NewBatchSpanProcessor(counting{q}, sdktrace.WithMaxQueueSize(q.capacity))
	return q, nil
}

// OnEnd takes a span, if there is room.
func (q *queue) OnEnd(span sdktrace.ReadOnlySpan) {
	q.mu.Lock()
	fits := q.waiting < q.capacity
	if fits {
		q.waiting++
	} else {
		q.dropped++
	}
	q.mu.Unlock()
	if fits {
		q.SpanProcessor.OnEnd(span)
	}
}

func (q *queue) left(spans int, delivered bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	spans = min(spans, q.waiting) // none any more once they were abandoned
	q.waiting -= spans
	if !delivered {
		q.dropped += int64(spans)
	}
}

// abandon: the process ends, and what waits is lost.
func (q *queue) abandon() { q.left(q.capacity, false) }

func (q *queue) lost() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.dropped
}

type counting struct{ queue *queue }

func (c counting) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := c.queue.exporter.ExportSpans(ctx, spans)
	c.queue.left(len(spans), err == nil)
	return err
}

func (c counting) Shutdown(ctx context.Context) error { return c.queue.exporter.Shutdown(ctx) }
