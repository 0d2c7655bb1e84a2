package folds_test

import (
	"testing"

	"google.golang.org/protobuf/proto"
{{fold.test_imports.google}}
	"factfold/chassis/testing/chassistest"

{{fold.test_imports.ours}})

func Test{{fold.function}}MakesTheRowAsTheFactSays(t *testing.T) {
	before := &{{fold.row}}{ {{-fold.before-}} }
	event := &{{fold.event}}{ {{-fold.given-}} }
	row := folds.{{fold.function}}(before, event, chassistest.FactOf(t, 2))
	want := &{{fold.row}}{ {{-fold.expected-}} }
	if !proto.Equal(row, want) {
		t.Errorf("the row is %v, not %v", row, want)
	}
}
