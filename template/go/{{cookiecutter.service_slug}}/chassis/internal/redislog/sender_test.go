package redislog

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"factfold/chassis/internal/fault"
)

// TestTheReplyToTheOldestBatchDecides has three appends, of one, two and one facts: the first two
// are one batch, the third is the batch behind it.
func TestTheReplyToTheOldestBatchDecides(t *testing.T) {
	const ok, waits = "", "waits"
	for name, each := range map[string]struct {
		reply    []any
		sent     int
		missing  string
		want     [3]any // ok, waits, or the kind of the error
		alarm    string
		renewed  bool // the producer
		deadLane bool
	}{
		"all are in the log": {
			reply: []any{"OK", "7", "1", int64(3), "", "", int64(0)}, sent: 1,
			want: [3]any{ok, ok, waits},
		},
		"one is in conflict": {
			reply: []any{"OK", "7", "1", int64(1), "1:4", "", int64(0)}, sent: 2,
			want: [3]any{ok, fault.KindVersionConflict, waits},
		},
		"an error cut a unit in the middle": {
			reply: []any{"OK", "7", "1", int64(2), "", "OOM", int64(0)}, sent: 1,
			want: [3]any{ok, fault.KindOutcomeUnknown, waits},
		},
		"an error came behind a unit": {
			reply: []any{"OK", "7", "1", int64(1), "", "OOM", int64(0)}, sent: 1,
			want: [3]any{ok, fault.KindLogUnreachable, waits},
		},
		"too few replicas": {
			reply: []any{"OK", "7", "1", int64(3), "", "", int64(0)}, sent: 1, missing: "0 of 1",
			want: [3]any{fault.KindOutcomeUnknown, fault.KindOutcomeUnknown, waits},
		},
		"what was acknowledged is forgotten": {
			reply: []any{"GAP", "3"}, sent: 1, want: [3]any{waits, waits, waits},
			alarm: "batch 4 was acknowledged, the last one there is 3", renewed: true,
		},
		"the log is ahead": {
			reply: []any{"GAP", "5"}, sent: 1, alarm: "was rolled back", renewed: true,
			want: [3]any{fault.KindOutcomeUnknown, fault.KindOutcomeUnknown, fault.KindOutcomeUnknown},
		},
		"all is forgotten of what was sent before": {
			reply: []any{"GAP", "0"}, sent: 2, alarm: "was rolled back", renewed: true,
			want: [3]any{fault.KindOutcomeUnknown, fault.KindOutcomeUnknown, fault.KindOutcomeUnknown},
		},
		"no memory": {
			reply: []any{"OOM", "x"}, sent: 1, renewed: true,
			want: [3]any{fault.KindLogFull, fault.KindLogFull, fault.KindLogFull},
		},
		"no memory, and it was sent before": {
			reply: []any{"OOM", "x"}, sent: 2, renewed: true,
			want: [3]any{fault.KindOutcomeUnknown, fault.KindOutcomeUnknown, fault.KindOutcomeUnknown},
		},
		"another error": {
			reply: []any{"ERROR", "x"}, sent: 1, renewed: true,
			want: [3]any{fault.KindLogUnreachable, fault.KindLogUnreachable, fault.KindLogUnreachable},
		},
		"another epoch": {
			reply: []any{"EPOCH", ""}, sent: 1, alarm: "is gone, now none", renewed: true, deadLane: true,
			want: [3]any{fault.KindLogReplaced, fault.KindLogReplaced, fault.KindLogReplaced},
		},
		"a foreign entry": {
			reply: []any{"FOREIGN", "x"}, sent: 1, alarm: "no appender wrote", renewed: true, deadLane: true,
			want: [3]any{fault.KindLogReplaced, fault.KindLogReplaced, fault.KindLogReplaced},
		},
	} {
		t.Run(name, func(t *testing.T) {
			alarm := ""
			appender := NewAppender(New(parsed(t, "redis://nowhere")), "orders", []string{"00c0ffee00c0ffee"},
				AppendOptions{Alarm: func(text string) { alarm = text }})
			lane, sender := appender.lanes[0], appender.senders[0]
			lane.sequence, lane.answered = 4, time.Now()
			units := []*unit{unitOf("a"), unitOf("b", "b"), unitOf("c")}
			lane.window = []*batch{lane.pack(units[:2]), lane.pack(units[2:])}
			for _, sent := range lane.window {
				sent.sent = each.sent
			}
			producer := lane.producer
			if err := sender.onReply(lane, lane.window[0], each.reply, each.missing); err != nil {
				t.Fatal(err)
			}
			for i, want := range each.want {
				if found := outcomeOf(units[i]); found != want {
					t.Errorf("append %d: %v, not %v", i, found, want)
				}
			}
			if each.alarm == "" && alarm != "" || !strings.Contains(alarm, each.alarm) {
				t.Errorf("the alarm is %q", alarm)
			}
			if (lane.producer != producer) != each.renewed || (lane.dead != "") != each.deadLane {
				t.Errorf("the producer is renewed: %v; closed: %q", lane.producer != producer, lane.dead)
			}
			if each.renewed && len(lane.window) == 2 && (lane.window[0].sequence != 1 || lane.window[0].sent != 0) {
				t.Errorf("the window goes on as %+v", lane.window[0])
			}
		})
	}
}

