package views_test

import (
	"testing"

	"factfold/chassis"
	"factfold/chassis/testing/chassistest"

	contract "service/gen/{{cookiecutter.__package_path}}"
	theirs "{{theirs.stubs}}"
	"service/internal/app"
	"service/internal/views"
)

func TestThoseOf{{theirs.go_many}}WaitUntilTheyHaveOneOfOurs(t *testing.T) {
	running := chassistest.Run(t, app.Service())
	// One of ours that is there already, so the reaction's answer is none.
	running.Publish(t.Context(), &contract.{{cookiecutter.__go_aggregate}}Created{Id: "1", Name: "one"}, chassis.At(0))
	running.Publish(t.Context(), &theirs.{{theirs.aggregate}}Created{Id: "1", Name: "one"}, chassis.At(0))
	if _, waits := chassis.RowsOf(running.Query(), views.{{theirs.go_many}}Waiting).Get("1"); waits {
		t.Error("it has one of ours, and waits")
	}
	running.Publish(t.Context(), &theirs.{{theirs.aggregate}}Created{Id: "2", Name: "two"}, chassis.At(0))
	chassistest.Eventually(t, func() bool {
		return chassis.RowsOf(running.Query(), views.{{theirs.go_many}}Waiting).Len() == 0
	})
}
