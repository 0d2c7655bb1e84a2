package reactions

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/protobuf/proto"

	factfoldv1 "factfold/chassis/factfold/v1"
	"factfold/chassis/internal/redislog"
	"factfold/chassis/internal/telemetry"
	"factfold/chassis/internal/testvectors"
	"factfold/chassis/internal/wire"
	"factfold/chassis/testing/redistest"
)

func TestMembersAgreeOnWhoOwnsWhat(t *testing.T) {
	type one struct {
		Partition int
		Scores    map[string]string
		Owner     string
	}
	for _, each := range testvectors.Cases[one](t, "owners") {
		equal(t, chosen(ascending(each.Scores), each.Partition), each.Owner)
	}
}

func TestSilenceIsSinceTheLastChange(t *testing.T) {
	s, now := silence{}, time.Now()
	equal(t, s.of("x", "1", now), 0)
	equal(t, s.of("x", "1", now.Add(time.Second)), time.Second)
	equal(t, s.of("x", "2", now.Add(2*time.Second)), 0)
	equal(t, s.of("x", "2", now.Add(5*time.Second)), 3*time.Second)
}

// scatter answers each payment with three orders under keys of their own, which name the run.
func (d *desk) scatter() {
	var runs atomic.Int64
	d.does(func(_ context.Context, key string, amount int64) ([]Append, error) {
		run := runs.Add(1)
		var outputs []Append
		for i := range 3 {
			name := fmt.Sprintf("%s/%d %d", key, amount, run)
			outputs = append(outputs, d.order(fmt.Sprintf("%s-%d-%d-%d", key, amount, run, i), name, 0))
		}
		return outputs, nil
	})
}

// onceEach checks that the log has the orders of one run of each payment.
func (d *desk) onceEach(payments int) {
	d.t.Helper()
	of, runs := map[string]int{}, map[string]string{}
	for _, order := range d.orders() {
		payment, run, _ := strings.Cut(order[1], " ")
		of[payment]++
		if before, ok := runs[payment]; ok && before != run {
			d.t.Errorf("%s was answered by the runs %s and %s", payment, before, run)
		}
		runs[payment] = run
	}
	equal(d.t, len(of), payments)
	for payment, orders := range of {
		if orders != 3 {
			d.t.Errorf("%s has %d orders", payment, orders)
		}
	}
}

func (d *desk) committed() uint64 { return d.position(0) + d.position(1) }

func TestOutputsAreThereOnceWhateverIsLost(t *testing.T) {
	for _, script := range []string{"claim", "settle", "append", "commit", "beat", "release", "member"} {
		for _, after := range []bool{false, true} {
			for _, nth := range []int{1, 3} {
				if script == "release" && nth > 1 {
					continue
				}
				t.Run(fmt.Sprintf("%s %v %d", script, after, nth), func(t *testing.T) {
					t.Parallel()
					d := newDesk(t)
					d.scatter()
					p := newProxy(t, d.url)
					p.loses(script, after, nth)
					through := d.servers(p.url)
					by := func(c *Config) { c.Redis, c.Foreign = through, through }
					e := d.start(by)
					for i := range int64(10) {
						for _, key := range []string{a, b, "1", "2"} {
							d.pay(key, i)
							time.Sleep(time.Millisecond)
						}
					}
					if script == "release" || script == "claim" && nth == 3 {
						d.eventually(func() bool { return d.committed() > 5 })
						e.stop()
						e = d.start(by)
					}
					d.eventually(func() bool { return d.committed() == 40 && p.hasLost() })
					d.eventually(func() bool { return e.Status() == "" })
					d.onceEach(40)
					equal(t, len(d.hash(d.key("outbox"))), 0)
				})
			}
		}
	}
}

func TestLettersAreAnsweredOnceWhateverIsLost(t *testing.T) {
	for _, script := range []string{"letters", "append"} {
		for _, after := range []bool{false, true} {
			for nth := 1; nth <= 5; nth++ {
				t.Run(fmt.Sprintf("%s %v %d", script, after, nth), func(t *testing.T) {
					t.Parallel()
					d := newDesk(t)
					p := newProxy(t, d.url)
					through := d.servers(p.url)
					d.does(failing(a, b))
					d.start(attempts(1000), func(c *Config) { c.Redis, c.Foreign = through, through })
					d.pay(a, 1, 2)
					d.pay(b, 3)
					d.becomes(states{1: retrying, 2: held, 3: retrying})
					p.loses(script, after, nth)
					d.scatter()
					d.becomes(states{})
					d.onceEach(3)
				})
			}
		}
	}
}

