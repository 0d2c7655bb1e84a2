package views

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"factfold/chassis/internal/contract"
	"factfold/chassis/internal/redislog"
	"factfold/chassis/internal/wire"
)

// Config is what a view runs with.
type Config struct {
	View     *View
	Folds    []Fold // into tables of this view
	Contract *contract.Contract
	Redis    *redislog.Redis
	Foreign  *redislog.Redis // reads the streams of other services; nil: Redis does
	Journal  *Journal        // if there is one, this view follows all own streams and feeds it
	Home     *Home           // keeps what outlives the process; nil: nothing is kept
	// Count adds one to a counter.
	Count   func(name string, namesAndValues ...string)
	Changed func() // told of each change of Ready or Status
}

// Engine is one running view: it catches up from the log, follows its tail, and notices when the log
// changes.
type Engine struct {
	view     *View
	plans    map[string]plan
	streams  []string
	own      map[string]bool
	contract *contract.Contract
	redis    *redislog.Redis
	foreign  *redislog.Redis
	journal  *Journal
	keeper   *keeper
	count    func(name string, namesAndValues ...string)
	changed  func()

	// What folds change. Who needs both locks takes this one first.
	rows      sync.Mutex
	tables    *tables
	positions positions // where the snapshot ends
	failures  uint64
	cut       atomic.Pointer[Cut] // of what is folded, if somebody has asked since

	state   sync.RWMutex
	places  map[string][]*Place
	began   map[string]start
	unknown map[string]bool // types that were said to be unknown
	known   map[string]bool // streams that were there before one was gone
	loading bool
	refused string
}

// start is when a stream was begun with, and how many facts were done then.
type start struct {
	at   time.Time
	done uint64
}

// NewEngine makes the engine of a view; a *fault.WiringError says why its declarations do not fit.
func NewEngine(c Config) (*Engine, error) {
	if c.View.wrong != nil {
		return nil, c.View.wrong
	}
	plans, streams, err := planOf(c.Folds, c.Contract)
	if err != nil {
		return nil, err
	}
	own := map[string]bool{}
	for _, stream := range c.Contract.OwnStreams() {
		own[stream.Name] = true
	}
	if c.Journal != nil {
		for _, name := range slices.Sorted(maps.Keys(own)) {
			if plans[name] == nil {
				streams = append(streams, name)
			}
		}
	}
	if c.Foreign == nil {
		c.Foreign = c.Redis
	}
	if c.Home == nil {
		c.Home = &Home{alarm: func(string) {}}
	}
	e := &Engine{
		view: c.View, plans: plans, streams: streams, own: own, contract: c.Contract,
		redis: c.Redis, foreign: c.Foreign, journal: c.Journal, count: c.Count, changed: c.Changed,
		unknown: map[string]bool{}, known: map[string]bool{},
	}
	e.keeper = newKeeper(c.Home, c.Redis, c.View, func() ([]byte, error) {
		return fingerprint(c.View, c.Folds, streams, c.Contract, c.Journal != nil)
	})
	e.begin(nil, nil)
	return e, nil
}

// Run follows the log until ctx ends. It returns earlier only if there is nothing to follow, or the
// view must refuse to go on: then Status says why.
func (e *Engine) Run(ctx context.Context) error {
	e.load(ctx)
	for {
		err := e.follow(ctx)
		var change *redislog.LogChanged
		switch {
		case ctx.Err() != nil:
			return nil
		case !errors.As(err, &change):
			return err
		}
		e.count("factfold.log.alarms", "view", e.view.Name)
		if change.Broken() {
			e.refuse(fmt.Sprintf("view %s cannot be complete: %v; %s", e.view.Name, change, change.Advice()))
			return nil
		}
		logger().Error(fmt.Sprintf("the log changed: %v; rebuilding view %s", change, e.view.Name))
		if change.Kind == redislog.RolledBack {
			e.nameLost(ctx)
		}
		gone := change.Kind == redislog.Gone
		if gone {
			e.state.Lock()
			for stream := range e.places {
				e.known[stream] = true
			}
			e.state.Unlock()
		}
		e.begin(nil, nil)
		e.changed()
		if !gone { // or it may come back as it was
			e.keeper.setAside()
		}
	}
}

