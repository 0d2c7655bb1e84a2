package views

import (
	"factfold/chassis"

	contract "service/gen/{{cookiecutter.__package_path}}"
	theirs "{{theirs.stubs}}"
)

// {{theirs.go_many}}Waiting are those of {{theirs.name}} that have none of ours yet.
var {{theirs.go_many}}Waiting = chassis.NewJoin(
	{{cookiecutter.__plural_lower}},
	"{{theirs.many}}_waiting",
	{{theirs.go_many}},
	{{cookiecutter.__go_plural}},
	func(their *theirs.{{theirs.aggregate}}Created) (string, bool) { return their.GetId(), true },
	func(their *theirs.{{theirs.aggregate}}Created, our *contract.{{cookiecutter.__go_aggregate}}) *theirs.{{theirs.aggregate}}Created {
		if our != nil {
			return nil
		}
		return their
	},
)
