package reactions_test

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"factfold/chassis"
	"factfold/chassis/testing/chassistest"

{{reaction.test_imports.ours}})

func Test{{reaction.function}}AnswersTheFact(t *testing.T) {
	running := chassistest.Run(t, app.Service())
	event := &{{reaction.given}}
	call := &chassis.Reacting{Query: running.Query(), Fact: chassistest.FactOf(t, 1)}
	outputs, err := reactions.{{reaction.function}}(t.Context(), event, call)
	if err != nil {
		t.Fatal(err)
	}
	if len(outputs) != 1 {
		t.Fatalf("it appends %d events", len(outputs))
	}
	want := &{{reaction.answer}}
	if !proto.Equal(outputs[0].Event, want) {
		t.Errorf("it appends %v, not %v", outputs[0].Event, want)
	}
}
