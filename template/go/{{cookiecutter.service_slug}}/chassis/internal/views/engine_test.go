package views

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	factfoldv1 "factfold/chassis/factfold/v1"
	"factfold/chassis/internal/fault"
	"factfold/chassis/internal/redislog"
	"factfold/chassis/internal/wire"
)

func TestAViewEqualsItsRebuild(t *testing.T) {
	s := newStage(t)
	followed := s.start(nil)
	s.ready(followed)
	s.fill(600)
	rebuilt := s.start(nil)
	s.ready(rebuilt)
	for _, position := range rebuilt.Cut().positions {
		s.reach(followed, position)
	}
	want, got := shown(s.view, followed.Cut()), shown(s.view, rebuilt.Cut())
	if len(want) < 50 || !maps.Equal(want, got) {
		t.Fatalf("%v\nis not\n%v", want, got)
	}
	if followed.Position() != rebuilt.Position() || strings.Count(rebuilt.Position(), ",") != 3 {
		t.Errorf("%s is not %s", followed.Position(), rebuilt.Position())
	}
	if !strings.Contains(s.said.String(), "view shop is up to date: 600 facts in ") {
		t.Error("it does not say how many facts it has read")
	}
	for _, lag := range rebuilt.Lags() {
		if lag.Facts != 0 {
			t.Errorf("it lags: %v", lag)
		}
	}
}

func TestACutStaysAsItIs(t *testing.T) {
	s := newStage(t)
	engine := s.start(nil)
	named := s.put("Named", "customer-1", "Ada", 0, "")
	s.put("Placed", "order-1", "customer-1", 5, "")
	s.ready(engine)
	s.reach(engine, s.put("Placed", "order-1", "", 1, ""))
	s.reach(engine, named)
	cut := engine.Cut()
	before := shown(s.view, cut)
	if before["lines/order-1"] != "Ada 6" || before["by_who/Ada"] != " 6" {
		t.Fatal(before)
	}
	row := s.types["Order"].New().Interface()
	cut.Get(s.orders, "order-1", row)
	setNumber(row, 1000)
	s.reach(engine, s.put("Cancelled", "order-1", "", 0, ""))
	if now := shown(s.view, cut); !maps.Equal(now, before) {
		t.Errorf("%v has become %v", before, now)
	}
	if now := shown(s.view, engine.Cut()); len(now) != 1 || now["customers/customer-1"] != "Ada 0" {
		t.Errorf("the present is %v", now)
	}
}

func TestFoldsThatFailArePassedOverAndSaid(t *testing.T) {
	s := newStage(t)
	s.put("Placed", "order-1", "", 1, "")
	bad := s.put("Placed", "order-1", "", 666, "")
	s.append("orders", 0, "type", "shop.Placed", "key", "k", "data", "")                 // without meta
	s.append("orders", 0, "type", "shop.Placed", "key", "k", "meta", "", "data", "\x0a") // cut
	s.append("orders", 0, "type", "shop.Placed", "key", "_", "meta", "", "data", "")
	s.append("orders", 0, "type", "shop.Lost", "key", "k", "meta", "", "data", "")
	s.append("orders", 0, "type", "shop.Lost", "key", "k", "meta", "", "data", "")
	s.append("orders", 0, "data", "", "key", "empty", "key", "x", "type", "shop.Placed", "meta", "?")
	last := s.put("Placed", "order-1", "", 2, "")
	engine := s.start(nil)
	s.ready(engine)
	s.reach(engine, last)
	if now := shown(s.view, engine.Cut()); now["orders/order-1"] != " 3" || now["orders/empty"] != " 0" {
		t.Errorf("%v", now)
	}
	if n := s.counts["factfold.view.errors view shop stream orders"]; n != 4 {
		t.Errorf("%d failures were counted", n)
	}
	said := s.said.String()
	for _, line := range []string{
		fmt.Sprintf("view shop cannot fold the fact at %s; mend the fold and restart", bad),
		"panic: no such number\\n",
		"fold.go", // the stack
	} {
		if !strings.Contains(said, line) {
			t.Errorf("it does not say %q", line)
		}
	}
	lost := "stream orders has facts of type shop.Lost, which its contract here does not declare: view " +
		"shop passes over them; a type that is in the log must stay in the contract"
	if strings.Count(said, lost) != 1 {
		t.Error("a type that the contract has lost is said once")
	}
}

