package folds

import (
	"factfold/chassis"

	contract "service/gen/{{cookiecutter.__package_path}}"
)

// {{cookiecutter.__go_aggregate}}Created makes the row.
func {{cookiecutter.__go_aggregate}}Created(
	_ *contract.{{cookiecutter.__go_aggregate}},
	event *contract.{{cookiecutter.__go_aggregate}}Created,
	fact *chassis.Fact,
) *contract.{{cookiecutter.__go_aggregate}} {
	return &contract.{{cookiecutter.__go_aggregate}}{
		Id:      event.GetId(),
		Name:    event.GetName(),
		Version: fact.Version(),
	}
}
