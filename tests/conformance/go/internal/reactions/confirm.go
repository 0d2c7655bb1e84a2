package reactions

import (
	"context"

	"factfold/chassis"

	contract "service/gen/probe/v1"
)

// Confirm answers what another reaction has appended.
func Confirm(_ context.Context, event *contract.Output, _ *chassis.Reacting) ([]chassis.Append, error) {
	return []chassis.Append{{
		Event:           &contract.Moved{Key: event.GetKey(), Number: event.GetNumber()},
		ExpectedVersion: chassis.At(0),
	}}, nil
}
