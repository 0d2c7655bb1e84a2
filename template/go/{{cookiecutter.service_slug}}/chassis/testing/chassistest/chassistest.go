// Package chassistest is the testing kit: a service in the process of its test, ready, on a free
// port, against a real Redis of its own.
package chassistest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"factfold/chassis"
	"factfold/chassis/internal/contract"
	"factfold/chassis/internal/fault"
	"factfold/chassis/internal/redislog"
	"factfold/chassis/internal/wire"
	"factfold/chassis/testing/redistest"
)

// Patience is how long something may take that must happen.
const Patience = 10 * time.Second

// Running is a service that runs, and what its tests do with it.
type Running struct {
	// Channel is connected to the service's server.
	Channel *grpc.ClientConn

	t         testing.TB
	service   *chassis.Running
	contract  *contract.Contract
	redis     *redislog.Redis
	appenders map[string]*redislog.Appender
}

// Recorded is a fact of the log with its event.
type Recorded struct {
	Fact  chassis.Fact
	Event proto.Message
}

// Run starts the service, ready, with an empty log, until the test ends. Streams that it subscribes to
// exist and are empty; Publish plays their owners.
func Run(t testing.TB, service chassis.Service) *Running {
	t.Helper()
	declared, err := contract.New(service.Contract, service.Subscriptions)
	if err != nil {
		t.Fatal(err)
	}
	settings := chassis.DefaultSettings()
	settings.RedisURL = redistest.Start(t).URL()
	settings.Listen = "127.0.0.1:0"
	settings.DrainTimeout = 2 * time.Second
	url, err := redislog.ParseURL(settings.RedisURL)
	if err != nil {
		t.Fatal(err)
	}
	r := &Running{
		t: t, contract: declared, redis: redislog.New(url), appenders: map[string]*redislog.Appender{},
	}
	r.createStreams(settings)
	r.start(service, settings)
	return r
}

func (r *Running) createStreams(settings chassis.Settings) {
	r.t.Helper()
	ctx, end := context.WithCancel(context.Background())
	r.t.Cleanup(end)
	for _, stream := range r.contract.Streams {
		epochs, err := redislog.CreateStream(
			ctx, r.redis, stream.Name, stream.Partitions, func() string { return "" },
		)
		if err != nil {
			r.t.Fatal(err)
		}
		appender := redislog.NewAppender(r.redis, stream.Name, epochs, redislog.AppendOptions{
			Timeout:      Patience,
			Limit:        settings.AppendQueue,
			MaxFactBytes: settings.MaxFactBytes,
			Alarm:        func(text string) { r.t.Errorf("alarm: %s", text) },
		})
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = appender.Run(ctx)
		}()
		r.t.Cleanup(func() { end(); <-ended })
		r.appenders[stream.Name] = appender
	}
}

func (r *Running) start(service chassis.Service, settings chassis.Settings) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	started, err := chassis.Start(context.Background(), service, settings)
	if err != nil {
		r.t.Fatal(err)
	}
	r.service = started
	r.t.Cleanup(started.Stop)
	if err := started.Ready(ctx); err != nil {
		r.t.Fatalf("not ready: %v", err)
	}
	r.Channel, err = grpc.NewClient(started.Address(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = r.Channel.Close() })
}

// Query reads the service's tables as they are now: chassis.RowsOf(running.Query(), table).
func (r *Running) Query() *chassis.Query { return r.service.Query() }

// Publish appends an event as the owner of its stream, and waits until the service's views have it.
// expected is the version of its key that a versioned stream wants; see chassis.At.
func (r *Running) Publish(ctx context.Context, event proto.Message, expected *uint64) chassis.Appended {
	r.t.Helper()
	spec, err := r.contract.EventOf(event)
	if err != nil {
		r.t.Fatal(err)
	}
	var version uint64
	if expected != nil {
		version = *expected + 1
	}
	meta, err := proto.Marshal(wire.NewMeta("/"+spec.Stream.Name, "", version))
	if err != nil {
		r.t.Fatal(err)
	}
	data, err := proto.Marshal(event)
	if err != nil {
		r.t.Fatal(err)
	}
	position, err := r.appenders[spec.Stream.Name].Append(ctx, []redislog.NewFact{{
		Type: spec.Name, Key: spec.KeyOf(event), Meta: meta, Data: data, Expected: expected,
	}})
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	// No view of this stream: nothing to wait for.
	if err := r.service.Reach(ctx, position); err != nil && !errors.Is(err, fault.KindFailedPrecondition) {
		r.t.Fatal(err)
	}
	return chassis.Appended{Event: event, Version: version, Position: position}
}

// Facts are all of a stream, partition after partition, as the service's reader reads them.
func (r *Running) Facts(ctx context.Context, stream string) []Recorded {
	r.t.Helper()
	heads, err := redislog.WaitForStream(ctx, r.redis, stream)
	if err != nil {
		r.t.Fatal(err)
	}
	var found []Recorded
	for partition, head := range heads {
		if head.N == 0 {
			continue
		}
		reader := redislog.NewReader(r.redis, stream, partition, head.Epoch, redislog.Options{})
		for batch, err := range reader.Batches(ctx) {
			if err != nil {
				r.t.Fatal(err)
			}
			for _, entry := range batch.Entries {
				fact := chassis.Fact{Stream: stream, Partition: partition, Epoch: head.Epoch, Entry: entry}
				found = append(found, Recorded{fact, r.event(fact)})
			}
			if batch.Anchor.ID.N >= head.N {
				break
			}
		}
	}
	return found
}

func (r *Running) event(fact chassis.Fact) proto.Message {
	r.t.Helper()
	name, err := fact.Type()
	if err != nil {
		r.t.Fatal(err)
	}
	spec, ok := r.contract.Events[name]
	if !ok {
		r.t.Fatalf("%s is no event of the contract", name)
	}
	event := spec.New()
	if err := fact.Read(event); err != nil {
		r.t.Fatal(err)
	}
	return event
}

// Events are one of each event type of a stream, all of this key.
func (r *Running) Events(stream, key string) []proto.Message {
	r.t.Helper()
	declared, ok := r.contract.Streams[stream]
	if !ok {
		r.t.Fatalf("the contract has no stream %s", stream)
	}
	var events []proto.Message
	for _, name := range slices.Sorted(maps.Keys(declared.Events)) {
		event := declared.Events[name].New()
		event.ProtoReflect().Set(declared.Events[name].Key, protoreflect.ValueOfString(key))
		events = append(events, event)
	}
	return events
}

// Eventually waits until check is true, for Patience at most.
func Eventually(t testing.TB, check func() bool) {
	t.Helper()
	for end := time.Now().Add(Patience); !check(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not true within %s", Patience)
		}
	}
}

// FactOf is a fact of a key's version, to hand to a fold: it stands nowhere.
func FactOf(t testing.TB, version uint64) *chassis.Fact {
	t.Helper()
	meta, err := proto.Marshal(wire.NewMeta("/test", "", version))
	if err != nil {
		t.Fatal(err)
	}
	return &chassis.Fact{
		Stream: "test",
		Epoch:  fmt.Sprintf("%016x", 0),
		Entry:  wire.Entry{ID: wire.ID{Ms: 1, N: 1}, Fields: []string{"meta", string(meta)}},
	}
}
