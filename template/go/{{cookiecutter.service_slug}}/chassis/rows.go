package chassis

import (
	"encoding/base64"
	"errors"
	"iter"
	"unicode/utf8"

	"factfold/chassis/internal/views"
)

// pageBytes is how much a page has of rows; gRPC clients take messages of 4 MiB.
const pageBytes = 1 << 20

// Reads is what rows are read by: any call.
type Reads interface {
	// cut is the state of a view that this call reads. It panics with a *fault.WiringError if no
	// fold writes into the view.
	cut(*views.View) *views.Cut
}

// Rows are those of one table at one moment: what comes later does not change them. Each row that
// is handed out is a message of its own, which may be changed.
type Rows[Row Message] struct {
	table *views.Table
	cut   *views.Cut
}

// RowsOf are the rows of a table. A query that reads several tables of a view reads the same moment
// of all.
func RowsOf[Row Message](call Reads, table *Table[Row]) Rows[Row] {
	return Rows[Row]{table.table, call.cut(table.table.View)}
}

// PositionOf is the token of what a table contains as this call reads it, for a watch or for
// factfold-at-least.
func PositionOf(call Reads, table AnyTable) string {
	return call.cut(table.of().View).Position()
}

// Get is the row of a key; false: there is none.
func (r Rows[Row]) Get(key string) (row Row, found bool) {
	message := r.empty()
	if !r.cut.Get(r.table, key, message) {
		return row, false
	}
	return message, true
}

// Len is the number of rows.
func (r Rows[Row]) Len() int { return r.cut.Len(r.table) }

// All are keys and rows, in the order of the keys.
func (r Rows[Row]) All() iter.Seq2[string, Row] {
	return func(yield func(string, Row) bool) {
		for key, kept := range r.cut.All(r.table, "") {
			row := r.empty()
			kept.Into(row)
			if !yield(key, row) {
				return
			}
		}
	}
}

// Page is some rows in the order of their keys.
type Page[Row Message] struct {
	Rows      []Row
	NextToken string // empty: this is the last page
}

// Page has up to size rows, from where token ended (empty: from the first one on); fewer if they
// are large, as a page is sent in one message. A token that this method did not return is an error.
func (r Rows[Row]) Page(size int, token string) (Page[Row], error) {
	after, err := keyOf(token)
	if err != nil {
		return Page[Row]{}, err
	}
	var page Page[Row]
	last, room := "", pageBytes
	for key, kept := range r.cut.All(r.table, after) {
		if len(page.Rows) >= size || room <= 0 {
			if len(page.Rows) > 0 {
				page.NextToken = base64.RawURLEncoding.EncodeToString([]byte(last))
			}
			break
		}
		row := r.empty()
		kept.Into(row)
		page.Rows = append(page.Rows, row)
		last, room = key, room-kept.Size()
	}
	return page, nil
}

func (r Rows[Row]) empty() Row { return r.table.Row.New().Interface().(Row) }

// keyOf is the key that a page ended with.
func keyOf(token string) (string, error) {
	// Base64 has other spellings of a key, which were never handed out.
	key, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || !utf8.Valid(key) || base64.RawURLEncoding.EncodeToString(key) != token {
		return "", errors.New("no page token of this service")
	}
	return string(key), nil
}
