package handlers_test

import (
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"factfold/chassis"

	contract "service/gen/{{cookiecutter.__package_path}}"
)

func TestARowIsReturned(t *testing.T) {
	running, client := run(t)
	running.Publish(t.Context(), &contract.{{cookiecutter.__go_aggregate}}Created{Id: "1", Name: "one"}, chassis.At(0))
	got, err := client.Get{{cookiecutter.__go_aggregate}}(t.Context(), &contract.Get{{cookiecutter.__go_aggregate}}Request{Id: "1"})
	if err != nil {
		t.Fatal(err)
	}
	same(t, got.GetItem(), &contract.{{cookiecutter.__go_aggregate}}{Id: "1", Name: "one", Version: 1})
}

func TestACallerReadsItsOwnWrite(t *testing.T) {
	_, client := run(t)
	var trailer metadata.MD
	made, err := client.Create{{cookiecutter.__go_aggregate}}(
		t.Context(), &contract.Create{{cookiecutter.__go_aggregate}}Request{Name: "one"}, grpc.Trailer(&trailer),
	)
	if err != nil {
		t.Fatal(err)
	}
	position := trailer.Get("factfold-position")
	if len(position) != 1 {
		t.Fatalf("the trailer is %v", trailer)
	}
	ctx := metadata.AppendToOutgoingContext(t.Context(), "factfold-at-least", position[0])
	got, err := client.Get{{cookiecutter.__go_aggregate}}(ctx, &contract.Get{{cookiecutter.__go_aggregate}}Request{Id: made.GetId()})
	if err != nil {
		t.Fatal(err)
	}
	if got.GetItem().GetName() != "one" {
		t.Errorf("it is %v", got)
	}
}

func TestAnUnknownIDIsNotFound(t *testing.T) {
	_, client := run(t)
	_, err := client.Get{{cookiecutter.__go_aggregate}}(t.Context(), &contract.Get{{cookiecutter.__go_aggregate}}Request{Id: "1"})
	refused(t, err, codes.NotFound)
}
