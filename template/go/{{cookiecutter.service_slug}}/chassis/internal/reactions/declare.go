// Package reactions runs code that answers facts, exactly once in what it appends
// (docs/protocol.md, Ownership, Reactions, Dead letters).
package reactions

import (
	"context"

	"google.golang.org/protobuf/proto"

	"factfold/chassis/internal/wire"
)

// Append is an event that a reaction wants in the log.
//
// ExpectedVersion is needed on streams that are declared versioned. If the key has another version
// by then, the fact becomes a dead letter and is answered again.
type Append struct {
	Event           proto.Message
	ExpectedVersion *uint64
}

// Reaction is what a service answers to some event types of one stream.
type Reaction struct {
	Name string // the position in the stream is kept under it: another name starts anew
	// Events has one message of each type.
	Events []proto.Message
	Answer func(ctx context.Context, event proto.Message, fact *wire.Fact) ([]Append, error)
}
