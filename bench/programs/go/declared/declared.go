// Package declared is what the bench's service declares: one table that holds the last event of each
// key.
package declared

import (
	"context"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"factfold/chassis/bench/pb"
	"factfold/chassis/bench/turns"
	"factfold/chassis/internal/contract"
	"factfold/chassis/internal/redislog"
	"factfold/chassis/internal/views"
	"factfold/chassis/internal/wire"
)

// Files are those of the stream of parcels.
var Files = []protoreflect.FileDescriptor{pb.File_bench_proto}

// Caught is a view that has caught up, and how it is ended.
type Caught struct {
	*views.Engine
	table *views.Table
	End   func()
}

// CatchUp folds the log from its start, or goes on from the snapshot in the folder, if there is one.
func CatchUp(url, folder string) Caught {
	view := views.NewView("parcels")
	moved := (&pb.ParcelMoved{}).ProtoReflect().Type()
	table := views.NewTable(view, "parcels", moved)
	changed := make(chan struct{}, 1)
	engine := turns.Must(views.NewEngine(views.Config{
		View: view,
		Folds: []views.Fold{{Event: moved, Into: table, Function: func(_, event proto.Message, _ *wire.Fact) proto.Message {
			return event
		}}},
		Contract: turns.Must(contract.New(nil, Files)),
		Redis:    redislog.New(turns.Must(redislog.ParseURL(url))),
		Home:     views.NewHome("bench", folder, true, func(text string) { panic(text) }),
		Count:    func(name string, _ ...string) { panic(name) },
		Changed: func() {
			select {
			case changed <- struct{}{}:
			default:
			}
		},
	}))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- engine.Run(ctx) }()
	for !engine.Ready() {
		<-changed
	}
	return Caught{engine, table, func() { cancel(); turns.Check(<-ended) }}
}

// Facts is how many the view has folded, a snapshot's among them.
func (c Caught) Facts() (facts int) {
	for _, place := range c.Places() {
		facts += int(place.Anchor().ID.N)
	}
	return facts
}

// Keys is how many rows it has.
func (c Caught) Keys() int { return c.Cut().Len(c.table) }
