package reactions

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	factfoldv1 "factfold/chassis/factfold/v1"
	"factfold/chassis/internal/redislog"
	"factfold/chassis/internal/telemetry"
	"factfold/chassis/internal/wire"
)

const batchFacts = 100 // between two commits

// worker answers the facts of one partition whenever this instance owns it: settle, append, commit.
type worker struct {
	config    Config
	answers   *answers
	group     *group
	reads     *redislog.Redis // the log's
	ownership *ownership
	liveFrom  uint64 // facts up to there are of the past
	commits   int

	position redislog.Anchor // the last fact that is committed

	// For whoever looks from outside.
	committed, tail, since atomic.Uint64 // since: ms of the first fact of the batch under way, or of the position
}

func newWorker(config Config, a *answers, g *group, reads *redislog.Redis, head redislog.Head) *worker {
	w := &worker{
		config: config, answers: a, group: g, reads: reads, liveFrom: head.N,
		ownership: &ownership{partition: g.partition, group: g.state, redrive: g.redrive},
	}
	w.tail.Store(head.N)
	return w
}

// run works until the context ends. A *stopped or a *fault.WiringError says why going on cannot help.
func (w *worker) run(ctx context.Context) error {
	backoff := redislog.Backoff{OnLoss: w.sayLoss}
	var didNotFit *redislog.Anchor
	from, err := w.ownership.vacancy(ctx)
	for err == nil {
		commits := w.commits
		var fenced *fenced
		var changed *redislog.LogChanged
		var stopped *stopped
		switch err = w.own(ctx, from); {
		case ctx.Err() != nil:
			err = ctx.Err()
		case err == nil:
			from, err = w.ownership.vacancy(ctx)
		case errors.As(err, &fenced):
			logger().Info(fmt.Sprintf("%s: %s has the partition now", w, fenced.owner))
			from, err = w.ownership.vacancy(ctx)
		case errors.As(err, &changed) && changed.Kind == redislog.RolledBack &&
			(didNotFit == nil || *didNotFit != w.position):
			// The position is kept beside the log, and was rolled back with it.
			position := w.position
			didNotFit = &position
			w.config.Alarm(fmt.Sprintf("%s: %s; going on from what is there", w, changed))
			from, err = ours, nil
		case errors.As(err, &changed):
			err = w.located(changed)
		case errors.As(err, &stopped):
			err = w.located(stopped)
		case redislog.Passing(err):
			if w.commits > commits {
				backoff.Reset()
			}
			from, err = ours, backoff.Pause(ctx, err)
		}
	}
	return err
}

// lag is how far behind the log's end it is; not ok: somebody else owns the partition.
func (w *worker) lag() (found telemetry.Lag, ok bool) {
	behind := uint64(0)
	if tail, committed := w.tail.Load(), w.committed.Load(); tail > committed {
		behind = tail - committed
	}
	return telemetry.LagOf(w.group.stream, w.group.partition, behind, w.since.Load()),
		w.ownership.held() != nil
}

func (w *worker) String() string {
	return fmt.Sprintf("%s, partition %d of stream %s", w.group.name, w.group.partition, w.group.stream)
}

func (w *worker) located(err error) error {
	return stop("stream %s, partition %d: %s", w.group.stream, w.group.partition, err)
}

func (w *worker) at(position redislog.Anchor) {
	w.position = position
	w.committed.Store(position.ID.N)
	w.since.Store(position.ID.Ms)
}

// own claims the partition, and works until another member is to have it.
func (w *worker) own(ctx context.Context, from seen) error {
	tenure, err := take(ctx, w.config, w.group, from)
	if err != nil {
		return err
	}
	defer tenure.release(ctx, w.config.Redis)
	claim := w.ownership.begin(tenure.token)
	defer w.ownership.end()
	if err := w.lookBack(ctx, tenure); err != nil {
		return err
	}
	// The batch under way may end, on the connection that the letters share: so they go on until
	// then. And the beats do, or another member takes it for abandoned.
	letters := newLetters(context.WithoutCancel(ctx), w.answers, w.group, tenure, w.config.pauses)
	letters.run(claim.requests)
	defer letters.working.end()
	batches := sideBySide(ctx)
	batches.start(func(ctx context.Context) error { return w.workOff(ctx, tenure, letters) })
	defer batches.end()
	select {
	case <-batches.ctx.Done():
		return context.Cause(batches.ctx)
	case <-letters.working.ctx.Done():
		return context.Cause(letters.working.ctx)
	case <-claim.unwanted:
		return nil
	}
}

// lookBack tells facts that were answered from others with their numbers.
//
// A failover may roll back the log, and with it what is settled, and leave the outputs, which are on
// other servers. What stood in the log before was appended earlier than what comes now.
func (w *worker) lookBack(ctx context.Context, tenure *tenure) error {
	last, ms, ahead, err := tenure.ahead(ctx)
	if err != nil || !ahead {
		return err
	}
	answered := tenure.settled
	keys := w.group.keys
	link, err := w.reads.Link(ctx, keys.Log(), keys.Head())
	if err != nil {
		return err
	}
	defer link.Close()
	begin, count := tenure.anchor.ID, last-tenure.anchor.ID.N+1
	reply, err := link.Do(ctx, "XRANGE", keys.Log(), begin.String(), "+", "COUNT", count)
	if err != nil {
		return err
	}
	entries, err := redislog.Entries(reply)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.ID.N <= last && entry.ID.Ms <= ms {
			answered = max(answered, entry.ID.N)
		}
	}
	w.config.Alarm(fmt.Sprintf("%s: it was rolled back, and what the reaction appended was not: facts up "+
		"to %d had been answered, and %d is the last one that is known to be; those up to %d are not "+
		"answered again, what was appended for lost ones stays", w, last, tenure.settled, answered))
	return tenure.renew(ctx, answered, randomHex())
}

