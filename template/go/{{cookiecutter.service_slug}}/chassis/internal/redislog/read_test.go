package redislog

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"testing"
	"time"

	"factfold/chassis/internal/wire"
)

// reading is a stream with one partition and some facts, named 1, 2, 3…
type reading struct {
	*server
	epoch    string
	appender *Appender
	ids      []wire.ID
}

func startReading(t *testing.T, facts int) *reading {
	t.Helper()
	s := startServer(t)
	epochs := s.create("orders", 1)
	r := &reading{s, epochs[0], startAppender(t, s, "orders", epochs, nil), nil}
	r.append(facts)
	return r
}

func (r *reading) append(facts int) {
	r.t.Helper()
	for range facts {
		position, err := r.appender.Append(r.t.Context(), []NewFact{fact("a", fmt.Sprint(len(r.ids)+1))})
		if err != nil {
			r.t.Fatal(err)
		}
		r.ids = append(r.ids, position.ID)
	}
}

func (r *reading) log() string { return wire.KeysOf("orders", 0).Log() }

func (r *reading) reader(options Options) *Reader {
	return NewReader(r.redis(), "orders", 0, r.epoch, options)
}

// anchor is the nth fact, as a reader that has taken it knows it.
func (r *reading) anchor(n int) Anchor {
	entries, err := Entries(r.do("XRANGE", r.log(), r.ids[n-1].String(), r.ids[n-1].String()))
	if err != nil || len(entries) != 1 {
		r.t.Fatal(entries, err)
	}
	return Anchor{entries[0].ID, entries[0].FactID()}
}

// take pulls until so many facts have come, and returns their data.
func take(t *testing.T, next func() (Batch, error, bool), facts int) []string {
	t.Helper()
	var found []string
	for len(found) < facts {
		batch, err, _ := next()
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range batch.Entries {
			data, _ := entry.Field("data")
			found = append(found, data)
		}
		if batch.Anchor.ID != batch.Entries[len(batch.Entries)-1].ID || batch.Anchor.FactID == "" {
			t.Errorf("the anchor is %v", batch.Anchor)
		}
	}
	return found
}

func isNumbered(t *testing.T, found []string, first int) {
	t.Helper()
	for i, data := range found {
		if data != fmt.Sprint(first+i) {
			t.Errorf("fact %s comes where %d belongs", data, first+i)
		}
	}
}

func TestAReaderTakesAllFactsOnceAndInOrderOverLostConnections(t *testing.T) {
	r := startReading(t, 250)
	next, stop := iter.Pull2(r.reader(Options{Count: 30}).Batches(t.Context()))
	defer stop()
	isNumbered(t, take(t, next, 250), 1)
	r.kill()
	r.start()
	r.append(3)
	isNumbered(t, take(t, next, 3), 251)
}

func TestABlockedReaderWakesWithTheNextFactAndWithItsCaller(t *testing.T) {
	r := startReading(t, 1)
	ctx, cancel := context.WithCancel(t.Context())
	next, stop := iter.Pull2(r.reader(Options{}).Batches(ctx))
	defer stop()
	take(t, next, 1)
	time.AfterFunc(100*time.Millisecond, func() { r.append(1) })
	began := time.Now()
	isNumbered(t, take(t, next, 1), 2)
	if took := time.Since(began); took > time.Second {
		t.Errorf("it took %v", took)
	}
	time.AfterFunc(50*time.Millisecond, cancel)
	began = time.Now()
	if _, err, _ := next(); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("to stop took %v", took)
	}
}

func TestTheFirstBatchComesAtOnceIfAsked(t *testing.T) {
	r := startReading(t, 2)
	for batch, err := range r.reader(Options{Anchor: r.anchor(2), AtOnce: true}).Batches(t.Context()) {
		if err != nil || len(batch.Entries) != 0 || batch.Tail != 2 {
			t.Errorf("%v %v", batch, err)
		}
		break
	}
}

