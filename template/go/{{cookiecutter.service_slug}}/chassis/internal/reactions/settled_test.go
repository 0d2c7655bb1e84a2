package reactions

import (
	"maps"
	"testing"

	factfoldv1 "factfold/chassis/factfold/v1"
	"factfold/chassis/internal/wire"
)

func TestWhatAClaimFindsSettledHoldsItsKeyBack(t *testing.T) {
	its := worked{map[uint64]*wire.Fact{}, map[uint64]*factfoldv1.Outcome{}, map[uint64][]refused{}}
	for n, key := range []string{"letters", "failed", "held", "answered"} {
		its.facts[uint64(n)] = &wire.Fact{Entry: wire.Entry{Fields: []string{"key", key}}}
	}
	owner := &tenure{held: newHeldBack(), outcomes: map[uint64]*factfoldv1.Outcome{
		1: {Failure: "not now"},
		2: {Held: true},
		3: {Units: []*factfoldv1.Unit{{Stream: "orders"}}},
		9: {Failure: "of a later batch"},
	}}
	owner.held.add("letters", 0)
	units, blocked, err := its.carriedOver(owner, 3)
	if err != nil || len(units) != 1 || units[0].n != 3 {
		t.Errorf("%v %v", units, err)
	}
	if !maps.Equal(blocked, map[string]bool{"letters": true, "failed": true, "held": true}) {
		t.Errorf("held back are %v", blocked)
	}
}
