package chassis

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"factfold/chassis/internal/contract"
	"factfold/chassis/internal/redislog"
	"factfold/chassis/internal/testorders"
	"factfold/chassis/internal/views"
	"factfold/chassis/internal/wire"
	"factfold/chassis/testing/redistest"
)

// A view of orders: by id, with the order before of the same name, and how many have a name.
type shelf struct {
	engine *views.Engine
	orders *Table[*testorders.Order]
	joined *Table[*testorders.Order]
	named  *Table[*testorders.Announced]
}

func (s *shelf) cut(*views.View) *views.Cut { return s.engine.Cut() }

// newShelf has an order for each name, with ids from 0 on.
func newShelf(t *testing.T, names ...string) *shelf {
	t.Helper()
	url, err := redislog.ParseURL(redistest.Start(t).URL())
	if err != nil {
		t.Fatal(err)
	}
	redis := redislog.New(url)
	epochs, err := redislog.CreateStream(t.Context(), redis, "orders", 2, func() string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	link, err := redis.Link(t.Context(), "orders")
	if err != nil {
		t.Fatal(err)
	}
	defer link.Close()
	last := map[int]wire.Position{}
	for i, name := range names {
		event := &testorders.Created{Id: fmt.Sprint(i), Name: name}
		data, err := proto.Marshal(event)
		if err != nil {
			t.Fatal(err)
		}
		partition := wire.PartitionOf(event.Id, 2)
		keys, at := wire.KeysOf("orders", partition), wire.ID{Ms: 1, N: last[partition].N + 1}
		replies, err := link.Pipe(t.Context(), 5*time.Second,
			[]any{"XADD", keys.Log(), at.String(), "type", "testorders.Created", "key", event.Id, "meta", "", "data", data},
			[]any{"HSET", keys.Head(), "n", at.N})
		if err != nil {
			t.Fatal(err, replies)
		}
		last[partition] = wire.Position{Stream: "orders", Partition: partition, Epoch: epochs[partition], ID: at}
	}

	view := NewView("orders")
	s := &shelf{orders: NewTable[*testorders.Order](view, "orders")}
	s.joined = NewJoin(view, "joined", s.orders, s.orders,
		func(order *testorders.Order) (string, bool) { return strings.CutPrefix(order.Name, "after ") },
		func(order, before *testorders.Order) *testorders.Order {
			switch {
			case order.Name == "hidden":
				return nil
			case before == nil:
				return &testorders.Order{Name: "nothing"}
			}
			return &testorders.Order{Name: before.Name}
		})
	s.named = NewAggregate(view, "named", s.orders,
		func(order *testorders.Order) (string, bool) { return order.Name, true },
		func(row *testorders.Announced, order *testorders.Order) { row.Id += order.Id },
		func(row *testorders.Announced, order *testorders.Order) {
			row.Id = strings.Replace(row.Id, order.Id, "", 1)
		})
	create := NewFold(s.orders, func(row *testorders.Order, event *testorders.Created, fact *wire.Fact) *testorders.Order {
		if row != nil || fact.Key() != event.Id {
			t.Errorf("there is %v at %s", row, fact.Position())
		}
		if event.Name == "none" {
			return nil
		}
		return &testorders.Order{Id: event.Id, Name: event.Name}
	})
	declared, err := contract.New([]protoreflect.FileDescriptor{testorders.File_orders_proto}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.engine, err = views.NewEngine(views.Config{
		View: view, Folds: []views.Fold{create.fold}, Contract: declared, Redis: redis,
		Count: func(string, ...string) { t.Error("a fold has failed") }, Changed: func() {},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var ends sync.WaitGroup
	ends.Go(func() { _ = s.engine.Run(ctx) })
	t.Cleanup(func() { cancel(); ends.Wait() })
	for end := time.Now().Add(10 * time.Second); !s.engine.Ready(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(s.engine.Status())
		}
	}
	return s
}

func TestRowsAreOfTheirTypes(t *testing.T) {
	s := newShelf(t, "a", "b", "a", "after 1", "after 9", "hidden", "none")
	rows := RowsOf(s, s.orders)
	if row, found := rows.Get("3"); !found || row.Name != "after 1" || rows.Len() != 6 {
		t.Errorf("%v, %d rows", row, rows.Len())
	}
	if row, found := rows.Get("6"); found || row != nil {
		t.Errorf("%v", row)
	}
	var keys []string
	for key, row := range rows.All() {
		keys = append(keys, key)
		row.Name = "changed" // of its own
	}
	if got := strings.Join(keys, ""); got != "012345" {
		t.Error(got)
	}
	if row, _ := rows.Get("0"); row.Name != "a" {
		t.Errorf("%v", row)
	}
	joined := RowsOf(s, s.joined)
	for key, want := range map[string]string{"0": "nothing", "3": "b", "4": "nothing", "5": ""} {
		if row, _ := joined.Get(key); row.GetName() != want {
			t.Errorf("%s: %v", key, row)
		}
	}
	if row, _ := RowsOf(s, s.named).Get("a"); row.GetId() != "02" && row.GetId() != "20" {
		t.Errorf("%v", row)
	}
	if position := PositionOf(s, s.joined); strings.Count(position, "orders/") != 2 {
		t.Error(position)
	}
}

func TestAPageOfLargeRowsComesShort(t *testing.T) {
	sizes := []int{pageBytes / 3, pageBytes - 100, 1, 2 * pageBytes, pageBytes, 1, 1}
	var names []string
	for _, size := range sizes {
		names = append(names, strings.Repeat("x", size))
	}
	s := newShelf(t, names...)
	rows := RowsOf(s, s.orders)
	var pages [][]int
	for token, first := "", true; first || token != ""; first = false {
		page, err := rows.Page(50, token)
		if err != nil {
			t.Fatal(err)
		}
		var found []int
		for _, row := range page.Rows {
			found = append(found, len(row.Name))
		}
		pages, token = append(pages, found), page.NextToken
	}
	want := fmt.Sprint([][]int{sizes[:2], sizes[2:4], sizes[4:5], sizes[5:]})
	if fmt.Sprint(pages) != want {
		t.Errorf("%v, not %s", pages, want)
	}
}

func TestATokenThatNoPageCameWithIsRefused(t *testing.T) {
	s := newShelf(t, "a", "b", "c")
	rows := RowsOf(s, s.orders)
	page, err := rows.Page(1, "")
	if err != nil || len(page.Rows) != 1 || page.NextToken != "MA" {
		t.Fatal(page, err)
	}
	for _, token := range []string{
		"!", "MA=", "MA==", "MB", "M", "/w", "_w", "=", "====", "MA\n", "MA\x00", "é",
	} {
		if _, err := rows.Page(1, token); err == nil || err.Error() != "no page token of this service" {
			t.Errorf("%q: %v", token, err)
		}
	}
}