func TestReach(t *testing.T) {
	s := newStage(t)
	position := s.put("Placed", "order-1", "", 1, "")
	engine := s.start(nil)
	s.ready(engine)
	s.reach(engine, position)
	change := func(do func(*wire.Position)) wire.Position {
		changed := position
		do(&changed)
		return changed
	}
	for name, each := range map[string]struct {
		position wire.Position
		want     error
	}{
		"a stream of which there is nothing yet": {
			change(func(p *wire.Position) { p.Stream = "other" }), fault.KindPositionNotReached},
		"no such partition": {
			change(func(p *wire.Position) { p.Partition = 2 }), fault.KindInvalidRequest},
		"another epoch": {
			change(func(p *wire.Position) { p.Epoch = "0123456789abcdef" }), fault.KindOtherEpoch},
		"another fact with that number": {
			change(func(p *wire.Position) { p.Ms++ }), fault.KindPositionLost},
		"a fact to come": {
			change(func(p *wire.Position) { p.N++ }), fault.KindPositionNotReached},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if err := engine.Reach(ctx, each.position); !errors.Is(err, each.want) {
			t.Errorf("%s: %v", name, err)
		}
		cancel()
	}
}

func TestALogThatIsReplacedIsReadAgain(t *testing.T) {
	s := newStage(t)
	s.fill(60)
	engine := s.start(nil)
	s.ready(engine)
	old := engine.Places()[0].Position()
	if err := s.server.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	gone := "view shop waits for stream orders, whose log is gone: restore it from a backup, or begin " +
		"anew without it: `factfold stream recreate orders`; view shop waits for stream customers, whose " +
		"log is gone: its owner must restore it, or begin it anew"
	s.eventually(func() bool { return engine.Status() == gone }, "gone: %v", func() any { return engine.Status() })
	if len(shown(s.view, engine.Cut())) != 0 || len(engine.Places()) != 0 {
		t.Error("rows are left")
	}
	s.create("orders")
	s.create("customers")
	s.reachNew(engine, s.put("Placed", "order-9", "", 9, ""))
	if now := shown(s.view, engine.Cut()); len(now) != 1 && now["orders/order-9"] != " 9" {
		t.Errorf("%v", now)
	}
	if err := engine.Reach(t.Context(), old); !errors.Is(err, fault.KindOtherEpoch) {
		t.Errorf("%v", err)
	}
	if s.counts["factfold.log.alarms view shop"] == 0 ||
		!strings.Contains(s.said.String(), "now it is gone; rebuilding view shop") {
		t.Error("nothing is said")
	}
}

// reachNew waits until the engine has the fact, through its rebuild.
func (s *stage) reachNew(engine *running, position wire.Position) {
	s.t.Helper()
	s.eventually(func() bool {
		ctx, cancel := context.WithTimeout(s.t.Context(), 100*time.Millisecond)
		defer cancel()
		return engine.Reach(ctx, position) == nil
	}, "reached: %v", func() any { return engine.Status() })
}

