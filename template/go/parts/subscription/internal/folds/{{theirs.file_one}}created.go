package folds

import (
	"factfold/chassis"

	theirs "{{theirs.stubs}}"
)

// {{theirs.go_one}}Created keeps what {{theirs.name}} says.
func {{theirs.go_one}}Created(
	_ *theirs.{{theirs.aggregate}}Created,
	event *theirs.{{theirs.aggregate}}Created,
	_ *chassis.Fact,
) *theirs.{{theirs.aggregate}}Created {
	return event
}