func (e *Engine) load(ctx context.Context) {
	e.setLoading(true)
	snapshot, its := e.keeper.restore(ctx)
	e.setLoading(false)
	e.begin(snapshot, its)
	e.changed()
}

func (e *Engine) setLoading(loading bool) {
	e.state.Lock()
	defer e.state.Unlock()
	e.loading = loading
}

func (e *Engine) refuse(why string) {
	e.state.Lock()
	e.refused = why
	e.state.Unlock()
	logger().Error(why)
	if e.journal != nil {
		e.journal.Wake() // watches end
	}
	e.changed()
}

// begin begins with what a snapshot holds, or with nothing.
func (e *Engine) begin(from *snapshot, its *tables) {
	if from == nil {
		from, its = &snapshot{requests: requests{}}, newTables(e.view)
	}
	e.rows.Lock()
	e.tables, e.positions, e.failures = its, from.positions, from.failures
	e.state.Lock()
	for _, places := range e.places {
		for _, place := range places {
			place.end()
		}
	}
	e.places, e.began = map[string][]*Place{}, map[string]start{}
	e.state.Unlock()
	if e.journal != nil {
		e.journal.reset(from.requests)
	}
	e.cut.Store(nil)
	e.rows.Unlock()
}

func (e *Engine) follow(ctx context.Context) error {
	var works []func(context.Context) error
	for _, stream := range e.streams {
		works = append(works, func(ctx context.Context) error { return e.followStream(ctx, stream) })
	}
	return together(ctx, works)
}

func (e *Engine) followStream(ctx context.Context, stream string) error {
	heads, err := redislog.WaitForStream(ctx, e.reads(stream), stream)
	if err != nil {
		return err
	}
	var places []*Place
	var works []func(context.Context) error
	for partition, head := range heads {
		at, known := e.positions[placeKey{stream, partition}]
		if known && at.epoch != head.Epoch {
			return changedAt(stream, partition, &redislog.LogChanged{
				Kind:   redislog.Recreated,
				Reason: fmt.Sprintf("its epoch was %s, now it is %s", at.epoch, head.Epoch),
			})
		}
		place := newPlace(stream, partition, head, at.anchor)
		places = append(places, place)
		works = append(works, func(ctx context.Context) error { return e.followPlace(ctx, place) })
	}
	e.rows.Lock()
	e.state.Lock()
	e.began[stream] = start{time.Now(), doneOf(places)}
	e.places[stream] = places
	delete(e.known, stream)
	e.state.Unlock()
	e.cut.Store(nil)
	e.rows.Unlock()
	e.changed()
	e.keeper.cursors.mark(ctx, presentOf(places))
	return together(ctx, works)
}

func (e *Engine) reads(stream string) *redislog.Redis {
	if e.own[stream] {
		return e.redis
	}
	return e.foreign
}

func (e *Engine) followPlace(ctx context.Context, place *Place) error {
	reader := redislog.NewReader(e.reads(place.Stream), place.Stream, place.Partition, place.Epoch,
		redislog.Options{Anchor: place.Anchor(), AtOnce: true})
	for batch, err := range reader.Batches(ctx) {
		var change *redislog.LogChanged
		if errors.As(err, &change) {
			return changedAt(place.Stream, place.Partition, change)
		}
		if err != nil {
			return err
		}
		passed := place.passed()
		e.take(place, batch)
		if place.passed() != passed {
			e.changed()
			e.sayCaughtUp()
		}
	}
	return nil
}

func changedAt(stream string, partition int, change *redislog.LogChanged) error {
	return &redislog.LogChanged{
		Kind: change.Kind, Reason: fmt.Sprintf("stream %s, partition %d: %v", stream, partition, change),
	}
}

