package handlers_test

import (
	"context"
	"testing"

	"google.golang.org/protobuf/proto"
{{rpc.test_imports.google}}
{% if rpc.chassis %}	"factfold/chassis"
{% endif %}	"factfold/chassis/testing/chassistest"

{{rpc.test_imports.ours}})

func Test{{rpc.method}}Arrives(t *testing.T) {
	running := chassistest.Run(t, app.Service())
	client := {{rpc.client}}(running.Channel)
{{rpc.given}}	ctx, cancel := context.WithTimeout(t.Context(), chassistest.Patience)
	defer cancel()
	stream, err := client.{{rpc.method}}(ctx, &{{rpc.asked}})
	if err != nil {
		t.Fatal(err)
	}
	answer, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	want := &{{rpc.answered}}
	if !proto.Equal(answer, want) {
		t.Errorf("the answer is %v, not %v", answer, want)
	}
}
