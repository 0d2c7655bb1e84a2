package chassis

import (
	"context"
	"errors"
	"maps"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"factfold/chassis/internal/contract"
	"factfold/chassis/internal/fault"
	"factfold/chassis/internal/server"
	"factfold/chassis/internal/views"
	"factfold/chassis/internal/wire"
)

const (
	maxRequestID = 128 // characters
	share        = 0.8 // of the time a caller left, so that it gets the error in time to see it
)

// Fact is one immutable entry of a stream.
type Fact = wire.Fact

// Position is the place of a fact in one partition of one log.
type Position = wire.Position

type (
	coreKey struct{}
	callKey struct{}
)

// call is what a handler's context has; the kinds that it is not are nil.
type call struct {
	query   *Query
	command *Command
	watch   *Watch
}

func callOf(ctx context.Context) call {
	found, _ := ctx.Value(callKey{}).(call)
	return found
}

// QueryFrom is the call that a handler answers, to read by: a query reads derived state and touches
// no network. All that it reads of one view is of one moment.
func QueryFrom(ctx context.Context) *Query {
	if found := callOf(ctx).query; found != nil {
		return found
	}
	panic(fault.Wiring("QueryFrom: this is not the context of a call of the contract"))
}

// CommandFrom is the command that a handler answers: an RPC with one answer that is not marked
// NO_SIDE_EFFECTS.
func CommandFrom(ctx context.Context) *Command {
	if found := callOf(ctx).command; found != nil {
		return found
	}
	panic(fault.Wiring("CommandFrom: this is not the context of a command; a query is marked " +
		"idempotency_level = NO_SIDE_EFFECTS, and appends nothing"))
}

// WatchFrom is the watch that a handler answers: an RPC that streams its answers.
func WatchFrom(ctx context.Context) *Watch {
	if found := callOf(ctx).watch; found != nil {
		return found
	}
	panic(fault.Wiring("WatchFrom: this is not the context of an RPC that streams its answers"))
}

// Query reads derived state.
type Query struct {
	core *core

	mu     sync.Mutex
	pinned map[*views.View]*views.Cut // nil: each read sees what is there then
}

