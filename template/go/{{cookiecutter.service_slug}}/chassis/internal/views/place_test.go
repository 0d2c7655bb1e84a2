package views

import (
	"testing"

	"factfold/chassis/internal/redislog"
	"factfold/chassis/internal/wire"
)

func TestAViewIsReadyOnceItHasPassedTheTailOfItsStart(t *testing.T) {
	head := redislog.Head{Epoch: "00c0ffee00c0ffee", Partitions: 1, ID: wire.ID{Ms: 1, N: 3}}
	upTo := func(n, tail uint64) redislog.Batch {
		return redislog.Batch{Anchor: redislog.Anchor{ID: wire.ID{Ms: 1, N: n}}, Tail: tail}
	}
	for name, each := range map[string]struct {
		anchor  uint64 // of the snapshot
		batches []redislog.Batch
		want    bool
	}{
		"nothing is read":                   {0, nil, false},
		"a part is read":                    {0, []redislog.Batch{upTo(2, 3)}, false},
		"the tail is passed":                {0, []redislog.Batch{upTo(2, 3), upTo(3, 3)}, true},
		"more has come since":               {0, []redislog.Batch{upTo(3, 9)}, true},
		"a snapshot that is not looked at":  {3, nil, false},
		"a snapshot that the log has, too":  {3, []redislog.Batch{upTo(3, 3)}, true},
		"a snapshot behind the tail is not": {2, []redislog.Batch{upTo(2, 3)}, false},
	} {
		t.Run(name, func(t *testing.T) {
			place := newPlace("orders", 0, head, upTo(each.anchor, 0).Anchor)
			for _, batch := range each.batches {
				place.advance(batch)
			}
			if place.passed() != each.want {
				t.Errorf("passed: %v", place.passed())
			}
		})
	}
}