func unitOf(keys ...string) *unit {
	its := &unit{done: make(chan outcome, 1)}
	for _, key := range keys {
		its.facts = append(its.facts, fact(key, "x"))
		its.size += its.facts[0].Size()
	}
	return its
}

func outcomeOf(its *unit) any {
	select {
	case found := <-its.done:
		if found.err == nil {
			return ""
		}
		for _, kind := range []fault.Kind{
			fault.KindVersionConflict, fault.KindOutcomeUnknown, fault.KindLogUnreachable,
			fault.KindLogFull, fault.KindLogReplaced,
		} {
			if errors.Is(found.err, kind) {
				return kind
			}
		}
		return found.err
	default:
		return "waits"
	}
}

func TestABatchHasNoMoreThanItsLimits(t *testing.T) {
	appender := NewAppender(New(parsed(t, "redis://nowhere")), "orders", []string{"00c0ffee00c0ffee"}, AppendOptions{})
	lane := appender.lanes[0]
	large := unitOf("a")
	large.size = MaxBatchBytes
	lane.pending = []*unit{large, unitOf("b")}
	for range 5*MaxBatchFacts + 1 {
		lane.pending = append(lane.pending, unitOf("c"))
	}
	for range inFlight {
		lane.next(func(*unit) { t.Error("nobody has left") })
	}
	sizes := []int{}
	for _, each := range lane.window {
		sizes = append(sizes, len(each.units))
	}
	if !slices.Equal(sizes, []int{1, 256, 256, 256, 256}) || len(lane.pending) != 258 {
		t.Errorf("batches of %v, %d wait", sizes, len(lane.pending))
	}
	if command := lane.window[1].command; command[7+3] != uint64(2) || command[7+4] != uint64(1) {
		t.Errorf("the second one is %v", command[:14])
	}
}

func TestWhatIsRememberedIsBounded(t *testing.T) {
	for _, each := range []struct {
		name           string
		facts, apart   uint64 // of a batch; milliseconds between two
		batches, total int
	}{
		{"facts of a minute", 2, 1, 5000, 10_000},
		{"batches of a minute", 1, 100, 601, 601},
		{"batches in any case", 100, 1000, 256, 25_600},
	} {
		memory, n := NewMemory(Part{"orders", 0, "00c0ffee00c0ffee"}), uint64(0)
		for i := range uint64(7000) {
			memory.Remember(Acknowledged{i * each.apart, n + 1, n + each.facts, ""}, nil)
			n += each.facts
		}
		if len(memory.known) != each.batches || memory.facts != each.total {
			t.Errorf("%s: %d batches, %d facts", each.name, len(memory.known), memory.facts)
		}
	}
}
