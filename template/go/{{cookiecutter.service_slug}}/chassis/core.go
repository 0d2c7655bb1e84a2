package chassis

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"factfold/chassis/internal/contract"
	"factfold/chassis/internal/fault"
	"factfold/chassis/internal/reactions"
	"factfold/chassis/internal/redislog"
	"factfold/chassis/internal/server"
	"factfold/chassis/internal/telemetry"
	"factfold/chassis/internal/views"
	"factfold/chassis/internal/wire"
)

// lookUps are at once: after an outage all callers may repeat their commands, and each look-up has a
// connection.
const lookUps = 16

// core is everything of one instance that is not gRPC: the log, the views, the reactions.
type core struct {
	name      string
	source    string
	instance  string
	contract  *contract.Contract
	methods   map[string]*contract.Method
	settings  Settings
	telemetry *telemetry.Telemetry
	tls       *server.Files
	redis     *redislog.Redis
	foreign   *redislog.Redis // reads other services' streams
	replicas  redislog.Replicas
	journal   *views.Journal
	views     []*views.Engine
	byView    map[*views.View]*views.Engine
	owner     *views.Engine // has the journal
	reactions []*reactions.Engine
	trimmer   *redislog.Trimmer
	lookingUp chan struct{}
	tell      func() // readiness may have changed

	working  *group
	reacting *group
	drainOne sync.Once
	draining chan struct{} // closed: no new work

	viewsReady gate // open while all views have caught up
	ready      gate

	changing sync.Mutex // one look at all parts at a time

	mu        sync.Mutex
	reason    string // why the service as a whole is not ready
	epochs    map[string][]string
	appenders map[string]*redislog.Appender
}

func newCore(service Service, settings Settings, telemetry *telemetry.Telemetry, tell func()) (*core, error) {
	declared, err := contract.New(service.Contract, service.Subscriptions)
	if err != nil {
		return nil, err
	}
	url, err := redislog.ParseURL(settings.RedisURL)
	if err != nil {
		return nil, fault.CannotStart("FACTFOLD_REDIS_URL cannot be used: %v", err)
	}
	c := &core{
		name:      service.Name,
		source:    "/" + service.Name,
		instance:  service.Name + "-" + randomHex(4),
		contract:  declared,
		methods:   map[string]*contract.Method{},
		settings:  settings,
		telemetry: telemetry,
		redis:     redislog.New(url),
		replicas:  redislog.ReplicasWithin(settings.WaitReplicas, settings.AppendTimeout),
		journal:   views.NewJournal(),
		byView:    map[*views.View]*views.Engine{},
		lookingUp: make(chan struct{}, lookUps),
		tell:      tell,
		draining:  make(chan struct{}),
		reason:    "waits for Redis at " + settings.RedisAddress(),
		epochs:    map[string][]string{},
		appenders: map[string]*redislog.Appender{},
	}
	for _, method := range declared.Methods {
		c.methods[method.Path] = method
	}
	c.foreign = c.redis
	if settings.RedisReadURL != "" {
		reads, err := redislog.ParseURL(settings.RedisReadURL)
		if err != nil {
			return nil, fault.CannotStart("FACTFOLD_REDIS_READ_URL cannot be used: %v", err)
		}
		c.foreign = redislog.New(reads)
	}
	ctx := context.WithValue(context.Background(), coreKey{}, c)
	c.working, c.reacting = newGroup(ctx, c.failed), newGroup(ctx, c.failed)
	policy := redislog.Policy{Age: settings.KeepAge, Facts: settings.KeepFacts}
	c.trimmer = redislog.NewTrimmer(c.redis, policy, c.alarm)
	if err := c.makeViews(service.Folds); err != nil {
		return nil, err
	}
	if err := c.makeReactions(service.Reactions); err != nil {
		return nil, err
	}
	c.beginMetrics()
	return c, nil
}

