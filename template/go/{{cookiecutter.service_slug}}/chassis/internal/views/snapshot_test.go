package views

import (
	"testing"

	"factfold/chassis/internal/redislog"
	"factfold/chassis/internal/wire"
)

func TestASnapshotHasThePositionsOfStreamsThatAreWaitedFor(t *testing.T) {
	s := newShop(t)
	engine, err := NewEngine(Config{View: s.view, Folds: s.folds, Contract: s.contract, Changed: func() {}})
	if err != nil {
		t.Fatal(err)
	}
	at := func(n uint64) redislog.Anchor { return redislog.Anchor{ID: wire.ID{Ms: 1, N: n}} }
	waited, present := placeKey{"customers", 0}, placeKey{"orders", 0}
	engine.positions = positions{waited: {"e-1", at(5)}, present: {"e-2", at(3)}}
	place := newPlace("orders", 0, redislog.Head{Epoch: "e-2", ID: wire.ID{N: 7}}, at(3))
	place.advance(redislog.Batch{Anchor: at(7), Tail: 7})
	engine.places["orders"] = []*Place{place}
	found := engine.snapshot(nil)
	if found == nil || !found.positions.same(positions{waited: {"e-1", at(5)}, present: {"e-2", at(7)}}) {
		t.Errorf("%v", found)
	}
}
