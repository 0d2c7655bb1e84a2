package views

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"factfold/chassis/internal/fault"
	"factfold/chassis/internal/telemetry"
	"factfold/chassis/internal/wire"
)

const (
	oursIsGone = ", whose log is gone: restore it from a backup, or begin anew without it: " +
		"`factfold stream recreate %s`"
	theirsIsGone = ", whose log is gone: its owner must restore it, or begin it anew"
)

// Name is the view's.
func (e *Engine) Name() string { return e.view.Name }

// Streams are those that the view follows.
func (e *Engine) Streams() []string { return e.streams }

// Refused is why the view does not go on; empty if it does.
func (e *Engine) Refused() string {
	e.state.RLock()
	defer e.state.RUnlock()
	return e.refused
}

// Ready tells whether the view has passed the tail that it saw at start.
func (e *Engine) Ready() bool { return e.Status() == "" }

// Status is why the view is not ready, as one clause; empty if it is.
func (e *Engine) Status() string {
	e.state.RLock()
	defer e.state.RUnlock()
	if e.refused != "" {
		return e.refused
	}
	if e.loading {
		return fmt.Sprintf("view %s loads its snapshot", e.view.Name)
	}
	var behind []string
	for _, stream := range e.streams {
		if text := e.behind(stream); text != "" {
			behind = append(behind, text)
		}
	}
	return strings.Join(behind, "; ")
}

func (e *Engine) behind(stream string) string {
	places := e.places[stream]
	if places == nil {
		gone := ""
		switch {
		case !e.known[stream]:
		case e.own[stream]:
			gone = fmt.Sprintf(oursIsGone, stream)
		default:
			gone = theirsIsGone
		}
		return fmt.Sprintf("view %s waits for stream %s%s", e.view.Name, stream, gone)
	}
	if !slices.ContainsFunc(places, func(place *Place) bool { return !place.passed() }) {
		return ""
	}
	target := uint64(0)
	for _, place := range places {
		target += place.target
	}
	done, since := doneOf(places), e.began[stream]
	pace := float64(done-since.done) / max(time.Since(since.at).Seconds(), 0.001)
	left := ""
	if pace > 0 {
		left = fmt.Sprintf(", about %.0f s left", float64(target-done)/pace)
	}
	return fmt.Sprintf("view %s has read %d of %d facts of %s, %.0f a second%s",
		e.view.Name, done, target, stream, pace, left)
}

func doneOf(places []*Place) (done uint64) {
	for _, place := range places {
		done += place.done()
	}
	return done
}

// Places are those of all partitions. After a rebuild they are others.
func (e *Engine) Places() []*Place {
	e.state.RLock()
	defer e.state.RUnlock()
	var all []*Place
	for _, stream := range e.streams {
		all = append(all, e.places[stream]...)
	}
	return all
}

// Lags are how far behind the view is, by partition.
func (e *Engine) Lags() []telemetry.Lag {
	var lags []telemetry.Lag
	for _, place := range e.Places() {
		lags = append(lags, place.lag())
	}
	return lags
}

// Position is where the view is, as a token.
func (e *Engine) Position() string { return e.Cut().Position() }

// Cut is the view as it is now. It waits for a batch that is being folded, no longer.
func (e *Engine) Cut() *Cut {
	if cut := e.cut.Load(); cut != nil {
		return cut
	}
	e.rows.Lock()
	defer e.rows.Unlock()
	if cut := e.cut.Load(); cut != nil {
		return cut
	}
	cut := &Cut{tables: make(map[*Table]tree[[]byte], len(e.tables.of))}
	for table, rows := range e.tables.of {
		cut.tables[table] = rows.tree.freeze()
	}
	for _, place := range e.Places() {
		if at := place.Position(); at.N > 0 {
			cut.positions = append(cut.positions, at)
		}
	}
	e.cut.Store(cut)
	return cut
}

// Reach waits until the view has folded the fact at the position, or ctx ends. Its errors are
// faults of KindPositionNotReached, KindPositionLost, KindOtherEpoch, KindInvalidRequest.
func (e *Engine) Reach(ctx context.Context, position wire.Position) error {
	e.state.RLock()
	places := e.places[position.Stream]
	e.state.RUnlock()
	if places == nil {
		return fault.PositionNotReached(position.String(), "")
	}
	if position.Partition >= len(places) {
		return fault.InvalidRequest(wire.AtLeastHeader, fmt.Sprintf(
			"stream %s has %d partitions, there is no %d",
			position.Stream, len(places), position.Partition))
	}
	place := places[position.Partition]
	if place.Epoch != position.Epoch {
		return fault.OtherEpoch(position.String(), place.Position().String())
	}
	for {
		reached, ended, news := place.look(position.N)
		if ended {
			return fault.PositionNotReached(position.String(), "") // the view has begun anew
		}
		if reached {
			break
		}
		select {
		case <-news:
		case <-ctx.Done():
			return fault.PositionNotReached(position.String(), place.Position().String())
		}
	}
	if !place.had(position.ID) {
		return fault.PositionLost(position.String(), place.Position().String())
	}
	return nil
}
