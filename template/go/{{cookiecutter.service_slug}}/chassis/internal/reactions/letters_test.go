package reactions

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	factfoldv1 "factfold/chassis/factfold/v1"
	"factfold/chassis/internal/wire"
)

func TestPausesGrowToABoundAndDiffer(t *testing.T) {
	p := pauses{firstPause, longestPause}
	for attempts, longest := range map[uint32]time.Duration{1: 200 * time.Millisecond, 2: 400 * time.Millisecond, 20: 30 * time.Second, 1000: 30 * time.Second} {
		letter := &factfoldv1.DeadLetter{State: retrying, Attempts: attempts}
		found := map[time.Duration]bool{}
		for range 20 {
			pause, ok := p.before(letter)
			if !ok || pause < longest/2 || pause > longest {
				t.Fatalf("after %d tries: %s", attempts, pause)
			}
			found[pause] = true
		}
		if len(found) == 1 {
			t.Errorf("after %d tries pauses are not random", attempts)
		}
	}
	if pause, ok := p.before(&factfoldv1.DeadLetter{State: held}); !ok || pause != 0 {
		t.Error("one that was never tried waits")
	}
	if pause, ok := p.before(&factfoldv1.DeadLetter{State: retrying, Attempts: 3, Outcome: &factfoldv1.Outcome{}}); !ok || pause != 0 {
		t.Error("one whose answer is settled waits")
	}
	if _, ok := p.before(&factfoldv1.DeadLetter{State: dead}); ok {
		t.Error("one that was given up is tried")
	}
}

func TestOnlyItsKeyWaitsAndIsThenAnsweredInOrder(t *testing.T) {
	d := newDesk(t)
	d.does(failing(a))
	d.start(attempts(1000))
	d.pay(a, 1, 2, 3)
	d.pay(b, 1, 2, 3)
	d.commits(6)
	equal(t, d.amounts(b), []int64{1, 2, 3})
	equal(t, slices.Compact(d.amounts(a)), []int64{1})
	d.becomes(states{1: retrying, 2: held, 3: held})
	letters := d.letters()
	equal(t, letters[1].Error, "not now")
	equal(t, letters[2].Attempts, 0)
	equal(t, d.hash(d.key("dead-keys"))[a], "1,2,3")
	d.does(nil)
	d.pay(a, 4)
	d.becomes(states{})
	d.eventually(func() bool { return slices.Contains(d.amounts(a), 4) })
	d.pay(a, 5) // the key is released
	d.eventually(func() bool { return slices.Contains(d.amounts(a), 5) })
	equal(t, slices.Compact(d.amounts(a)), []int64{1, 2, 3, 4, 5})
	d.commits(8)
	equal(t, len(d.hash(d.key("dead-keys"))), 0)
	equal(t, len(d.hash(d.key("outbox"))), 0)
}

func TestAFactIsGivenUpAfterSoManyTries(t *testing.T) {
	for _, most := range []int{1, 3} {
		t.Run(fmt.Sprint(most), func(t *testing.T) {
			d := newDesk(t)
			d.does(failing(a))
			d.start(attempts(most))
			d.pay(a, 1, 2)
			d.becomes(states{1: dead, 2: held})
			time.Sleep(300 * time.Millisecond)
			equal(t, len(d.tried()), most)
			equal(t, d.letters()[1].Attempts, uint32(most))
			d.pay(b, 1)
			d.eventually(func() bool { return slices.Contains(d.tried(), try{b, 1}) })
			d.becomes(states{1: dead, 2: held})
		})
	}
}

func TestAPanicIsAFailureOfThatFact(t *testing.T) {
	d := newDesk(t)
	d.does(func(_ context.Context, key string, _ int64) ([]Append, error) {
		if key == a {
			panic("no such thing")
		}
		return []Append{{}}, nil // an output without an event panics, too
	})
	e := d.start()
	d.pay(a, 1)
	d.pay(b, 2)
	d.becomes(states{1: retrying, 2: retrying})
	equal(t, d.letters()[1].Error, "panic: no such thing")
	equal(t, e.Status(), "")
}

func TestAnErrorThatIsNoTextIsKeptAsFarAsItIs(t *testing.T) {
	d := newDesk(t)
	d.does(func(context.Context, string, int64) ([]Append, error) {
		return nil, errors.New("file \xff is missing " + strings.Repeat("é", 1000))
	})
	d.start()
	d.pay(a, 1)
	d.becomes(states{1: retrying})
	found := d.letters()[1].Error
	if !strings.HasPrefix(found, "file ? is missing éé") || len([]rune(found)) != 500 {
		t.Fatal(found)
	}
}

