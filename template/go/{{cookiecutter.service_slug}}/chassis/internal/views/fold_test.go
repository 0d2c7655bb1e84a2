package views

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"factfold/chassis/internal/wire"
)

func TestAFoldThatFailsDoesNotKeepTheFactFromOthers(t *testing.T) {
	s := newStage(t)
	seen := NewTable(s.view, "seen", s.types["Order"])
	s.folds = append(s.folds, Fold{
		s.types["Placed"], seen, func(_, event proto.Message, _ *wire.Fact) proto.Message {
			return s.message("Order", "", "", number(event))
		},
	})
	bad := s.put("Placed", "order-1", "", 666, "")
	engine := s.start(nil)
	s.ready(engine)
	s.reach(engine, bad)
	if now := shown(s.view, engine.Cut()); len(now) != 1 || now["seen/order-1"] != " 666" {
		t.Errorf("%v", now)
	}
}