func TestAReaderFindsOutWhatHasHappenedToTheLog(t *testing.T) {
	for name, each := range map[string]struct {
		anchor int // facts that were read; there are 5
		do     func(*reading)
		want   Change
		says   string
	}{
		"it is gone": {2, func(r *reading) { r.do("FLUSHALL") }, Gone, "now it is gone"},
		"another epoch": {2, func(r *reading) {
			r.do("HSET", wire.KeysOf("orders", 0).Head(), "epoch", "ffffffffffffffff")
		}, Recreated, "now it is ffffffffffffffff"},
		"it ends before the anchor": {5, func(r *reading) {
			r.do("XDEL", r.log(), r.ids[4].String())
			r.do("HSET", wire.KeysOf("orders", 0).Head(), "n", 4)
		}, RolledBack, "it ends at fact 4, and fact 5 was read"},
		"another fact at the anchor": {3, func(r *reading) {
			r.do("XDEL", r.log(), r.ids[4].String(), r.ids[3].String(), r.ids[2].String())
			r.do("XTRIM", r.log(), "MAXLEN", 0)
			r.do("DEL", r.log())
			r.do("XADD", r.log(), r.ids[2].String(), "type", "t.T", "key", "a", "meta",
				string(fact("a", "x").Meta), "data", "x")
		}, RolledBack, "another fact stands at"},
		"the anchor is gone, older facts are not": {3, func(r *reading) {
			r.do("XDEL", r.log(), r.ids[2].String())
		}, RolledBack, "is gone, older ones are not"},
		"a fact in between is gone": {1, func(r *reading) {
			r.do("XDEL", r.log(), r.ids[2].String())
		}, Gap, "facts 3 to 3 were removed before they were read"},
		"facts behind the anchor were removed": {1, func(r *reading) {
			r.do("XTRIM", r.log(), "MINID", r.ids[3].String())
		}, Gap, "facts 2 to 3 were removed"},
		"facts behind the anchor were trimmed": {1, func(r *reading) {
			r.do("XTRIM", r.log(), "MINID", r.ids[3].String())
			r.do("HSET", wire.KeysOf("orders", 0).Head(), "trimmed", 3)
		}, Trimmed, "facts 2 to 3 were trimmed on purpose"},
		"the last fact is gone": {4, func(r *reading) {
			r.do("XDEL", r.log(), r.ids[4].String())
		}, Gap, "facts 5 to 5 were removed"},
		"an entry that no appender wrote": {2, func(r *reading) {
			r.do("XADD", r.log(), "9999999999999-7", "x", "y")
		}, Foreign, "no appender wrote the entry 9999999999999-7"},
	} {
		t.Run(name, func(t *testing.T) {
			r := startReading(t, 5)
			anchor := r.anchor(each.anchor)
			each.do(r)
			ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
			defer cancel()
			var changed *LogChanged
			for _, err := range r.reader(Options{Anchor: anchor}).Batches(ctx) {
				if err != nil && !errors.As(err, &changed) {
					t.Fatal(err)
				}
			}
			if changed == nil || changed.Kind != each.want || !strings.Contains(changed.Reason, each.says) {
				t.Errorf("%v", changed)
			}
		})
	}
}

func TestALogThatWasTrimmedUpToTheAnchorIsNoHarm(t *testing.T) {
	r := startReading(t, 5)
	anchor := r.anchor(3)
	r.do("XTRIM", r.log(), "MINID", r.ids[3].String())
	next, stop := iter.Pull2(r.reader(Options{Anchor: anchor}).Batches(t.Context()))
	defer stop()
	isNumbered(t, take(t, next, 2), 4)
}

func TestAChangeIsFoundWhileAReaderWaitsAtTheTail(t *testing.T) {
	r := startReading(t, 2)
	next, stop := iter.Pull2(r.reader(Options{}).Batches(t.Context()))
	defer stop()
	take(t, next, 2)
	r.do("FLUSHALL")
	_, err, _ := next()
	var changed *LogChanged
	if !errors.As(err, &changed) || changed.Kind != Gone {
		t.Errorf("%v", err)
	}
}