func TestWhatCannotBeReadIsDeadAtOnceWithItsWholeEntry(t *testing.T) {
	d := newDesk(t)
	packed, _ := proto.Marshal(&factfoldv1.FactMeta{Id: make([]byte, 16)})
	event, _ := proto.Marshal(with(d.event(made), map[string]any{"order_id": a, "amount": int64(1)}))
	good, data := string(packed), string(event)
	entries := [][]string{
		{"type", made, "key", a, "meta", good, "data", "\xff\xff"},
		{"type", made, "key", "\xff", "meta", good, "data", data},
		{"type", made, "key", "", "meta", good, "data", data},
		{"type", made, "key", "_", "meta", "\xff", "data", data},
		{"type", made, "key", b, "meta", "", "data", data},
		{"type", made, "key", b, "data", data},
		{"something", "else"},
	}
	e := d.start()
	var ns []any
	for _, entry := range entries {
		ns = append(ns, fmt.Sprintf("discard:%d", d.write(entry...)))
	}
	d.write("type", "no.such.Type", "key", "x", "meta", "\xff", "data", "")
	d.pay(c, 1)
	d.commits(uint64(len(entries) + 2))
	equal(t, d.tried(), []try{{c, 1}})
	// Of a key that has letters already, the others are not looked at yet.
	d.becomes(states{1: dead, 2: dead, 3: dead, 4: held, 5: dead, 6: held, 7: held})
	for n, letter := range d.letters() {
		var fields []string
		for _, each := range letter.Fields {
			fields = append(fields, string(each))
		}
		if !slices.Equal(fields, entries[n-1]) || !strings.HasSuffix(string(letter.EntryId), fmt.Sprintf("-%d", n)) {
			t.Errorf("%d: %v", n, letter)
		}
	}
	if found := d.letters()[1].Error; !strings.Contains(found, "the entry cannot be read") {
		t.Error(found)
	}
	d.ask(ns...)
	d.becomes(states{})
	equal(t, e.Status(), "")
	equal(t, d.tried(), []try{{c, 1}})
}

func TestAnOutputThatIsRefusedMakesItsFactALetter(t *testing.T) {
	d := newDesk(t)
	d.does(func(_ context.Context, _ string, amount int64) ([]Append, error) {
		return []Append{d.order(here, fmt.Sprint(amount), 0)}, nil
	})
	d.start()
	d.pay(a, 1)
	d.commits(1)
	d.becomes(states{})
	d.pay(a, 2)
	d.becomes(states{2: retrying})
	if found := d.letters()[2].Error; !strings.Contains(found, "is at version 1, not 0") {
		t.Error(found)
	}
	d.eventually(func() bool { letter := d.letters()[2]; return letter.Attempts > 2 && letter.Round > 1 })
	d.pay(b, 3)
	d.becomes(states{2: retrying, 3: retrying})
	equal(t, d.orders(), [][2]string{{here, "1"}})
	d.does(func(_ context.Context, _ string, amount int64) ([]Append, error) {
		return []Append{d.order(here, fmt.Sprint(amount), uint64(amount-1))}, nil
	})
	d.becomes(states{})
	equal(t, d.orders(), [][2]string{{here, "1"}, {here, "2"}, {here, "3"}})
}

func TestAnOutputWithAnImpossibleVersionMakesItsFactALetter(t *testing.T) {
	d := newDesk(t)
	d.does(func(_ context.Context, key string, _ int64) ([]Append, error) {
		if key == a {
			return []Append{d.order(here, "never", 1<<53)}, nil
		}
		return nil, nil
	})
	d.start()
	d.pay(a, 1)
	d.pay(b, 2)
	d.commits(2)
	d.becomes(states{1: retrying})
	if found := d.letters()[1].Error; !strings.Contains(found, "must be from 0 to 9007199254740991") {
		t.Error(found)
	}
}

func TestAnAnswerThatIsTooLargeMakesItsFactALetter(t *testing.T) {
	for most, size := range map[int]int{4096: 0, 4: 1_000_000} {
		t.Run(fmt.Sprint(most), func(t *testing.T) {
			d := newDesk(t)
			d.does(func(_ context.Context, key string, amount int64) ([]Append, error) {
				var outputs []Append
				for i := range amount {
					outputs = append(outputs, d.order(key, strings.Repeat("x", size), uint64(i)))
				}
				return outputs, nil
			})
			d.start()
			d.pay(a, int64(most+1))
			d.pay(b, int64(most))
			d.commits(2)
			d.becomes(states{1: retrying})
			if found := d.letters()[1].Error; !strings.Contains(found, "at most 4096 events and 4194304 bytes") {
				t.Error(found)
			}
			d.eventually(func() bool { return len(d.orders()) == most })
			equal(t, d.orders()[0][0], b)
		})
	}
}