// makeViews makes one engine a view; the owner's also keeps the journal of the own streams.
func (c *core) makeViews(folds []Fold) error {
	var order []*views.View
	by := map[*views.View][]views.Fold{}
	var owner *views.View
	for _, each := range folds {
		view := each.fold.Into.View
		if _, known := by[view]; !known {
			order = append(order, view)
		}
		by[view] = append(by[view], each.fold)
		if event, ok := c.contract.Events[string(each.fold.Event.Descriptor().FullName())]; ok &&
			event.Stream.Own && owner == nil {
			owner = view
		}
	}
	if owner == nil {
		owner = views.NewView("journal")
		order = append(order, owner)
	}
	names := map[string]int{}
	for _, view := range order {
		names[view.Name]++
	}
	for name, count := range names {
		if count > 1 {
			return fault.Wiring("%d views are named %s: rename one", count, name)
		}
	}
	home := views.NewHome(c.name, c.settings.SnapshotDir, true, c.alarm)
	for _, view := range order {
		config := views.Config{
			View: view, Folds: by[view], Contract: c.contract,
			Redis: c.redis, Foreign: c.foreign, Home: home, Count: c.count, Changed: c.changed,
		}
		if view == owner {
			config.Journal = c.journal
		}
		engine, err := views.NewEngine(config)
		if err != nil {
			return err
		}
		c.views = append(c.views, engine)
		c.byView[view] = engine
	}
	c.owner = c.byView[owner]
	return nil
}

func (c *core) makeReactions(declared []Reaction) error {
	names := map[string]bool{}
	for _, each := range declared {
		reaction := each.declared(c)
		if names[reaction.Name] {
			return fault.Wiring("two reactions are named %s: rename one; its position is kept under that name",
				reaction.Name)
		}
		names[reaction.Name] = true
		engine, err := reactions.NewEngine(reactions.Config{
			Service: c.name, Instance: c.instance, Redis: c.redis, Foreign: c.foreign,
			Contract: c.contract, Reaction: reaction, Memories: c.memories, Replicas: c.replicas,
			ViewsReady: c.viewsReady.wait, Settings: c.settings, Telemetry: c.telemetry,
			Alarm: c.alarm, Changed: c.changed,
		})
		if err != nil {
			return err
		}
		c.reactions = append(c.reactions, engine)
	}
	return nil
}

// beginMetrics lets counters begin at 0: one that first appears at 1 has not increased, to
// Prometheus.
func (c *core) beginMetrics() {
	c.telemetry.Count("factfold.log.alarms", 0)
	for _, view := range c.views {
		c.telemetry.Lag("view", view.Name(), view.Lags)
		c.telemetry.Count("factfold.log.alarms", 0, "view", view.Name())
		for _, stream := range view.Streams() {
			c.telemetry.Count("factfold.view.errors", 0, "view", view.Name(), "stream", stream)
		}
	}
	c.telemetry.HeldBack(c.trimmer.HeldBack)
	for _, reaction := range c.reactions {
		c.telemetry.Lag("reaction", reaction.Name(), reaction.Lags)
		for _, name := range []string{"factfold.reaction.errors", "factfold.reaction.given_up"} {
			c.telemetry.Count(name, 0, "reaction", reaction.Name())
		}
	}
}

// start begins to work in the background; ready is open once it is caught up.
func (c *core) start() {
	c.working.run(func(ctx context.Context) error {
		err := c.begin(ctx)
		var wiring *fault.WiringError
		if errors.Is(err, fault.KindLogReplaced) || errors.As(err, &wiring) {
			c.fail(err.Error(), "")
			return nil
		}
		return err
	})
}

func (c *core) begin(ctx context.Context) error {
	// Own streams first: two services that subscribe to each other both come up.
	for _, stream := range c.contract.OwnStreams() {
		epochs, err := redislog.CreateStream(ctx, c.redis, stream.Name, stream.Partitions,
			func() string { return c.expects(stream.Name) })
		if err != nil {
			return err
		}
		appender := redislog.NewAppender(c.redis, stream.Name, epochs, redislog.AppendOptions{
			Timeout: c.settings.AppendTimeout, Limit: c.settings.AppendQueue,
			MaxFactBytes: c.settings.MaxFactBytes, Replicas: c.replicas, Alarm: c.alarm,
		})
		c.mu.Lock()
		c.epochs[stream.Name], c.appenders[stream.Name] = epochs, appender
		c.mu.Unlock()
		c.working.run(appender.Run)
	}
	c.mu.Lock()
	c.reason = ""
	c.mu.Unlock()
	for _, view := range c.views {
		c.working.run(view.Run)
		c.working.run(func(ctx context.Context) error { view.Tell(ctx); return nil })
	}
	c.working.run(c.keep)
	for _, reaction := range c.reactions {
		c.reacting.run(reaction.Run)
	}
	c.changed()
	return nil
}

// expects says why an own stream must exist; empty if it need not.
func (c *core) expects(stream string) string {
	if c.settings.ExpectLog {
		return "FACTFOLD_EXPECT_LOG is set"
	}
	for _, view := range c.views {
		if why := view.Expects(stream); why != "" {
			return why
		}
	}
	return ""
}

