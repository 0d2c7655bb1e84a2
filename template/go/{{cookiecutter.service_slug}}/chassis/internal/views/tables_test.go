package views

import (
	"maps"
	"testing"

	"google.golang.org/protobuf/proto"
)

// cutOf is what the tables have now.
func cutOf(t *tables) *Cut {
	cut := &Cut{tables: map[*Table]tree[[]byte]{}}
	for table, rows := range t.of {
		cut.tables[table] = rows.tree.freeze()
	}
	return cut
}

// again are tables with the same rows, and what is derived from them in one go.
func again(t *testing.T, from *tables) *tables {
	t.Helper()
	made := newTables(from.view)
	for _, table := range from.view.folded() {
		made.of[table].tree = from.of[table].tree.freeze()
	}
	if _, err := made.derive(func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	return made
}

func TestDerivedTablesThatFailLeaveOutWhatFailed(t *testing.T) {
	s := newShop(t)
	bad := func(message proto.Message, when string) {
		if text(message) == when {
			panic(when)
		}
	}
	view := NewView("failing")
	orders := NewTable(view, "orders", s.types["Order"])
	customers := NewTable(view, "customers", s.types["Customer"])
	Join{
		Left: orders, Right: customers,
		On: func(order proto.Message) (string, bool) { bad(order, "on"); return text(order), true },
		Combine: func(order, customer proto.Message) proto.Message {
			bad(order, "combine")
			if customer == nil {
				return nil
			}
			bad(customer, "combine")
			return s.message("Line", "", text(customer), number(order))
		},
	}.Declare("lines", view, s.types["Line"])
	Aggregate{
		Source: orders,
		By: func(order proto.Message) (string, bool) {
			bad(order, "by")
			return "all", text(order) != "none"
		},
		Add:    func(row, order proto.Message) { bad(order, "add"); setNumber(row, number(row)+number(order)) },
		Remove: func(row, order proto.Message) { bad(order, "remove"); setNumber(row, number(row)-number(order)) },
	}.Declare("sums", view, s.types["Total"])
	its := newTables(view)
	for i, each := range []struct {
		table          *Table
		key, text      string
		number         int64
		fails          bool
		line, sum      string // of order-1, of all
		notAsItsDerive bool
	}{
		{orders, "order-1", "ada", 1, false, "", " 1", false},
		{customers, "ada", "Ada", 0, false, "Ada 1", " 1", false},
		{orders, "order-1", "on", 2, true, "", " 2", false},
		{orders, "order-1", "ada", 3, false, "Ada 3", " 3", false},
		{orders, "order-1", "combine", 4, true, "", " 4", false},
		{orders, "order-1", "ada", 5, false, "Ada 5", " 5", false},
		{orders, "order-1", "by", 6, true, "", "", false},
		{orders, "order-1", "ada", 7, false, "Ada 7", " 7", false},
		{orders, "order-1", "add", 8, true, "", "", false},
		{orders, "order-1", "none", 9, false, "", "", false},
		{orders, "order-1", "ada", 10, false, "Ada 10", " 10", false},
		{customers, "ada", "combine", 0, true, "", " 10", false},
		{customers, "ada", "Ada", 0, false, "Ada 10", " 10", false},
		{orders, "order-1", "remove", 11, false, "", " 11", false},
		{orders, "order-1", "ada", 12, true, "Ada 12", " 23", true}, // what cannot be taken out stays
	} {
		row := s.message(map[*Table]string{orders: "Order", customers: "Customer"}[each.table],
			"", each.text, each.number)
		if err := its.of[each.table].put(each.key, row); (err != nil) != each.fails {
			t.Errorf("%d: %v", i, err)
		}
		now := shown(view, cutOf(its))
		if now["lines/order-1"] != each.line || now["sums/all"] != each.sum {
			t.Errorf("%d: %v", i, now)
		}
		if derived := shown(view, cutOf(again(t, its))); !each.notAsItsDerive && !maps.Equal(now, derived) {
			t.Errorf("%d: %v, and derived at once: %v", i, now, derived)
		}
	}
}

func TestARowThatCannotBeKeptIsAnError(t *testing.T) {
	s := newShop(t)
	its := newTables(s.view)
	if err := its.of[s.orders].put("order-1", s.message("Order", "", "\xff", 0)); err == nil {
		t.Error("text that is none is kept")
	}
	if rows := shown(s.view, cutOf(its)); len(rows) != 0 {
		t.Errorf("%v", rows)
	}
}
