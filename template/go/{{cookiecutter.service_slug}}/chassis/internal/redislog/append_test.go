package redislog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"factfold/chassis/internal/fault"
	"factfold/chassis/internal/wire"
)

func TestFactsAreAppendedInTheOrderOfTheirCalls(t *testing.T) {
	s := startServer(t)
	epochs := s.create("orders", 3)
	appender := startAppender(t, s, "orders", epochs, nil)
	for i := range 10 {
		key := fmt.Sprintf("key-%d", i)
		position, err := appender.Append(t.Context(), []NewFact{fact(key, "1"), fact(key, "2")})
		if err != nil {
			t.Fatal(err)
		}
		partition := wire.PartitionOf(key, 3)
		if position.Partition != partition || position.Epoch != epochs[partition] || position.Stream != "orders" {
			t.Errorf("%s is at %s", key, position)
		}
		found := s.data("orders", partition)
		if position.N != uint64(len(found)) || !slices.Equal(found[len(found)-2:], []string{"1", "2"}) {
			t.Errorf("%s is at %s: %v", key, position, found)
		}
	}
}

func TestNothingIsLostOrDoubledWhenTheServerIsKilledUnderAppends(t *testing.T) {
	s := startServer(t)
	appender := startAppender(t, s, "orders", s.create("orders", 2), nil)
	const callers = 16
	var mutex sync.Mutex
	positions := map[string]wire.Position{}
	enough := make(chan struct{})
	var waits sync.WaitGroup
	for caller := range callers {
		waits.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-enough:
					return
				case <-time.After(time.Millisecond):
				}
				name := fmt.Sprintf("%d/%d", caller, i)
				position, err := appender.Append(t.Context(), []NewFact{fact(fmt.Sprint("key-", caller), name)})
				if err != nil {
					t.Errorf("%s: %v", name, err)
					return
				}
				mutex.Lock()
				positions[name] = position
				mutex.Unlock()
			}
		})
	}
	for range 5 {
		time.Sleep(50 * time.Millisecond)
		s.kill()
		s.start()
	}
	time.Sleep(50 * time.Millisecond)
	close(enough)
	waits.Wait()
	seen := 0
	for partition := range 2 {
		for i, name := range s.data("orders", partition) {
			seen++
			if at := positions[name]; at.Partition != partition || at.N != uint64(i+1) {
				t.Errorf("%s is fact %d of partition %d, and its caller was told %s", name, i+1, partition, at)
			}
		}
	}
	if seen != len(positions) || seen == 0 {
		t.Errorf("%d facts of %d appends are in the log", seen, len(positions))
	}
	t.Logf("%d facts", seen)
}

func TestAStaleVersionDropsItsUnitAlone(t *testing.T) {
	s := startServer(t)
	appender := startAppender(t, s, "orders", s.create("orders", 1), nil)
	expecting := func(version uint64) NewFact {
		its := fact("a", fmt.Sprint(version))
		its.Expected = &version
		return its
	}
	if _, err := appender.Append(t.Context(), []NewFact{expecting(0), expecting(1)}); err != nil {
		t.Fatal(err)
	}
	_, err := appender.Append(t.Context(), []NewFact{expecting(1)})
	var conflict *fault.VersionConflict
	if !errors.As(err, &conflict) || *conflict != (fault.VersionConflict{Stream: "orders", Key: "a", Expected: 1, Actual: 2}) {
		t.Errorf("%v", err)
	}
	if found := s.data("orders", 0); len(found) != 2 {
		t.Errorf("%v", found)
	}
}