func TestTwoInstancesShareThePartitionsAndOneTakesOverFromOneThatDied(t *testing.T) {
	d := newDesk(t)
	d.scatter()
	p := newProxy(t, d.url)
	through := d.servers(p.url)
	// One that is to own partition 0 beside the other, and dies.
	first, second := "", ""
	for first == "" || chosen([]string{first, second}, 0) != first || chosen([]string{first, second}, 1) != second {
		first, second = "desk-"+randomHex()[:8], "desk-"+randomHex()[:8]
	}
	one := d.start(func(c *Config) { c.Redis, c.Foreign, c.Instance = through, through, first })
	for i := range int64(20) {
		d.pay(a, i)
		d.pay("1", i)
	}
	two := d.start(func(c *Config) { c.Instance = second })
	owner := func(partition int) string {
		return redislog.Text(d.do("HGET", wire.KeysOf("payments", partition).Group("desk.book"), "owner"))
	}
	d.eventually(func() bool { return owner(0) == first && owner(1) == second })
	d.eventually(func() bool { return d.committed() == 40 && len(one.Lags()) == 1 && len(two.Lags()) == 1 })
	var stopped atomic.Bool
	go func() { // in the middle of something
		time.Sleep(50 * time.Millisecond)
		p.kill()
		one.cancel()
		stopped.Store(true)
	}()
	for i := range int64(100) {
		d.pay(a, 20+i)
		d.pay("1", 20+i)
		time.Sleep(time.Millisecond)
	}
	d.eventually(func() bool { return stopped.Load() && owner(0) == second && owner(1) == second })
	d.eventually(func() bool { return d.committed() == 240 })
	equal(t, len(two.Lags()), 2)
	d.onceEach(240)
	d.eventually(func() bool { return len(d.hash("{payments}:members:desk.book")) == 1 }) // forgotten
	equal(t, two.Status(), "")
}

func TestWhoLeavesIsFollowedAtOnce(t *testing.T) {
	d := newDesk(t)
	slow := func(c *Config) { c.Settings.Lease = 20 * time.Second }
	one := d.start(slow)
	d.pay(a, 1)
	d.commits(1)
	one.stop()
	equal(t, len(d.hash("{payments}:members:desk.book")), 0)
	d.start(slow)
	d.pay(a, 2)
	d.commits(2) // long before the lease has passed
}

func TestABatchThatEndsAfterTheLeaseIsNotTakenOver(t *testing.T) {
	for _, why := range []string{"wanted by another", "ends"} {
		t.Run(why, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t)
			began := make(chan bool, 10)
			d.does(func(context.Context, string, int64) ([]Append, error) {
				began <- true
				time.Sleep(1500 * time.Millisecond)
				return nil, nil
			})
			one := d.start()
			d.pay(a, 1)
			<-began
			second := "desk-00000000"
			for why != "ends" && chosen([]string{one.config.Instance, second}, 0) != second {
				second = "desk-" + randomHex()[:8]
			}
			d.start(func(c *Config) { c.Instance = second })
			if why == "ends" {
				time.Sleep(200 * time.Millisecond)
				go one.stop()
			}
			d.commits(1)
			d.eventually(func() bool { return d.hash(d.key("group"))["owner"] == second })
			equal(t, d.tried(), []try{{a, 1}})
		})
	}
}

func TestWhoWasFencedAndHasNothingToDoClaimsAnew(t *testing.T) {
	d := newDesk(t)
	e := d.start(attempts(1))
	d.deadFirst(1)
	other := d.config()
	other.Instance = "desk-other"
	g := newGroup("desk.book", "payments", 0, d.epochs["payments"][0], true)
	d.eventually(func() bool { // unless a beat comes between the look and the claim
		state := d.hash(d.key("group"))
		taken, err := take(t.Context(), other, g, seen{state["token"], state["beat"]})
		if err == nil {
			taken.release(t.Context(), d.redis)
		}
		return err == nil
	})
	d.does(nil)
	d.ask("redrive:1")
	d.becomes(states{})
	d.eventually(func() bool { return d.asked() == 0 })
	equal(t, e.Status(), "")
}

