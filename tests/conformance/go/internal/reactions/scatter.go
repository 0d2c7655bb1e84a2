package reactions

import (
	"context"
	crand "crypto/rand"
	"encoding/hex"
	"math/rand/v2"

	"factfold/chassis"

	contract "service/gen/probe/v1"
)

// Scatter appends something else each time it runs.
func Scatter(ctx context.Context, event *contract.Input, call *chassis.Reacting) ([]chassis.Append, error) {
	if err := obey(ctx, event, call, "scatter"); err != nil {
		return nil, err
	}
	run := random(8)
	count := event.GetDo().GetOutputs()
	if count == 0 {
		count = 1 + rand.Uint32N(6)
	}
	var outputs []chassis.Append
	for index := range count {
		made, err := output(event, call, "scatter", "out-"+hex.EncodeToString(random(4)))
		if err != nil {
			return nil, err
		}
		made.Run, made.Index, made.Count = run, index, count
		made.Content = random(rand.IntN(65))
		outputs = append(outputs, chassis.Append{Event: made})
	}
	return outputs, nil
}

func random(size int) []byte {
	bytes := make([]byte, size)
	_, _ = crand.Read(bytes) // it never fails
	return bytes
}
