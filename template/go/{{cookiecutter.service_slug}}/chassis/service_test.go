package chassis_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"factfold/chassis"
	"factfold/chassis/internal/testorders"
	"factfold/chassis/testing/redistest"
)

const patience = 20 * time.Second

// runsMain makes the test binary a service of its own, for tests of the process.
const runsMain = "TEST_RUNS_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(runsMain) != "" {
		chassis.Main(newService())
		return
	}
	os.Exit(m.Run())
}

var (
	ordersView = chassis.NewView("orders")
	orders     = chassis.NewTable[*testorders.Order](ordersView, "orders")
)

func newService() chassis.Service {
	return chassis.Service{
		Name:     "orders",
		Contract: []protoreflect.FileDescriptor{testorders.File_orders_proto},
		Register: func(to grpc.ServiceRegistrar) { testorders.RegisterOrderServiceServer(to, handlers{}) },
		Folds: []chassis.Fold{
			chassis.NewFold(orders, func(_ *testorders.Order, event *testorders.Created, _ *chassis.Fact) *testorders.Order {
				return &testorders.Order{Id: event.Id, Name: event.Name}
			}),
			chassis.NewFold(orders, func(row *testorders.Order, _ *testorders.Announced, _ *chassis.Fact) *testorders.Order {
				row.Announced = true
				return row
			}),
		},
		Reactions: []chassis.Reaction{
			chassis.NewReaction("announce",
				func(_ context.Context, event *testorders.Created, _ *chassis.Reacting) ([]chassis.Append, error) {
					return []chassis.Append{{
						Event: &testorders.Announced{Id: event.Id}, ExpectedVersion: chassis.At(1),
					}}, nil
				}),
		},
	}
}

type handlers struct {
	testorders.UnimplementedOrderServiceServer
}

func (handlers) Create(ctx context.Context, request *testorders.CreateRequest) (*testorders.Order, error) {
	call := chassis.CommandFrom(ctx)
	switch request.Name {
	case "":
		return nil, chassis.InvalidRequest("name", "must not be empty")
	case "broken":
		return nil, errors.New("the disk is full")
	case "panics":
		panic("nobody thought of that")
	case "slow":
		time.Sleep(time.Second)
	case "stale":
		_, err := call.Append(ctx, &testorders.Created{Id: call.NewID()}, chassis.ExpectedVersion(5))
		return nil, err
	case "unversioned":
		_, err := call.Append(ctx, &testorders.Created{Id: call.NewID()})
		return nil, err
	case "two":
		id := call.NewID()
		done, err := call.AppendAll(ctx, []proto.Message{
			&testorders.Created{Id: id, Name: "two"}, &testorders.Announced{Id: id},
		}, chassis.ExpectedVersion(0))
		return &testorders.Order{Id: id, Name: strconv.FormatUint(done.Version, 10), Repeated: done.Repeated}, err
	case "late":
		<-ctx.Done()
		return nil, ctx.Err()
	}
	event := &testorders.Created{Id: call.NewID(), Name: request.Name}
	done, err := call.Append(ctx, event, chassis.ExpectedVersion(0))
	if err != nil {
		return nil, err
	}
	first := done.Event.(*testorders.Created)
	return &testorders.Order{Id: first.Id, Name: first.Name, Repeated: done.Repeated}, nil
}

func (handlers) Get(ctx context.Context, request *testorders.GetRequest) (*testorders.Order, error) {
	order, ok := chassis.RowsOf(chassis.QueryFrom(ctx), orders).Get(request.Id)
	if !ok {
		return nil, chassis.NotFound("order", request.Id)
	}
	return order, nil
}

func (handlers) Watch(
	request *testorders.WatchRequest, stream grpc.ServerStreamingServer[testorders.WatchResponse],
) error {
	for change, err := range chassis.WatchFrom(stream.Context()).Changes(stream.Context(), request.After) {
		if err != nil {
			return err
		}
		answer := &testorders.WatchResponse{
			Id: change.Fact.Key(), Type: string(change.Event.ProtoReflect().Descriptor().Name()),
			Position: change.Position,
		}
		if err := stream.Send(answer); err != nil {
			return err
		}
	}
	return nil
}

type client struct {
	testorders.OrderServiceClient
	channel *grpc.ClientConn
	health  grpc_health_v1.HealthClient
	ctx     context.Context
}

func connect(t *testing.T, address string) client {
	t.Helper()
	channel, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { channel.Close() })
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return client{testorders.NewOrderServiceClient(channel), channel, grpc_health_v1.NewHealthClient(channel), ctx}
}

