package folds_test

import (
	"testing"

	"google.golang.org/protobuf/proto"
{{view_fold.test_imports.google}}
	"factfold/chassis/testing/chassistest"

{{view_fold.test_imports.ours}})

func Test{{view_fold.function}}MakesTheRowAsTheFactSays(t *testing.T) {
	event := &{{view_fold.event}}{ {{-view_fold.given-}} }
	row := folds.{{view_fold.function}}(nil, event, chassistest.FactOf(t, 1))
	want := &{{view_fold.row}}{ {{-view_fold.expected-}} }
	if !proto.Equal(row, want) {
		t.Errorf("the row is %v, not %v", row, want)
	}
}
