package reactions

import (
	"context"

	"factfold/chassis"

	contract "service/gen/{{cookiecutter.__package_path}}"
	theirs "{{theirs.stubs}}"
)

// Create{{cookiecutter.__go_aggregate}}For{{theirs.go_one}} answers a fact of {{theirs.name}} with one of our own under the same id, once.
func Create{{cookiecutter.__go_aggregate}}For{{theirs.go_one}}(
	_ context.Context,
	event *theirs.{{theirs.aggregate}}Created,
	call *chassis.Reacting,
) ([]chassis.Append, error) {
	meta, err := call.Fact.Meta()
	if err != nil {
		return nil, err
	}
	// A fact with a cause is an answer itself: two services would answer each other for ever.
	if len(meta.GetCausationId()) > 0 {
		return nil, nil
	}
	created := &contract.{{cookiecutter.__go_aggregate}}Created{
		Id:   event.GetId(),
		Name: event.GetName(),
	}
	return []chassis.Append{{ '{{' }}Event: created, ExpectedVersion: chassis.At(0)}}, nil
}
