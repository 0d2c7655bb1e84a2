package reactions

import (
	"errors"
	"testing"

	"factfold/chassis/internal/contract"
	"factfold/chassis/internal/fault"
)

func TestEventsOfOtherServicesAreNoOutputs(t *testing.T) {
	for own, wanted := range map[bool]bool{true: true, false: false} {
		event := &contract.Event{Name: "bank.v1.Paid", Stream: &contract.Stream{Name: "payments", Own: own}}
		_, err := expected(event, nil)
		var wiring *fault.WiringError
		if errors.As(err, &wiring) == wanted {
			t.Errorf("own: %v, %v", own, err)
		}
	}
}
