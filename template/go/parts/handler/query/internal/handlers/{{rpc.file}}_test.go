package handlers_test

import (
	"testing"

	"google.golang.org/protobuf/proto"
{{rpc.test_imports.google}}
{% if rpc.chassis %}	"factfold/chassis"
{% endif %}	"factfold/chassis/testing/chassistest"

{{rpc.test_imports.ours}})

func Test{{rpc.method}}IsAnswered(t *testing.T) {
	running := chassistest.Run(t, app.Service())
	client := {{rpc.client}}(running.Channel)
{{rpc.given}}	answer, err := client.{{rpc.method}}(t.Context(), &{{rpc.asked}})
	if err != nil {
		t.Fatal(err)
	}
	want := &{{rpc.answered}}
	if !proto.Equal(answer, want) {
		t.Errorf("the answer is %v, not %v", answer, want)
	}
}