func TestKeysOfABatchAreSideBySideAndFactsOfOneKeyAreNot(t *testing.T) {
	d := newDesk(t)
	var active, most atomic.Int64
	d.does(func(context.Context, string, int64) ([]Append, error) {
		most.Store(max(most.Load(), active.Add(1)))
		time.Sleep(100 * time.Millisecond)
		active.Add(-1)
		return nil, nil
	})
	d.pay(a, 1, 2, 3)
	d.pay(b, 1, 2, 3)
	d.pay(c, 1, 2, 3)
	d.start()
	d.commits(9)
	equal(t, most.Load(), 3)
	for _, key := range []string{a, b, c} {
		equal(t, d.amounts(key), []int64{1, 2, 3})
	}
}

func TestOutputsThatThePartitionHasSettledAreNotDecidedAgain(t *testing.T) {
	d := newDesk(t)
	d.scatter()
	p := newProxy(t, d.url)
	through := d.servers(p.url)
	p.loses("append", false, 1)
	one := d.start(func(c *Config) { c.Redis, c.Foreign = through, through })
	d.pay(a, 1, 2)
	d.eventually(p.hasLost)
	p.kill()
	one.stop()
	tries := len(d.tried())
	equal(t, len(d.hash(d.key("outbox"))), 2)
	d.start()
	d.commits(2)
	equal(t, len(d.tried()), tries)
	d.onceEach(2)
}

func TestAReactionStopsWhenItsCodeDoesNotFit(t *testing.T) {
	d := newDesk(t)
	d.does(func(_ context.Context, _ string, _ int64) ([]Append, error) {
		return []Append{{Event: with(d.event(placed), map[string]any{"id": "x"})}}, nil
	})
	e := d.start()
	d.pay(a, 1)
	wanted := "reaction book has stopped: stream orders is versioned: give Append an ExpectedVersion, 0 for " +
		"a new key; it goes on once that is mended and the service restarted"
	d.eventually(func() bool { return e.Status() == wanted }, func() any { return e.Status() })
	if err := <-e.done; err != nil {
		t.Fatal(err)
	}
	e.done <- nil
	equal(t, d.position(0), uint64(0))
	equal(t, d.hash(d.key("group"))["owner"], "")
}

func TestAReactionToEventsOfTwoStreamsIsRefused(t *testing.T) {
	d := newDesk(t)
	config := d.config()
	config.Reaction.Events = []proto.Message{d.event(made), d.event(placed)}
	_, err := NewEngine(config)
	if err == nil || !strings.Contains(err.Error(), "write one reaction for each stream") {
		t.Fatal(err)
	}
}

func TestWhatFitsNoLogStopsTheReaction(t *testing.T) {
	cases := map[string]struct {
		harm func(d *desk)
		says string
	}{
		"another log": {
			func(d *desk) { d.do("HSET", "{payments/0}:head", "epoch", "0123456789abcdef") },
			"now it is 0123456789abcdef",
		},
		"a gap": {
			func(d *desk) { d.do("HSET", "{payments/0}:head", "n", 5) },
			"facts 2 to 5 were removed before they were read",
		},
		"outputs that were rolled back": {
			func(d *desk) {
				// What was appended since the claim is gone from the output's log, and with it the producer.
				for partition := range 4 {
					for name := range d.hash(wire.KeysOf("orders", partition).Producers()) {
						d.do("HDEL", wire.KeysOf("orders", partition).Producers(), name)
					}
				}
				d.pay(a, 2)
			},
			"was rolled back: it lacks what was appended for fact 2",
		},
	}
	for name, each := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t)
			d.does(func(_ context.Context, _ string, amount int64) ([]Append, error) {
				return []Append{d.order(here, fmt.Sprint(amount), uint64(amount-1))}, nil
			})
			e := d.start()
			d.pay(a, 1)
			d.commits(1)
			each.harm(d)
			d.eventually(func() bool { return strings.Contains(e.Status(), each.says) },
				func() any { return e.Status() })
			if !strings.HasPrefix(e.Status(), "reaction book has stopped: stream payments, partition 0: ") {
				t.Error(e.Status())
			}
		})
	}
}

// keep is all keys of payments/0 as they are, to be put back.
func (d *desk) keep() map[string]string {
	kept := map[string]string{}
	for _, key := range redislog.List(d.do("KEYS", "{payments/0}:*")) {
		kept[redislog.Text(key)] = redislog.Text(d.do("DUMP", redislog.Text(key)))
	}
	return kept
}

