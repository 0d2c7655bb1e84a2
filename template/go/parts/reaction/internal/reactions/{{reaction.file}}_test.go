package reactions_test

import (
	"testing"

	"factfold/chassis"
	"factfold/chassis/testing/chassistest"

{{reaction.test_imports.ours}})

func Test{{reaction.function}}AppendsNothing(t *testing.T) {
	running := chassistest.Run(t, app.Service())
	event := &{{reaction.given}}
	call := &chassis.Reacting{Query: running.Query(), Fact: chassistest.FactOf(t, 1)}
	outputs, err := reactions.{{reaction.function}}(t.Context(), event, call)
	if err != nil {
		t.Fatal(err)
	}
	if len(outputs) != 0 {
		t.Errorf("it appends %v", outputs)
	}
}
