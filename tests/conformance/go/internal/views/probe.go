// Package views has one view of all three streams, with a join and an aggregate.
package views

import (
	"factfold/chassis"

	contract "service/gen/probe/v1"
)

var probe = chassis.NewView("probe")

// The tables that folds fill.
var (
	Inputs  = chassis.NewTable[*contract.Seen](probe, "inputs")
	Outputs = chassis.NewTable[*contract.Seen](probe, "outputs")
	Moves   = chassis.NewTable[*contract.Move](probe, "moves")
)

// Joined has each move with what Inputs has at Move.to.
var Joined = chassis.NewJoin(
	probe, "joined", Moves, Inputs,
	func(move *contract.Move) (string, bool) { return move.GetTo(), move.GetTo() != "" },
	func(move *contract.Move, seen *contract.Seen) *contract.Joined {
		return &contract.Joined{Move: move, Input: seen}
	},
)

// Groups has the moves that are in each group now.
var Groups = chassis.NewAggregate(
	probe, "groups", Moves,
	func(move *contract.Move) (string, bool) { return move.GetGroup(), move.GetGroup() != "" },
	func(group *contract.Group, move *contract.Move) {
		group.Moves++
		group.Amount += move.GetAmount()
	},
	func(group *contract.Group, move *contract.Move) {
		group.Moves--
		group.Amount -= move.GetAmount()
	},
)
