// Package server is the gRPC server: health, reflection, what goes around each call, mutual TLS, and
// an orderly end.
package server

import (
	"context"
	"log/slog"
	"net"
	"regexp"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/gzip" // callers may compress what they send
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"

	"factfold/chassis/internal/contract"
	"factfold/chassis/internal/fault"
	"factfold/chassis/internal/settings"
	"factfold/chassis/internal/telemetry"
)

const (
	lookEvery = 500 * time.Millisecond // how often a service that waits looks what it waits for
	sayEvery  = 5 * time.Second        // how often it says how far it has come
	logger    = "factfold.server"

	// workers answer one call after the other, each on a stack that has grown as deep as a call goes:
	// growing a new one is a fifth of what a call costs. A call that finds none idle has a goroutine
	// of its own.
	workers = 32

	// alive is a name to ask health for: SERVING as long as the process answers, ready or not. To
	// restart one that waits for its log, or rebuilds, would only make it begin again.
	alive = "alive"
)

var figure = regexp.MustCompile(`\d+`)

// Config of a server.
type Config struct {
	Settings  settings.Settings
	Telemetry *telemetry.Telemetry
	TLS       *Files // nil: none
	Contract  *contract.Contract
	Register  func(grpc.ServiceRegistrar) // of the handlers
	// Unary and Stream go around the calls of the service, the first one outermost. Reflection has
	// those of Team alone, and health none: a probe brings no credentials.
	Unary  []grpc.UnaryServerInterceptor
	Stream []grpc.StreamServerInterceptor
	Team   []grpc.StreamServerInterceptor
	Ready  func() bool
	Status func() string // why the service is not ready
	Drain  func()        // no new work, and watches end
}

// Server serves from Start on; health follows Config.Ready, but that of "alive" does not.
type Server struct {
	config   Config
	boundary *boundary
	grpc     *grpc.Server
	probes   *grpc.Server // nil: none
	health   *health.Server
	services []string
	address  string
	probed   string
	news     chan struct{}
	stop     context.CancelFunc
}

// New registers the handlers and compares them with the contract.
func New(config Config) (*Server, error) {
	b := &boundary{telemetry: config.Telemetry}
	reading := grpc.ForceServerCodecV2(codec{encoding.GetCodecV2(proto.Name)})
	options := []grpc.ServerOption{
		reading, grpc.UnknownServiceHandler(b.unknown), grpc.NumStreamWorkers(workers),
	}
	if config.TLS != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(config.TLS.forServer())))
	}
	s := &Server{
		config:   config,
		boundary: b,
		grpc:     grpc.NewServer(options...),
		health:   health.NewServer(),
		news:     make(chan struct{}, 1),
		stop:     func() {},
	}
	config.Register(registrar{s.grpc, chainUnary(config.Unary), chainStream(config.Stream), b.around})
	if err := s.compare(); err != nil {
		return nil, err
	}
	plain := registrar{s.grpc, chainUnary(nil), chainStream(nil), simply}
	grpc_health_v1.RegisterHealthServer(plain, s.health)
	reflection.Register(registrar{s.grpc, chainUnary(nil), chainStream(config.Team), simply})
	if config.Settings.HealthListen != "" {
		s.probes = grpc.NewServer(reading)
		plain.server = s.probes
		grpc_health_v1.RegisterHealthServer(plain, s.health)
	}
	return s, nil
}

func simply(ctx context.Context, _ string, handle func(context.Context) error) error {
	return handle(ctx)
}

// compare finds RPCs without a handler.
func (s *Server) compare() error {
	registered := s.grpc.GetServiceInfo()
	for _, method := range s.config.Contract.Methods {
		if _, ok := registered[method.Service]; !ok {
			return fault.Wiring("%s has no handler: register a server of %s", method.Path, method.Service)
		}
		if !slices.Contains(s.services, method.Service) {
			s.services = append(s.services, method.Service)
		}
	}
	return nil
}

// Start listens, and follows Config.Ready until Drain.
func (s *Server) Start() error {
	s.health.SetServingStatus(alive, grpc_health_v1.HealthCheckResponse_SERVING)
	s.setHealth(false)
	listener, err := listen(s.config.Settings.Listen, "FACTFOLD_LISTEN")
	if err != nil {
		return err
	}
	s.address = addressOf(s.config.Settings.Listen, listener)
	if s.probes != nil {
		probed, err := listen(s.config.Settings.HealthListen, "FACTFOLD_HEALTH_LISTEN")
		if err != nil {
			listener.Close()
			return err
		}
		s.probed = addressOf(s.config.Settings.HealthListen, probed)
		go func() { _ = s.probes.Serve(probed) }()
	}
	go func() { _ = s.grpc.Serve(listener) }()
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	go s.follow(ctx)
	return nil
}

// Address is host:port, once it listens.
func (s *Server) Address() string { return s.address }

// Changed says that Config.Ready may have changed.
func (s *Server) Changed() {
	select {
	case s.news <- struct{}{}:
	default:
	}
}

// Drain takes no more calls and lets those under way finish until ctx ends. Watches end at once,
// with the position to resume from.
func (s *Server) Drain(ctx context.Context) {
	s.stop()
	s.health.Shutdown()
	s.config.Drain()
	// Callers are told to go elsewhere; what they had sent before they knew is refused.
	stopped := make(chan struct{})
	go func() { s.grpc.GracefulStop(); close(stopped) }()
	select {
	case <-stopped:
	case <-ctx.Done():
	case <-s.boundary.whenIdle():
		// What is left are health watches and reflection, which never end by themselves, and
		// callers who have not read their last answers yet.
		select {
		case <-stopped:
		case <-ctx.Done():
		case <-time.After(lookEvery):
		}
	}
	s.grpc.Stop()
	if s.probes != nil {
		s.probes.Stop()
	}
}

// follow keeps health up to date, and says what the service waits for.
func (s *Server) follow(ctx context.Context) {
	serving, said, at := false, "", time.Time{}
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		ready := s.config.Ready()
		switch status := s.config.Status(); {
		case ready != serving:
			serving, said = ready, ""
			s.setHealth(ready)
			if ready {
				slog.Info("serving", s.places("logger", logger, "address", s.address)...)
			} else {
				slog.Error("not serving", "logger", logger, "reason", status)
			}
		case !ready && status != said && (unlike(status, said) || time.Since(at) > sayEvery):
			// That only its figures have changed is said now and then.
			said, at = status, time.Now()
			slog.Info("waiting", "logger", logger, "reason", said, "address", s.address)
		}
		select {
		case <-ctx.Done():
			return
		case <-s.news:
		case <-look.C:
		}
	}
}

func unlike(status, said string) bool {
	return figure.ReplaceAllString(status, "") != figure.ReplaceAllString(said, "")
}

func (s *Server) places(args ...any) []any {
	if s.probed != "" {
		args = append(args, "health", s.probed)
	}
	return args
}

func (s *Server) setHealth(serving bool) {
	status := grpc_health_v1.HealthCheckResponse_NOT_SERVING
	if serving {
		status = grpc_health_v1.HealthCheckResponse_SERVING
	}
	for _, name := range append([]string{""}, s.services...) {
		s.health.SetServingStatus(name, status)
	}
}

func listen(address, setting string) (net.Listener, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fault.CannotStart("%s: %s cannot be listened on; is another process there?", setting, address)
	}
	return listener, nil
}

// addressOf is the address that was asked for, with the port that it has.
func addressOf(asked string, listener net.Listener) string {
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	return asked[:strings.LastIndex(asked, ":")+1] + port
}
