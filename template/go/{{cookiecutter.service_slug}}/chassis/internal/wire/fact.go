package wire

import (
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	factfoldv1 "factfold/chassis/factfold/v1"
)

// MaxKeyBytes is how long a fact's key may be.
const MaxKeyBytes = 512

// Entry is what stands in a log: names and values in turn, as raw bytes.
type Entry struct {
	ID     ID
	Fields []string
}

// Field is the value of the first field of this name.
func (e Entry) Field(name string) (string, bool) {
	for i := 0; i+1 < len(e.Fields); i += 2 {
		if e.Fields[i] == name {
			return e.Fields[i+1], true
		}
	}
	return "", false
}

// FactID is the id that the metadata has, as 16 bytes; empty if it cannot be read.
func (e Entry) FactID() string {
	meta, _ := e.Field("meta")
	parsed := &factfoldv1.FactMeta{}
	if proto.Unmarshal([]byte(meta), parsed) != nil {
		return ""
	}
	return string(parsed.Id)
}

// Fact is one immutable entry of a stream. An entry need not be a fact: what reads it says so.
type Fact struct {
	Stream    string
	Partition int
	Epoch     string
	Entry     Entry
}

// Position is where it stands.
func (f Fact) Position() Position {
	return Position{f.Stream, f.Partition, f.Epoch, f.Entry.ID}
}

func (f Fact) field(name string) (string, error) {
	value, ok := f.Entry.Field(name)
	if !ok {
		return "", fmt.Errorf("the entry %s has no field %s", f.Entry.ID, name)
	}
	return value, nil
}

// Type is the full name of its event.
func (f Fact) Type() (string, error) {
	text, err := f.field("type")
	if err == nil && !utf8.ValidString(text) {
		err = errors.New("its type is no text")
	}
	return text, err
}

// Key is the key as it stands there; empty if there is none.
func (f Fact) Key() string {
	key, _ := f.Entry.Field("key")
	return key
}

// CheckKey says why no fact can have this key.
func CheckKey(key string) error {
	if len(key) < 1 || len(key) > MaxKeyBytes || key == "_" {
		return fmt.Errorf("a key has 1 to %d bytes, and is not '_'", MaxKeyBytes)
	}
	if !utf8.ValidString(key) {
		return errors.New("its key is no text")
	}
	return nil
}

// RawKey is the key; empty if it is one that no fact may have. Dead letters count under it.
func (f Fact) RawKey() string {
	if key := f.Key(); key != "_" {
		return key
	}
	return ""
}

// Data is the serialized event.
func (f Fact) Data() []byte {
	data, _ := f.Entry.Field("data")
	return []byte(data)
}

// Meta is the metadata, parsed.
func (f Fact) Meta() (*factfoldv1.FactMeta, error) {
	text, err := f.field("meta")
	if err != nil {
		return nil, err
	}
	meta := &factfoldv1.FactMeta{}
	if err := proto.Unmarshal([]byte(text), meta); err != nil {
		return nil, fmt.Errorf("its metadata does not parse: %w", err)
	}
	return meta, nil
}

// ID is the fact's own.
func (f Fact) ID() (uuid.UUID, error) {
	meta, err := f.Meta()
	if err != nil {
		return uuid.Nil, err
	}
	id, err := uuid.FromBytes(meta.Id)
	if err != nil {
		return uuid.Nil, errors.New("it has no id")
	}
	return id, nil
}

// Version of the key once this fact is applied, from 1; 0 without versions.
func (f Fact) Version() uint64 {
	meta, err := f.Meta()
	if err != nil {
		return 0
	}
	return meta.Version
}

// Time is when it was made.
func (f Fact) Time() time.Time {
	meta, err := f.Meta()
	if err != nil {
		return time.Time{}
	}
	return time.Unix(0, int64(meta.TimeUnixNano)).UTC()
}

// Event parses the event into message; an error says why the entry is no fact, to who needs no
// metadata.
func (f Fact) Event(message proto.Message) error {
	key, err := f.field("key")
	if err != nil {
		return err
	}
	if err := CheckKey(key); err != nil {
		return err
	}
	data, err := f.field("data")
	if err != nil {
		return err
	}
	if err := proto.Unmarshal([]byte(data), message); err != nil {
		return fmt.Errorf("its event does not parse: %w", err)
	}
	return nil
}

// Read is as Event, and looks at the metadata, too.
func (f Fact) Read(message proto.Message) error {
	if _, err := f.ID(); err != nil {
		return err
	}
	return f.Event(message)
}