func (q *Query) cut(view *views.View) *views.Cut {
	engine := q.core.byView[view]
	if engine == nil {
		panic(fault.Wiring("no fold writes into view %s: add one", view.Name))
	}
	if q.pinned == nil {
		return engine.Cut()
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.pinned[view] == nil {
		q.pinned[view] = engine.Cut()
	}
	return q.pinned[view]
}

// Position is the token of what a table contains as this call reads it, for a watch or for
// factfold-at-least.
func (q *Query) Position(table AnyTable) string { return PositionOf(q, table) }

// Instance is the name of this instance, as it stands in the groups of its reactions.
func (q *Query) Instance() string { return q.core.instance }

// SpansDropped counts the sampled spans of this process that never reached a collector.
func (q *Query) SpansDropped() int64 { return q.core.telemetry.Dropped() }

// Command decides and appends.
//
// With a request_id in its request it may be repeated, through any instance: what was appended the
// first time is found again, and nothing is appended twice. That holds on streams declared
// versioned; on others only once this instance has seen the first.
type Command struct {
	*Query
	RequestID string

	mu     sync.Mutex
	passed map[[2]string]int // by stream and key: facts that this command has put there
	places map[wire.Position]wire.Position
}

func newCommand(c *core, request any) (*Command, error) {
	command := &Command{Query: c.query(), passed: map[[2]string]int{}, places: map[wire.Position]wire.Position{}}
	if message, ok := request.(proto.Message); ok {
		reflected := message.ProtoReflect()
		if field := reflected.Descriptor().Fields().ByName("request_id"); field != nil {
			command.RequestID = reflected.Get(field).String()
		}
	}
	if utf8.RuneCountInString(command.RequestID) > maxRequestID {
		return nil, fault.InvalidRequest("request_id", "must have at most 128 characters")
	}
	return command, nil
}

// NewID is the id of a new aggregate of the service's stream: the same one when the command is
// repeated.
func (c *Command) NewID() string {
	stream, err := c.core.ownStream()
	if err != nil {
		panic(err)
	}
	return c.NewIDIn(stream)
}

// NewIDIn is NewID, of a service that has several streams.
func (c *Command) NewIDIn(stream string) string {
	if c.RequestID == "" {
		return uuid.NewString()
	}
	return wire.DerivedID(stream, c.RequestID)
}

// Repeats says whether this command has appended to key before, in the state that rows show.
//
// A check that its own success makes fail (already cancelled, name taken) must let a repeated
// command pass, so that it gets the first answer from Append.
func (c *Command) Repeats(key string) bool {
	for _, stream := range c.core.contract.OwnStreams() {
		if len(c.core.answered(stream.Name, key, c.RequestID)) > 0 {
			return true
		}
	}
	return false
}

// Appended is what an append put into the log, now or when the command came first.
type Appended struct {
	Event    proto.Message // the first one
	Version  uint64        // of the key after it; 0 on streams without versions
	Position Position      // of the last one
	Repeated bool          // the request_id was known: nothing was appended now
}

// AppendOption is an option of Command.Append.
type AppendOption func(*appendOptions)

type appendOptions struct{ expected *uint64 }

// ExpectedVersion is the key's version that the decision was made on; 0: there is no such key yet.
// Streams declared versioned need it, others do not take it.
func ExpectedVersion(version uint64) AppendOption {
	return func(o *appendOptions) { o.expected = &version }
}

// Append puts an event into the stream that declares it. Its errors are the caller's: return them.
func (c *Command) Append(ctx context.Context, event proto.Message, options ...AppendOption) (Appended, error) {
	return c.AppendAll(ctx, []proto.Message{event}, options...)
}

// AppendAll puts events of one key into the stream that declares them, all or nothing. With
// ExpectedVersion, each of them has the next version.
func (c *Command) AppendAll(ctx context.Context, events []proto.Message, options ...AppendOption) (Appended, error) {
	var given appendOptions
	for _, option := range options {
		option(&given)
	}
	its, err := c.core.newAppending(c, events, given.expected)
	if err != nil {
		return Appended{}, err
	}
	done, err := its.run(ctx)
	if err != nil {
		return Appended{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.passed[[2]string{its.stream.Name, its.key}] += len(events)
	c.places[wire.Position{Stream: its.stream.Name, Partition: done.Position.Partition}] = done.Position
	return done, nil
}

func (c *Command) behind(stream, key string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.passed[[2]string{stream, key}]
}

// Positions is the token of what this command appended; empty if nothing.
func (c *Command) Positions() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return wire.FormatPositions(maps.Values(c.places))
}

// unary is around each call with one answer, inside of the team's interceptors.
func (c *core) unary(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	method := c.methods[info.FullMethod]
	if method == nil {
		return handler(ctx, request)
	}
	if err := c.admit(ctx); err != nil {
		return nil, err
	}
	ctx = context.WithValue(ctx, coreKey{}, c)
	if method.Kind == contract.Query {
		query := &Query{core: c, pinned: map[*views.View]*views.Cut{}}
		return handler(context.WithValue(ctx, callKey{}, call{query: query}), request)
	}
	command, err := newCommand(c, request)
	if err != nil {
		return nil, err
	}
	defer func() { server.SetPosition(ctx, command.Positions()) }()
	_, brought := ctx.Deadline()
	limited := context.WithValue(ctx, callKey{}, call{query: command.Query, command: command})
	if brought {
		return handler(limited, request)
	}
	limited, cancel := context.WithTimeout(limited, c.settings.DefaultDeadline)
	defer cancel()
	response, err := handler(limited, request)
	if errors.Is(err, context.DeadlineExceeded) && limited.Err() != nil {
		err = fault.DeadlineExceeded(c.settings.DefaultDeadline.Seconds())
	}
	return response, err
}

// stream is around each call that streams its answers.
func (c *core) stream(service any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if c.methods[info.FullMethod] == nil {
		return handler(service, stream)
	}
	ctx := context.WithValue(stream.Context(), coreKey{}, c)
	if err := c.admit(ctx); err != nil {
		return err
	}
	watch := &Watch{Query: c.query()}
	defer func() { server.SetPosition(ctx, watch.Position()) }()
	ctx = context.WithValue(ctx, callKey{}, call{query: watch.Query, watch: watch})
	return handler(service, server.Within(ctx, stream))
}

// admit lets a call pass if the service is ready and the views are where the caller has been.
func (c *core) admit(ctx context.Context) error {
	if err := c.admitNow(); err != nil {
		return err
	}
	header, _ := metadata.FromIncomingContext(ctx)
	asked := strings.Join(header[wire.AtLeastHeader], ",")
	if asked == "" {
		return nil
	}
	left := c.settings.DefaultDeadline
	if deadline, ok := ctx.Deadline(); ok {
		left = time.Until(deadline)
	}
	limited, cancel := context.WithTimeout(ctx, min(c.settings.ReadTimeout, time.Duration(share*float64(left))))
	defer cancel()
	if err := c.atLeast(limited, asked); err != nil {
		return err
	}
	return c.admitNow() // a view that was there may have begun anew since
}

func (c *core) admitNow() error {
	if c.isDraining() {
		return fault.NotReady("the service is shutting down")
	}
	if !c.ready.isOpen() {
		return fault.NotReady(c.status())
	}
	return nil
}

// Violation is a field of a request that breaks a rule.
type Violation = fault.Violation

// InvalidRequest says that a field of the request breaks a rule, INVALID_ARGUMENT; more are further
// ones.
func InvalidRequest(field, description string, more ...Violation) error {
	return fault.InvalidRequest(field, description, more...)
}

// NotFound says that there is no what (such as "order") with this key, NOT_FOUND.
func NotFound(what, key string) error { return fault.NotFound(what, key) }

// FailedPrecondition says why repeating the call changes nothing, FAILED_PRECONDITION.
func FailedPrecondition(text string) error { return fault.FailedPrecondition(text) }
