package folds_test

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"factfold/chassis/testing/chassistest"

	contract "service/gen/{{cookiecutter.__package_path}}"
	"service/internal/folds"
)

func TestTheRowHasTheNewName(t *testing.T) {
	before := &contract.{{cookiecutter.__go_aggregate}}{
		Id:      "1",
		Name:    "one",
		Version: 1,
	}
	event := &contract.{{cookiecutter.__go_aggregate}}Renamed{
		Id:   "1",
		Name: "two",
	}
	row := folds.{{cookiecutter.__go_aggregate}}Renamed(before, event, chassistest.FactOf(t, 2))
	want := &contract.{{cookiecutter.__go_aggregate}}{
		Id:      "1",
		Name:    "two",
		Version: 2,
	}
	if !proto.Equal(row, want) {
		t.Errorf("the row is %v, not %v", row, want)
	}
}

func TestWhatHasNoRowGetsNone(t *testing.T) {
	event := &contract.{{cookiecutter.__go_aggregate}}Renamed{Id: "1"}
	if row := folds.{{cookiecutter.__go_aggregate}}Renamed(nil, event, chassistest.FactOf(t, 2)); row != nil {
		t.Errorf("the row is %v", row)
	}
}
