package handlers_test

import (
	"context"
	"testing"

	"google.golang.org/grpc"

	"factfold/chassis"
	"factfold/chassis/testing/chassistest"

	contract "service/gen/{{cookiecutter.__package_path}}"
	"service/internal/app"
)

type changes = grpc.ServerStreamingClient[contract.Watch{{cookiecutter.__go_plural}}Response]

func watch(t *testing.T, client contract.{{cookiecutter.__go_aggregate}}ServiceClient, after string) changes {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), chassistest.Patience)
	t.Cleanup(cancel)
	stream, err := client.Watch{{cookiecutter.__go_plural}}(ctx, &contract.Watch{{cookiecutter.__go_plural}}Request{After: after})
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

func next(t *testing.T, stream changes) *contract.Watch{{cookiecutter.__go_plural}}Response {
	t.Helper()
	change, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	return change
}

func TestChangesArriveFromTheFirstFactOn(t *testing.T) {
	running, client := run(t)
	created := &contract.{{cookiecutter.__go_aggregate}}Created{Id: "1", Name: "one"}
	renamed := &contract.{{cookiecutter.__go_aggregate}}Renamed{Id: "1", Name: "two"}
	running.Publish(t.Context(), created, chassis.At(0))
	stream := watch(t, client, "")
	same(t, next(t, stream).GetCreated(), created)
	running.Publish(t.Context(), renamed, chassis.At(1))
	same(t, next(t, stream).GetRenamed(), renamed)
}

func TestAWatchResumesBehindAPosition(t *testing.T) {
	running, client := run(t)
	running.Publish(t.Context(), &contract.{{cookiecutter.__go_aggregate}}Created{Id: "1"}, chassis.At(0))
	first := next(t, watch(t, client, ""))
	running.Publish(t.Context(), &contract.{{cookiecutter.__go_aggregate}}Created{Id: "2"}, chassis.At(0))
	second := next(t, watch(t, client, first.GetPosition()))
	if first.GetCreated().GetId() != "1" || second.GetCreated().GetId() != "2" {
		t.Errorf("the changes are %v and %v", first, second)
	}
}

func TestEveryEventOfTheContractCanBeWatched(t *testing.T) {
	running, client := run(t)
	stream := watch(t, client, "")
	for version, event := range running.Events(app.Name, "1") {
		running.Publish(t.Context(), event, chassis.At(uint64(version)))
		change := next(t, stream).ProtoReflect()
		field := change.WhichOneof(change.Descriptor().Oneofs().ByName("change"))
		if field == nil {
			t.Fatalf("watch{{cookiecutter.__plural_lower}}.go has no case for %T", event)
		}
		same(t, change.Get(field).Message().Interface(), event)
	}
}