func (w *worker) workOff(ctx context.Context, tenure *tenure, letters *letters) error {
	g := w.group
	w.at(tenure.anchor)
	reader := redislog.NewReader(w.reads, g.stream, g.partition, g.epoch, redislog.Options{
		Anchor: tenure.anchor, Count: batchFacts, OnLoss: w.sayLoss,
	})
	for batch, err := range reader.Batches(ctx) {
		if err != nil {
			return err
		}
		w.tail.Store(batch.Tail)
		w.since.Store(batch.Entries[0].ID.Ms)
		if err := letters.room(ctx); err != nil {
			return err
		}
		if err := w.undisturbed(ctx, tenure, batch, letters); err != nil {
			return err
		}
		w.at(batch.Anchor)
		w.commits++
		letters.changed()
	}
	return ctx.Err()
}

// undisturbed lets the batch under way end before this instance stops.
func (w *worker) undisturbed(ctx context.Context, tenure *tenure, batch redislog.Batch, letters *letters) error {
	working, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(replyTimeout, cancel) })()
	err := w.work(working, tenure, batch, letters)
	if err != nil && ctx.Err() != nil {
		logger().Warn(fmt.Sprintf("%s: batch not committed: %s", w, err))
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// worked is what becomes of a batch's facts, by n.
type worked struct {
	facts    map[uint64]*wire.Fact
	outcomes map[uint64]*factfoldv1.Outcome
	refusals map[uint64][]refused
}

func (w *worker) work(ctx context.Context, tenure *tenure, batch redislog.Batch, letters *letters) error {
	its := worked{
		map[uint64]*wire.Fact{}, map[uint64]*factfoldv1.Outcome{}, map[uint64][]refused{},
	}
	var fresh []*wire.Fact
	for _, entry := range batch.Entries {
		fact := &wire.Fact{
			Stream: w.group.stream, Partition: w.group.partition, Epoch: w.group.epoch, Entry: entry,
		}
		its.facts[entry.ID.N] = fact
		if entry.ID.N > tenure.settled {
			fresh = append(fresh, fact)
		}
	}
	settled, blocked, err := its.carriedOver(tenure, batch.Anchor.ID.N)
	if err != nil {
		return err
	}
	replay := len(fresh) > 0 && fresh[0].Entry.ID.N <= w.liveFrom
	answered, units, err := w.answers.batch(ctx, fresh, blocked, replay)
	if err != nil {
		return err
	}
	err = its.carryOut(ctx, tenure, batch.Anchor.ID, answered, append(settled, units...))
	endAll(units, err)
	if err != nil {
		return err
	}
	return w.commit(ctx, tenure, batch.Anchor, its, letters)
}

// carriedOver takes over what is settled of these facts and not committed: units, and the keys that
// are held back, also by what was before them.
func (its worked) carriedOver(tenure *tenure, last uint64) (units []*unit, blocked map[string]bool, err error) {
	blocked = map[string]bool{}
	for _, key := range tenure.held.keys() {
		blocked[key] = true
	}
	for n, outcome := range tenure.outcomes {
		if n > last {
			continue
		}
		fact := its.facts[n]
		if fact == nil {
			return nil, nil, stop("fact %d is settled and not committed, and the position is behind it", n)
		}
		its.outcomes[n] = outcome
		units = append(units, unitsOf(n, outcome)...)
		if outcome.Failure != "" || outcome.Held {
			blocked[fact.RawKey()] = true
		}
	}
	return units, blocked, nil
}

// carryOut settles what was answered, and appends it with what was settled before.
func (its worked) carryOut(
	ctx context.Context, tenure *tenure, last wire.ID, answered map[uint64]*factfoldv1.Outcome, units []*unit,
) error {
	if len(answered) > 0 {
		if err := tenure.settle(ctx, last.N, answered); err != nil {
			return err
		}
	}
	maps.Copy(its.outcomes, answered)
	slices.SortFunc(units, func(a, b *unit) int { return cmp.Compare(a.n, b.n) })
	refusals, err := tenure.append(ctx, units, nil, last.Ms)
	for _, each := range refusals {
		its.refusals[each.n] = append(its.refusals[each.n], each)
	}
	return err
}

func (w *worker) commit(
	ctx context.Context, tenure *tenure, after redislog.Anchor, its worked, letters *letters,
) error {
	var aside []letterAt
	var done []uint64
	for _, n := range ascending(its.outcomes) {
		outcome, fact, refusals := its.outcomes[n], its.facts[n], its.refusals[n]
		unanswered := outcome.Failure != "" || outcome.Held
		if unanswered || len(refusals) > 0 {
			letter := newLetter(fact, outcome, refusals, w.config.Settings.ReactionAttempts)
			aside = append(aside, letterAt{n, fact.RawKey(), letter})
		}
		if unanswered || len(outcome.Units) > 0 {
			done = append(done, n)
		}
	}
	if err := tenure.commit(ctx, after, aside, done); err != nil {
		return err
	}
	for _, each := range aside {
		if each.letter.State == factfoldv1.DeadLetter_DEAD {
			letters.givenUp(each.n, each.letter)
		}
	}
	for n := range its.outcomes {
		delete(tenure.outcomes, n)
	}
	return nil
}

func (w *worker) sayLoss(reason string, attempt int) {
	if attempt == 1 {
		logger().Warn(fmt.Sprintf("%s: %s", w, reason))
	}
}

func randomHex() string {
	var bytes [8]byte
	_, _ = rand.Read(bytes[:]) // it never fails
	return hex.EncodeToString(bytes[:])
}
