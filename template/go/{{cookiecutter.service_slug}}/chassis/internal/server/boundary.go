package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"factfold/chassis/internal/fault"
	"factfold/chassis/internal/telemetry"
)

// positionTrailer says where the facts of a call are.
const positionTrailer = "factfold-position"

// boundary is where a call enters and leaves: its span, its metric, and the one place that maps
// errors. It goes around the team's interceptors, so that what these refuse is traced, measured and
// mapped like everything else.
type boundary struct {
	telemetry *telemetry.Telemetry

	mu      sync.Mutex
	running int
	idle    chan struct{} // closed once no call runs, if somebody waits for that
}

// answer is what a call has for its caller beside its messages.
type answer struct{ position string }

type answerKey struct{}

// SetPosition puts a token into the trailer of the call that is being answered, unless there is one.
func SetPosition(ctx context.Context, position string) {
	if to, ok := ctx.Value(answerKey{}).(*answer); ok && to.position == "" {
		to.position = position
	}
}

// around runs one call. What it returns is what the caller gets.
func (b *boundary) around(ctx context.Context, method string, handle func(context.Context) error) (err error) {
	header, _ := metadata.FromIncomingContext(ctx)
	ctx, call := b.telemetry.ServerCall(ctx, method, header, true)
	to := &answer{}
	ctx = context.WithValue(ctx, answerKey{}, to)
	b.begin()
	defer b.end()
	var cause error
	defer func() {
		if panicked := recover(); panicked != nil {
			cause = fmt.Errorf("panic: %v", panicked)
			err = b.failed(ctx, method, call, fmt.Sprintf("%v\n%s", cause, debug.Stack()))
		}
		if to.position != "" {
			_ = grpc.SetTrailer(ctx, metadata.Pairs(positionTrailer, to.position))
		}
		call.End(status.Code(err), cause)
	}()
	cause = handle(ctx)
	if cause == nil {
		return nil
	}
	return b.mapped(ctx, method, call, cause)
}

func (b *boundary) mapped(ctx context.Context, method string, call *telemetry.Call, err error) error {
	var refusal *fault.Refusal
	if errors.As(err, &refusal) {
		SetPosition(ctx, refusal.Position)
	}
	var known interface{ GRPCStatus() *status.Status }
	switch {
	case errors.As(err, &known):
		return known.GRPCStatus().Err()
	case ctx.Err() != nil:
		return status.FromContextError(ctx.Err()).Err()
	}
	return b.failed(ctx, method, call, err.Error())
}

func (b *boundary) failed(ctx context.Context, method string, call *telemetry.Call, exception string) error {
	slog.ErrorContext(ctx, "a handler failed", "logger", "factfold.rpc", "method", method, "exception", exception)
	trace := ""
	if id := call.TraceID(); id != "" {
		trace = "; trace " + id
	}
	return status.Errorf(codes.Internal, "internal error in %s: see the service's log%s", method[1:], trace)
}

// unknown answers a call of a method that there is not.
func (b *boundary) unknown(_ any, stream grpc.ServerStream) error {
	method, _ := grpc.Method(stream.Context())
	header, _ := metadata.FromIncomingContext(stream.Context())
	_, call := b.telemetry.ServerCall(stream.Context(), method, header, false)
	call.End(codes.Unimplemented, nil)
	return status.Errorf(codes.Unimplemented, "there is no method %s", method)
}

func (b *boundary) begin() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.running++
}

func (b *boundary) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.running--
	if b.running == 0 && b.idle != nil {
		close(b.idle)
		b.idle = nil
	}
}

// whenIdle is closed once no call runs.
func (b *boundary) whenIdle() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	idle := make(chan struct{})
	if b.running == 0 {
		close(idle)
	} else {
		b.idle = idle
	}
	return idle
}
