package views

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

var (
	textType = (*wrapperspb.StringValue)(nil).ProtoReflect().Type()
	sumType  = (*wrapperspb.Int64Value)(nil).ProtoReflect().Type()
)

func valueOf(row proto.Message) string { return row.(*wrapperspb.StringValue).Value }

// failing is a view whose function of this name fails for rows with an exclamation mark.
func failing(name string) *View {
	try := func(now string, row proto.Message) {
		if now == name && row != nil && strings.Contains(valueOf(row), "!") {
			panic(name)
		}
	}
	shown := func(left string, right proto.Message) proto.Message {
		if right == nil {
			return wrapperspb.String(left + " -")
		}
		return wrapperspb.String(left + " " + valueOf(right))
	}
	change := func(name string, sign int64) func(row, source proto.Message) {
		return func(row, source proto.Message) {
			try(name, source)
			row.(*wrapperspb.Int64Value).Value += sign * int64(valueOf(source)[0])
		}
	}
	view := NewView("view")
	left, right := NewTable(view, "left", textType), NewTable(view, "right", textType)
	Join{
		Left: left, Right: right,
		On: func(row proto.Message) (string, bool) { try("on", row); return valueOf(row)[1:], true },
		Combine: func(left, right proto.Message) proto.Message {
			try("combine", left)
			try("combine", right)
			return shown(valueOf(left), right)
		},
	}.Declare("join", view, textType)
	sums := Aggregate{
		Source: left,
		By:     func(row proto.Message) (string, bool) { try("by", row); return valueOf(row)[1:], true },
		Add:    change("add", +1),
		Remove: change("remove", -1),
	}.Declare("sums", view, sumType)
	Join{
		Left: sums, Right: right,
		On: func(proto.Message) (string, bool) { return "x", true },
		Combine: func(sum, right proto.Message) proto.Message {
			if sum.(*wrapperspb.Int64Value).Value%2 == 0 {
				panic("even")
			}
			return shown(fmt.Sprint(sum.(*wrapperspb.Int64Value).Value), right)
		},
	}.Declare("odd", view, textType)
	return view
}

type change struct{ table, key, value string } // without a value: the row goes

// histories are what happens to each key, in order.
func histories(random *rand.Rand) [][]change {
	values := []string{"ax", "bx", "!x", "ay", "by", "!y", ""} // the last letter: where it points, its group
	var all [][]change
	for _, at := range []change{{"left", "1", ""}, {"left", "2", ""}, {"left", "3", ""}, {"right", "x", ""}, {"right", "y", ""}} {
		var its []change
		for range random.IntN(5) {
			its = append(its, change{at.table, at.key, values[random.IntN(len(values))]})
		}
		all = append(all, its)
	}
	return all
}

// applied are the tables after all histories, in a random order between keys.
func applied(view *View, histories [][]change, random *rand.Rand) *tables {
	its, named := newTables(view), map[string]*rows{}
	for table, rows := range its.of {
		named[table.Name] = rows
	}
	var turns, next []int
	for i, history := range histories {
		next = append(next, 0)
		for range history {
			turns = append(turns, i)
		}
	}
	random.Shuffle(len(turns), func(i, j int) { turns[i], turns[j] = turns[j], turns[i] })
	for _, turn := range turns {
		one := histories[turn][next[turn]]
		next[turn]++
		var row proto.Message
		if one.value != "" {
			row = wrapperspb.String(one.value)
		}
		_ = named[one.table].put(one.key, row) // what fails is to show in the rows
	}
	return its
}

func contents(its *tables) map[string]string {
	all := map[string]string{}
	for table, rows := range its.of {
		for key, data := range rows.tree.all("") {
			all[table.Name+"/"+key] = string(data)
		}
	}
	return all
}

func TestTheOrderBetweenKeysDoesNotShow(t *testing.T) {
	for _, name := range []string{"", "on", "combine", "by", "add", "remove"} {
		view := failing(name)
		for seed := range uint64(50) {
			random := rand.New(rand.NewPCG(seed, 0))
			facts := histories(random)
			first := applied(view, facts, random)
			want := contents(first)
			for range 4 {
				if got := contents(applied(view, facts, random)); !maps.Equal(got, want) {
					t.Fatalf("%s fails, seed %d: %v is not %v", name, seed, got, want)
				}
			}
			if name == "remove" {
				continue // what cannot be taken out stays, and a snapshot does not know of it
			}
			if got := contents(again(t, first)); !maps.Equal(got, want) {
				t.Fatalf("%s fails, seed %d: derived at once, %v is not %v", name, seed, got, want)
			}
		}
	}
}

func TestAJoinMayChangeTheRowsThatItIsGiven(t *testing.T) {
	view := NewView("view")
	left, right := NewTable(view, "left", textType), NewTable(view, "right", textType)
	join := Join{
		Left: left, Right: right,
		On: func(proto.Message) (string, bool) { return "x", true },
		Combine: func(left, right proto.Message) proto.Message {
			left.(*wrapperspb.StringValue).Value += "!"
			if right == nil {
				return left
			}
			right.(*wrapperspb.StringValue).Value += "!"
			return right
		},
	}.Declare("join", view, textType)
	its := newTables(view)
	for _, each := range []struct {
		table      *Table
		key, value string
	}{{left, "1", "a"}, {left, "2", "b"}, {right, "x", "r"}, {right, "x", "r"}} {
		if err := its.of[each.table].put(each.key, wrapperspb.String(each.value)); err != nil {
			t.Fatal(err)
		}
	}
	for want, at := range map[string]struct {
		table *Table
		key   string
	}{"r!": {join, "2"}, "r": {right, "x"}, "a": {left, "1"}} {
		if row, err := its.of[at.table].get(at.key); err != nil || valueOf(row) != want {
			t.Errorf("%v, %v, not %s", row, err, want)
		}
	}
}
