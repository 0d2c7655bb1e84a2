package chassis

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"sync"

	"google.golang.org/protobuf/proto"

	"factfold/chassis/internal/contract"
	"factfold/chassis/internal/fault"
	"factfold/chassis/internal/redislog"
	"factfold/chassis/internal/views"
	"factfold/chassis/internal/wire"
)

// Facts read at once while a watch catches up: the first time, and at most; the bytes that later
// reads aim at. A caller that is slow holds them.
const watchFirst, watchBatch, watchBytes = 20, 500, 4 << 20

// Change is one fact, as a watch sees it.
type Change struct {
	Event    proto.Message
	Fact     *Fact
	Position string // token: resume behind this fact
}

// Watch follows the service's own stream.
type Watch struct {
	*Query

	mu   sync.Mutex
	last string
}

// Position is the token of how far the watch has come; empty before the first change.
func (w *Watch) Position() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last
}

// Changes are each fact behind the token after (empty: behind none), then each new one, of the
// service's stream.
//
// Facts of one key come in order; none is left out or sent twice. A fact comes once this instance
// has folded it. Facts of types that the contract does not declare are passed over, and so are
// entries that are no facts. The last pair has an error that is for the caller: the service ends,
// or the token cannot be resumed from.
func (w *Watch) Changes(ctx context.Context, after string) iter.Seq2[Change, error] {
	stream, err := w.core.ownStream()
	if err != nil {
		return failing(err)
	}
	return w.ChangesIn(ctx, stream, after)
}

// ChangesIn is Changes, of a service that has several streams.
func (w *Watch) ChangesIn(ctx context.Context, stream, after string) iter.Seq2[Change, error] {
	declared := w.core.contract.Streams[stream]
	if declared == nil {
		return failing(fault.Wiring("there is no stream %s in the contract", stream))
	}
	return func(yield func(Change, error) bool) {
		follow := &following{watch: w, core: w.core, stream: declared, yield: yield}
		if err := follow.run(ctx, after); err != nil && !errors.Is(err, errEnough) {
			yield(Change{}, err)
		}
	}
}

func failing(err error) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) { yield(Change{}, err) }
}

// errEnough says that the loop over the changes has ended.
var errEnough = errors.New("enough")

type following struct {
	watch  *Watch
	core   *core
	stream *contract.Stream
	yield  func(Change, error) bool
	places []*views.Place
	ends   []wire.Position
}

