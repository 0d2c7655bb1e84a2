package views

import (
	"errors"
	"fmt"
	"iter"
	"runtime/debug"
	"slices"

	"google.golang.org/protobuf/proto"

	"factfold/chassis/internal/wire"
)

// tables are all tables of one view, with the derived ones wired to their sources. Whoever holds
// the engine's lock may change them.
type tables struct {
	view *View
	of   map[*Table]*rows
}

func newTables(view *View) *tables {
	t := &tables{view, make(map[*Table]*rows, len(view.tables))}
	for _, table := range view.tables {
		t.of[table] = &rows{table: table}
	}
	for _, each := range view.derived {
		each.follow(t)
	}
	return t
}

// derive fills the derived tables from rows that a snapshot brought, and returns what failed.
func (t *tables) derive(goOn func() error) (failures []error, stopped error) {
	for _, table := range t.view.folded() {
		rows := t.of[table]
		if len(rows.listeners) == 0 {
			continue
		}
		for key, data := range rows.tree.all("") {
			if err := goOn(); err != nil {
				return failures, err
			}
			if err := rows.tell(key, nil, data); err != nil {
				failures = append(failures, err)
			}
		}
	}
	return failures, nil
}

// rows are those of one table. They are kept serialized: less than half the memory of messages,
// little for the garbage collector to walk through, and whoever reads parses a message of its own,
// which is no more work than a copy and can never change what is here.
type rows struct {
	table     *Table
	tree      tree[[]byte]
	listeners []listener
}

// listener is told of each change; before and after, nil for none, are its own.
type listener func(key string, before, after proto.Message) error

func (r *rows) parse(data []byte) (proto.Message, error) {
	if data == nil {
		return nil, nil
	}
	row := r.table.Row.New().Interface()
	if err := proto.Unmarshal(data, row); err != nil {
		return nil, fmt.Errorf("a row of table %s: %w", r.table.Name, err)
	}
	return row, nil
}

func (r *rows) get(key string) (proto.Message, error) {
	data, _ := r.tree.get(key)
	return r.parse(data)
}

// put sets a row, or removes it if it is nil, and tells those that derive from it.
func (r *rows) put(key string, row proto.Message) error {
	return r.change(r.tree.seek(key), row)
}

// change is the same for the place of the present row.
func (r *rows) change(at spot[[]byte], row proto.Message) (err error) {
	key, before := at.key.text, at.value()
	var after []byte // not nil if there is a row, also if it is empty
	switch {
	case row != nil:
		if after, err = proto.Marshal(row); err != nil {
			return fmt.Errorf("a row of table %s: %w", r.table.Name, err)
		}
		r.tree.setAt(at, after)
	case before != nil:
		r.tree.delete(key)
	default:
		return nil
	}
	if len(r.listeners) == 0 {
		return nil
	}
	return r.tell(key, before, after)
}

func (r *rows) tell(key string, before, after []byte) error {
	var failures []error
	for _, listener := range r.listeners {
		was, err := r.parse(before)
		if err != nil {
			return err
		}
		is, err := r.parse(after)
		if err != nil {
			return err
		}
		failures = append(failures, listener(key, was, is))
	}
	return errors.Join(failures...)
}

// Cut is a view at one moment: all its tables, and the position that they stand for. It never
// changes, and may be read by many at once.
type Cut struct {
	tables    map[*Table]tree[[]byte]
	positions []wire.Position
}

// Position is the token of what the tables contain.
func (c *Cut) Position() string { return wire.FormatPositions(slices.Values(c.positions)) }

// Len is the number of rows.
func (c *Cut) Len(table *Table) int {
	rows := c.tables[table]
	return rows.size
}

// Get parses the row of key into row, and says whether there is one.
func (c *Cut) Get(table *Table, key string, row proto.Message) bool {
	rows := c.tables[table]
	data, found := rows.get(key)
	return found && parsed(data, row)
}

// Row is a row of a table as it is kept: Into parses it.
type Row struct{ data []byte }

// Into parses the row into an empty message.
func (r Row) Into(row proto.Message) { parsed(r.data, row) }

// Size is in bytes.
func (r Row) Size() int { return len(r.data) }

// All are the rows in the order of their keys, of the keys behind `after` if it is not empty.
func (c *Cut) All(table *Table, after string) iter.Seq2[string, Row] {
	return func(yield func(string, Row) bool) {
		rows := c.tables[table]
		for key, data := range rows.all(after) {
			if !yield(key, Row{data}) {
				return
			}
		}
	}
}

// parsed cannot fail: what is kept was serialized here, or parsed when a snapshot brought it.
func parsed(data []byte, row proto.Message) bool {
	return proto.Unmarshal(data, row) == nil
}

// try calls what a team has written: a panic there is an error here, with the stack.
func try(do func()) (err error) {
	defer func() {
		if found := recover(); found != nil {
			err = &panicked{found, debug.Stack()}
		}
	}()
	do()
	return nil
}

type panicked struct {
	value any
	stack []byte
}

func (p *panicked) Error() string { return fmt.Sprintf("panic: %v", p.value) }

// stackOf is what a log shows of an error.
func stackOf(err error) string {
	var found *panicked
	if errors.As(err, &found) {
		return fmt.Sprintf("%v\n%s", err, found.stack)
	}
	return err.Error()
}
