package redislog

import (
	"strings"
	"testing"
	"time"

	"factfold/chassis/internal/telemetry"
	"factfold/chassis/internal/wire"
)

func TestFactsGoAsFarAsThePolicyAndTheReadersAllow(t *testing.T) {
	r := startReading(t, 10)
	keys := wire.KeysOf("orders", 0)
	said := newAlarms()
	trimmer := NewTrimmer(r.redis(), Policy{Facts: 3}, said.tell)
	epochs := map[string][]string{"orders": {r.epoch}}
	r.do("HSET", keys.Cursors("orders.totals"), "_", 1, "00c0ffee00c0ffee",
		r.ids[3].String()+" 1 "+r.ids[9].String())
	trimmer.Trim(t.Context(), epochs)
	left := func() (first uint64, held int) {
		entries, err := Entries(r.do("XRANGE", r.log(), "-", "+", "COUNT", 1))
		if err != nil || len(entries) != 1 {
			t.Fatal(entries, err)
		}
		return entries[0].ID.N, trimmer.HeldBack()[telemetry.Place{Stream: "orders"}]
	}
	if first, held := left(); first != 4 || held != 4 {
		t.Errorf("the first fact is %d, %d are held back", first, held)
	}
	r.do("DEL", keys.Cursors("orders.totals"))
	trimmer.Trim(t.Context(), epochs)
	if first, held := left(); first != 8 || held != 0 {
		t.Errorf("the first fact is %d, %d are held back", first, held)
	}
	r.do("XDEL", r.log(), r.ids[8].String())
	r.append(4)
	trimmer.Trim(t.Context(), epochs)
	if text := said.next(t); !strings.Contains(text, "partition 0, is not trimmed: it has 6 entries, and its head counts 7") {
		t.Error(text)
	}
}

func TestFactsGoThatAreOldEnough(t *testing.T) {
	r := startReading(t, 3)
	trimmer := NewTrimmer(r.redis(), Policy{Age: 50 * time.Millisecond}, func(text string) { t.Error(text) })
	time.Sleep(100 * time.Millisecond)
	r.append(1)
	trimmer.Trim(t.Context(), map[string][]string{"orders": {r.epoch}})
	if entries, err := Entries(r.do("XRANGE", r.log(), "-", "+")); err != nil || len(entries) != 1 || entries[0].ID.N != 4 {
		t.Errorf("%v %v", entries, err)
	}
}