func run(t *testing.T) (client, *chassis.Running) {
	t.Helper()
	return runWith(t, newService(), func(*chassis.Settings) {})
}

func runWith(t *testing.T, service chassis.Service, adapt func(*chassis.Settings)) (client, *chassis.Running) {
	t.Helper()
	settings := chassis.DefaultSettings()
	settings.RedisURL = redistest.Start(t).URL()
	settings.Listen = "127.0.0.1:0"
	adapt(&settings)
	running, err := chassis.Start(context.Background(), service, settings)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(running.Stop)
	to := connect(t, running.Address())
	if err := running.Ready(to.ctx); err != nil {
		t.Fatal(err)
	}
	return to, running
}

// create returns the order and the position of its fact.
func (c client) create(t *testing.T, requestID, name string) (*testorders.Order, string) {
	t.Helper()
	var trailer metadata.MD
	order, err := c.Create(c.ctx, &testorders.CreateRequest{RequestId: requestID, Name: name}, grpc.Trailer(&trailer))
	if err != nil {
		t.Fatal(err)
	}
	if len(trailer["factfold-position"]) != 1 {
		t.Fatalf("trailer: %v", trailer)
	}
	return order, trailer["factfold-position"][0]
}

func (c client) at(position string) context.Context {
	return metadata.AppendToOutgoingContext(c.ctx, "factfold-at-least", position)
}

func TestWhatACommandAppendsIsInTheViewAtItsPosition(t *testing.T) {
	to, _ := run(t)
	created, position := to.create(t, "", "tea")
	found, err := to.Get(to.at(position), &testorders.GetRequest{Id: created.Id})
	if err != nil {
		t.Fatal(err)
	}
	if found.Name != "tea" {
		t.Errorf("found %v", found)
	}
}

func TestAReactionAnswersAFact(t *testing.T) {
	to, _ := run(t)
	created, _ := to.create(t, "", "tea")
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		found, err := to.Get(to.ctx, &testorders.GetRequest{Id: created.Id})
		if err == nil && found.Announced {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("not announced: %v %v", found, err)
		}
	}
}

func TestARepeatedCommandGetsItsFirstAnswer(t *testing.T) {
	to, _ := run(t)
	first, _ := to.create(t, "r-1", "tea")
	second, _ := to.create(t, "r-1", "coffee")
	if first.Repeated || !second.Repeated || second.Id != first.Id || second.Name != "tea" {
		t.Errorf("first %v, second %v", first, second)
	}
}

func TestErrorsAreWhatTheCallerSees(t *testing.T) {
	to, running := run(t)
	other := strings.Repeat("0", 16)
	watches := func(after string) func() error {
		return func() error {
			watch, err := to.Watch(to.ctx, &testorders.WatchRequest{After: after})
			if err == nil {
				_, err = watch.Recv()
			}
			return err
		}
	}
	for name, each := range map[string]struct {
		call func() error
		code codes.Code
		text string
	}{
		"a field": {to.creates(""), codes.InvalidArgument, "name: must not be empty"},
		"an error of the handler": {
			to.creates("broken"), codes.Internal, "internal error in testorders.OrderService/Create: see the service's log",
		},
		"a panic": {
			to.creates("panics"), codes.Internal, "internal error in testorders.OrderService/Create: see the service's log",
		},
		"nothing there": {to.gets(to.ctx, "x"), codes.NotFound, "there is no order 'x'"},
		"no position": {
			to.gets(to.at("here"), "x"), codes.InvalidArgument,
			"factfold-at-least: 'here' is no position; send back one that a service returned",
		},
		"another stream": {
			to.gets(to.at("ships/0@"+other+":1-1"), "x"), codes.FailedPrecondition,
			"orders has no view of stream ships: drop it from factfold-at-least, or ask a service that has one",
		},
		"no token": {
			watches("<b>"), codes.InvalidArgument,
			"after: '<b>' is no position; send back one that a service returned",
		},
		"a token of no partition": {
			watches("orders/7@" + other + ":1-1"), codes.InvalidArgument, "after: there is no partition 7",
		},
		"no method": {
			func() error { return to.channel.Invoke(to.ctx, "/x.Y/Z", &testorders.Order{}, &testorders.Order{}) },
			codes.Unimplemented, "there is no method /x.Y/Z",
		},
		"a handler that does not fit": {
			to.creates("unversioned"), codes.Internal,
			"internal error in testorders.OrderService/Create: see the service's log",
		},
	} {
		t.Run(name, func(t *testing.T) {
			err := each.call()
			if status.Code(err) != each.code || status.Convert(err).Message() != each.text {
				t.Errorf("got %v", err)
			}
		})
	}
	err := to.creates("stale")()
	if status.Code(err) != codes.Aborted || !strings.HasSuffix(status.Convert(err).Message(),
		"of stream orders is at version 0, not 5; nothing was appended; read it again and decide anew") {
		t.Error(err)
	}
	if err := running.Ready(to.ctx); err != nil {
		t.Error(err)
	}
}

