package views

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	factfoldv1 "factfold/chassis/factfold/v1"
	"factfold/chassis/internal/wire"
)

func factOf(n int, key string, meta *factfoldv1.FactMeta) wire.Entry {
	data, _ := proto.Marshal(meta)
	return wire.Entry{ID: wire.ID{Ms: 1, N: uint64(n)}, Fields: []string{
		"type", "t", "key", key, "meta", string(data), "data", "",
	}}
}

func TestAJournalRemembersTheLastRequestsOfAKey(t *testing.T) {
	j := NewJournal()
	for n := 1; n <= 100; n++ {
		meta := wire.NewMeta("/s", fmt.Sprint("request-", n), 0)
		j.take("orders", 0, []wire.Entry{factOf(n, "a", meta), factOf(n, "b", wire.NewMeta("/s", "", 0))}, 10)
	}
	for request, want := range map[string]string{
		"request-100": "[1-100]", "request-37": "[1-37]", "request-36": "[]", "other": "[]", "": "[]",
	} {
		if got := fmt.Sprint(j.Answered("orders", "a", request)); got != want {
			t.Errorf("%s: %s", request, got)
		}
	}
	if got := j.Answered("orders", "b", ""); got != nil {
		t.Errorf("%v", got)
	}
}

func TestRequestIDsAreFoundInAnyMetadata(t *testing.T) {
	full := wire.NewMeta("JJJ", "J", 1)
	full.TraceState, full.Extensions = "J", map[string]string{"J": "J"}
	for want, meta := range map[string]*factfoldv1.FactMeta{
		"":             wire.NewMeta("/JJJ", "", 0x4a4a4a),
		"J":            full,
		"an id, of 37": wire.NewMeta("/s", "an id, of 37", 0),
	} {
		data, _ := proto.Marshal(meta)
		if got := requestIDOf(string(data)); got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
	for _, damaged := range []string{"J", "J\x05ab", "J\x01\xff", "\x0aJ", "\x4a\x01r\x0a"} {
		if got := requestIDOf(damaged); got != "" {
			t.Errorf("%q has the request id %q", damaged, got)
		}
	}
}

func TestTheNewestFactsAreRememberedByNumberAndBySize(t *testing.T) {
	fill := func(batches, facts, size int) *Journal {
		j, n := NewJournal(), 0
		for range batches {
			var entries []wire.Entry
			for range facts {
				n++
				entries = append(entries, factOf(n, "a", &factfoldv1.FactMeta{}))
			}
			j.take("orders", 0, entries, size)
		}
		return j
	}
	for name, each := range map[string]struct {
		journal *Journal
		n       uint64
		want    string // numbers of the first and the last one
	}{
		"all":                 {fill(10, 3, 1), 1, "1 30"},
		"some":                {fill(10, 3, 1), 17, "17 30"},
		"the last":            {fill(10, 3, 1), 30, "30 30"},
		"none yet":            {fill(10, 3, 1), 31, ""},
		"of 1,000":            {fill(100, 50, 1), 4001, "4001 5000"},
		"too old":             {fill(100, 50, 1), 4000, "nil"},
		"of large ones":       {fill(9, 1, 1<<20), 6, "6 9"},
		"too old large ones":  {fill(9, 1, 1<<20), 5, "nil"},
		"one that is too big": {fill(1, 1, 5<<20), 1, "nil"},
		"nothing":             {fill(0, 0, 0), 1, "nil"},
	} {
		found := each.journal.Recent("orders", 0, each.n)
		got := "nil"
		if len(found) > 0 {
			got = fmt.Sprint(found[0].ID.N, found[len(found)-1].ID.N)
		} else if found != nil {
			got = ""
		}
		if got != strings.TrimSpace(each.want) {
			t.Errorf("%s: %s", name, got)
		}
	}
}
