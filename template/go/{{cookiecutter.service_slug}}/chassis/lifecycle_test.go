package chassis

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	factfoldv1 "factfold/chassis/factfold/v1"
	"factfold/chassis/internal/testorders"
	"factfold/chassis/testing/redistest"
)

// creating has one command, which creates an order.
type creating struct {
	testorders.UnimplementedOrderServiceServer
}

func (creating) Create(ctx context.Context, _ *testorders.CreateRequest) (*testorders.Order, error) {
	call := CommandFrom(ctx)
	done, err := call.Append(ctx, &testorders.Created{Id: call.NewID()}, ExpectedVersion(0))
	return &testorders.Order{Repeated: done.Repeated}, err
}

func ordersService() Service {
	return Service{
		Name: "orders", Contract: []protoreflect.FileDescriptor{testorders.File_orders_proto},
		Register: func(to grpc.ServiceRegistrar) { testorders.RegisterOrderServiceServer(to, creating{}) },
	}
}

// lampsFile is the contract of another service, with the stream lamps.
func lampsFile(t *testing.T) protoreflect.FileDescriptor {
	t.Helper()
	file := &descriptorpb.FileDescriptorProto{
		Name: proto.String("lamps.proto"), Package: proto.String("lamps"), Options: &descriptorpb.FileOptions{},
	}
	proto.SetExtension(file.Options, factfoldv1.E_Stream, &factfoldv1.Stream{Name: "lamps"})
	found, err := protodesc.NewFile(file, &protoregistry.Files{})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// started runs a service on a Redis of its own.
func started(t *testing.T, service Service, adapt func(*Settings)) (*Running, testorders.OrderServiceClient, *redis.Client) {
	t.Helper()
	settings := DefaultSettings()
	settings.RedisURL, settings.Listen = redistest.Start(t).URL(), "127.0.0.1:0"
	if adapt != nil {
		adapt(&settings)
	}
	running, err := Start(t.Context(), service, settings)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(running.Stop)
	channel, err := grpc.NewClient(running.Address(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { channel.Close() })
	options, err := redis.ParseURL(settings.RedisURL)
	if err != nil {
		t.Fatal(err)
	}
	log := redis.NewClient(options)
	t.Cleanup(func() { log.Close() })
	return running, testorders.NewOrderServiceClient(channel), log
}

func within10(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestOwnStreamsDoNotWaitForThoseOfOthers(t *testing.T) {
	service := ordersService()
	service.Subscriptions = []protoreflect.FileDescriptor{lampsFile(t)}
	running, _, _ := started(t, service, nil)
	if err := running.Ready(within10(t)); err != nil {
		t.Error(err)
	}
}

func TestReactionsWaitForTheViews(t *testing.T) {
	settings := DefaultSettings()
	c, err := newCore(ordersService(), settings, nil, func() {})
	if err != nil {
		t.Fatal(err)
	}
	c.reason = "" // as once the own streams are there
	if c.changed(); c.viewsReady.isOpen() || c.ready.isOpen() {
		t.Errorf("nothing is read yet: %s", c.status())
	}
}

func TestACallThatComesWhileItDrainsIsRefused(t *testing.T) {
	c, err := newCore(ordersService(), DefaultSettings(), nil, func() {})
	if err != nil {
		t.Fatal(err)
	}
	c.ready.set(true)
	if err := c.admitNow(); err != nil {
		t.Fatal(err)
	}
	c.drain()
	if err := c.admitNow(); err == nil || err.Error() != "not ready: the service is shutting down; retry later" {
		t.Error(err)
	}
}

func TestAPositionThatIsAwayIsWaitedForAsLongAsBothAllow(t *testing.T) {
	for name, each := range map[string]struct{ timeout, deadline, longest time.Duration }{
		"the deadline comes first": {time.Minute, time.Second, time.Second},
		"the timeout comes first":  {100 * time.Millisecond, 10 * time.Second, 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			running, to, log := started(t, ordersService(), func(s *Settings) { s.ReadTimeout = each.timeout })
			if err := running.Ready(within10(t)); err != nil {
				t.Fatal(err)
			}
			epoch, err := log.HGet(t.Context(), "{orders/0}:head", "epoch").Result()
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), each.deadline)
			defer cancel()
			_, err = to.Create(metadata.AppendToOutgoingContext(ctx, "factfold-at-least", "orders/0@"+epoch+":9-9"),
				&testorders.CreateRequest{})
			if took := time.Since(began); status.Code(err) != codes.Unavailable || took > each.longest {
				t.Errorf("%v after %s", err, took)
			}
		})
	}
}

func TestARepeatedCommandWhoseFactWasTrimmedWasCarriedOut(t *testing.T) {
	running, to, log := started(t, ordersService(), nil)
	ctx := within10(t)
	if err := running.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	request := &testorders.CreateRequest{RequestId: "r-1"}
	var trailer metadata.MD
	if _, err := to.Create(ctx, request, grpc.Trailer(&trailer)); err != nil {
		t.Fatal(err)
	}
	position := trailer["factfold-position"][0]
	place, _, _ := strings.Cut(position, "@")
	if _, err := to.Create(metadata.AppendToOutgoingContext(ctx, "factfold-at-least", position), request); err != nil {
		t.Fatal(err)
	}
	if err := log.HSet(ctx, "{"+place+"}:head", "trimmed", 1).Err(); err != nil {
		t.Fatal(err)
	}
	if err := log.XTrimMaxLen(ctx, "{"+place+"}:log", 0).Err(); err != nil {
		t.Fatal(err)
	}
	_, err := to.Create(ctx, request)
	if status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(),
		"the command was carried out when it came first, at "+position+", and its answer was trimmed") {
		t.Error(err)
	}
}

func TestALogOfWhichThereIsASnapshotIsNotBegunAnew(t *testing.T) {
	folder := t.TempDir()
	running, to, log := started(t, ordersService(), func(s *Settings) { s.SnapshotDir = folder })
	if err := running.Ready(within10(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := to.Create(within10(t), &testorders.CreateRequest{}); err != nil {
		t.Fatal(err)
	}
	running.Stop()
	if err := log.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	again, err := Start(t.Context(), ordersService(), running.settings)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := again.Ready(ctx); err == nil || !strings.Contains(err.Error(), ".snapshot is a snapshot of it") {
		t.Error(err)
	}
}
