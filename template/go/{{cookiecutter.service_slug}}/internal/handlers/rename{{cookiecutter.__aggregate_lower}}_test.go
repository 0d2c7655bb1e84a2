package handlers_test

import (
	"testing"

	"google.golang.org/grpc/codes"

	"factfold/chassis"

	contract "service/gen/{{cookiecutter.__package_path}}"
	"service/internal/app"
)

func TestRenameAppendsAFact(t *testing.T) {
	running, client := run(t)
	made := running.Publish(t.Context(), &contract.{{cookiecutter.__go_aggregate}}Created{Id: "1", Name: "one"}, chassis.At(0))
	done, err := client.Rename{{cookiecutter.__go_aggregate}}(t.Context(), &contract.Rename{{cookiecutter.__go_aggregate}}Request{
		Id:              "1",
		Name:            "two",
		ExpectedVersion: made.Version,
	})
	if err != nil {
		t.Fatal(err)
	}
	same(t, done, &contract.Rename{{cookiecutter.__go_aggregate}}Response{Id: "1", Version: 2})
	facts := running.Facts(t.Context(), app.Name)
	if len(facts) != 2 || facts[1].Fact.Version() != 2 {
		t.Fatalf("the facts are %v", facts)
	}
	same(t, facts[1].Event, &contract.{{cookiecutter.__go_aggregate}}Renamed{Id: "1", Name: "two"})
}

func TestAStaleVersionIsRefused(t *testing.T) {
	running, client := run(t)
	running.Publish(t.Context(), &contract.{{cookiecutter.__go_aggregate}}Created{Id: "1"}, chassis.At(0))
	running.Publish(t.Context(), &contract.{{cookiecutter.__go_aggregate}}Renamed{Id: "1"}, chassis.At(1))
	_, err := client.Rename{{cookiecutter.__go_aggregate}}(t.Context(), &contract.Rename{{cookiecutter.__go_aggregate}}Request{
		Id:              "1",
		Name:            "two",
		ExpectedVersion: 1,
	})
	refused(t, err, codes.Aborted)
}

func TestOnlyWhatExistsIsRenamed(t *testing.T) {
	_, client := run(t)
	_, err := client.Rename{{cookiecutter.__go_aggregate}}(t.Context(), &contract.Rename{{cookiecutter.__go_aggregate}}Request{
		Id:              "1",
		Name:            "two",
		ExpectedVersion: 1,
	})
	refused(t, err, codes.NotFound)
}

func TestFieldsOfARenameAreRequired(t *testing.T) {
	_, client := run(t)
	for field, request := range map[string]*contract.Rename{{cookiecutter.__go_aggregate}}Request{
		"name":             {Id: "1", ExpectedVersion: 1},
		"expected_version": {Id: "1", Name: "two"},
	} {
		_, err := client.Rename{{cookiecutter.__go_aggregate}}(t.Context(), request)
		refused(t, err, codes.InvalidArgument, field)
	}
}
