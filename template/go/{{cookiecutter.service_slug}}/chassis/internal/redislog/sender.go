package redislog

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"factfold/chassis/internal/fault"
	"factfold/chassis/internal/wire"
)

const (
	sweepEvery = 50 * time.Millisecond // between two looks for appends that have waited too long
	// Redis works on some batches while this process prepares the next one. With more under way,
	// appends of few callers would go in many small batches, which cost both sides more than few
	// large ones.
	ahead, enough = 6, 8
	// idleProducer: after seven days the script may have dropped a producer.
	idleProducer = 6 * 24 * time.Hour
)

// sender is one connection of the append path: the batches of its lanes, partitions of one server,
// go out, and replies come back.
type sender struct {
	appender *Appender
	redis    *Redis
	lanes    []*lane
	woken    chan struct{}

	// With appender.mutex held.
	link       *Link
	lost       string // why there is no connection; empty if there is one
	unanswered []*sending
	turn       int
}

// sending is a batch on its way. Its reply means nothing once it is detached.
type sending struct {
	*batch
	lane     *lane
	again    bool
	detached bool
}

func newSender(appender *Appender, redis *Redis, lanes []*lane) *sender {
	return &sender{
		appender: appender, redis: redis, lanes: lanes, woken: make(chan struct{}, 1),
		lost: "not connected yet",
	}
}

func (s *sender) wake() {
	select {
	case s.woken <- struct{}{}:
	default:
	}
}

func (s *sender) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	swept := make(chan struct{})
	go func() {
		defer close(swept)
		s.sweep(ctx)
	}()
	err := Persist(ctx, s.onLoss, s.session)
	cancel()
	<-swept
	return err
}

func (s *sender) onLoss(reason string, attempt int) {
	s.appender.mutex.Lock()
	s.lost = reason
	s.appender.mutex.Unlock()
	if attempt == 1 {
		logger().Warn(fmt.Sprintf("connection to the log of %s lost: %s", s.appender.stream, reason))
	}
}

// session works on one connection.
func (s *sender) session(ctx context.Context) error {
	// Those of all lanes, if they share a connection, are on one server in any case.
	link, err := s.redis.Link(ctx, s.lanes[0].keys...)
	if err != nil {
		return err
	}
	defer link.Close()
	if err := link.Load(ctx, "append"); err != nil {
		return err
	}
	for _, each := range s.lanes {
		if err := each.Compare(ctx, link, s.appender.options.Alarm); err != nil {
			return err
		}
	}
	s.begin(link)
	ctx, cancel := context.WithCancel(ctx)
	defer context.AfterFunc(ctx, link.Close)()
	connection := link.duplex()
	ended := make(chan error, 1)
	go func() {
		ended <- s.read(connection)
		cancel() // whoever writes is not to wait
	}()
	err = s.write(ctx, connection)
	cancel()
	link.Close()
	// What ended the reading is why the writing had no use, unless that failed by itself.
	if reading := <-ended; errors.Is(err, context.Canceled) {
		err = reading
	}
	return err
}

func (s *sender) begin(link *Link) {
	s.appender.mutex.Lock()
	defer s.appender.mutex.Unlock()
	s.link, s.lost, s.unanswered = link, "", nil
	for _, each := range s.lanes {
		each.unanswered, each.resend = 0, true
	}
	s.wake()
}

func (s *sender) write(ctx context.Context, connection *duplex) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.woken:
		}
		s.letCome()
		// Each by itself: Redis answers a batch while the next one is still on its way.
		for _, each := range s.gather() {
			if err := connection.send(append([][]any{each.command}, s.confirming(each)...)...); err != nil {
				return err
			}
		}
	}
}

// letCome waits until nobody comes any more who is as good as here, or a batch is full: appends that
// are made at the same time go as one, which costs both sides less than many.
func (s *sender) letCome() {
	began := s.appender.came.Load()
	for quiet, seen := 0, began; quiet < 10 && seen-began < MaxBatchFacts; quiet++ {
		runtime.Gosched()
		if now := s.appender.came.Load(); now != seen {
			quiet, seen = 0, now
		}
	}
}

// gather is what is to be sent now: windows whose outcome an older connection did not bring, as they
// were, and what waits.
func (s *sender) gather() []*sending {
	s.appender.mutex.Lock()
	defer s.appender.mutex.Unlock()
	var group []*sending
	add := func(its *lane, batches ...*batch) {
		for _, each := range batches {
			each.sent++
			its.unanswered++
			group = append(group, &sending{batch: each, lane: its, again: each.sent > 1})
		}
	}
	lanes := slices.Clone(s.lanes)
	slices.SortStableFunc(lanes, func(a, b *lane) int { return a.turn - b.turn })
	for _, each := range lanes {
		if each.resend {
			if each.unanswered > 0 {
				continue
			}
			each.resend = false
			add(each, each.window...)
		}
		for len(each.window) < inFlight {
			if len(s.unanswered)+len(group) >= ahead && len(each.pending) < enough {
				break
			}
			next := each.next(func(gone *unit) { s.appender.settle(gone, outcome{err: context.Canceled}) })
			if next == nil {
				break
			}
			s.turn++
			each.turn = s.turn
			add(each, next)
		}
	}
	s.unanswered = append(s.unanswered, group...)
	return group
}

