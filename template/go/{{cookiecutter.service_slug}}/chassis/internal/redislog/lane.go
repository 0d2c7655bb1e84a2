package redislog

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"factfold/chassis/internal/fault"
	"factfold/chassis/internal/wire"
)

// Limits of one call of the append script.
const (
	MaxBatchFacts = 256
	MaxBatchBytes = 1 << 20
	// MaxVersion: above it, Lua's numbers round.
	MaxVersion = 1<<53 - 1

	inFlight = 5 // batches of a partition, as many as the log remembers of a producer
)

// NewFact is a fact on its way into the log.
type NewFact struct {
	Type, Key  string
	Meta, Data []byte
	Expected   *uint64 // the version that the key must be at; nil: any
}

// Size is what counts towards the limits of a batch.
func (f NewFact) Size() int { return len(f.Key) + len(f.Type) + len(f.Meta) + len(f.Data) + 32 }

// FactID is what FactMeta begins with.
func (f NewFact) FactID() string {
	if len(f.Meta) < 18 {
		return ""
	}
	return string(f.Meta[2:18])
}

// CheckKey refuses a key that no fact can have.
func CheckKey(key string) error {
	if len(key) < 1 || len(key) > wire.MaxKeyBytes {
		return fault.InvalidRequest("key", fmt.Sprintf("a key has 1 to %d bytes, this one %d",
			wire.MaxKeyBytes, len(key)))
	}
	if key == "_" {
		return fault.InvalidRequest("key",
			"'_' is no key: every hash in Redis has a field of this name")
	}
	if wire.CheckKey(key) != nil {
		return fault.InvalidRequest("key", "a key is text in UTF-8")
	}
	return nil
}

// CheckSize refuses a fact of this type that is too large.
func CheckSize(eventType string, size, most int) error {
	if size > most {
		return fault.InvalidRequest(eventType,
			fmt.Sprintf("a fact has at most %d bytes, not %d", most, size))
	}
	return nil
}

// CheckVersion refuses a version that no key can be at. The script would refuse the whole batch for
// it, with the facts of other callers.
func CheckVersion(expected uint64) error {
	if expected > MaxVersion {
		return fault.InvalidRequest("expected_version", fmt.Sprintf("must be from 0 to %d", MaxVersion))
	}
	return nil
}

// ListedVersions is what facts that follow each other expect, as the append script takes it.
func ListedVersions(facts []NewFact) string {
	texts, expected := make([]string, len(facts)), false
	for i, fact := range facts {
		if fact.Expected != nil {
			texts[i], expected = strconv.FormatUint(*fact.Expected, 10), true
		}
	}
	if !expected {
		return ""
	}
	return strings.Join(texts, ",")
}

// unit has the facts of one append call: all or nothing.
type unit struct {
	facts    []NewFact
	size     int
	deadline time.Time
	done     chan outcome // has room for its one outcome
	settled  bool
	left     bool // nobody waits any more
}

type outcome struct {
	position wire.Position
	err      error
}

// batch is sent as it is until its outcome is known: never regrouped, never renumbered.
type batch struct {
	sequence uint64
	units    []*unit
	command  []any
	sent     int
}

// lane is one partition: what waits, and the window of batches whose outcome is not known.
type lane struct {
	*Memory
	keys     []string
	producer string
	sequence uint64
	pending  []*unit
	window   []*batch
	// Of the window's batches, how many are on their way on the present connection; and whether all
	// have to go again, once none is.
	unanswered int
	resend     bool
	turn       int       // when it last had one, among all lanes
	answered   time.Time // when the last batch was
	dead       string    // why it takes no more appends
}

func newLane(part Part) *lane {
	l := &lane{Memory: NewMemory(part), keys: wire.KeysOf(part.Stream, part.Partition).Appending()}
	l.renewProducer()
	return l
}

func (l *lane) renewProducer() { l.producer, l.sequence = randomHex(16), 0 }

// next is what waits, as one more batch of the window; nil if nobody waits. gone is told of units
// whose callers have left: they are not sent.
func (l *lane) next(gone func(*unit)) *batch {
	units := l.take(gone)
	if len(units) == 0 {
		return nil
	}
	its := l.pack(units)
	l.window = append(l.window, its)
	return its
}

func (l *lane) take(gone func(*unit)) []*unit {
	var units []*unit
	facts, size := 0, 0
	for len(l.pending) > 0 {
		next := l.pending[0]
		if next.left {
			gone(next)
			l.pending = l.pending[1:]
			continue
		}
		facts += len(next.facts)
		size += next.size
		if len(units) > 0 && (facts > MaxBatchFacts || size > MaxBatchBytes) {
			break
		}
		units = append(units, next)
		l.pending = l.pending[1:]
	}
	return units
}

// pack gives units the next number of the present producer.
func (l *lane) pack(units []*unit) *batch {
	predecessor := l.sequence
	l.sequence++
	var facts []NewFact
	sizes := make([]string, len(units))
	for i, each := range units {
		facts = append(facts, each.facts...)
		sizes[i] = strconv.Itoa(len(each.facts))
	}
	listed := ""
	if len(facts) > len(units) {
		listed = strings.Join(sizes, ",")
	}
	args := make([]any, 0, 7+4*len(facts))
	args = append(args,
		l.Epoch, l.producer, "batch", l.sequence, predecessor, listed, ListedVersions(facts))
	for _, fact := range facts {
		args = append(args, fact.Type, fact.Key, fact.Meta, fact.Data)
	}
	return &batch{sequence: l.sequence, units: units, command: Command("append", l.keys, args...)}
}