func (f *following) run(ctx context.Context, after string) error {
	f.places = f.present()
	if len(f.places) == 0 {
		return fault.NotReady(f.core.owner.Status())
	}
	if err := f.resume(after); err != nil {
		return err
	}
	news, stop := f.core.journal.Watch()
	defer stop()
	for {
		for _, place := range f.places {
			if err := f.follow(ctx, place); err != nil {
				return err
			}
		}
		if err := f.goOn(f.places...); err != nil {
			return err
		}
		select {
		case <-news:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// present are the places of the stream, by partition.
func (f *following) present() []*views.Place {
	return slices.DeleteFunc(f.core.owner.Places(), func(place *views.Place) bool {
		return place.Stream != f.stream.Name
	})
}

// resume finds where the watch begins in each partition.
func (f *following) resume(after string) error {
	for _, place := range f.places {
		f.ends = append(f.ends, wire.Position{Stream: place.Stream, Partition: place.Partition, Epoch: place.Epoch})
	}
	positions, err := wire.ParsePositions(after, "after")
	if err != nil {
		return err
	}
	for _, position := range positions {
		if position.Stream != f.stream.Name {
			continue
		}
		if position.Partition >= len(f.places) {
			return fault.InvalidRequest("after", fmt.Sprintf("there is no partition %d", position.Partition))
		}
		place := f.places[position.Partition]
		if position.Epoch != place.Epoch {
			return fault.OtherEpoch(position.String(), place.Position().String())
		}
		f.ends[position.Partition] = position
	}
	// Written anew: after is any text, and this becomes a trailer.
	f.mark()
	return nil
}

// mark keeps how far the watch is.
func (f *following) mark() string {
	token := wire.FormatPositions(func(yield func(wire.Position) bool) {
		for _, end := range f.ends {
			if end.N > 0 && !yield(end) {
				return
			}
		}
	})
	f.watch.mu.Lock()
	defer f.watch.mu.Unlock()
	f.watch.last = token
	return token
}

// follow hands out the facts of one partition that this instance has folded.
func (f *following) follow(ctx context.Context, place *views.Place) error {
	count := watchFirst
	for {
		end, folded := f.ends[place.Partition], place.Anchor().ID.N
		if end.N >= folded {
			return nil
		}
		// From the fact at end on: after a roll-back another one may stand there.
		entries := f.core.journal.Recent(place.Stream, place.Partition, max(1, end.N))
		if entries == nil {
			var err error
			if entries, err = f.read(ctx, place, end, count); err != nil {
				return err
			}
			if err := f.goOn(place); err != nil {
				return err
			}
			size := 1
			for _, entry := range entries {
				size += len(entry.Fields[len(entry.Fields)-1])
			}
			count = max(2, min(watchBatch, len(entries)*watchBytes/size))
		}
		if len(entries) > 0 && entries[0].ID == end.ID {
			entries = entries[1:]
		}
		if len(entries) == 0 || entries[0].ID.N != end.N+1 {
			return fault.FailedPrecondition(fmt.Sprintf("the log does not go on from %s: %s; list again and "+
				"watch from the position that comes with it", end, f.why(ctx, place, end)))
		}
		for _, entry := range entries {
			if entry.ID.N > folded {
				return nil
			}
			if err := f.hand(place, entry); err != nil {
				return err
			}
		}
	}
}

// hand gives one fact to the loop over the changes.
func (f *following) hand(place *views.Place, entry wire.Entry) error {
	fact := &Fact{Stream: place.Stream, Partition: place.Partition, Epoch: place.Epoch, Entry: entry}
	f.ends[place.Partition] = fact.Position()
	token := f.mark()
	name, err := fact.Type()
	if err != nil || f.stream.Events[name] == nil {
		return nil
	}
	event := f.stream.Events[name].New()
	if fact.Read(event) != nil {
		return nil
	}
	if !f.yield(Change{Event: event, Fact: fact, Position: token}, nil) {
		return errEnough
	}
	return f.goOn(place)
}

// goOn says why nothing more can be sent.
func (f *following) goOn(places ...*views.Place) error {
	if f.core.isDraining() {
		return fault.Draining(f.watch.Position())
	}
	owner := f.core.owner
	if refused := owner.Refused(); refused != "" {
		return fault.NotReady(refused)
	}
	present := f.present()
	for _, place := range places {
		if !slices.Contains(present, place) {
			return fault.NotReady(fmt.Sprintf("view %s has been rebuilt", owner.Name()))
		}
	}
	return nil
}

// why are the facts behind end not there?
func (f *following) why(ctx context.Context, place *views.Place, end wire.Position) string {
	keys := wire.KeysOf(place.Stream, place.Partition)
	if link, err := f.core.redis.Link(ctx, keys.Head()); err == nil {
		defer link.Close()
		if trimmed, err := redislog.ReadTrimmed(ctx, link, keys); err == nil && trimmed > end.N {
			return fmt.Sprintf("facts up to %d were trimmed", trimmed)
		}
	}
	return "facts were removed, or it was rolled back"
}

// read reads from the fact at end on.
func (f *following) read(ctx context.Context, place *views.Place, end wire.Position, count int) ([]wire.Entry, error) {
	entries, head, err := f.readOnce(ctx, place, end, count)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		refusal := fault.Unavailable(fmt.Sprintf("the log of stream %s cannot be read (%v); "+
			"watch again from factfold-position", place.Stream, err))
		refusal.Position = f.watch.Position()
		return nil, refusal
	}
	if head.Epoch != place.Epoch {
		return nil, fault.NotReady(fmt.Sprintf("the log of stream %s was replaced", place.Stream))
	}
	return entries, nil
}

func (f *following) readOnce(
	ctx context.Context, place *views.Place, end wire.Position, count int,
) ([]wire.Entry, redislog.Head, error) {
	keys := wire.KeysOf(place.Stream, place.Partition)
	link, err := f.core.redis.Link(ctx, keys.Log(), keys.Head())
	if err != nil {
		return nil, redislog.Head{}, err
	}
	defer link.Close()
	reply, err := link.Do(ctx, "XRANGE", keys.Log(), end.ID.String(), "+", "COUNT", strconv.Itoa(count))
	if err != nil {
		return nil, redislog.Head{}, err
	}
	entries, err := redislog.Entries(reply)
	if err != nil {
		return nil, redislog.Head{}, err
	}
	head, _, err := redislog.ReadHead(ctx, link, place.Stream, place.Partition) // without one no epoch fits
	return entries, head, err
}
