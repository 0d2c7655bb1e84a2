// Package views has derived state: tables folded from streams, and tables derived from those.
package views

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"factfold/chassis/internal/fault"
	"factfold/chassis/internal/wire"
)

// View is a named piece of derived state. Its tables live and die, and are rebuilt, together. It is
// a declaration only: the running state is an Engine's, so that each test has its own.
type View struct {
	Name string

	tables  []*Table
	derived []derived
	wrong   error // of a declaration; told when an engine is made of it
}

// Table is key → row.
type Table struct {
	View *View
	Name string
	Row  protoreflect.MessageType

	derived bool
}

// Join is a table with one row per row of Left, combined with the row of Right it points to.
type Join struct {
	Table, Left, Right *Table
	// On is the key in Right that a row of Left points to; false: to nothing.
	On func(left proto.Message) (string, bool)
	// Combine is pure. right is nil if there is no such row; a nil result leaves the row out.
	Combine func(left, right proto.Message) proto.Message
}

// Aggregate is a table with one row per group of rows of Source.
type Aggregate struct {
	Table, Source *Table
	// By is the group of a row; false: it is in none.
	By func(source proto.Message) (string, bool)
	// Add changes the group's row for a source row that joins it, Remove undoes exactly that.
	Add, Remove func(row, source proto.Message)
}

// Fold is what one event type does to one table.
type Fold struct {
	Event protoreflect.MessageType
	Into  *Table
	// Function returns the key's new row, nil for none. row is a message of its own, nil if there is
	// none yet.
	Function func(row, event proto.Message, fact *wire.Fact) proto.Message
}

// derived is a join or an aggregate.
type derived interface{ follow(*tables) }

// NewView declares a view.
func NewView(name string) *View { return &View{Name: name} }

// NewTable declares a table that folds write: rows of one stream, each under its fact's key.
func NewTable(view *View, name string, row protoreflect.MessageType) *Table {
	table := &Table{View: view, Name: name, Row: row}
	for _, each := range view.tables {
		if each.Name == name {
			view.mistake(fault.Wiring("view %s has two tables %s: rename one", view.Name, name))
		}
	}
	view.tables = append(view.tables, table)
	return table
}

// Declare adds the join to a view; its Table is made here.
func (j Join) Declare(name string, view *View, row protoreflect.MessageType) *Table {
	j.Table = newDerived(view, name, row, j.Left, j.Right)
	view.derived = append(view.derived, &j)
	return j.Table
}

// Declare declares an aggregate; its Table is made here.
func (a Aggregate) Declare(name string, view *View, row protoreflect.MessageType) *Table {
	a.Table = newDerived(view, name, row, a.Source)
	view.derived = append(view.derived, &a)
	return a.Table
}

func newDerived(view *View, name string, row protoreflect.MessageType, sources ...*Table) *Table {
	for _, source := range sources {
		if source.View != view {
			view.mistake(fault.Wiring("table %s of view %s is derived from %s of view %s: make both "+
				"tables of one view", name, view.Name, source.Name, source.View.Name))
		}
	}
	table := NewTable(view, name, row)
	table.derived = true
	return table
}

// mistake keeps the first one: package-level declarations have nobody to return it to.
func (v *View) mistake(err error) {
	if v.wrong == nil {
		v.wrong = err
	}
}

// folded are the tables that folds write; the others are derived from them.
func (v *View) folded() []*Table {
	var found []*Table
	for _, table := range v.tables {
		if !table.derived {
			found = append(found, table)
		}
	}
	return found
}
