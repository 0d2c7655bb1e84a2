package redislog

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"factfold/chassis/internal/wire"
)

// Entries are those of a reply of XRANGE.
func Entries(reply any) ([]wire.Entry, error) {
	parts := List(reply)
	entries := make([]wire.Entry, 0, len(parts))
	for _, part := range parts {
		pair := List(part)
		if len(pair) != 2 {
			return nil, fmt.Errorf("a reply is none of entries: %v", part)
		}
		id, err := wire.ParseID(Text(pair[0]))
		if err != nil {
			return nil, err
		}
		values := List(pair[1])
		fields := make([]string, len(values))
		for i, value := range values {
			fields[i] = Text(value)
		}
		entries = append(entries, wire.Entry{ID: id, Fields: fields})
	}
	return entries, nil
}

// texts are what the fields of a reply's entries have been read into: all of it, where each field
// ends, and how many fields each entry has.
type texts struct {
	bytes  []byte
	ends   []int
	counts []int
}

// receiveEntries is receive for a reply of XRANGE, and the bytes that its fields have. All of these
// are parts of one text, as one allocation a field is what reading costs most: whoever keeps a field
// for longer than its batch keeps a copy.
func (d *duplex) receiveEntries() (entries []wire.Entry, size int, err error) {
	if err := d.asked(); err != nil {
		return nil, 0, err
	}
	count, err := d.array()
	if err == nil {
		entries, size, err = d.entries(count)
	}
	return entries, size, d.judge(err)
}

// receiveStream is the same for a reply of XREAD about one stream, which has none if it waited in
// vain.
func (d *duplex) receiveStream() (entries []wire.Entry, size int, err error) {
	if err := d.asked(); err != nil {
		return nil, 0, err
	}
	streams, err := d.array()
	if err == nil && streams > 0 {
		entries, size, err = d.stream()
	}
	return entries, size, d.judge(err)
}

func (d *duplex) stream() ([]wire.Entry, int, error) {
	if _, err := d.array(); err != nil {
		return nil, 0, err
	}
	if _, err := d.reply(); err != nil { // its name
		return nil, 0, err
	}
	count, err := d.array()
	if err != nil {
		return nil, 0, err
	}
	return d.entries(count)
}

func (d *duplex) entries(count int) ([]wire.Entry, int, error) {
	its := &d.found
	its.bytes, its.ends, its.counts = its.bytes[:0], its.ends[:0], its.counts[:0]
	entries := make([]wire.Entry, 0, max(0, count))
	for range count {
		if _, err := d.array(); err != nil {
			return nil, 0, err
		}
		id, err := d.id()
		if err != nil {
			return nil, 0, err
		}
		fields, err := d.array()
		if err != nil {
			return nil, 0, err
		}
		for range fields {
			if err := d.text(); err != nil {
				return nil, 0, err
			}
		}
		entries = append(entries, wire.Entry{ID: id})
		its.counts = append(its.counts, max(0, fields))
	}
	all, begin := string(its.bytes), 0
	fields := make([]string, len(its.ends))
	for i, end := range its.ends {
		fields[i], begin = all[begin:end], end
	}
	for i, count := range its.counts {
		entries[i].Fields, fields = fields[:count:count], fields[count:]
	}
	return entries, len(all), nil
}

// array is the number of parts that follow; -1: nil.
func (d *duplex) array() (int, error) { return d.size('*') }

func (d *duplex) id() (wire.ID, error) {
	its := &d.found
	begin := len(its.bytes)
	if err := d.text(); err != nil {
		return wire.ID{}, err
	}
	id, err := wire.ParseID(string(its.bytes[begin:]))
	its.bytes, its.ends = its.bytes[:begin], its.ends[:len(its.ends)-1]
	return id, err
}

// text adds the next bulk string.
func (d *duplex) text() error {
	size, err := d.size('$')
	if err == nil && size < 0 {
		err = errors.New("not Redis' protocol: nil in an entry")
	}
	if err != nil {
		return err
	}
	its := &d.found
	if size+2 <= d.reader.Buffered() {
		there, _ := d.reader.Peek(size)
		its.bytes = append(its.bytes, there...)
		_, _ = d.reader.Discard(size + 2)
	} else {
		begin := len(its.bytes)
		its.bytes = slices.Grow(its.bytes, size)[:begin+size]
		if _, err := io.ReadFull(d.reader, its.bytes[begin:]); err != nil {
			return err
		}
		if _, err := d.reader.Discard(2); err != nil {
			return err
		}
	}
	its.ends = append(its.ends, len(its.bytes))
	return nil
}

func (d *duplex) size(wanted byte) (int, error) {
	kind, text, err := d.line()
	if err != nil {
		return 0, err
	}
	if kind == '-' {
		return 0, replyError(text)
	}
	number, err := strconv.Atoi(string(text))
	if err != nil || kind != wanted || number > maxReply {
		return 0, notRedis(kind, text)
	}
	return number, nil
}