func (e *Engine) sayCaughtUp() {
	if !e.Ready() {
		return
	}
	facts := doneOf(e.Places())
	e.state.RLock()
	first := time.Now()
	for _, began := range e.began {
		facts -= began.done
		if began.at.Before(first) {
			first = began.at
		}
	}
	e.state.RUnlock()
	logger().Info(fmt.Sprintf("view %s is up to date: %d facts in %.1f s",
		e.view.Name, facts, time.Since(first).Seconds()))
}

// nameLost says which of the newest facts that were folded are not in the log any more. One
// partition has noticed; others are on the same server. That the log was rolled back is said in any
// case.
func (e *Engine) nameLost(ctx context.Context) {
	for _, place := range e.Places() {
		last := place.Anchor()
		if last.ID.N == 0 {
			continue
		}
		keys := wire.KeysOf(place.Stream, place.Partition)
		link, err := e.reads(place.Stream).Link(ctx, keys.Log(), keys.Head())
		if err != nil {
			continue
		}
		_ = e.nameLostOf(ctx, link, place, last)
		link.Close()
	}
}

func (e *Engine) nameLostOf(
	ctx context.Context, link *redislog.Link, place *Place, last redislog.Anchor,
) error {
	part := redislog.Part{Stream: place.Stream, Partition: place.Partition, Epoch: place.Epoch}
	if there, err := redislog.HasFact(ctx, link, part, last); err != nil || there {
		return err
	}
	recent := place.recent()
	kept, err := redislog.CountKept(ctx, link, part, recent)
	if err != nil {
		return err
	}
	redislog.NameLost(part, recent, kept, "folded into view "+e.view.Name,
		func(text string) { logger().Error(text) })
	return nil
}

// Tell says in the log where the view is, until ctx ends.
func (e *Engine) Tell(ctx context.Context) {
	e.keeper.cursors.follow(ctx, func() positions { return presentOf(e.Places()) })
}

// Save writes a snapshot, unless nothing has changed since the last two, and the cursors.
func (e *Engine) Save(ctx context.Context) {
	e.keeper.save(ctx, e.snapshot, true)
	e.keeper.cursors.mark(ctx, presentOf(e.Places()))
}

// End does the same for the last time, unless nothing has changed since the last one. When ctx ends,
// what is not written yet is given up.
func (e *Engine) End(ctx context.Context) {
	e.keeper.save(ctx, e.snapshot, false)
	e.keeper.cursors.leave(ctx, presentOf(e.Places()))
}

// Expects is why the stream must exist, if a snapshot of this view has read it; else empty.
func (e *Engine) Expects(stream string) string {
	return e.keeper.knows(context.Background(), stream)
}

// snapshot is everything as it is at this moment; nil: as it was at saved.
func (e *Engine) snapshot(saved positions) *snapshot {
	e.rows.Lock()
	defer e.rows.Unlock()
	// The rows of a stream that is waited for are those of the snapshot it began with.
	at := presentOf(e.Places())
	for key, mark := range e.positions {
		if _, ok := at[key]; !ok {
			at[key] = mark
		}
	}
	empty := true
	for _, mark := range at {
		empty = empty && mark.anchor.ID.N == 0
	}
	if empty || at.same(saved) {
		return nil
	}
	s := &snapshot{positions: at, rows: map[*Table]*tree[[]byte]{}, failures: e.failures}
	for _, table := range e.view.folded() {
		frozen := e.tables.of[table].tree.freeze()
		s.rows[table] = &frozen
	}
	if e.journal != nil {
		s.requests = e.journal.frozen()
	}
	return s
}

func presentOf(places []*Place) positions {
	at := positions{}
	for _, place := range places {
		at[place.key()] = mark{place.Epoch, place.Anchor()}
	}
	return at
}

// together runs all works, ends the others when one ends with an error, and returns that.
func together(ctx context.Context, works []func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var running sync.WaitGroup
	for _, work := range works {
		running.Go(func() {
			if err := work(ctx); err != nil {
				cancel(err) // the first one counts
			}
		})
	}
	running.Wait()
	return context.Cause(ctx)
}