func TestARollBackIsNamedFactByFact(t *testing.T) {
	s := newStage(t)
	s.put("Placed", "order-1", "", 1, "")
	lost := []wire.Position{s.put("Placed", "order-1", "", 2, ""), s.put("Placed", "order-1", "", 3, "")}
	engine := s.start(nil)
	s.ready(engine)
	s.reach(engine, lost[1])
	at := lost[0]
	keys := wire.KeysOf(at.Stream, at.Partition)
	pipe := s.client.TxPipeline()
	pipe.XDel(t.Context(), keys.Log(), lost[0].ID.String(), lost[1].ID.String())
	pipe.HSet(t.Context(), keys.Head(), "n", at.N-1)
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.eventually(func() bool {
		return shown(s.view, engine.Cut())["orders/order-1"] == " 1" && engine.Ready()
	}, "rolled back: %v", func() any { return shown(s.view, engine.Cut()) })
	said := s.said.String()
	for _, line := range []string{
		"it ends at fact 1, and fact 3 was read; rebuilding view shop",
		fmt.Sprintf("of the facts that were folded into view shop, 2 are lost: %s, %s; look for them in a "+
			"replica or a backup", lost[0], lost[1]),
	} {
		if !strings.Contains(said, line) {
			t.Errorf("it does not say %q", line)
		}
	}
}

func TestAViewThatLacksFactsRefuses(t *testing.T) {
	for name, each := range map[string]struct {
		trimmed int
		want    string
	}{
		"removed by hand": {0, "facts 1 to 1 were removed before they were read; " +
			"restore the log from a backup and restart"},
		"trimmed": {1, "facts 1 to 1 were trimmed on purpose, and only a backup of the log has them; " +
			"for a view, copy the *.snapshot files of an instance that has read them into " +
			"FACTFOLD_SNAPSHOT_DIR and restart"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			gone := s.put("Placed", "order-1", "", 1, "")
			s.put("Placed", "order-1", "", 2, "")
			keys := wire.KeysOf(gone.Stream, gone.Partition)
			s.client.XDel(t.Context(), keys.Log(), gone.ID.String())
			s.client.HSet(t.Context(), keys.Head(), "trimmed", each.trimmed)
			engine := s.start(nil)
			want := fmt.Sprintf("view shop cannot be complete: stream orders, partition %d: %s",
				gone.Partition, each.want)
			s.eventually(func() bool { return engine.Refused() == want }, "refused: %v",
				func() any { return engine.Status() })
			if engine.Ready() || engine.Status() != want || !strings.Contains(s.said.String(), want) {
				t.Errorf("%q", engine.Status())
			}
		})
	}
}