func TestACommandOfTwoFactsIsFoundAgainWhole(t *testing.T) {
	to, _ := run(t)
	for _, repeated := range []bool{false, true} {
		order, position := to.create(t, "r-2", "two")
		if order.Name != "2" || order.Repeated != repeated || !strings.HasSuffix(position, "-2") {
			t.Errorf("%v at %s", order, position)
		}
	}
}

func TestALogThatMustBeThereIsNotBegunAnew(t *testing.T) {
	settings := chassis.DefaultSettings()
	settings.RedisURL, settings.Listen, settings.ExpectLog = redistest.Start(t).URL(), "127.0.0.1:0", true
	running, err := chassis.Start(context.Background(), newService(), settings)
	if err != nil {
		t.Fatal(err)
	}
	defer running.Stop()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	err = running.Ready(ctx)
	if err == nil || !strings.Contains(err.Error(), "the log of stream orders was lost or replaced "+
		"(partition 0 is absent, and FACTFOLD_EXPECT_LOG is set); restore it from a backup") {
		t.Error(err)
	}
}

func TestWiringThatCannotWorkIsRefused(t *testing.T) {
	for want, spoil := range map[string]func(*chassis.Service){
		"2 views are named orders: rename one": func(s *chassis.Service) {
			other := chassis.NewTable[*testorders.Order](chassis.NewView("orders"), "others")
			s.Folds = append(s.Folds, chassis.NewFold(other,
				func(*testorders.Order, *testorders.Created, *chassis.Fact) *testorders.Order { return nil }))
		},
		"two reactions are named announce: rename one; its position is kept under that name": func(s *chassis.Service) {
			s.Reactions = append(s.Reactions, s.Reactions[0])
		},
		"/testorders.OrderService/Create has no handler: register a server of testorders.OrderService": func(s *chassis.Service) {
			s.Register = nil
		},
	} {
		service := newService()
		spoil(&service)
		if _, err := chassis.Start(context.Background(), service, chassis.DefaultSettings()); err == nil || err.Error() != want {
			t.Errorf("%v\nwant %s", err, want)
		}
	}
}

func (c client) creates(name string) func() error {
	return func() error {
		_, err := c.Create(c.ctx, &testorders.CreateRequest{Name: name})
		return err
	}
}

func (c client) gets(ctx context.Context, id string) func() error {
	return func() error {
		_, err := c.Get(ctx, &testorders.GetRequest{Id: id})
		return err
	}
}

func TestBytesThatDoNotParseAreTheCallersError(t *testing.T) {
	to, _ := run(t)
	noText := wrapperspb.Bytes([]byte{0xff}) // the first field of each request is a text
	for _, method := range []string{
		"/testorders.OrderService/Create", "/testorders.OrderService/Get", "/grpc.health.v1.Health/Check",
	} {
		err := to.channel.Invoke(to.ctx, method, noText, &testorders.Order{})
		if status.Code(err) != codes.InvalidArgument ||
			status.Convert(err).Message() != "request: does not parse: use the service's contract" {
			t.Errorf("%s: %v", method, err)
		}
	}
	watch, err := to.channel.NewStream(to.ctx, &grpc.StreamDesc{ServerStreams: true}, "/testorders.OrderService/Watch")
	if err != nil {
		t.Fatal(err)
	}
	watch.SendMsg(noText)
	watch.CloseSend()
	if err := watch.RecvMsg(&testorders.Order{}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("watch: %v", err)
	}
}

func TestAnInvalidRequestNamesItsFields(t *testing.T) {
	to, _ := run(t)
	details := status.Convert(to.creates("")()).Details()
	if len(details) != 1 {
		t.Fatal(details)
	}
	violations := details[0].(*errdetails.BadRequest).FieldViolations
	if len(violations) != 1 || violations[0].Field != "name" || violations[0].Description != "must not be empty" {
		t.Error(violations)
	}
}