func (d *desk) rollBack(kept map[string]string) {
	for _, key := range redislog.List(d.do("KEYS", "{payments/0}:*")) {
		d.do("DEL", redislog.Text(key))
	}
	for key, dump := range kept {
		d.do("RESTORE", key, 0, dump)
	}
}

func TestInputsThatWereRolledBackAlone(t *testing.T) {
	d := newDesk(t)
	d.scatter()
	one := d.start()
	d.pay(a, 1, 2)
	d.commits(2)
	one.stop()
	d.pay(a, 3) // it stays in the log, and what is known of its answer does not
	kept := d.keep()
	one = d.start()
	d.commits(3)
	d.pay(a, 4)
	d.commits(4)
	one.stop()
	d.onceEach(4)

	d.rollBack(kept)
	time.Sleep(2 * time.Millisecond)
	d.pay(a, 40, 5) // the first one has the number of one that was lost
	d.forget()
	d.start()
	d.commits(5)
	equal(t, d.alarmed("it was rolled back, and what the reaction appended was not: facts up to 4 had been "+
		"answered, and 2 is the last one that is known to be; those up to 3 are not answered again"), 1)
	equal(t, d.tried(), []try{{a, 40}, {a, 5}})
	d.onceEach(6)
	producers := d.hash(d.key("group"))["producers"]
	if !strings.HasPrefix(producers, fmt.Sprintf("0:%s,3:", d.epochs["payments"][0])) {
		t.Fatal(producers)
	}
	// And the next owner goes on with the new producer.
	d.pay(a, 6)
	d.commits(6)
	d.onceEach(7)
}

func TestOutputsThatARollBackTookAwayAreNamed(t *testing.T) {
	d := newDesk(t)
	d.scatter()
	d.start()
	d.pay(a, 1)
	d.commits(1)
	lost := ""
	for partition, epoch := range d.epochs["orders"] {
		key := fmt.Sprintf("{orders/%d}:log", partition)
		entries, err := redislog.Entries(d.do("XREVRANGE", key, "+", "-", "COUNT", 1))
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) > 0 {
			id := entries[0].ID.String()
			lost = fmt.Sprintf("orders/%d@%s:%s", partition, epoch, id)
			d.do("XDEL", key, id)
			break
		}
	}
	d.do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
	d.pay(a, 2)
	d.commits(2)
	d.eventually(func() bool { return d.alarmed("acknowledged, 1 are lost: "+lost+"; look for them") == 1 })
}

func TestALogThatWasRolledBackUnderItsReaderIsClaimedAnew(t *testing.T) {
	d := newDesk(t)
	d.scatter()
	d.start()
	d.pay(a, 1)
	d.commits(1)
	d.eventually(func() bool { return d.hash(d.key("group"))["settled"] == "1" })
	kept := d.keep()
	d.pay(a, 2)
	d.commits(2)
	d.rollBack(kept)
	d.eventually(func() bool { return d.alarmed("going on from what is there") > 0 })
	d.pay(a, 20)
	d.commits(2)
	d.onceEach(3)
}

func TestAForeignStreamIsReadByWhoMayRead(t *testing.T) {
	d := newDesk(t)
	payments := d.contract.Streams["payments"]
	payments.Own = false
	p := newProxy(t, d.url)
	reads := d.servers(p.url)
	d.scatter()
	d.start(func(c *Config) { c.Foreign = reads; c.Memories = d.remembered("orders") })
	d.pay(a, 1)
	d.commits(1)
	d.onceEach(1)
	p.mu.Lock()
	calls := p.calls
	p.mu.Unlock()
	if calls == 0 {
		t.Error("the reading user has not read")
	}
	equal(t, len(redislog.List(d.do("XINFO", "GROUPS", "{payments/0}:log"))), 0) // it may not write there
}

func TestAnOwnStreamHasTheReactionAsRedisGroup(t *testing.T) {
	d := newDesk(t)
	d.start()
	d.pay(a, 1, 2)
	d.commits(2)
	found := fmt.Sprint(d.do("XINFO", "GROUPS", "{payments/0}:log"))
	if !strings.Contains(found, "desk.book") || !strings.Contains(found, d.hash(d.key("group"))["position"]) {
		t.Fatal(found)
	}
}

