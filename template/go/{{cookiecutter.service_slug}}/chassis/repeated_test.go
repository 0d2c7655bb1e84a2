package chassis

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"factfold/chassis/internal/testorders"
)

// deciding carries a command out as its name says.
type deciding struct {
	testorders.UnimplementedOrderServiceServer
}

func (deciding) Create(ctx context.Context, request *testorders.CreateRequest) (*testorders.Order, error) {
	call := CommandFrom(ctx)
	id := call.NewID()
	created, announced := &testorders.Created{Id: id}, &testorders.Announced{Id: id}
	var done Appended
	var err error
	switch request.Name {
	case "create":
		done, err = call.Append(ctx, created, ExpectedVersion(0))
	case "create at the version of the view":
		done, err = call.Append(ctx, created, ExpectedVersion(1))
	case "announce":
		done, err = call.Append(ctx, announced, ExpectedVersion(9))
	case "create and announce at once":
		done, err = call.AppendAll(ctx, []proto.Message{created, announced}, ExpectedVersion(0))
	case "create, then announce":
		if _, err = call.Append(ctx, created, ExpectedVersion(0)); err == nil {
			done, err = call.Append(ctx, announced, ExpectedVersion(1))
		}
	}
	return &testorders.Order{Repeated: done.Repeated}, err
}

func TestACommandThatComesAgain(t *testing.T) {
	service := ordersService()
	service.Register = func(to grpc.ServiceRegistrar) { testorders.RegisterOrderServiceServer(to, deciding{}) }
	running, to, log := started(t, service, nil)
	ctx := within10(t)
	if err := running.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	for id, each := range map[string]struct {
		first, again string
		code         codes.Code
		facts        int // of the command, in the end
	}{
		"the same":                       {"create", "create", codes.OK, 1},
		"its version is no conflict":     {"create", "create at the version of the view", codes.OK, 1},
		"another one with its id":        {"create", "announce", codes.InvalidArgument, 1},
		"more facts than there were":     {"create", "create and announce at once", codes.Aborted, 1},
		"several facts at once":          {"create and announce at once", "create and announce at once", codes.OK, 2},
		"several facts, one by one":      {"create, then announce", "create, then announce", codes.OK, 2},
		"at once what was one by one":    {"create, then announce", "create and announce at once", codes.OK, 2},
		"one by one what was at once":    {"create and announce at once", "create, then announce", codes.OK, 2},
		"one of those that were at once": {"create and announce at once", "create", codes.OK, 2},
	} {
		t.Run(id, func(t *testing.T) {
			before := facts(t, ctx, log)
			var trailer metadata.MD
			_, err := to.Create(ctx, &testorders.CreateRequest{RequestId: id, Name: each.first}, grpc.Trailer(&trailer))
			if err != nil {
				t.Fatal(err)
			}
			seen := metadata.AppendToOutgoingContext(ctx, "factfold-at-least", trailer["factfold-position"][0])
			order, err := to.Create(seen, &testorders.CreateRequest{RequestId: id, Name: each.again})
			if status.Code(err) != each.code || err == nil && !order.Repeated {
				t.Errorf("%v %v", order, err)
			}
			if found := facts(t, ctx, log) - before; found != each.facts {
				t.Errorf("%d facts", found)
			}
		})
	}
}

func TestACommandThatComesAgainWaitsUntilItsFactIsRead(t *testing.T) {
	read := make(chan struct{})
	goOn := sync.OnceFunc(func() { close(read) })
	service := ordersService()
	service.Register = func(to grpc.ServiceRegistrar) { testorders.RegisterOrderServiceServer(to, deciding{}) }
	orders := NewTable[*testorders.Order](NewView("orders"), "orders")
	service.Folds = []Fold{
		NewFold(orders, func(_ *testorders.Order, event *testorders.Created, _ *Fact) *testorders.Order {
			<-read
			return &testorders.Order{Id: event.Id}
		}),
	}
	running, to, _ := started(t, service, nil)
	t.Cleanup(goOn)
	ctx := within10(t)
	if err := running.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	request := &testorders.CreateRequest{RequestId: "again", Name: "create"}
	if _, err := to.Create(ctx, request); err != nil {
		t.Fatal(err)
	}
	again := make(chan error, 1)
	var order *testorders.Order
	go func() {
		var err error
		order, err = to.Create(ctx, request)
		again <- err
	}()
	select {
	case err := <-again:
		t.Fatalf("it was answered before its fact was read: %v", err)
	case <-time.After(300 * time.Millisecond):
	}
	goOn()
	if err := <-again; err != nil || !order.Repeated {
		t.Errorf("%v %v", order, err)
	}
}

// facts is how many the log of the orders has.
func facts(t *testing.T, ctx context.Context, log *redis.Client) (found int) {
	t.Helper()
	for _, partition := range []string{"0", "1"} {
		n, err := log.XLen(ctx, "{orders/"+partition+"}:log").Result()
		if err != nil {
			t.Fatal(err)
		}
		found += int(n)
	}
	return found
}

func TestARequestIDHasAtMost128Characters(t *testing.T) {
	for characters, allowed := range map[int]bool{128: true, 129: false} {
		request := &testorders.CreateRequest{RequestId: strings.Repeat("ä", characters)}
		if _, err := newCommand(nil, request); (err == nil) != allowed {
			t.Errorf("%d: %v", characters, err)
		}
	}
}