func TestACommandWithoutDeadlineGetsTheDefaultOne(t *testing.T) {
	to, _ := runWith(t, newService(), func(s *chassis.Settings) { s.DefaultDeadline = 100 * time.Millisecond })
	_, err := to.Create(context.Background(), &testorders.CreateRequest{Name: "late"})
	if status.Code(err) != codes.DeadlineExceeded ||
		!strings.HasPrefix(status.Convert(err).Message(), "no answer within 0.1 s, the default deadline; ") {
		t.Error(err)
	}
}

func TestAPositionThatIsAwayIsWaitedForWithinTheReadTimeout(t *testing.T) {
	to, _ := runWith(t, newService(), func(s *chassis.Settings) { s.ReadTimeout = 100 * time.Millisecond })
	_, position := to.create(t, "", "tea")
	_, after, _ := strings.Cut(position, ":")
	err := to.gets(to.at(strings.TrimSuffix(position, after)+"99-99"), "x")()
	if status.Code(err) != codes.Unavailable || !strings.Contains(status.Convert(err).Message(), "was not reached in time") {
		t.Error(err)
	}
}

func TestInterceptorsSeeAllButHealthTheFirstOneOutermost(t *testing.T) {
	service := newService()
	var seen []string
	see := func(name string) grpc.UnaryServerInterceptor {
		return func(ctx context.Context, request any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			seen = append(seen, name+" "+info.FullMethod)
			if name == "inner" {
				return nil, status.Error(codes.PermissionDenied, "not you")
			}
			return next(ctx, request)
		}
	}
	service.Unary = []grpc.UnaryServerInterceptor{see("outer"), see("inner")}
	to, _ := runWith(t, service, func(*chassis.Settings) {})
	if _, err := to.health.Check(to.ctx, &grpc_health_v1.HealthCheckRequest{}); err != nil {
		t.Error(err)
	}
	err := to.gets(to.ctx, "x")()
	if status.Code(err) != codes.PermissionDenied || status.Convert(err).Message() != "not you" {
		t.Error(err)
	}
	if !slices.Equal(seen, []string{
		"outer /testorders.OrderService/Get", "inner /testorders.OrderService/Get",
	}) {
		t.Error(seen)
	}
}

func TestReflectionListsTheServices(t *testing.T) {
	to, _ := run(t)
	stream, err := grpc_reflection_v1.NewServerReflectionClient(to.channel).ServerReflectionInfo(to.ctx)
	if err != nil {
		t.Fatal(err)
	}
	stream.Send(&grpc_reflection_v1.ServerReflectionRequest{
		MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{},
	})
	answer, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, service := range answer.GetListServicesResponse().Service {
		names = append(names, service.Name)
	}
	if !slices.Contains(names, "testorders.OrderService") || !slices.Contains(names, "grpc.health.v1.Health") {
		t.Error(names)
	}
}

func TestAWatchGoesOnWhereItWas(t *testing.T) {
	to, _ := run(t)
	ctx, leave := context.WithCancel(to.ctx)
	watch, err := to.Watch(ctx, &testorders.WatchRequest{})
	if err != nil {
		t.Fatal(err)
	}
	created, _ := to.create(t, "", "tea")
	first := receive(t, watch)
	if first.Id != created.Id || first.Type != "Created" {
		t.Errorf("first %v", first)
	}
	leave()
	again, err := to.Watch(to.ctx, &testorders.WatchRequest{After: first.Position})
	if err != nil {
		t.Fatal(err)
	}
	if second := receive(t, again); second.Id != created.Id || second.Type != "Announced" {
		t.Errorf("second %v", second)
	}
}

func receive(t *testing.T, watch grpc.ServerStreamingClient[testorders.WatchResponse]) *testorders.WatchResponse {
	t.Helper()
	change, err := watch.Recv()
	if err != nil {
		t.Fatal(err)
	}
	return change
}

func TestStopLetsCallsEndAndTellsWatchesWhereToGoOn(t *testing.T) {
	to, running := run(t)
	watch, err := to.Watch(to.ctx, &testorders.WatchRequest{})
	if err != nil {
		t.Fatal(err)
	}
	to.create(t, "", "tea")
	receive(t, watch)
	position := receive(t, watch).Position
	slow := make(chan error, 1)
	go func() { slow <- to.creates("slow")() }()
	time.Sleep(200 * time.Millisecond) // it is under way
	running.Stop()
	if err := <-slow; err != nil {
		t.Errorf("the call under way: %v", err)
	}
	if _, err = watch.Recv(); status.Code(err) != codes.Unavailable ||
		!strings.HasPrefix(status.Convert(err).Message(), "the service is shutting down") {
		t.Errorf("the watch: %v", err)
	}
	if got := watch.Trailer()["factfold-position"]; len(got) != 1 || got[0] != position {
		t.Errorf("the watch may go on from %v, and has seen %s", got, position)
	}
}