func TestARetryAppendsOnlyWhatIsMissing(t *testing.T) {
	if wire.PartitionOf(here, 4) == wire.PartitionOf(there, 4) {
		t.Fatal("they are of one partition")
	}
	for _, late := range []bool{false, true} { // refused by a retry, not by the batch
		t.Run(fmt.Sprint(late), func(t *testing.T) {
			d := newDesk(t)
			runs, expected := 0, uint64(7)
			answers := func(context.Context, string, int64) ([]Append, error) {
				d.mu.Lock()
				defer d.mu.Unlock()
				runs++
				run := fmt.Sprintf("run %d", runs)
				return []Append{d.order(here, run, 0), d.order(there, run, expected)}, nil
			}
			if late {
				d.does(failing(a))
			} else {
				d.does(answers)
			}
			d.start(attempts(1000))
			d.pay(a, 1, 2)
			if late {
				d.becomes(states{1: retrying, 2: held})
				d.does(answers)
			}
			d.eventually(func() bool { return d.letters()[1].GetAttempts() > 3 && len(d.letters()[1].Applied) > 0 })
			equal(t, d.letters()[1].Applied[0].Partition, uint32(wire.PartitionOf(here, 4)))
			equal(t, d.orders(), [][2]string{{here, "run 1"}})
			d.mu.Lock()
			expected = 0
			d.mu.Unlock()
			d.eventually(func() bool { return len(d.orders()) == 2 })
			d.eventually(func() bool { return d.letters()[1] == nil })
			d.does(nil) // the second fact finds both orders there
			d.becomes(states{})
			if found := d.orders(); !slices.Contains(found, [2]string{here, "run 1"}) || len(found) != 2 {
				t.Fatal(found)
			}
		})
	}
}

func TestAThousandLettersPauseThePartitionUntilThereIsRoom(t *testing.T) {
	d := newDesk(t)
	d.does(failing(a))
	d.start(attempts(1_000_000))
	for first := range int64(10) {
		var amounts []int64
		for i := range int64(100) {
			amounts = append(amounts, 100*first+i)
		}
		d.pay(a, amounts...)
	}
	d.commits(maxLetters)
	d.pay(b, 1)
	d.eventually(func() bool { return d.alarmed("pauses on partition 0 of stream payments") == 1 })
	time.Sleep(300 * time.Millisecond)
	equal(t, len(d.amounts(b)), 0)
	equal(t, len(d.states()), maxLetters)
	d.ask(fmt.Sprintf("discard:%d", maxLetters))
	d.eventually(func() bool { return len(d.amounts(b)) == 1 })
	d.commits(maxLetters + 1)
	equal(t, d.alarmed("999 facts"), 0)
}

// What the command line asks for.

// deadFirst makes letters of a key, the first of them dead.
func (d *desk) deadFirst(amounts ...int64) {
	d.t.Helper()
	d.does(failing(a))
	d.pay(a, amounts...)
	wanted := states{}
	for i := range amounts {
		wanted[uint64(i+1)] = held
	}
	wanted[1] = dead
	d.becomes(wanted)
	d.forget()
}

func TestARedriveOfTheFirstLetterHasAllAnsweredInOrder(t *testing.T) {
	d := newDesk(t)
	d.start(attempts(2))
	d.deadFirst(1, 2, 3)
	d.ask("redrive:1")
	d.eventually(func() bool { return len(d.tried()) == 2 && d.states()[1] == dead })
	equal(t, d.tried(), []try{{a, 1}, {a, 1}}) // it has all its tries again
	equal(t, d.asked(), 0)
	d.does(nil)
	d.ask("redrive:1")
	d.becomes(states{})
	equal(t, d.tried()[2:], []try{{a, 1}, {a, 2}, {a, 3}})
}

func TestARedriveOfOneBehindAnswersNothingOutOfOrder(t *testing.T) {
	d := newDesk(t)
	d.start(attempts(2))
	d.deadFirst(1, 2, 3)
	d.does(nil)
	d.ask("redrive:3", "redrive:2")
	d.eventually(func() bool { return d.asked() == 0 })
	time.Sleep(300 * time.Millisecond)
	equal(t, len(d.tried()), 0)
	d.becomes(states{1: dead, 2: retrying, 3: retrying})
	d.ask("redrive:1")
	d.becomes(states{})
	equal(t, d.tried(), []try{{a, 1}, {a, 2}, {a, 3}})
}

