package views

import (
	"factfold/chassis"

	contract "service/gen/{{cookiecutter.__package_path}}"
)

var {{cookiecutter.__plural_lower}} = chassis.NewView("{{cookiecutter.__plural_snake}}")

// {{cookiecutter.__go_plural}} is the present state of each one, by id.
var {{cookiecutter.__go_plural}} = chassis.NewTable[*contract.{{cookiecutter.__go_aggregate}}]({{cookiecutter.__plural_lower}}, "{{cookiecutter.__plural_snake}}")
