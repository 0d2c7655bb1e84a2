package folds_test

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"factfold/chassis/testing/chassistest"

	contract "service/gen/{{cookiecutter.__package_path}}"
	"service/internal/folds"
)

func TestARowIsMade(t *testing.T) {
	event := &contract.{{cookiecutter.__go_aggregate}}Created{
		Id:   "1",
		Name: "one",
	}
	row := folds.{{cookiecutter.__go_aggregate}}Created(nil, event, chassistest.FactOf(t, 1))
	want := &contract.{{cookiecutter.__go_aggregate}}{
		Id:      "1",
		Name:    "one",
		Version: 1,
	}
	if !proto.Equal(row, want) {
		t.Errorf("the row is %v, not %v", row, want)
	}
}
