package chassis

import (
	"context"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/reflect/protoreflect"

	"factfold/chassis/internal/telemetry"
	"factfold/chassis/internal/testorders"
	"factfold/chassis/testing/redistest"
)

// asking creates an order, and asks another service about it.
type asking struct {
	testorders.UnimplementedOrderServiceServer
	other func() string
	left  chan time.Duration
}

func (a asking) Create(ctx context.Context, _ *testorders.CreateRequest) (*testorders.Order, error) {
	call := CommandFrom(ctx)
	done, err := call.Append(ctx, &testorders.Created{Id: call.NewID()}, ExpectedVersion(0))
	if err != nil {
		return nil, err
	}
	return a.ask(ctx, done.Event.(*testorders.Created).Id)
}

func (a asking) ask(ctx context.Context, id string) (*testorders.Order, error) {
	channel, err := Dial(ctx, a.other())
	if err != nil {
		return nil, err
	}
	defer channel.Close()
	return testorders.NewOrderServiceClient(channel).Get(ctx, &testorders.GetRequest{Id: id})
}

func (a asking) Get(ctx context.Context, request *testorders.GetRequest) (*testorders.Order, error) {
	deadline, _ := ctx.Deadline()
	a.left <- time.Until(deadline)
	return &testorders.Order{Id: request.Id}, nil
}

func TestACallTheFactTheReactionAndACallToAnotherServiceAreOneTrace(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	traced, err := telemetry.New(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)), nil, true)
	if err != nil {
		t.Fatal(err)
	}
	answered := make(chan struct{}, 1)
	var running *Running
	handlers := asking{other: func() string { return running.Address() }, left: make(chan time.Duration, 2)}
	settings := DefaultSettings()
	settings.RedisURL, settings.Listen = redistest.Start(t).URL(), "127.0.0.1:0"
	running, err = start(t.Context(), Service{
		Name:     "orders",
		Contract: []protoreflect.FileDescriptor{testorders.File_orders_proto},
		Register: func(to grpc.ServiceRegistrar) { testorders.RegisterOrderServiceServer(to, handlers) },
		Reactions: []Reaction{NewReaction("announce",
			func(_ context.Context, event *testorders.Created, _ *Reacting) ([]Append, error) {
				return []Append{{Event: &testorders.Announced{Id: event.Id}, ExpectedVersion: At(1)}}, nil
			}), NewReaction("notice",
			func(ctx context.Context, event *testorders.Announced, _ *Reacting) ([]Append, error) {
				_, err := handlers.ask(ctx, event.Id)
				answered <- struct{}{}
				return nil, err
			})},
	}, settings, traced)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(running.Stop)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := running.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	channel, err := grpc.NewClient(running.Address(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer channel.Close()
	if _, err := testorders.NewOrderServiceClient(channel).Create(ctx, &testorders.CreateRequest{}); err != nil {
		t.Fatal(err)
	}
	if left := <-handlers.left; left > 10*time.Second || left < 5*time.Second {
		t.Errorf("the other service has %v", left)
	}
	select {
	case <-answered:
	case <-ctx.Done():
		t.Fatal("nothing was announced")
	}
	running.Stop()

	names := map[string]string{}
	for _, span := range spans.Ended() {
		names[span.SpanContext().SpanID().String()] = span.SpanKind().String() + " " + span.Name()
	}
	below := map[string]bool{} // of spans and what they are below
	for _, span := range spans.Ended() {
		below[names[span.SpanContext().SpanID().String()]+" < "+names[span.Parent().SpanID().String()]] = true
	}
	const service = "testorders.OrderService/"
	for _, want := range []string{
		"server " + service + "Create < ",
		"producer send orders < server " + service + "Create",
		"client " + service + "Get < server " + service + "Create",
		"server " + service + "Get < client " + service + "Get",
		"consumer process orders < producer send orders",
		"producer send orders < consumer process orders",
		"client " + service + "Get < consumer process orders",
	} {
		if !below[want] {
			t.Errorf("there is no %s in %v", want, below)
		}
	}
}