func TestAServiceWithoutItsLogListensAndIsNotReady(t *testing.T) {
	settings := chassis.DefaultSettings()
	settings.RedisURL, settings.Listen = "redis://127.0.0.1:1/0", "127.0.0.1:0"
	running, err := chassis.Start(context.Background(), newService(), settings)
	if err != nil {
		t.Fatal(err)
	}
	defer running.Stop()
	to := connect(t, running.Address())
	for name, want := range map[string]grpc_health_v1.HealthCheckResponse_ServingStatus{
		"":                        grpc_health_v1.HealthCheckResponse_NOT_SERVING,
		"testorders.OrderService": grpc_health_v1.HealthCheckResponse_NOT_SERVING,
		"alive":                   grpc_health_v1.HealthCheckResponse_SERVING,
	} {
		got, err := to.health.Check(to.ctx, &grpc_health_v1.HealthCheckRequest{Service: name})
		if err != nil || got.Status != want {
			t.Errorf("%q: %v %v", name, got, err)
		}
	}
	err = to.gets(to.ctx, "x")()
	if status.Code(err) != codes.Unavailable ||
		status.Convert(err).Message() != "not ready: waits for Redis at redis://127.0.0.1:1/0; retry later" {
		t.Errorf("got %v", err)
	}
}

// process is this test binary as a service.
func process(t *testing.T, environment ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	said := &bytes.Buffer{}
	command := exec.Command(os.Args[0])
	command.Env = append(environment, runsMain+"=1") // and nothing else that would be a setting
	command.Stderr = said
	return command, said
}

func TestWhatKeepsAServiceFromStartingIsOneLineAndExitCode2(t *testing.T) {
	command, said := process(t, "FACTFOLD_LISTEN=nowhere")
	err := command.Run()
	if command.ProcessState.ExitCode() != 2 ||
		said.String() != "orders: FACTFOLD_LISTEN is 'nowhere': it must be host:port, such as 127.0.0.1:50051\n" {
		t.Errorf("%v: %s", err, said)
	}
}

func TestSIGTERMDrainsAndASecondSignalEndsAtOnce(t *testing.T) {
	redis := redistest.Start(t)
	for name, each := range map[string]struct {
		signals int
		code    int
	}{"one": {1, 0}, "two": {2, -1}} {
		t.Run(name, func(t *testing.T) {
			command, _ := process(t, "FACTFOLD_REDIS_URL="+redis.URL(), "FACTFOLD_LISTEN=127.0.0.1:0")
			command.Stderr = nil
			stderr, err := command.StderrPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := command.Start(); err != nil {
				t.Fatal(err)
			}
			defer command.Process.Kill()
			said := ""
			until := func(what string) {
				for piece := make([]byte, 4096); !strings.Contains(said, what); {
					n, err := stderr.Read(piece)
					if said += string(piece[:n]); err != nil {
						t.Fatalf("ended without %s: %s", what, said)
					}
				}
			}
			until(`"serving"`)
			_, address, _ := strings.Cut(said[strings.Index(said, `"serving"`):], `"address": "`)
			address, _, _ = strings.Cut(address, `"`)
			to := connect(t, address)
			slow := make(chan error, 1)
			go func() { slow <- to.creates("slow")() }()
			time.Sleep(300 * time.Millisecond) // it is under way
			for range each.signals {
				command.Process.Signal(syscall.SIGTERM)
				time.Sleep(100 * time.Millisecond)
			}
			rest, _ := io.ReadAll(stderr)
			command.Wait()
			if code := command.ProcessState.ExitCode(); code != each.code {
				t.Errorf("exit code %d: %s%s", code, said, rest)
			}
			if failed := <-slow; (failed == nil) != (each.signals == 1) {
				t.Errorf("the call under way: %v", failed)
			}
			if ended := strings.Contains(string(rest), `"ended"`); ended != (each.signals == 1) {
				t.Errorf("said: %s%s", said, rest)
			}
		})
	}
}
