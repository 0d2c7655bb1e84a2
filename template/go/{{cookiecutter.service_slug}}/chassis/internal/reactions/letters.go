package reactions

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	factfoldv1 "factfold/chassis/factfold/v1"
	"factfold/chassis/internal/wire"
)

// Between two tries of a letter, doubled from one to the next.
const (
	firstPause   = 200 * time.Millisecond
	longestPause = 30 * time.Second
)

const maxLetters = 1000 // of a partition; with so many it is paused

// newLetter is what a fact becomes that was not answered, or whose answer was not appended.
func newLetter(fact *wire.Fact, outcome *factfoldv1.Outcome, refusals []refused, attempts int) *factfoldv1.DeadLetter {
	letter := &factfoldv1.DeadLetter{
		EntryId: []byte(fact.Entry.ID.String()), State: factfoldv1.DeadLetter_HELD,
	}
	for _, each := range fact.Entry.Fields {
		letter.Fields = append(letter.Fields, []byte(each))
	}
	if outcome.Held {
		return letter
	}
	reason := outcome.Failure
	if reason == "" {
		reason = refusals[0].reason
	}
	fail(letter, reason, outcome.Hopeless || attempts == 1)
	rememberApplied(letter, outcome, refusals)
	return letter
}

func fail(letter *factfoldv1.DeadLetter, reason string, dead bool) {
	letter.Attempts++
	letter.Error = kept(reason)
	letter.FailedUnixNano = uint64(time.Now().UnixNano())
	letter.State = factfoldv1.DeadLetter_RETRYING
	if dead {
		letter.State = factfoldv1.DeadLetter_DEAD
	}
}

func rememberApplied(letter *factfoldv1.DeadLetter, outcome *factfoldv1.Outcome, refusals []refused) {
	for _, each := range outcome.Units {
		missing := func(r refused) bool { return r.place == place{each.Stream, int(each.Partition)} }
		if !slices.ContainsFunc(refusals, missing) {
			letter.Applied = append(letter.Applied,
				&factfoldv1.Place{Stream: each.Stream, Partition: each.Partition})
		}
	}
}

// factOf is the fact that a letter is about.
func factOf(g *group, letter *factfoldv1.DeadLetter) (*wire.Fact, error) {
	id, err := wire.ParseID(string(letter.EntryId))
	if err != nil {
		return nil, err
	}
	fields := make([]string, len(letter.Fields))
	for i, each := range letter.Fields {
		fields[i] = string(each)
	}
	return &wire.Fact{
		Stream: g.stream, Partition: g.partition, Epoch: g.epoch, Entry: wire.Entry{ID: id, Fields: fields},
	}, nil
}

// letters works off the dead letters of a partition as long as this instance owns it: each key with
// letters has a line of its own, which tries its first letter until it is gone, then the next one.
type letters struct {
	answers *answers
	group   *group
	tenure  *tenure
	pauses  pauses
	working *working

	mu    sync.Mutex
	lines map[string]*line
}

// line is the letters of one key. It does one thing after the other: tries, and requests.
type line struct {
	key   string
	asked chan asked
	ended chan struct{}
}

type asked struct {
	n       uint64
	discard bool
	request uint64
	done    chan struct{}
}

// pauses are those between two tries.
type pauses struct{ first, longest time.Duration }

// before is how long a letter waits; not ok: until somebody asks for it.
func (p pauses) before(letter *factfoldv1.DeadLetter) (pause time.Duration, ok bool) {
	switch {
	case letter.State == factfoldv1.DeadLetter_DEAD:
		return 0, false
	case letter.Attempts == 0 || letter.Outcome != nil:
		return 0, true
	}
	longest := min(p.longest, p.first<<min(letter.Attempts-1, 20))
	return time.Duration(float64(longest) * (0.5 + rand.Float64()/2)), true
}

func newLetters(ctx context.Context, a *answers, g *group, t *tenure, p pauses) *letters {
	return &letters{
		answers: a, group: g, tenure: t, pauses: p, working: sideBySide(ctx), lines: map[string]*line{},
	}
}

