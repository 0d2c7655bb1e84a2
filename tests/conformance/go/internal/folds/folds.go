// Package folds says what each event does to a row of the view.
package folds

import (
	"hash/crc32"

	"factfold/chassis"

	contract "service/gen/probe/v1"
)

// InputSeen counts the inputs of a key.
func InputSeen(row *contract.Seen, event *contract.Input, fact *chassis.Fact) *contract.Seen {
	return seen(row, event.GetNumber(), fact)
}

// OutputSeen counts the outputs of a key.
func OutputSeen(row *contract.Seen, event *contract.Output, fact *chassis.Fact) *contract.Seen {
	return seen(row, event.GetNumber(), fact)
}

// Moved keeps the last move of a key.
func Moved(row *contract.Move, event *contract.Moved, fact *chassis.Fact) *contract.Move {
	return &contract.Move{
		Group:   event.GetGroup(),
		Amount:  event.GetAmount(),
		To:      event.GetTo(),
		Version: fact.Version(),
		Order:   order(row.GetOrder(), fact),
	}
}

func seen(row *contract.Seen, number uint64, fact *chassis.Fact) *contract.Seen {
	return &contract.Seen{
		Facts:      row.GetFacts() + 1,
		LastNumber: number,
		Order:      order(row.GetOrder(), fact),
	}
}

func order(before uint32, fact *chassis.Fact) uint32 {
	return crc32.Update(before, crc32.IEEETable, []byte(fact.Entry.ID.String()))
}