// confirming is what makes replicas confirm a batch.
func (s *sender) confirming(each *sending) [][]any {
	replicas := s.appender.options.Replicas
	if !replicas.Wanted() {
		return nil
	}
	if each.again {
		// It may be known already: then nothing is written on this connection, and Redis would
		// confirm that.
		return [][]any{{"HSET", each.lane.keys[2], "_", "1"}, replicas.Command()}
	}
	return [][]any{replicas.Command()}
}

func (s *sender) read(connection *duplex) error {
	for {
		reply, err := connection.receive()
		if err != nil {
			return err
		}
		oldest, err := s.oldest()
		if err != nil {
			return err
		}
		var confirmed any
		for range s.confirming(oldest) {
			if confirmed, err = connection.receive(); err != nil {
				return err
			}
		}
		if err := s.answer(oldest, reply, confirmed); err != nil {
			return err
		}
		s.wake() // what waits in any lane may go now
	}
}

func (s *sender) oldest() (*sending, error) {
	s.appender.mutex.Lock()
	defer s.appender.mutex.Unlock()
	if len(s.unanswered) == 0 {
		return nil, &LinkLost{Reason: "not Redis' protocol: a reply to nothing"}
	}
	return s.unanswered[0], nil
}

func (s *sender) answer(its *sending, reply, confirmed any) error {
	s.appender.mutex.Lock()
	defer s.appender.mutex.Unlock()
	s.unanswered = s.unanswered[1:]
	if its.detached {
		return nil
	}
	lane := its.lane
	lane.unanswered--
	if len(lane.window) == 0 || lane.window[0] != its.batch || lane.resend {
		return nil
	}
	missing := ""
	if replicas := s.appender.options.Replicas; replicas.Wanted() {
		missing = replicas.Missing(confirmed)
	}
	return s.onReply(lane, its.batch, List(reply), missing)
}

// detach: replies to batches that are no longer in the window mean nothing.
func (s *sender) detach(its *lane) {
	for _, each := range s.unanswered {
		if each.lane == its {
			each.detached = true
		}
	}
	its.unanswered = 0
}

// onReply acts on the reply to the window's oldest batch.
func (s *sender) onReply(its *lane, oldest *batch, reply []any, missing string) error {
	stream := s.appender.stream
	if len(reply) < 2 {
		return &LinkLost{Reason: fmt.Sprintf("the script append has answered %v", reply)}
	}
	text := Text(reply[1])
	switch Text(reply[0]) {
	case "OK":
		result, err := AppendedOf(reply)
		if err != nil {
			return err
		}
		its.window = its.window[1:]
		its.answered = time.Now()
		s.settle(its, oldest, result, missing)
	case "GAP":
		last, err := Number(reply[1])
		if err != nil {
			return err
		}
		s.onGap(its, oldest, last)
	case "EPOCH":
		if text == "" {
			text = "none"
		}
		s.shut(its, fmt.Sprintf("epoch %s is gone, now %s", its.Epoch, text))
	case "FOREIGN":
		s.shut(its, "it has entries that no appender wrote: "+text)
	case "OOM":
		s.refuse(its, fault.LogFull(stream))
	default:
		if strings.Contains(text, "READONLY") { // this server follows another one, which takes appends
			return &LinkLost{Reason: text}
		}
		s.refuse(its, fault.LogUnreachable(stream, text))
	}
	return nil
}

// onGap: the log has forgotten what it acknowledged.
func (s *sender) onGap(its *lane, oldest *batch, last uint64) {
	if !its.answered.IsZero() && time.Since(its.answered) < idleProducer {
		s.appender.options.Alarm(fmt.Sprintf("the log of stream %s, partition %d, was rolled back: "+
			"batch %d was acknowledged, the last one there is %d; compare it with a replica or a backup",
			s.appender.stream, its.Partition, oldest.sequence-1, last))
	}
	if last >= oldest.sequence || oldest.sent > 1 && last == 0 {
		// This batch may have been forgotten too, and its facts not.
		s.giveUp(its, "the log has forgotten its batches")
		return
	}
	its.renewProducer()
	s.detach(its)
	for i, each := range its.window {
		its.window[i] = its.pack(each.units)
	}
	its.resend = true
}

