package reactions

import (
	"context"

	"factfold/chassis"

	contract "service/gen/probe/v1"
)

// Answer appends the same for an input whenever it runs.
func Answer(ctx context.Context, event *contract.Input, call *chassis.Reacting) ([]chassis.Append, error) {
	if err := obey(ctx, event, call, "answer"); err != nil {
		return nil, err
	}
	made, err := output(event, call, "answer", event.GetKey())
	if err != nil {
		return nil, err
	}
	outputs := []chassis.Append{{Event: made}}
	if event.GetDo().GetMoves() {
		outputs = append(outputs, chassis.Append{
			Event:           &contract.Moved{Key: event.GetKey(), Number: event.GetNumber()},
			ExpectedVersion: chassis.At(event.GetDo().GetExpected()),
		})
	}
	return outputs, nil
}
