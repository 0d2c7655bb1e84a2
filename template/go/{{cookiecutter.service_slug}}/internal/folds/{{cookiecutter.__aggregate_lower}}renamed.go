package folds

import (
	"factfold/chassis"

	contract "service/gen/{{cookiecutter.__package_path}}"
)

// {{cookiecutter.__go_aggregate}}Renamed gives the row its new name.
func {{cookiecutter.__go_aggregate}}Renamed(
	row *contract.{{cookiecutter.__go_aggregate}},
	event *contract.{{cookiecutter.__go_aggregate}}Renamed,
	fact *chassis.Fact,
) *contract.{{cookiecutter.__go_aggregate}} {
	if row != nil {
		row.Name = event.GetName()
		row.Version = fact.Version()
	}
	return row
}
