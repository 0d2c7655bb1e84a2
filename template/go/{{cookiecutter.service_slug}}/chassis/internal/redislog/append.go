package redislog

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"factfold/chassis/internal/fault"
	"factfold/chassis/internal/wire"
)

const shuttingDown = "the service is shutting down"

// AppendOptions of an Appender.
type AppendOptions struct {
	Timeout      time.Duration // until an append that Redis does not answer is given up
	Limit        int           // facts that may wait; more are refused
	MaxFactBytes int
	Replicas     Replicas // that must have a fact before its append is answered
	// Alarm is told in one line what an operator must know. It must not call the Appender.
	Alarm func(string)
}

// Appender appends to one own stream: group commit, duplicate suppression, retries. Run must be
// running.
type Appender struct {
	stream  string
	options AppendOptions
	senders []*sender
	came    atomic.Int64 // appends so far

	mutex   sync.Mutex // guards what follows, and all lanes but for what only senders use
	lanes   []*lane
	waiting int
	closed  bool
	idle    chan struct{} // closed once nothing waits, after closed is set
}

// NewAppender appends to a stream, given the epoch of each of its partitions as found at start.
func NewAppender(redis *Redis, stream string, epochs []string, options AppendOptions) *Appender {
	a := &Appender{stream: stream, options: options, idle: make(chan struct{})}
	for partition, epoch := range epochs {
		a.lanes = append(a.lanes, newLane(Part{stream, partition, epoch}))
	}
	// One connection for all: a second one costs more than it brings. Partitions of a cluster come
	// and go one by one, so there each has its own.
	if !redis.Sharded() {
		a.senders = []*sender{newSender(a, redis, a.lanes)}
		return a
	}
	for _, each := range a.lanes {
		a.senders = append(a.senders, newSender(a, redis, []*lane{each}))
	}
	return a
}

// Memories are what it remembers, by partition; a reaction adds what it appends by itself.
func (a *Appender) Memories() []*Memory {
	found := make([]*Memory, len(a.lanes))
	for partition, each := range a.lanes {
		found[partition] = each.Memory
	}
	return found
}

// Append appends facts of one key, all or nothing, and returns the position of the last one.
// An error is a fault: of KindOutcomeUnknown if they were sent and no answer came; with all others
// nothing was appended. If ctx ends first, its error says nothing of what was appended.
func (a *Appender) Append(ctx context.Context, facts []NewFact) (wire.Position, error) {
	size, err := a.check(facts)
	if err != nil {
		return wire.Position{}, err
	}
	its := &unit{
		facts: facts, size: size, deadline: time.Now().Add(a.options.Timeout), done: make(chan outcome, 1),
	}
	if err := a.enter(its); err != nil {
		return wire.Position{}, err
	}
	select {
	case found := <-its.done:
		return found.position, found.err
	case <-ctx.Done():
		a.mutex.Lock()
		its.left = true
		a.mutex.Unlock()
		return wire.Position{}, ctx.Err()
	}
}

func (a *Appender) enter(its *unit) error {
	partition := wire.PartitionOf(its.facts[0].Key, len(a.lanes))
	a.mutex.Lock()
	defer a.mutex.Unlock()
	lane := a.lanes[partition]
	switch {
	case lane.dead != "":
		return fault.LogReplaced(a.stream, lane.dead)
	case a.closed:
		return fault.LogUnreachable(a.stream, shuttingDown)
	case a.waiting+len(its.facts) > a.options.Limit:
		return fault.QueueFull(a.stream, a.waiting)
	}
	a.came.Add(1)
	a.waiting += len(its.facts)
	lane.pending = append(lane.pending, its)
	a.senders[partition%len(a.senders)].wake()
	return nil
}

// check returns the size of all.
func (a *Appender) check(facts []NewFact) (int, error) {
	if len(facts) == 0 {
		return 0, fault.InvalidRequest("facts", "one append has at least one fact")
	}
	key := facts[0].Key
	if err := CheckKey(key); err != nil {
		return 0, err
	}
	total := 0
	for _, fact := range facts {
		if err := CheckSize(fact.Type, fact.Size(), a.options.MaxFactBytes); err != nil {
			return 0, err
		}
		if fact.Expected != nil {
			if err := CheckVersion(*fact.Expected); err != nil {
				return 0, err
			}
		}
		if fact.Key != key {
			return 0, fault.InvalidRequest("key", "the facts of one append must share their key")
		}
		total += fact.Size()
	}
	if len(facts) > MaxBatchFacts {
		return 0, fault.InvalidRequest("facts",
			fmt.Sprintf("one append takes at most %d facts", MaxBatchFacts))
	}
	if len(facts) > 1 && total > MaxBatchBytes {
		return 0, fault.InvalidRequest("facts", fmt.Sprintf(
			"the facts of one append have at most %d bytes, not %d", MaxBatchBytes, total))
	}
	return total, nil
}

// Run works until ctx ends, over any number of lost connections.
func (a *Appender) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, len(a.senders))
	for _, each := range a.senders {
		go func() { ended <- each.run(ctx) }()
	}
	var first error
	for range a.senders {
		if err := <-ended; first == nil {
			first = err
			cancel()
		}
	}
	return first
}

// Flush takes nothing more, waits until nothing waits or ctx ends, then gives up what is left.
func (a *Appender) Flush(ctx context.Context) {
	a.mutex.Lock()
	if !a.closed {
		a.closed = true
		a.forget(0)
	}
	a.mutex.Unlock()
	select {
	case <-a.idle:
	case <-ctx.Done():
	}
	for _, each := range a.senders {
		each.close(shuttingDown)
	}
}

// forget is told of facts that wait no more; a.mutex is held.
func (a *Appender) forget(facts int) {
	a.waiting -= facts
	if a.closed && a.waiting == 0 {
		select {
		case <-a.idle:
		default:
			close(a.idle)
		}
	}
}

// settle gives a unit its outcome, once; a.mutex is held.
func (a *Appender) settle(its *unit, found outcome) {
	if its.settled {
		return
	}
	its.settled = true
	its.done <- found
	a.forget(len(its.facts))
}
