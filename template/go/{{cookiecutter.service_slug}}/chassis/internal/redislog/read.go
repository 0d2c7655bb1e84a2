package redislog

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"factfold/chassis/internal/wire"
)

const (
	firstCount = 100     // facts of the first batch
	batchBytes = 4 << 20 // that later ones aim at
	// block is how long a read waits: one that is blocked is not woken when its key is deleted.
	block = 2 * time.Second
)

// Change is how a log differs from what was read before.
type Change int

// The kinds of changes.
const (
	Gap        Change = iota // facts that were not read yet have been removed
	Trimmed                  // the same, and somebody meant it
	Foreign                  // an entry stands there that no appender wrote
	RolledBack               // facts that were read are gone, or others stand in their place
	Recreated                // the partition has another epoch
	Gone                     // the partition is not there any more
)

// LogChanged says in one clause what the log says now, other than what was read before.
type LogChanged struct {
	Kind   Change
	Reason string
}

func (e *LogChanged) Error() string { return e.Reason }

// Broken tells whether reading from the start again would end the same way.
func (e *LogChanged) Broken() bool { return e.Advice() != "" }

// Advice is what an operator does about a broken log.
func (e *LogChanged) Advice() string {
	switch e.Kind {
	case Gap:
		return "restore the log from a backup and restart"
	case Trimmed:
		return "for a view, copy the *.snapshot files of an instance that has read them into " +
			"FACTFOLD_SNAPSHOT_DIR and restart"
	case Foreign:
		return "remove it with XDEL and restart"
	default:
		return ""
	}
}

func changed(kind Change, format string, args ...any) error {
	return &LogChanged{kind, fmt.Sprintf(format, args...)}
}

// missing says that facts are not in the log, and later ones are, or are counted.
type missing struct{ first, last uint64 }

func (e *missing) Error() string { return fmt.Sprintf("facts %d to %d are missing", e.first, e.last) }

// Anchor is the last fact taken from a partition; N = 0: none yet.
type Anchor struct {
	ID     wire.ID
	FactID string // 16 bytes; empty: not known, then only its presence is checked
}

// Batch has facts of one partition that follow each other.
type Batch struct {
	Entries []wire.Entry
	Anchor  Anchor // the last of them
	Tail    uint64 // n of the log's last fact, as last seen
	Size    int    // bytes that were read for them
}

// Options of a Reader; the zero value reads all.
type Options struct {
	Anchor Anchor // of the log with the Reader's epoch
	Count  int    // facts a batch has at most; 0: 1,000
	// AtOnce: the first batch of each connection comes as soon as the anchor has been compared with
	// the log, also if it is empty.
	AtOnce bool
	OnLoss func(reason string, attempt int) // told of each lost connection; nil: the first is logged
}

// Reader reads one partition: in order, without gaps, always from where it left off. Every read also
// asks for the anchor: a log that lost facts and grew again past the reader looks like a longer log
// otherwise.
type Reader struct {
	redis     *Redis
	stream    string
	partition int
	epoch     string
	keys      wire.Keys
	atOnce    bool
	onLoss    func(string, int)
	most      int

	anchor Anchor
	tail   uint64
	count  int
	due    uint64 // n up to which the next read must find facts
}

// NewReader reads the log of this epoch from the anchor on.
func NewReader(redis *Redis, stream string, partition int, epoch string, options Options) *Reader {
	most := options.Count
	if most == 0 {
		most = 1000
	}
	r := &Reader{
		redis: redis, stream: stream, partition: partition, epoch: epoch,
		keys: wire.KeysOf(stream, partition), atOnce: options.AtOnce, onLoss: options.OnLoss,
		most: most, anchor: options.Anchor, tail: options.Anchor.ID.N, count: min(firstCount, most),
	}
	if r.onLoss == nil {
		r.onLoss = r.sayLoss
	}
	return r
}

func (r *Reader) sayLoss(reason string, attempt int) {
	if attempt == 1 {
		logger().Warn(fmt.Sprintf("reading %s/%d: %s", r.stream, r.partition, reason))
	}
}

// Batches yields batches for ever, over any number of lost connections; the next read is in flight
// while the caller works on one. It ends with an error: a *LogChanged, or that of ctx.
func (r *Reader) Batches(ctx context.Context) iter.Seq2[Batch, error] {
	return func(yield func(Batch, error) bool) {
		backoff := Backoff{OnLoss: r.onLoss}
		for {
			err := r.session(ctx, func(batch Batch) bool {
				backoff.Reset()
				return yield(batch, nil)
			})
			if err == nil {
				return // the caller has left
			}
			if ctx.Err() == nil && Passing(err) {
				err = backoff.Pause(ctx, err)
			}
			if err != nil {
				yield(Batch{}, err)
				return
			}
		}
	}
}

// session reads on one connection; nil: yield has said that it is enough.
func (r *Reader) session(ctx context.Context, yield func(Batch) bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	link, err := r.redis.Link(ctx, r.keys.Log(), r.keys.Head())
	if err != nil {
		return err
	}
	defer link.Close()
	head, _, err := ReadHead(ctx, link, r.stream, r.partition)
	if err != nil {
		return err
	}
	if err := r.checkHead(head.Epoch, head.N); err != nil {
		return err
	}
	r.due = 0
	defer context.AfterFunc(ctx, link.Close)()
	connection := link.duplex()
	reading := r.ask(connection, r.anchor.ID, false)
	for blocking, atOnce := false, r.atOnce; ; atOnce = false {
		found := <-reading
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if found.err != nil {
			return found.err
		}
		entries, err := r.take(ctx, link, found, blocking)
		if gap := (*missing)(nil); errors.As(err, &gap) {
			return r.why(ctx, link, gap)
		}
		if err != nil {
			return err
		}
		blocking = len(entries) < r.count
		after := r.anchor
		if n := len(entries); n > 0 {
			r.count = max(1, min(r.most, n*batchBytes/(found.size+1)))
			after = Anchor{entries[n-1].ID, entries[n-1].FactID()}
		}
		reading = r.ask(connection, after.ID, blocking)
		r.anchor = after // not before: what is not handed on is read again
		if len(entries) > 0 || atOnce {
			if !yield(Batch{entries, r.anchor, r.tail, found.size}) {
				return nil
			}
		}
	}
}

