package redislog

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"factfold/chassis/internal/fault"
	"factfold/chassis/internal/wire"
)

// startWindow has a lane with one batch on its way, of appends with so many facts each.
func startWindow(t *testing.T, options AppendOptions, facts ...int) (*sender, *lane, []*unit) {
	t.Helper()
	appender := NewAppender(New(parsed(t, "redis://nowhere")), "orders", []string{"00c0ffee00c0ffee"}, options)
	sender, lane := appender.senders[0], appender.lanes[0]
	var units []*unit
	for _, count := range facts {
		units = append(units, unitOf(slices.Repeat([]string{"a"}, count)...))
	}
	lane.pending = slices.Clone(units)
	if group := sender.gather(); len(group) != 1 || group[0].again {
		t.Fatalf("%v is on its way", group)
	}
	return sender, lane, units
}

func TestEachUnitOfABatchGetsItsOwnPosition(t *testing.T) {
	sender, lane, units := startWindow(t, AppendOptions{}, 1, 3, 1)
	err := sender.onReply(lane, lane.window[0], []any{"OK", "7", "11", int64(5), "", "", int64(0)}, "")
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []uint64{11, 14, 15} {
		if found := <-units[i].done; found.err != nil || found.position.ID != (wire.ID{Ms: 7, N: want}) {
			t.Errorf("append %d: %v %v", i, found.position, found.err)
		}
	}
}

func TestAProducerThatWasIdleForDaysIsForgottenWithoutAnAlarm(t *testing.T) {
	for name, each := range map[string]struct {
		answered time.Time
		alarms   int
	}{
		"it never was answered": {time.Time{}, 0},
		"a week ago":            {time.Now().Add(-7 * 24 * time.Hour), 0},
		"five days ago":         {time.Now().Add(-5 * 24 * time.Hour), 1},
	} {
		t.Run(name, func(t *testing.T) {
			said := newAlarms()
			sender, lane, units := startWindow(t, AppendOptions{Alarm: said.tell}, 1)
			lane.answered = each.answered
			if err := sender.onReply(lane, lane.window[0], []any{"GAP", "0"}, ""); err != nil {
				t.Fatal(err)
			}
			if len(said.said) != each.alarms {
				t.Errorf("%d alarms", len(said.said))
			}
			if outcomeOf(units[0]) != "waits" || !lane.resend {
				t.Error("it does not go on with a new producer")
			}
		})
	}
}

func TestRepliesToAFormerProducerMeanNothing(t *testing.T) {
	sender, lane, units := startWindow(t, AppendOptions{}, 1)
	former := sender.unanswered[0]
	sender.giveUp(lane, "too late")
	if found := outcomeOf(units[0]); found == "" || found == "waits" {
		t.Fatalf("%v", found)
	}
	next := unitOf("b")
	lane.pending = []*unit{next}
	sender.gather()
	if err := sender.answer(former, []any{"OK", "7", "1", int64(1), "", "", int64(0)}, nil); err != nil {
		t.Fatal(err)
	}
	if outcomeOf(next) != "waits" || lane.unanswered != 1 {
		t.Errorf("%d of the new producer's are on their way", lane.unanswered)
	}
}

func TestAnAppendThatAFollowerRefusesIsSentAgain(t *testing.T) {
	sender, lane, units := startWindow(t, AppendOptions{}, 1)
	err := sender.onReply(lane, lane.window[0], []any{"ERROR", "READONLY You can't write"}, "")
	if !errors.Is(err, ErrLost) || len(lane.window) != 1 || outcomeOf(units[0]) != "waits" {
		t.Errorf("%v, the window has %d", err, len(lane.window))
	}
}

func TestWhatIsSentAgainIsConfirmedByAWrite(t *testing.T) {
	sender, lane, _ := startWindow(t, AppendOptions{Replicas: ReplicasWithin(1, time.Second)}, 1)
	names := func(each *sending) (found []any) {
		for _, command := range sender.confirming(each) {
			found = append(found, command[0])
		}
		return found
	}
	if found := names(sender.unanswered[0]); !slices.Equal(found, []any{"WAIT"}) {
		t.Errorf("at first comes %v", found)
	}
	lane.unanswered, lane.resend = 0, true
	if found := names(sender.gather()[0]); !slices.Equal(found, []any{"HSET", "WAIT"}) {
		t.Errorf("then comes %v", found)
	}
}

func TestAnAppendThatCannotBeTakenEndsAtOnce(t *testing.T) {
	for name, each := range map[string]struct {
		before func(*Appender)
		want   fault.Kind
	}{
		"the partition is shut": {func(a *Appender) { a.lanes[0].dead = "another epoch" }, fault.KindLogReplaced},
		"it was flushed":        {func(a *Appender) { a.Flush(t.Context()) }, fault.KindLogUnreachable},
		"too many facts wait":   {func(a *Appender) { a.waiting = a.options.Limit }, fault.KindQueueFull},
	} {
		t.Run(name, func(t *testing.T) {
			appender := NewAppender(New(parsed(t, "redis://nowhere")), "orders", []string{"00c0ffee00c0ffee"},
				AppendOptions{Limit: 1, MaxFactBytes: 1000})
			each.before(appender)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second) // nobody would answer
			defer cancel()
			if _, err := appender.Append(ctx, []NewFact{fact("a", "x")}); !errors.Is(err, each.want) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestWhatWasAnsweredWaitsNoMore(t *testing.T) {
	s := startServer(t)
	appender := startAppender(t, s, "orders", s.create("orders", 1), func(o *AppendOptions) { o.Limit = 1 })
	for range 3 {
		if _, err := appender.Append(t.Context(), []NewFact{fact("a", "x")}); err != nil {
			t.Error(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if appender.Flush(ctx); ctx.Err() != nil {
		t.Error("nothing waits, and the flush does")
	}
}
