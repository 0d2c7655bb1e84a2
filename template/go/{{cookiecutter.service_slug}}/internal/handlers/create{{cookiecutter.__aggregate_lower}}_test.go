package handlers_test

import (
	"testing"

	"google.golang.org/grpc/codes"

	contract "service/gen/{{cookiecutter.__package_path}}"
	"service/internal/app"
)

func TestCreateAppendsAFact(t *testing.T) {
	running, client := run(t)
	made, err := client.Create{{cookiecutter.__go_aggregate}}(t.Context(), &contract.Create{{cookiecutter.__go_aggregate}}Request{Name: "one"})
	if err != nil {
		t.Fatal(err)
	}
	facts := running.Facts(t.Context(), app.Name)
	if len(facts) != 1 {
		t.Fatalf("there are %d facts", len(facts))
	}
	fact := facts[0].Fact
	if made.GetVersion() != 1 || fact.Version() != 1 || fact.Key() != made.GetId() {
		t.Errorf("%v, and the fact is version %d of %q", made, fact.Version(), fact.Key())
	}
	same(t, facts[0].Event, &contract.{{cookiecutter.__go_aggregate}}Created{Id: made.GetId(), Name: "one"})
}

func TestARepeatedRequestGetsTheFirstAnswer(t *testing.T) {
	running, client := run(t)
	request := &contract.Create{{cookiecutter.__go_aggregate}}Request{
		RequestId: "8c6c3f5e-6f0e-4f7f-9d2a-0d1c5c1f7a11",
		Name:      "one",
	}
	first, err := client.Create{{cookiecutter.__go_aggregate}}(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	second, err := client.Create{{cookiecutter.__go_aggregate}}(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	same(t, second, first)
	if facts := running.Facts(t.Context(), app.Name); len(facts) != 1 {
		t.Errorf("there are %d facts", len(facts))
	}
}

func TestANameIsRequired(t *testing.T) {
	running, client := run(t)
	_, err := client.Create{{cookiecutter.__go_aggregate}}(t.Context(), &contract.Create{{cookiecutter.__go_aggregate}}Request{})
	refused(t, err, codes.InvalidArgument, "name")
	if facts := running.Facts(t.Context(), app.Name); len(facts) != 0 {
		t.Errorf("there are %d facts", len(facts))
	}
}