func TestWhatCannotBeAppendedIsRefusedBeforeItIsSent(t *testing.T) {
	s := startServer(t)
	appender := startAppender(t, s, "orders", s.create("orders", 1), func(o *AppendOptions) {
		o.MaxFactBytes = 1000
	})
	tooHigh := uint64(MaxVersion + 1)
	many := make([]NewFact, MaxBatchFacts+1)
	for i := range many {
		many[i] = fact("a", "x")
	}
	versioned := fact("a", "x")
	versioned.Expected = &tooHigh
	for name, facts := range map[string][]NewFact{
		"no facts": {}, "no key": {fact("", "x")}, "the key _": {fact("_", "x")},
		"a long key":   {fact(strings.Repeat("k", 513), "x")},
		"a large fact": {fact("a", strings.Repeat("x", 1000))},
		"two keys":     {fact("a", "x"), fact("b", "x")}, "many facts": many,
		"a version above 2^53": {versioned},
	} {
		if _, err := appender.Append(t.Context(), facts); !errors.Is(err, fault.KindInvalidRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if found := s.data("orders", 0); len(found) != 0 {
		t.Errorf("%v", found)
	}
}

func TestAppendsOfAnAbsentServerEndInTime(t *testing.T) {
	s := startServer(t)
	epochs := s.create("orders", 1)
	s.kill()
	appender := startAppender(t, s, "orders", epochs, func(o *AppendOptions) {
		o.Timeout, o.Limit = 300*time.Millisecond, 1
	})
	ended := make(chan error, 2)
	for range cap(ended) {
		go func() {
			_, err := appender.Append(t.Context(), []NewFact{fact("a", "x")})
			ended <- err
		}()
	}
	if err := <-ended; !errors.Is(err, fault.KindQueueFull) {
		t.Errorf("%v", err)
	}
	if err := <-ended; !errors.Is(err, fault.KindLogUnreachable) {
		t.Errorf("%v", err)
	}
}

func TestAnAppendThatIsNotAnsweredHasAnUnknownOutcomeAndIsNotDoubled(t *testing.T) {
	s := startServer(t)
	appender := startAppender(t, s, "orders", s.create("orders", 1), func(o *AppendOptions) {
		o.Timeout = 300 * time.Millisecond
	})
	if _, err := appender.Append(t.Context(), []NewFact{fact("a", "1")}); err != nil {
		t.Fatal(err)
	}
	s.do("CLIENT", "PAUSE", 1000)
	_, err := appender.Append(t.Context(), []NewFact{fact("a", "2")})
	if !errors.Is(err, fault.KindOutcomeUnknown) || !strings.Contains(err.Error(), "no reply within 0.3 s") {
		t.Errorf("%v", err)
	}
	eventually(t, "appends are taken again", func() bool {
		_, err := appender.Append(t.Context(), []NewFact{fact("a", "3")})
		return err == nil
	})
	found := s.data("orders", 0)
	if found = slices.DeleteFunc(found, func(data string) bool { return data == "3" }); len(found) > 2 || found[0] != "1" {
		t.Errorf("%v", found)
	}
}

func TestALogThatWasReplacedTakesNoMore(t *testing.T) {
	s := startServer(t)
	said := newAlarms()
	appender := startAppender(t, s, "orders", s.create("orders", 1), func(o *AppendOptions) {
		o.Alarm = said.tell
	})
	s.do("FLUSHALL")
	for range 2 {
		_, err := appender.Append(t.Context(), []NewFact{fact("a", "x")})
		if !errors.Is(err, fault.KindLogReplaced) || !strings.Contains(err.Error(), "is gone, now none") {
			t.Errorf("%v", err)
		}
	}
	if text := said.next(t); !strings.Contains(text, "lost or replaced") {
		t.Error(text)
	}
}

func TestAForeignEntryClosesThePartition(t *testing.T) {
	s := startServer(t)
	said := newAlarms()
	appender := startAppender(t, s, "orders", s.create("orders", 1), func(o *AppendOptions) {
		o.Alarm = said.tell
	})
	s.do("XADD", wire.KeysOf("orders", 0).Log(), "9999999999999-1", "x", "y")
	_, err := appender.Append(t.Context(), []NewFact{fact("a", "x")})
	if !errors.Is(err, fault.KindLogReplaced) || !strings.Contains(err.Error(), "no appender wrote") {
		t.Errorf("%v", err)
	}
	said.next(t)
}

func TestWithoutMemoryNothingIsAppendedUntilThereIsSome(t *testing.T) {
	s := startServer(t)
	appender := startAppender(t, s, "orders", s.create("orders", 1), nil)
	s.do("CONFIG", "SET", "maxmemory", "1")
	if _, err := appender.Append(t.Context(), []NewFact{fact("a", "1")}); !errors.Is(err, fault.KindLogFull) {
		t.Errorf("%v", err)
	}
	s.do("CONFIG", "SET", "maxmemory", "0")
	if _, err := appender.Append(t.Context(), []NewFact{fact("a", "2")}); err != nil {
		t.Error(err)
	}
	if found := s.data("orders", 0); !slices.Equal(found, []string{"2"}) {
		t.Errorf("%v", found)
	}
}

func TestAProducerThatTheLogHasForgottenIsToldAndGoesOn(t *testing.T) {
	s := startServer(t)
	said := newAlarms()
	appender := startAppender(t, s, "orders", s.create("orders", 1), func(o *AppendOptions) {
		o.Alarm = said.tell
	})
	if _, err := appender.Append(t.Context(), []NewFact{fact("a", "1")}); err != nil {
		t.Fatal(err)
	}
	s.do("DEL", wire.KeysOf("orders", 0).Producers())
	if _, err := appender.Append(t.Context(), []NewFact{fact("a", "2")}); err != nil {
		t.Error(err)
	}
	if text := said.next(t); !strings.Contains(text, "batch 1 was acknowledged, the last one there is 0") {
		t.Error(text)
	}
	if found := s.data("orders", 0); !slices.Equal(found, []string{"1", "2"}) {
		t.Errorf("%v", found)
	}
}

func TestFactsThatARollBackTookAwayAreNamed(t *testing.T) {
	s := startServer(t)
	said := newAlarms()
	appender := startAppender(t, s, "orders", s.create("orders", 1), func(o *AppendOptions) {
		o.Alarm = said.tell
	})
	var last wire.Position
	for i := range 3 {
		var err error
		if last, err = appender.Append(t.Context(), []NewFact{fact("a", fmt.Sprint(i))}); err != nil {
			t.Fatal(err)
		}
	}
	keys := wire.KeysOf("orders", 0)
	s.do("XDEL", keys.Log(), last.ID.String())
	s.do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
	text := said.next(t)
	if !strings.Contains(text, "acknowledged, 1 are lost: "+last.String()+"; look for them in a replica") {
		t.Error(text)
	}
}

func TestWhatOthersAppendBehindItDoesNotHideWhatWasLost(t *testing.T) {
	s := startServer(t)
	epochs := s.create("orders", 1)
	appender := startAppender(t, s, "orders", epochs, nil)
	part := Part{"orders", 0, epochs[0]}
	memory, links := NewMemory(part), []*Link{s.link(), s.link()}
	var positions []wire.Position
	for i := range 4 {
		position, err := appender.Append(t.Context(), []NewFact{fact("a", fmt.Sprint(i))})
		if err != nil {
			t.Fatal(err)
		}
		positions = append(positions, position)
		at := position.ID
		memory.Remember(Acknowledged{Ms: at.Ms, First: at.N, Last: at.N}, links[i%2])
	}
	s.do("XDEL", wire.KeysOf("orders", 0).Log(), positions[2].ID.String())
	var said []string
	for range 2 {
		if err := memory.Compare(t.Context(), s.link(), func(text string) { said = append(said, text) }); err != nil {
			t.Fatal(err)
		}
	}
	if len(said) != 1 || !strings.Contains(said[0], "acknowledged, 1 are lost: "+positions[2].String()+"; look for them in") {
		t.Errorf("%q", said)
	}
}

func TestWithoutReplicasThatConfirmTheOutcomeIsUnknown(t *testing.T) {
	s := startServer(t)
	appender := startAppender(t, s, "orders", s.create("orders", 1), func(o *AppendOptions) {
		o.Replicas = ReplicasWithin(1, 100*time.Millisecond)
	})
	_, err := appender.Append(t.Context(), []NewFact{fact("a", "1")})
	if !errors.Is(err, fault.KindOutcomeUnknown) || !strings.Contains(err.Error(), "it is in the log, but 0 of 1 replicas") {
		t.Errorf("%v", err)
	}
	startServer(t, "--replicaof", "127.0.0.1", strconv.Itoa(s.port))
	eventually(t, "the replica confirms", func() bool {
		_, err := appender.Append(t.Context(), []NewFact{fact("a", "2")})
		return err == nil
	})
}

func TestFlushWaitsForWhatWaitsAndTakesNoMore(t *testing.T) {
	s := startServer(t)
	appender := startAppender(t, s, "orders", s.create("orders", 1), nil)
	ended := make(chan error, 50)
	for range cap(ended) {
		go func() {
			_, err := appender.Append(t.Context(), []NewFact{fact("a", "x")})
			ended <- err
		}()
	}
	eventually(t, "they wait", func() bool { return len(s.data("orders", 0)) > 0 })
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	appender.Flush(ctx)
	appended := 0
	for range cap(ended) {
		if err := <-ended; err == nil {
			appended++
		} else if !strings.Contains(err.Error(), shuttingDown) {
			t.Error(err)
		}
	}
	if found := len(s.data("orders", 0)); found != appended {
		t.Errorf("%d of %d facts were acknowledged", appended, found)
	}
}

func TestACallerThatLeavesIsNotWaitedFor(t *testing.T) {
	s := startServer(t)
	epochs := s.create("orders", 1)
	s.kill()
	appender := startAppender(t, s, "orders", epochs, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := appender.Append(ctx, []NewFact{fact("a", "1")}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	s.start()
	if _, err := appender.Append(t.Context(), []NewFact{fact("a", "2")}); err != nil {
		t.Error(err)
	}
	if found := s.data("orders", 0); !slices.Equal(found, []string{"2"}) {
		t.Errorf("%v", found)
	}
}
