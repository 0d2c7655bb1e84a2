package chassis

import (
	"google.golang.org/protobuf/proto"

	"factfold/chassis/internal/views"
	"factfold/chassis/internal/wire"
)

// Message is a pointer to a generated message, such as *contract.Order.
type Message interface {
	comparable
	proto.Message
}

// View is a named piece of derived state. Its tables live and die, and are rebuilt, together.
type View = views.View

// NewView declares a view. Its name is unique in the service.
func NewView(name string) *View { return views.NewView(name) }

// Table is key → row, a table of a view.
type Table[Row Message] struct{ table *views.Table }

// AnyTable is a Table of any rows.
type AnyTable interface{ of() *views.Table }

func (t *Table[Row]) of() *views.Table { return t.table }

// NewTable declares a table that folds write: rows of one stream, each under its fact's key.
func NewTable[Row Message](view *View, name string) *Table[Row] {
	var row Row
	return &Table[Row]{views.NewTable(view, name, row.ProtoReflect().Type())}
}

// NewJoin declares a table keyed as left, kept up to date when either side changes.
//
// on is the key in right that a row of left points to; false: to nothing. combine is pure; right is
// nil as long as there is no such row, and a nil result leaves the row out.
func NewJoin[Left, Right, Row Message](
	view *View, name string, left *Table[Left], right *Table[Right],
	on func(left Left) (key string, ok bool), combine func(left Left, right Right) Row,
) *Table[Row] {
	var row Row
	join := views.Join{
		Left:  left.table,
		Right: right.table,
		On:    func(left proto.Message) (string, bool) { return on(left.(Left)) },
		Combine: func(left, right proto.Message) proto.Message {
			return untyped(combine(left.(Left), typed[Right](right)))
		},
	}
	return &Table[Row]{join.Declare(name, view, row.ProtoReflect().Type())}
}

// NewAggregate declares a table with one row per value of by; false: in no group.
//
// add changes the group's row for a source row that joins it; remove undoes exactly what add did
// for that row. The order in which rows come and go must not matter. The row of an empty group is
// dropped.
func NewAggregate[Source, Row Message](
	view *View, name string, source *Table[Source],
	by func(source Source) (group string, ok bool), add, remove func(row Row, source Source),
) *Table[Row] {
	var row Row
	change := func(do func(Row, Source)) func(row, source proto.Message) {
		return func(row, source proto.Message) { do(row.(Row), source.(Source)) }
	}
	aggregate := views.Aggregate{
		Source: source.table,
		By:     func(source proto.Message) (string, bool) { return by(source.(Source)) },
		Add:    change(add),
		Remove: change(remove),
	}
	return &Table[Row]{aggregate.Declare(name, view, row.ProtoReflect().Type())}
}

// Fold is what one event type does to one table.
type Fold struct{ fold views.Fold }

// NewFold declares a fold: function returns the key's new row, nil for no row.
//
// The function is pure. row is the present one (nil: there is none yet), a copy that may be changed
// and returned.
func NewFold[Row, Event Message](
	into *Table[Row], function func(row Row, event Event, fact *wire.Fact) Row,
) Fold {
	var event Event
	return Fold{views.Fold{
		Event: event.ProtoReflect().Type(),
		Into:  into.table,
		Function: func(row, event proto.Message, fact *wire.Fact) proto.Message {
			return untyped(function(typed[Row](row), event.(Event), fact))
		},
	}}
}

// typed is a nil pointer if there is no message: a nil interface has no type.
func typed[M Message](message proto.Message) (found M) {
	if message != nil {
		found = message.(M)
	}
	return found
}

func untyped[M Message](message M) proto.Message {
	var none M
	if message == none {
		return nil
	}
	return message
}
