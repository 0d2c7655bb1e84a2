package wire

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	factfoldv1 "factfold/chassis/factfold/v1"
	"factfold/chassis/internal/fault"
	"factfold/chassis/internal/testvectors"
)

const epoch = "00c0ffee00c0ffee"

func TestAKeyHasItsPartition(t *testing.T) {
	type one struct {
		Key        string
		Partitions map[string]int
	}
	for _, each := range testvectors.Cases[one](t, "partitions") {
		for count, want := range each.Partitions {
			partitions, _ := strconv.Atoi(count)
			if found := PartitionOf(each.Key, partitions); found != want {
				t.Errorf("%q of %s: %d, not %d", each.Key, count, found, want)
			}
		}
	}
}

func TestDerivedIDsAreTheSameEverywhere(t *testing.T) {
	for _, each := range testvectors.Cases[struct{ Stream, Seed, ID string }](t, "ids") {
		if found := DerivedID(each.Stream, each.Seed); found != each.ID {
			t.Errorf("%s %q: %s, not %s", each.Stream, each.Seed, found, each.ID)
		}
	}
}

func TestPositionsAreReadAndWritten(t *testing.T) {
	type position struct {
		Stream, Epoch, Ms, N string
		Partition            int
	}
	type one struct {
		Text      string
		Positions []position
		Written   *string
	}
	for _, each := range testvectors.Cases[one](t, "positions") {
		found, err := ParsePositions(each.Text, "x")
		if each.Positions == nil {
			if !errors.Is(err, fault.KindInvalidRequest) {
				t.Errorf("%q is taken: %v %v", each.Text, found, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", each.Text, err)
		}
		var want []Position
		for _, at := range each.Positions {
			want = append(want, Position{at.Stream, at.Partition, at.Epoch, id(t, at.Ms+"-"+at.N)})
		}
		if !slices.Equal(found, want) {
			t.Errorf("%q: %v, not %v", each.Text, found, want)
		}
		written := each.Text
		if each.Written != nil {
			written = *each.Written
		}
		if text := FormatPositions(slices.Values(found)); text != written {
			t.Errorf("%q is written as %q", written, text)
		}
	}
}

func TestEntriesAreReadAndMetaIsWrittenToTheByte(t *testing.T) {
	type one struct {
		ID, Stream, Type, Key, Position string
		Partition                       int
		Meta                            struct {
			ID, Source string
			Time       string `json:"time_unix_nano"`
			TraceID    string `json:"trace_id"`
			SpanID     string `json:"span_id"`
			TraceFlags uint32 `json:"trace_flags"`
			TraceState string `json:"trace_state"`
			Causation  string `json:"causation_id"`
			RequestID  string `json:"request_id"`
			Version    string
			Extensions map[string]string
		}
		Fields []string
	}
	for _, each := range testvectors.Cases[one](t, "entries") {
		fields := unhexed(t, each.Fields)
		fact := Fact{each.Stream, each.Partition, epoch, Entry{id(t, each.ID), fields}}
		kind, typeErr := fact.Type()
		if kind != each.Type || fact.Key() != each.Key || typeErr != nil {
			t.Errorf("%s: type %q, key %q, %v", each.ID, kind, fact.Key(), typeErr)
		}
		if text := fact.Position().String(); text != each.Position {
			t.Errorf("%s, not %s", text, each.Position)
		}
		if found, err := ParsePositions(each.Position, "x"); err != nil || found[0] != fact.Position() {
			t.Errorf("%s: %v %v", each.Position, found, err)
		}
		made := &factfoldv1.FactMeta{
			Id: []byte(unhex(t, each.Meta.ID)), Source: each.Meta.Source,
			TimeUnixNano: number(t, each.Meta.Time), TraceId: []byte(unhex(t, each.Meta.TraceID)),
			SpanId: []byte(unhex(t, each.Meta.SpanID)), TraceFlags: each.Meta.TraceFlags,
			TraceState: each.Meta.TraceState, CausationId: []byte(unhex(t, each.Meta.Causation)),
			RequestId: each.Meta.RequestID, Version: number(t, each.Meta.Version),
			Extensions: each.Meta.Extensions,
		}
		meta, err := fact.Meta()
		if err != nil || !proto.Equal(meta, made) {
			t.Errorf("%s: %v, not %v, %v", each.ID, meta, made, err)
		}
		written, err := proto.MarshalOptions{Deterministic: true}.Marshal(made)
		if err != nil || string(written) != fields[5] {
			t.Errorf("%s: %x, not %s, %v", each.ID, written, each.Fields[5], err)
		}
		if found := fact.Entry.FactID(); found != string(made.Id) {
			t.Errorf("%s has the fact id %x", each.ID, found)
		}
		if fact.Version() != made.Version || uint64(fact.Time().UnixNano()) != made.TimeUnixNano {
			t.Errorf("%s: version %d of %v", each.ID, fact.Version(), fact.Time())
		}
	}
}

func TestDeadLettersAreReadAndWritten(t *testing.T) {
	type field struct{ Field string }
	type one struct {
		Name, Bytes string
		Letter      json.RawMessage
		Dead        field
		DeadKeys    field `json:"dead-keys"`
	}
	for _, each := range testvectors.Cases[one](t, "dead-letters") {
		letter := &factfoldv1.DeadLetter{}
		sameMessage(t, each.Name, each.Letter, each.Bytes, letter, &factfoldv1.DeadLetter{})
		var fields []string
		for _, part := range letter.Fields {
			fields = append(fields, string(part))
		}
		fact := Fact{"orders", 1, epoch, Entry{id(t, string(letter.EntryId)), fields}}
		if n := strconv.FormatUint(fact.Entry.ID.N, 10); n != each.Dead.Field {
			t.Errorf("%s is kept under %s, not %s", each.Name, n, each.Dead.Field)
		}
		if key := hex.EncodeToString([]byte(fact.RawKey())); key != each.DeadKeys.Field {
			t.Errorf("%s has the raw key %s, not %s", each.Name, key, each.DeadKeys.Field)
		}
	}
}

func TestOutcomesAreReadAndWritten(t *testing.T) {
	type one struct {
		Name, Bytes string
		Outcome     json.RawMessage
	}
	for _, each := range testvectors.Cases[one](t, "outcomes") {
		sameMessage(t, each.Name, each.Outcome, each.Bytes, &factfoldv1.Outcome{}, &factfoldv1.Outcome{})
	}
}

func sameMessage(t *testing.T, name string, text []byte, bytes string, said, stored proto.Message) {
	t.Helper()
	if err := protojson.Unmarshal(text, said); err != nil {
		t.Fatal(name, err)
	}
	if err := proto.Unmarshal([]byte(unhex(t, bytes)), stored); err != nil || !proto.Equal(said, stored) {
		t.Errorf("%s: %v, not %v, %v", name, stored, said, err)
	}
	written, err := proto.MarshalOptions{Deterministic: true}.Marshal(said)
	if err != nil || hex.EncodeToString(written) != bytes {
		t.Errorf("%s: %x, not %s, %v", name, written, bytes, err)
	}
}

func TestWhatIsNoFactSaysSo(t *testing.T) {
	for name, fields := range map[string][]string{
		"without a key":   {"type", "t.T", "meta", "", "data", ""},
		"the key _":       {"type", "t.T", "key", "_", "meta", "", "data", ""},
		"a key of bytes":  {"type", "t.T", "key", "\xff", "meta", "", "data", ""},
		"without an id":   {"type", "t.T", "key", "a", "meta", "", "data", ""},
		"meta of garbage": {"type", "t.T", "key", "a", "meta", "\xff", "data", ""},
		"a name alone":    {"type", "t.T", "key", "a", "meta"},
	} {
		fact := Fact{"orders", 1, epoch, Entry{ID{1, 1}, fields}}
		if err := fact.Read(&factfoldv1.NewFact{}); err == nil {
			t.Errorf("%s: taken for a fact", name)
		}
		if found := fact.Entry.FactID(); found != "" {
			t.Errorf("%s: its id is %x", name, found)
		}
	}
}

func TestTheFirstFieldOfANameCounts(t *testing.T) {
	entry := Entry{ID{1, 1}, []string{"key", "a", "key", "b"}}
	if key, ok := entry.Field("key"); key != "a" || !ok {
		t.Errorf("%q", key)
	}
}

func id(t *testing.T, text string) ID {
	t.Helper()
	found, err := ParseID(text)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func number(t *testing.T, text string) uint64 {
	t.Helper()
	if text == "" {
		return 0
	}
	found, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func unhex(t *testing.T, text string) string {
	t.Helper()
	data, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func unhexed(t *testing.T, texts []string) []string {
	t.Helper()
	found := make([]string, len(texts))
	for i, text := range texts {
		found[i] = unhex(t, text)
	}
	return found
}