// answer is what one read has found.
type answer struct {
	entries  []wire.Entry
	anchored []wire.Entry // the anchor, of a read that waits for what is behind it
	epoch    string
	n        uint64
	size     int // bytes of the entries
	err      error
}

// ask reads behind the anchor, in the background.
func (r *Reader) ask(connection *duplex, anchor wire.ID, blocking bool) <-chan answer {
	log, after := r.keys.Log(), anchor.String()
	commands := [][]any{{"XRANGE", log, after, "+", "COUNT", r.count + 1}}
	timeout := replyTimeout
	if blocking {
		commands = [][]any{
			{"XREAD", "COUNT", r.count, "BLOCK", block.Milliseconds(), "STREAMS", log, after},
			{"XRANGE", log, after, after},
		}
		timeout += block
	}
	commands = append(commands, []any{"HMGET", r.keys.Head(), "epoch", "n"})
	found := make(chan answer, 1)
	go func() {
		connection.within(timeout)
		err := connection.send(commands...)
		var its answer
		if err == nil {
			its, err = r.found(connection, blocking)
		}
		its.err = err
		found <- its
	}()
	return found
}

func (r *Reader) found(connection *duplex, blocking bool) (its answer, err error) {
	if blocking {
		if its.entries, its.size, err = connection.receiveStream(); err != nil {
			return its, err
		}
		its.anchored, _, err = connection.receiveEntries()
	} else {
		its.entries, its.size, err = connection.receiveEntries()
	}
	if err != nil {
		return its, err
	}
	head, err := connection.receive()
	if err != nil {
		return its, err
	}
	both := List(head)
	its.epoch = Text(both[0])
	its.n, _ = Number(both[1])
	return its, nil
}

// take is what has come behind the anchor, once it has been compared.
func (r *Reader) take(ctx context.Context, link *Link, found answer, blocking bool) ([]wire.Entry, error) {
	entries, anchored := found.entries, found.anchored
	if !blocking && len(entries) > 0 && entries[0].ID == r.anchor.ID {
		anchored, entries = entries[:1], entries[1:]
	}
	if err := r.checkHead(found.epoch, found.n); err != nil {
		return nil, err
	}
	if r.anchor.ID.N > 0 {
		if err := r.checkAnchor(ctx, link, anchored); err != nil {
			return nil, err
		}
	}
	if len(entries) > 0 {
		r.due = 0
		return entries, r.checkSequence(entries)
	}
	if r.due > r.anchor.ID.N {
		return nil, &missing{r.anchor.ID.N + 1, r.due}
	}
	// Counted already and not found: appended in between, or gone. The next read tells.
	r.due = r.tail
	return nil, nil
}

func (r *Reader) checkHead(epoch string, n uint64) error {
	switch {
	case epoch == "":
		return changed(Gone, "its epoch was %s, now it is gone", r.epoch)
	case epoch != r.epoch:
		return changed(Recreated, "its epoch was %s, now it is %s", r.epoch, epoch)
	case n < r.anchor.ID.N:
		return changed(RolledBack, "it ends at fact %d, and fact %d was read", n, r.anchor.ID.N)
	}
	r.tail = n
	return nil
}

func (r *Reader) checkAnchor(ctx context.Context, link *Link, anchored []wire.Entry) error {
	at := r.anchor.ID
	if len(anchored) > 0 {
		if r.anchor.FactID != "" && r.anchor.FactID != anchored[0].FactID() {
			return changed(RolledBack, "another fact stands at %s", at)
		}
		return nil
	}
	reply, err := link.Do(ctx, "XRANGE", r.keys.Log(), "-", "+", "COUNT", 1)
	if err != nil {
		return err
	}
	first, err := Entries(reply)
	if err != nil {
		return err
	}
	// Trimmed past the anchor: harmless unless facts are missing behind it.
	begins := r.tail + 1
	if len(first) > 0 {
		if begins = first[0].ID.N; begins <= at.N {
			return changed(RolledBack, "the fact at %s is gone, older ones are not", at)
		}
	}
	if begins > at.N+1 {
		return &missing{at.N + 1, begins - 1}
	}
	return nil
}

// checkSequence wants dense numbers up to the head's n, which was read after the entries.
func (r *Reader) checkSequence(entries []wire.Entry) error {
	expected := r.anchor.ID.N + 1
	for _, entry := range entries {
		n := entry.ID.N
		if n < expected || n > r.tail {
			return changed(Foreign, "no appender wrote the entry %s", entry.ID)
		}
		if n > expected {
			return &missing{expected, n - 1}
		}
		expected++
	}
	return nil
}

// why tells facts that were trimmed on purpose from those that are lost.
func (r *Reader) why(ctx context.Context, link *Link, gap *missing) error {
	trimmed, err := ReadTrimmed(ctx, link, r.keys)
	if err != nil {
		return err
	}
	if gap.last <= trimmed {
		return changed(Trimmed, "facts %d to %d were trimmed on purpose, and only a backup of the log "+
			"has them", gap.first, gap.last)
	}
	return changed(Gap, "facts %d to %d were removed before they were read", gap.first, gap.last)
}
