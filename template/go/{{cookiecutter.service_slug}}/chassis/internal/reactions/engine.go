package reactions

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"factfold/chassis/internal/contract"
	"factfold/chassis/internal/fault"
	"factfold/chassis/internal/redislog"
	"factfold/chassis/internal/settings"
	"factfold/chassis/internal/telemetry"
	"factfold/chassis/internal/wire"
)

// Config is what an engine runs with.
type Config struct {
	Service  string // its name
	Instance string // the member: the service's name, and something random
	Redis    *redislog.Redis
	Foreign  *redislog.Redis // reads other services' streams; may be the same as Redis
	Contract *contract.Contract
	Reaction Reaction
	// Memories of own streams, of each partition. It is called once they are created.
	Memories func() map[string][]*redislog.Memory
	// ViewsReady waits until all views have caught up: a reaction may read them, and what it decides
	// is never decided again.
	ViewsReady func(ctx context.Context) error
	Replicas   redislog.Replicas
	Settings   settings.Settings
	Telemetry  *telemetry.Telemetry
	Alarm      func(text string) // tells what an operator must know
	Changed    func()            // the engine's status has changed

	pauses pauses
}

// Engine is one reaction of this instance: one worker for each partition of its stream.
type Engine struct {
	config  Config
	stream  *contract.Stream
	answers *answers

	mu      sync.Mutex
	status  string
	workers []*worker
}

// NewEngine makes an engine. A *fault.WiringError says how its reaction does not fit the contract.
func NewEngine(config Config) (*Engine, error) {
	if config.pauses == (pauses{}) {
		config.pauses = pauses{firstPause, longestPause}
	}
	name := config.Reaction.Name
	e := &Engine{config: config, answers: &answers{
		config: config, group: config.Service + "." + name, source: "/" + config.Service,
		events: map[string]*contract.Event{},
	}}
	for _, message := range config.Reaction.Events {
		event, err := config.Contract.EventOf(message)
		if err != nil {
			return nil, err
		}
		if e.stream != nil && e.stream != event.Stream {
			return nil, fault.Wiring("reaction %s answers events of the streams %s and %s: write one "+
				"reaction for each stream", name, e.stream.Name, event.Stream.Name)
		}
		e.stream = event.Stream
		e.answers.events[event.Name] = event
	}
	if e.stream == nil {
		return nil, fault.Wiring("reaction %s answers no event: name one", name)
	}
	e.status = fmt.Sprintf("reaction %s waits for stream %s", name, e.stream.Name)
	return e, nil
}

// Name is the reaction's.
func (e *Engine) Name() string { return e.config.Reaction.Name }

// Status is why the reaction does not work, one line; empty if it does.
func (e *Engine) Status() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.status
}

// Lags are those of the partitions that this instance owns.
func (e *Engine) Lags() []telemetry.Lag {
	var found []telemetry.Lag
	for _, each := range e.its() {
		if lag, ok := each.lag(); ok {
			found = append(found, lag)
		}
	}
	return found
}

// Committed is how many facts' answers are committed, as far as this instance has seen.
func (e *Engine) Committed() uint64 {
	var n uint64
	for _, each := range e.its() {
		n += each.committed.Load()
	}
	return n
}

// Run works until the context ends, or until going on cannot help: then Status says why, and there
// is no error. It begins once own streams are created.
func (e *Engine) Run(ctx context.Context) error {
	config, stream := e.config, e.stream
	reads := config.Foreign
	if stream.Own {
		reads = config.Redis
	}
	heads, err := redislog.WaitForStream(ctx, reads, stream.Name)
	if err != nil {
		return err
	}
	workers := make([]*worker, len(heads))
	ownerships := make([]*ownership, len(heads))
	for partition, head := range heads {
		g := newGroup(e.answers.group, stream.Name, partition, head.Epoch, stream.Own)
		workers[partition] = newWorker(config, e.answers, g, reads, head)
		ownerships[partition] = workers[partition].ownership
	}
	e.mu.Lock()
	e.workers = workers
	e.mu.Unlock()
	e.say("")
	if err := config.ViewsReady(ctx); err != nil {
		return err
	}
	err = e.work(ctx, workers, &membership{
		redis: config.Redis, instance: config.Instance, key: wire.Members(stream.Name, e.answers.group),
		ownerships: ownerships, lease: config.Settings.Lease, silence: silence{},
	})
	var wiring *fault.WiringError
	var stopped *stopped
	if errors.As(err, &wiring) || errors.As(err, &stopped) {
		status := fmt.Sprintf("reaction %s has stopped: %s; it goes on once that is mended and the service "+
			"restarted", config.Reaction.Name, err)
		logger().Error(status)
		e.say(status)
		return nil
	}
	return err
}

func (e *Engine) work(ctx context.Context, workers []*worker, members *membership) error {
	// The batches under way may end before anybody takes their owner for gone.
	tending := sideBySide(context.WithoutCancel(ctx))
	tending.start(members.tend)
	defer members.leave(ctx)
	defer tending.end()
	working := sideBySide(ctx)
	for _, each := range workers {
		working.start(each.run)
	}
	select {
	case <-tending.ctx.Done():
		err := context.Cause(tending.ctx)
		working.end()
		return err
	case <-working.ctx.Done():
		return working.wait()
	}
}

func (e *Engine) its() []*worker {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.workers
}

func (e *Engine) say(status string) {
	e.mu.Lock()
	e.status = status
	e.mu.Unlock()
	e.config.Changed()
}