// settle gives each unit of a batch its position or its error.
func (s *sender) settle(its *lane, answered *batch, result Appended, missing string) {
	stream := s.appender.stream
	n := result.First - 1
	end := n + result.Facts
	var last *unit
	for i, each := range answered.units {
		fail := func(err error) { s.appender.settle(each, outcome{err: err}) }
		if actual, conflict := result.Actual[i]; conflict {
			expected := uint64(0)
			if each.facts[0].Expected != nil {
				expected = *each.facts[0].Expected
			}
			fail(&fault.VersionConflict{
				Stream: stream, Key: each.facts[0].Key, Expected: expected, Actual: actual,
			})
			continue
		}
		begin := n
		n += uint64(len(each.facts))
		switch {
		case n <= end && missing != "":
			last = each
			fail(fault.OutcomeUnknown(stream, "it is in the log, but "+missing))
		case n <= end:
			last = each
			s.appender.settle(each, outcome{position: wire.Position{
				Stream: stream, Partition: its.Partition, Epoch: its.Epoch,
				ID: wire.ID{Ms: result.Ms, N: n},
			}})
		case begin < end:
			fail(fault.OutcomeUnknown(stream, fmt.Sprintf("only %d of its %d facts are in the log: %s",
				end-begin, len(each.facts), result.Failure)))
		default:
			fail(fault.LogUnreachable(stream, result.Failure))
		}
	}
	if last != nil && missing == "" {
		id := ""
		if n == end {
			id = last.facts[len(last.facts)-1].FactID()
		}
		its.Remember(Acknowledged{result.Ms, result.First, end, id}, s.link)
	}
}

// Giving up. A window fails as a whole, and its producer with it: what an old connection may still
// deliver is then not taken for a batch of the new producer.

func (s *sender) sweep(ctx context.Context) {
	for sleep(ctx, sweepEvery) == nil {
		s.giveUpLate(time.Now())
	}
}

func (s *sender) giveUpLate(now time.Time) {
	s.appender.mutex.Lock()
	defer s.appender.mutex.Unlock()
	late := fmt.Sprintf("no reply within %g s", s.appender.options.Timeout.Seconds())
	for _, each := range s.lanes {
		if len(each.window) > 0 && each.window[0].units[0].deadline.Before(now) {
			reason := s.lost
			if reason == "" {
				reason = late
			}
			s.giveUp(each, reason)
			if s.link != nil {
				_ = s.link.lose(late)
			}
		}
		for len(each.pending) > 0 && each.pending[0].deadline.Before(now) {
			reason := s.lost
			if reason == "" {
				reason = "it is busy"
			}
			s.appender.settle(each.pending[0], outcome{err: fault.LogUnreachable(s.appender.stream, reason)})
			each.pending = each.pending[1:]
		}
	}
}

func (s *sender) giveUp(its *lane, reason string) {
	unknown := fault.OutcomeUnknown(s.appender.stream, reason)
	notSent := fault.LogUnreachable(s.appender.stream, reason)
	s.failWindow(its, func(each *batch) error {
		if each.sent > 0 {
			return unknown
		}
		return notSent
	})
}

// refuse: Redis has refused the window's first batch, so it and its followers are not in the log.
// Unless it was sent before, on a connection that may still deliver it ahead of them.
func (s *sender) refuse(its *lane, err *fault.Refusal) {
	if its.window[0].sent > 1 {
		err = fault.OutcomeUnknown(s.appender.stream, err.Message)
	}
	s.failWindow(its, func(*batch) error { return err })
}

// shut: nothing more is appended to this partition until an operator has looked.
func (s *sender) shut(its *lane, reason string) {
	its.dead = reason
	err := fault.LogReplaced(s.appender.stream, reason)
	s.appender.options.Alarm(err.Message)
	s.failWindow(its, func(*batch) error { return err })
	s.failPending(its, err)
}

// close gives up all that is left.
func (s *sender) close(reason string) {
	s.appender.mutex.Lock()
	defer s.appender.mutex.Unlock()
	for _, each := range s.lanes {
		s.giveUp(each, reason)
		s.failPending(each, fault.LogUnreachable(s.appender.stream, reason))
	}
}

func (s *sender) failWindow(its *lane, why func(*batch) error) {
	for _, each := range its.window {
		for _, waiting := range each.units {
			s.appender.settle(waiting, outcome{err: why(each)})
		}
	}
	its.window = nil
	s.detach(its)
	its.renewProducer()
}

func (s *sender) failPending(its *lane, err error) {
	for _, each := range its.pending {
		s.appender.settle(each, outcome{err: err})
	}
	its.pending = nil
}