// run tries letters again, and does what the command line asks, until the letters are ended.
func (l *letters) run(requests <-chan []request) {
	l.changed()
	l.working.start(func(ctx context.Context) error { return l.carryOut(ctx, requests) })
}

// changed says that letters have come.
func (l *letters) changed() {
	for _, key := range l.tenure.held.keys() {
		l.lineOf(key)
	}
}

// lineOf is the line of a key, begun if there is none.
func (l *letters) lineOf(key string) *line {
	l.mu.Lock()
	defer l.mu.Unlock()
	if found := l.lines[key]; found != nil {
		return found
	}
	begun := &line{key: key, asked: make(chan asked), ended: make(chan struct{})}
	l.lines[key] = begun
	l.working.start(func(ctx context.Context) error { return l.workOff(ctx, begun) })
	return begun
}

// room waits while there are too many.
func (l *letters) room(ctx context.Context) error {
	said := false
	for {
		waiting := l.tenure.held.letters()
		if waiting < maxLetters {
			return nil
		}
		if !said {
			g := l.group
			l.answers.config.Alarm(fmt.Sprintf("reaction %s pauses on partition %d of stream %s: %d facts "+
				"are held back; mend what fails, then `factfold dead-letters list %s`",
				g.name, g.partition, g.stream, waiting, g.name))
			said = true
		}
		select {
		case <-l.tenure.held.room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (l *letters) workOff(ctx context.Context, its *line) error {
	for {
		n, ok := l.next(its)
		if !ok {
			return nil
		}
		due, err := l.due(ctx, n)
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case one := <-its.asked:
			if err := l.carryOutOne(ctx, its.key, one); err != nil {
				return err
			}
			close(one.done)
		case <-due:
			if err := l.try(ctx, its.key, n); err != nil {
				return err
			}
		}
	}
}

// next is the first letter of a line; without one the line is at its end.
func (l *letters) next(its *line) (n uint64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n, ok = l.tenure.held.first(its.key); !ok {
		delete(l.lines, its.key)
		close(its.ended)
	}
	return n, ok
}

// due tells when a letter is to be tried; nil: not before somebody asks for it. The letter is not
// kept meanwhile: it may carry a fact of 1 MiB.
func (l *letters) due(ctx context.Context, n uint64) (<-chan time.Time, error) {
	letter, err := l.tenure.letter(ctx, n)
	if err != nil {
		return nil, err
	}
	pause, tried := l.pauses.before(letter)
	if !tried {
		return nil, nil
	}
	return time.After(pause), nil
}

func (l *letters) try(ctx context.Context, key string, n uint64) error {
	letter, err := l.tenure.letter(ctx, n)
	if err != nil {
		return err
	}
	fact, err := factOf(l.group, letter)
	if err != nil {
		return fmt.Errorf("the dead letter %d: %w", n, err)
	}
	settled := letter.Outcome != nil
	units := unitsOf(n, letter.Outcome)
	if !settled {
		outcome, its, err := l.answers.one(ctx, fact, nil, letter.Attempts > 0)
		if err != nil {
			return err
		}
		if outcome.Failure != "" {
			return l.putOff(ctx, n, key, letter, outcome.Failure, outcome.Hopeless)
		}
		units = slices.DeleteFunc(its, func(u *unit) bool { return isApplied(letter, u) })
		letter.Outcome = outcomeOf(units)
		letter.Round++
	}
	refusals, err := l.appendLetter(ctx, n, key, letter, units, settled)
	endAll(units, err)
	if err != nil {
		return err
	}
	if len(refusals) > 0 {
		rememberApplied(letter, letter.Outcome, refusals)
		letter.Outcome = nil
		return l.putOff(ctx, n, key, letter, refusals[0].reason, false)
	}
	if err := l.tenure.change(ctx, n, key, nil); err != nil {
		return err
	}
	logger().Info(fmt.Sprintf("reaction %s has answered the fact at %s", l.group.name, fact.Position()))
	return nil
}

// appendLetter settles what a try has answered, unless it is, and appends it.
func (l *letters) appendLetter(
	ctx context.Context, n uint64, key string, letter *factfoldv1.DeadLetter, units []*unit, settled bool,
) ([]refused, error) {
	if len(units) > 0 && !settled {
		if err := l.tenure.change(ctx, n, key, letter); err != nil {
			return nil, err
		}
	}
	return l.tenure.append(ctx, units, letter, 0)
}

func isApplied(letter *factfoldv1.DeadLetter, its *unit) bool {
	return slices.ContainsFunc(letter.Applied, func(at *factfoldv1.Place) bool {
		return at.Stream == its.Stream && at.Partition == its.Partition
	})
}

func (l *letters) putOff(
	ctx context.Context, n uint64, key string, letter *factfoldv1.DeadLetter, reason string, hopeless bool,
) error {
	givenUp := hopeless || int(letter.Attempts)+1 >= l.answers.config.Settings.ReactionAttempts
	fail(letter, reason, givenUp)
	if err := l.tenure.change(ctx, n, key, letter); err != nil {
		return err
	}
	if givenUp {
		l.givenUp(n, letter)
	}
	return nil
}

// givenUp says that a letter waits for a person from now on.
func (l *letters) givenUp(n uint64, letter *factfoldv1.DeadLetter) {
	g := l.group
	l.answers.config.Telemetry.Count(
		"factfold.reaction.given_up", 1, "reaction", l.answers.config.Reaction.Name)
	logger().Error(fmt.Sprintf("reaction %s gives up on fact %d of %s/%d (tries: %d): %s; mend the cause, "+
		"then `factfold dead-letters redrive %s %s/%d:%d`",
		g.name, n, g.stream, g.partition, letter.Attempts, letter.Error, g.name, g.stream, g.partition, n))
}

// What the command line asks for.

// carryOut does one request after the other, as their sequences rise. A beat under way may name one
// again that is carried out.
func (l *letters) carryOut(ctx context.Context, requests <-chan []request) error {
	var last uint64
	for {
		var some []request
		select {
		case some = <-requests:
		case <-ctx.Done():
			return ctx.Err()
		}
		slices.SortFunc(some, func(a, b request) int { return cmp.Compare(a.sequence, b.sequence) })
		for _, each := range some {
			if each.sequence <= last {
				continue
			}
			if err := l.handOn(ctx, each); err != nil {
				return err
			}
			last = each.sequence
		}
	}
}

// handOn has a request carried out by the line of its letter, between two tries.
func (l *letters) handOn(ctx context.Context, its request) error {
	what, digits, _ := strings.Cut(its.what, ":")
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || what != "redrive" && what != "discard" {
		return l.tenure.forget(ctx, its.sequence)
	}
	for {
		key, ok := l.tenure.held.keyOf(n)
		if !ok {
			return l.tenure.forget(ctx, its.sequence)
		}
		line := l.lineOf(key)
		one := asked{n, what == "discard", its.sequence, make(chan struct{})}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-line.ended: // its last letter has gone this moment: this one, or it has a new line
			continue
		case line.asked <- one:
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-one.done:
			return nil
		}
	}
}

func (l *letters) carryOutOne(ctx context.Context, key string, its asked) error {
	if other, ok := l.tenure.held.keyOf(its.n); !ok || other != key {
		return l.tenure.forget(ctx, its.request)
	}
	letter, err := l.tenure.letter(ctx, its.n)
	if err != nil {
		return err
	}
	switch {
	case its.discard && letter.Outcome != nil:
		return l.tenure.forget(ctx, its.request) // its answer may be in the log in part
	case its.discard:
		if err := l.tenure.change(ctx, its.n, key, nil, its.request); err != nil {
			return err
		}
		logger().Warn(fmt.Sprintf("reaction %s: fact %s/%d:%d is discarded",
			l.group.name, l.group.stream, l.group.partition, its.n))
		return nil
	}
	letter.Attempts = 0
	letter.State = factfoldv1.DeadLetter_RETRYING
	return l.tenure.change(ctx, its.n, key, letter, its.request)
}