func TestNoHandlerIsCalledWhileAViewIsRebuilt(t *testing.T) {
	d := newDesk(t)
	ready := make(chan bool)
	var rebuilt atomic.Bool
	d.start(func(c *Config) {
		c.ViewsReady = func(ctx context.Context) error {
			if !rebuilt.Load() {
				return nil
			}
			select {
			case <-ready:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
	d.pay(a, 1)
	d.commits(1)
	rebuilt.Store(true)
	d.pay(a, 2)
	time.Sleep(200 * time.Millisecond)
	equal(t, d.tried(), []try{{a, 1}})
	close(ready)
	d.commits(2)
}

func TestUnitsAreSentInCallsWithinTheLimits(t *testing.T) {
	d := newDesk(t)
	d.does(func(_ context.Context, key string, amount int64) ([]Append, error) {
		var outputs []Append
		for i := range 200 {
			outputs = append(outputs, d.order(key, fmt.Sprint(i), uint64((amount-1)*200+int64(i))))
		}
		return outputs, nil
	})
	d.pay(a, 1, 2, 3, 4, 5)
	d.start()
	d.commits(5)
	equal(t, len(d.orders()), 1000)
	var sizes []int
	var units []*unit
	for _, facts := range []int{200, 56, 1, 300, 1} {
		units = append(units, &unit{Unit: &factfoldv1.Unit{Facts: make([]*factfoldv1.NewFact, facts)}})
	}
	for _, each := range parts(units) {
		sizes = append(sizes, len(each))
	}
	equal(t, sizes, []int{2, 1, 1, 1})
}

func TestErrorsThatPassAreToldFromOthers(t *testing.T) {
	if !redislog.Passing(unclear("x")) || redislog.Passing(errors.New("x")) || redislog.Passing(&stopped{"x"}) {
		t.Error("they are not")
	}
}

func TestNothingComesOfWhatReplicasHaveNotConfirmed(t *testing.T) {
	d := newDesk(t)
	d.scatter()
	d.start(func(c *Config) { c.Replicas = redislog.ReplicasWithin(1, 100*time.Millisecond) })
	d.pay(a, 1)
	time.Sleep(time.Second)
	equal(t, len(d.tried()), 0) // the claim is not confirmed
	server := strings.Split(strings.TrimSuffix(strings.TrimPrefix(d.url, "redis://"), "/0"), ":")
	redistest.Start(t, "--replicaof", server[0], server[1])
	d.commits(1)
	d.onceEach(1)
}

func TestAHandlerThatEndsItsGoroutineHasAnsweredNothing(t *testing.T) {
	d := newDesk(t)
	d.does(func(context.Context, string, int64) ([]Append, error) {
		runtime.Goexit()
		return nil, nil
	})
	e := d.start()
	d.pay(a, 1)
	err := <-e.done
	e.done <- err
	if !errors.Is(err, errGone) {
		t.Fatal(err)
	}
	equal(t, d.position(0), uint64(0))
	equal(t, d.hash(d.key("group"))["settled"], "0")
}

func TestTracesGoThroughAReaction(t *testing.T) {
	for _, replay := range []bool{false, true} {
		t.Run(fmt.Sprint(replay), func(t *testing.T) {
			d := newDesk(t)
			d.scatter()
			exporter := tracetest.NewInMemoryExporter()
			traced, err := telemetry.New(sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter)), nil, true)
			if err != nil {
				t.Fatal(err)
			}
			if replay {
				d.pay(a, 1, 2)
			}
			d.start(func(c *Config) { c.Telemetry = traced })
			if !replay {
				d.eventually(func() bool { return d.hash(d.key("group"))["owner"] != "" })
				d.pay(a, 1, 2)
			}
			d.commits(2)
			named := map[string][]tracetest.SpanStub{}
			for _, span := range exporter.GetSpans() {
				named[span.Name] = append(named[span.Name], span)
			}
			processes := map[string]bool{}
			roots := 0
			for _, span := range named["process payments"] {
				processes[span.SpanContext.SpanID().String()] = true
				if !span.Parent.IsValid() {
					roots++
				}
			}
			if replay { // one more, in which all others are
				equal(t, []int{len(processes), roots}, []int{3, 1})
			} else {
				equal(t, []int{len(processes), roots}, []int{2, 2})
			}
			if len(named["send orders"]) == 0 {
				t.Fatal("nothing was sent")
			}
			for _, span := range named["send orders"] {
				if !processes[span.Parent.SpanID().String()] {
					t.Error("a send span has another parent")
				}
			}
		})
	}
}