func TestAViewOutlivesItsRedis(t *testing.T) {
	s := newStage(t)
	s.put("Placed", "order-1", "", 1, "")
	engine := s.start(nil)
	s.ready(engine)
	if err := s.client.Save(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	s.server.Stop()
	if err := s.server.StartAgain(); err != nil {
		t.Fatal(err)
	}
	s.reach(engine, s.put("Placed", "order-1", "", 2, ""))
	if now := shown(s.view, engine.Cut())["orders/order-1"]; now != " 3" {
		t.Error(now)
	}
}

func TestTheJournalHasRequestsAndTheNewestFacts(t *testing.T) {
	s := newStage(t)
	engine := s.start(nil)
	s.ready(engine)
	news, stop := engine.journal.Watch()
	first := s.put("Placed", "order-1", "", 1, "mine")
	s.put("Placed", "order-1", "", 2, "other")
	last := s.put("Placed", "order-1", "", 3, "mine")
	<-news
	stop()
	s.reach(engine, last)
	found := engine.journal.Answered("orders", "order-1", "mine")
	if len(found) != 2 || found[0] != first.ID || found[1] != last.ID {
		t.Errorf("%v", found)
	}
	recent := engine.journal.Recent("orders", first.Partition, 2)
	if len(recent) != 2 || recent[1].ID != last.ID {
		t.Errorf("%v", recent)
	}
	if engine.journal.Recent("customers", 0, 1) != nil {
		t.Error("facts of others are remembered")
	}
}

func TestWhoWatchesIsWokenOnceThePlaceHasMoved(t *testing.T) {
	s := newStage(t)
	engine := s.start(nil)
	s.ready(engine)
	at := slices.IndexFunc(engine.Places(), func(place *Place) bool { return place.Stream == "orders" })
	place := engine.Places()[at]
	news, stop := engine.journal.Watch()
	defer stop()
	place.mu.Lock()
	fact := factOf(1, "order-1", wire.NewMeta("/shop", "", 0))
	go engine.take(place, redislog.Batch{Entries: []wire.Entry{fact}, Anchor: redislog.Anchor{ID: fact.ID}, Tail: 1})
	select {
	case <-news:
		t.Error("it would look, see nothing, and wait for the next fact")
	case <-time.After(300 * time.Millisecond):
	}
	place.mu.Unlock()
	select {
	case <-news:
	case <-time.After(10 * time.Second):
		t.Error("it is not woken")
	}
}

func TestDeclarationsThatDoNotFit(t *testing.T) {
	for want, change := range map[string]func(*shop){
		"view shop has two tables orders: rename one": func(s *shop) {
			NewTable(s.view, "orders", s.types["Order"])
		},
		"table more of view shop is derived from far of view other: make both tables of one view": func(s *shop) {
			far := NewTable(NewView("other"), "far", s.types["Order"])
			Aggregate{Source: far}.Declare("more", s.view, s.types["Total"])
		},
		"table lines is derived: fold into one that is not": func(s *shop) {
			s.folds = append(s.folds, Fold{Event: s.types["Placed"], Into: s.lines})
		},
		"table orders has folds of the streams orders and customers: give each stream its table, and " +
			"join them with NewJoin": func(s *shop) {
			s.folds = append(s.folds, Fold{Event: s.types["Named"], Into: s.orders})
		},
		"shop.Order is not an event of a stream in the contract: give it `option (factfold.v1.event) = {};` " +
			"and a field with `[(factfold.v1.key) = true]`": func(s *shop) {
			s.folds = append(s.folds, Fold{Event: s.types["Order"], Into: s.orders})
		},
	} {
		s := newShop(t)
		change(s)
		_, err := NewEngine(Config{View: s.view, Folds: s.folds, Contract: s.contract})
		var wiring *fault.WiringError
		if !errors.As(err, &wiring) || err.Error() != want {
			t.Errorf("%v, not %s", err, want)
		}
	}
}

// BenchmarkRebuild folds facts that are there already, 100-byte events into 100,000 rows, as a view
// does that begins.
func BenchmarkRebuild(b *testing.B) {
	view := NewView("bench")
	event := (&factfoldv1.NewFact{}).ProtoReflect().Type()
	table := NewTable(view, "rows", event)
	engine := &Engine{view: view, tables: newTables(view), plans: map[string]plan{"parcels": {
		"bench.Event": &step{event: event, folds: []Fold{{event, table,
			func(row, event proto.Message, _ *wire.Fact) proto.Message {
				if row == nil {
					row = &factfoldv1.NewFact{}
				}
				row.(*factfoldv1.NewFact).Key = event.(*factfoldv1.NewFact).Key
				return row
			}}}},
	}}}
	data, _ := proto.Marshal(&factfoldv1.NewFact{Key: "somewhere", Data: make([]byte, 80)})
	meta, _ := proto.Marshal(wire.NewMeta("/bench", "", 0))
	var entries []wire.Entry
	for i := range b.N {
		entries = append(entries, wire.Entry{ID: wire.ID{Ms: 1, N: uint64(i + 1)}, Fields: []string{
			"type", "bench.Event", "key", fmt.Sprintf("%08x-parcel", uint32(i%100_000)*2654435761),
			"meta", string(meta), "data", string(data),
		}})
	}
	place := &Place{Stream: "parcels"}
	b.ReportAllocs()
	b.ResetTimer()
	for start := 0; start < b.N; start += 1000 {
		engine.take(place, redislog.Batch{Entries: entries[start:min(start+1000, b.N)]})
	}
}
