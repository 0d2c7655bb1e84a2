package chassis

import (
	"context"

	"google.golang.org/protobuf/proto"

	"factfold/chassis/internal/fault"
	"factfold/chassis/internal/reactions"
	"factfold/chassis/internal/wire"
)

// Append is an event that a reaction wants in the log, and the version of its key that it expects.
//
// ExpectedVersion (see At) is needed on streams that are declared versioned. If the key has another
// version by then, the fact becomes a dead letter and is answered again.
type Append = reactions.Append

// At is an expected version of an Append; 0: there is no such key yet.
func At(version uint64) *uint64 { return &version }

// Reacting is what a reaction is given beside the event: the fact that it answers, and what a query
// may read. The context of the call carries its trace and ends when the service does.
type Reacting struct {
	*Query
	Fact *Fact
}

// NewID is the id of a new aggregate: the same one whenever this fact is answered. A service with
// several streams of its own names the aggregate's.
func (r *Reacting) NewID(stream ...string) string {
	name := ""
	if len(stream) > 0 {
		name = stream[0]
	} else {
		own, err := r.core.ownStream()
		if err != nil {
			panic(err) // the code is wrong for every fact: the reaction stops and says so
		}
		name = own
	}
	id, err := r.Fact.ID()
	if err != nil {
		panic(err) // a fact without an id is not answered
	}
	return wire.DerivedID(name, id.String())
}

// Reaction is what the service answers to some event types of one stream.
type Reaction struct {
	name   string
	events []proto.Message
	answer func(ctx context.Context, event proto.Message, call *Reacting) ([]Append, error)
}

// NewReaction is a reaction to one event type. What it returns is appended exactly once per fact,
// whatever crashes; anything else that it does happens at least once. Facts of one key are answered
// in order, one after the other. A fact that it fails on is tried again, and later ones of its key
// wait behind it. A new reaction answers all history; one that must not looks at call.Fact.Time().
//
// Its position in the stream is kept under its name: renaming it starts anew.
func NewReaction[E proto.Message](
	name string, answer func(ctx context.Context, event E, call *Reacting) ([]Append, error),
) Reaction {
	var event E
	return Reaction{name, []proto.Message{event},
		func(ctx context.Context, event proto.Message, call *Reacting) ([]Append, error) {
			its, ok := event.(E)
			if !ok {
				return nil, fault.Wiring("reaction %s takes %T, and the contract's files give %T: make both "+
					"from the same stubs", name, its, event)
			}
			return answer(ctx, its, call)
		}}
}

// NewReactionTo is as NewReaction, for several event types of one stream: one message of each.
func NewReactionTo(
	name string, answer func(ctx context.Context, event proto.Message, call *Reacting) ([]Append, error),
	events ...proto.Message,
) Reaction {
	return Reaction{name, events, answer}
}

// Name is under what the reaction's position is kept.
func (r Reaction) Name() string { return r.name }

func (r Reaction) declared(core *core) reactions.Reaction {
	return reactions.Reaction{
		Name: r.name, Events: r.events,
		Answer: func(ctx context.Context, event proto.Message, fact *wire.Fact) ([]Append, error) {
			return r.answer(ctx, event, &Reacting{Query: core.query(), Fact: fact})
		},
	}
}
