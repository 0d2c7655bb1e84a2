package views

import (
	"factfold/chassis"

	theirs "{{theirs.stubs}}"
)

// {{theirs.go_many}} is what this service knows of the facts of {{theirs.name}}, by id. In the view of our own
// table: only tables of one view can be joined.
var {{theirs.go_many}} = chassis.NewTable[*theirs.{{theirs.aggregate}}Created]({{cookiecutter.__plural_lower}}, "{{theirs.many}}")