// keep writes snapshots, and then trims.
func (c *core) keep(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(c.settings.SnapshotInterval):
		}
		for _, view := range c.views {
			view.Save(ctx)
		}
		// Not more often: as long as the own snapshots are no newer, they hold it back.
		c.trimmer.Trim(ctx, c.ownEpochs())
	}
}

// close ends all until ctx ends: reactions end their batch and hand over, appends are flushed, views
// are kept.
func (c *core) close(ctx context.Context) {
	c.drain()
	// Side by side: a reaction or a Redis that hangs must not cost the snapshots.
	var ending sync.WaitGroup
	ending.Go(func() {
		c.reacting.end(ctx)
		c.mu.Lock()
		appenders := maps.Clone(c.appenders)
		c.mu.Unlock()
		for _, appender := range appenders {
			appender.Flush(ctx)
		}
	})
	for _, view := range c.views {
		ending.Go(func() { view.End(ctx) })
	}
	within(ctx, ending.Wait)
	c.working.end(ctx)
}

// drain takes no new work; watches end with the position to resume from.
func (c *core) drain() {
	c.drainOne.Do(func() { close(c.draining) })
	c.journal.Wake()
}

func (c *core) isDraining() bool {
	select {
	case <-c.draining:
		return true
	default:
		return false
	}
}

// status is why the service is not ready, one line; empty if it is.
func (c *core) status() string {
	c.mu.Lock()
	reason := c.reason
	c.mu.Unlock()
	if reason != "" {
		return reason
	}
	var reasons []string
	for _, view := range c.views {
		reasons = append(reasons, view.Status())
	}
	for _, reaction := range c.reactions {
		reasons = append(reasons, reaction.Status())
	}
	reasons = slices.DeleteFunc(reasons, func(reason string) bool { return reason == "" })
	return strings.Join(reasons, "; ")
}

// changed is for the parts: one has changed its state.
func (c *core) changed() {
	c.changing.Lock()
	defer c.changing.Unlock()
	c.mu.Lock()
	viewsReady := c.reason == ""
	c.mu.Unlock()
	for _, view := range c.views {
		viewsReady = viewsReady && view.Ready()
	}
	c.viewsReady.set(viewsReady)
	if c.ready.set(c.status() == "") {
		c.tell()
	}
}

func (c *core) failed(err error, stack string) {
	c.fail(fmt.Sprintf("a part of the service has failed: %v", err), stack)
}

func (c *core) fail(reason, stack string) {
	c.mu.Lock()
	c.reason = reason
	c.mu.Unlock()
	attributes := []any{"logger", "factfold.core"}
	if stack != "" {
		attributes = append(attributes, "exception", stack)
	}
	slog.Error(reason, attributes...)
	c.changed()
}

// alarm says what an operator must know.
func (c *core) alarm(text string) {
	c.count("factfold.log.alarms")
	slog.Error(text, "logger", "factfold.core")
}

func (c *core) count(name string, namesAndValues ...string) {
	c.telemetry.Count(name, 1, namesAndValues...)
}

func (c *core) ownEpochs() map[string][]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.epochs)
}

// memories are those of own streams, by partition.
func (c *core) memories() map[string][]*redislog.Memory {
	c.mu.Lock()
	defer c.mu.Unlock()
	found := map[string][]*redislog.Memory{}
	for stream, appender := range c.appenders {
		found[stream] = appender.Memories()
	}
	return found
}

// query reads what is there whenever it is asked.
func (c *core) query() *Query { return &Query{core: c} }

func (c *core) ownStream() (string, error) {
	own := c.contract.OwnStreams()
	if len(own) != 1 {
		return "", fault.Wiring("name the stream: this service has %d", len(own))
	}
	return own[0].Name, nil
}

// atLeast waits until every view of the streams in header has reached the positions in it.
func (c *core) atLeast(ctx context.Context, header string) error {
	positions, err := wire.ParsePositions(header, wire.AtLeastHeader)
	if err != nil {
		return err
	}
	for _, position := range positions {
		found := false
		for _, view := range c.views {
			if !slices.Contains(view.Streams(), position.Stream) {
				continue
			}
			found = true
			if err := view.Reach(ctx, position); err != nil {
				return err
			}
		}
		if !found {
			return fault.FailedPrecondition(fmt.Sprintf("%s has no view of stream %s: drop it from %s, "+
				"or ask a service that has one", c.name, position.Stream, wire.AtLeastHeader))
		}
	}
	return nil
}

func randomHex(bytes int) string {
	text := make([]byte, bytes)
	rand.Read(text) // never fails
	return hex.EncodeToString(text)
}