func TestRequestsThatAreRepeatedOrForNothing(t *testing.T) {
	d := newDesk(t)
	e := d.start(attempts(2))
	d.deadFirst(1, 2, 3)
	d.does(nil)
	d.ask("redrive:99", "discard:99", "redrive:", "discard:-1", "sing:1", "discard:2", "discard:2",
		"redrive:1", "redrive:1", "redrive:1")
	d.eventually(func() bool { return d.asked() == 0 && len(d.states()) == 0 })
	d.ask("redrive:1", "redrive:3", "discard:1", "redrive:1")
	d.eventually(func() bool { return d.asked() == 0 })
	d.pay(a, 4)
	d.eventually(func() bool { return slices.Contains(d.tried(), try{a, 4}) })
	equal(t, d.tried(), []try{{a, 1}, {a, 3}, {a, 4}})
	equal(t, e.Status(), "")
}

func TestManyRequestsAtOnceDoNotDisturbTheOwner(t *testing.T) {
	for _, what := range []string{"discard", "redrive"} {
		t.Run(what, func(t *testing.T) {
			d := newDesk(t)
			d.start(attempts(2))
			var amounts []int64
			var requests []any
			for i := range int64(50) {
				amounts = append(amounts, i+1)
				requests = append(requests, fmt.Sprintf("%s:%d", what, i+1))
			}
			d.deadFirst(amounts...)
			token := d.hash(d.key("group"))["token"]
			d.does(nil)
			d.ask(requests...)
			d.eventually(func() bool { return d.asked() == 0 && len(d.states()) == 0 })
			if found := d.amounts(a); !slices.IsSorted(found) || what == "redrive" && len(found) != 50 {
				t.Error(found)
			}
			equal(t, d.hash(d.key("group"))["token"], token)
		})
	}
}

func TestALetterThatIsDiscardedInATryStays(t *testing.T) {
	d := newDesk(t)
	began, goOn := make(chan bool, 10), make(chan bool)
	d.start(attempts(2))
	d.deadFirst(1)
	d.does(func(ctx context.Context, _ string, _ int64) ([]Append, error) {
		began <- true
		select {
		case <-goOn:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		return []Append{d.order(here, "answered", 0)}, nil
	})
	d.ask("redrive:1")
	<-began
	d.ask("discard:1")
	time.Sleep(200 * time.Millisecond)
	equal(t, d.asked(), 1) // a try is not disturbed
	close(goOn)
	d.eventually(func() bool { return d.asked() == 0 && len(d.states()) == 0 })
	equal(t, d.orders(), [][2]string{{here, "answered"}})
}

func TestATryThatAShutdownEndsIsNoFailure(t *testing.T) {
	d := newDesk(t)
	began := make(chan bool, 10)
	d.does(failing(a))
	e := d.start(attempts(1000))
	d.pay(a, 1, 2)
	d.becomes(states{1: retrying, 2: held})
	d.does(func(ctx context.Context, _ string, _ int64) ([]Append, error) {
		began <- true
		<-ctx.Done()
		return nil, ctx.Err()
	})
	<-began
	before := d.letters()[1]
	e.stop()
	if after := d.letters()[1]; !proto.Equal(before, after) {
		t.Fatal(before, after)
	}
	d.forget()
	d.does(func(_ context.Context, _ string, amount int64) ([]Append, error) {
		return []Append{d.order(fmt.Sprintf("of-%d", amount), "answered", 0)}, nil
	})
	d.start(attempts(1000))
	d.becomes(states{})
	equal(t, d.tried(), []try{{a, 1}, {a, 2}})
	equal(t, len(d.orders()), 2)
}

func TestTheNextOwnerFindsTheLetters(t *testing.T) {
	d := newDesk(t)
	d.does(failing(a, b))
	e := d.start(attempts(2))
	d.pay(a, 1, 2)
	d.pay(b, 3)
	d.becomes(states{1: dead, 2: held, 3: dead})
	e.stop()
	equal(t, d.hash(d.key("group"))["owner"], "")
	d.forget()
	d.does(nil)
	d.ask("redrive:3")
	d.start(attempts(2))
	d.pay(a, 5)
	d.becomes(states{1: dead, 2: held, 4: held})
	equal(t, d.tried(), []try{{b, 3}})
	d.ask("redrive:1")
	d.becomes(states{})
	equal(t, d.tried(), []try{{b, 3}, {a, 1}, {a, 2}, {a, 5}})
}
