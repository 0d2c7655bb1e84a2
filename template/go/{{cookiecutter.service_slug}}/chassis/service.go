// Package chassis is the factfold chassis: a service that shares facts instead of databases.
package chassis

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/pprof"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/reflect/protoreflect"

	"factfold/chassis/internal/fault"
	"factfold/chassis/internal/logs"
	"factfold/chassis/internal/server"
	"factfold/chassis/internal/settings"
	"factfold/chassis/internal/telemetry"
)

// Shares of the drain timeout, and what a process has behind it before it is ended by force.
const (
	shareOfCalls = 0.7
	shareOfLog   = 0.2
	shareOfSpans = 0.1
	grace        = time.Second
)

const logger = "factfold.service"

// Settings are what a service can be told from outside: the FACTFOLD_* variables.
type Settings = settings.Settings

// DefaultSettings are those of a service that is told nothing.
func DefaultSettings() Settings { return settings.Default() }

// Service is what a service consists of.
type Service struct {
	// Name of the service, as in a fact's source and in traces.
	Name string
	// Contract has the files of its own contract.
	Contract []protoreflect.FileDescriptor
	// Subscriptions are files of other services' contracts.
	Subscriptions []protoreflect.FileDescriptor
	// Register registers the handlers: ordinary generated gRPC servers.
	Register  func(grpc.ServiceRegistrar)
	Folds     []Fold
	Reactions []Reaction
	// Unary and Stream see every call but health checks, the first one outermost.
	Unary  []grpc.UnaryServerInterceptor
	Stream []grpc.StreamServerInterceptor
}

// Running is a service that runs in this process.
type Running struct {
	core      *core
	server    *server.Server
	telemetry *telemetry.Telemetry
	settings  Settings
	stop      sync.Once
}

// Start runs a service; it listens when Start returns, and need not be ready yet. An error is a
// reason why it cannot run as it is.
func Start(ctx context.Context, service Service, settings Settings) (*Running, error) {
	return start(ctx, service, settings, nil)
}

func start(_ context.Context, service Service, settings Settings, telemetry *telemetry.Telemetry) (*Running, error) {
	r := &Running{telemetry: telemetry, settings: settings}
	var err error
	if r.core, err = newCore(service, settings, telemetry, func() { r.server.Changed() }); err != nil {
		return nil, err
	}
	if r.core.tls, err = server.FilesOf(settings, r.core.alarm); err != nil {
		return nil, err
	}
	register := service.Register
	if register == nil {
		register = func(grpc.ServiceRegistrar) {}
	}
	r.server, err = server.New(server.Config{
		Settings: settings, Telemetry: telemetry, TLS: r.core.tls,
		Contract: r.core.contract, Register: register,
		Unary:  append(append([]grpc.UnaryServerInterceptor{}, service.Unary...), r.core.unary),
		Stream: append(append([]grpc.StreamServerInterceptor{}, service.Stream...), r.core.stream),
		Team:   service.Stream,
		Ready:  r.core.ready.isOpen,
		Status: r.core.status,
		Drain:  r.core.drain,
	})
	if err != nil {
		return nil, err
	}
	slog.Info("starting", "logger", logger, "redis", settings.RedisAddress())
	if err := r.server.Start(); err != nil {
		return nil, err
	}
	r.core.start()
	return r, nil
}

// Address is host:port of the gRPC server.
func (r *Running) Address() string { return r.server.Address() }

// Query reads what is there, outside of any call.
func (r *Running) Query() *Query { return r.core.query() }

// Ready waits until the service is; its error says what it waits for.
func (r *Running) Ready(ctx context.Context) error {
	if err := r.core.ready.wait(ctx); err != nil {
		return fmt.Errorf("%w: %s", err, r.core.status())
	}
	return nil
}

// Reach waits until all views of the position's stream have it.
func (r *Running) Reach(ctx context.Context, position Position) error {
	return r.core.atLeast(ctx, position.String())
}

// Stop drains and ends, within FACTFOLD_DRAIN_TIMEOUT.
func (r *Running) Stop() {
	r.stop.Do(func() {
		total := r.settings.DrainTimeout
		end := time.Now().Add(total)
		calls, cancel := context.WithTimeout(context.Background(), part(total, shareOfCalls))
		defer cancel()
		r.server.Drain(calls)
		log, cancel := context.WithDeadline(context.Background(), end.Add(-part(total, shareOfSpans)))
		defer cancel()
		r.core.close(log)
		spans, cancel := context.WithDeadline(context.Background(), end)
		defer cancel()
		r.telemetry.Shutdown(spans)
	})
}

func part(of time.Duration, share float64) time.Duration { return time.Duration(share * float64(of)) }

// Main serves until SIGTERM or SIGINT, then drains; a second signal ends the process at once. What
// keeps the service from starting is one line on stderr and exit code 2.
func Main(service Service) {
	if err := serve(service); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", service.Name, err)
		var start *fault.StartError
		if errors.As(err, &start) {
			os.Exit(fault.ExitCode)
		}
		os.Exit(1)
	}
}

func serve(service Service) error {
	settings, err := settings.FromEnvironment(os.Environ())
	if err != nil {
		return err
	}
	slog.SetDefault(slog.New(logs.New(settings, os.Stderr)))
	ctx := context.Background()
	telemetry, err := telemetry.FromEnvironment(ctx, service.Name)
	if err != nil {
		return err
	}
	telemetry.Install()
	// Before anything is started: a signal that comes early drains, too.
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGTERM, syscall.SIGINT)
	running, err := start(ctx, service, settings, telemetry)
	if err != nil {
		return err
	}
	name := signalName(<-asked)
	signal.Stop(asked) // the next one ends the process at once
	slog.Info("ending", "logger", logger, "signal", name, "within_s", settings.DrainTimeout.Seconds())
	// A handler that does not end, or a disk that does not answer, would hold up the process for ever.
	watchdog := time.AfterFunc(settings.DrainTimeout+grace, endByForce)
	defer watchdog.Stop()
	running.Stop()
	slog.Info("ended", "logger", logger)
	return nil
}

func signalName(received os.Signal) string {
	if received == syscall.SIGINT {
		return "SIGINT"
	}
	return "SIGTERM"
}

func endByForce() {
	slog.Error("hangs, and is ended by force; where each thread is:", "logger", logger)
	_ = pprof.Lookup("goroutine").WriteTo(os.Stderr, 2)
	os.Exit(1)
}
