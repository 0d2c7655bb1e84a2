package redislog

import (
	"testing"

	"factfold/chassis/internal/telemetry"
	"factfold/chassis/internal/wire"
)

func TestAReactionKeepsWhatItHasNotCommitted(t *testing.T) {
	r := startReading(t, 10)
	r.do("HSET", wire.KeysOf("orders", 0).Group("shop.ship"), "epoch", r.epoch, "position", r.ids[3].String())
	trimmer := NewTrimmer(r.redis(), Policy{Facts: 3}, func(text string) { t.Error(text) })
	trimmer.Trim(t.Context(), map[string][]string{"orders": {r.epoch}})
	entries, err := Entries(r.do("XRANGE", r.log(), "-", "+", "COUNT", 1))
	if err != nil || len(entries) != 1 || entries[0].ID != r.ids[3] {
		t.Errorf("the log begins with %v, %v", entries, err)
	}
	if held := trimmer.HeldBack()[telemetry.Place{Stream: "orders"}]; held != 4 {
		t.Errorf("%d are held back", held)
	}
}
