package folds_test

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"factfold/chassis/testing/chassistest"

	theirs "{{theirs.stubs}}"
	"service/internal/folds"
)

func TestARowOf{{theirs.go_one}}IsMade(t *testing.T) {
	event := &theirs.{{theirs.aggregate}}Created{
		Id:   "1",
		Name: "one",
	}
	if row := folds.{{theirs.go_one}}Created(nil, event, chassistest.FactOf(t, 1)); !proto.Equal(row, event) {
		t.Errorf("the row is %v, not %v", row, event)
	}
}
