package views

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"factfold/chassis/internal/contract"
	"factfold/chassis/internal/fault"
	"factfold/chassis/internal/redislog"
	"factfold/chassis/internal/wire"
)

// step is what is done with the events of one type.
type step struct {
	event protoreflect.MessageType
	folds []Fold
}

// plan are the steps of one stream by type.
type plan map[string]*step

// planOf sorts folds by stream and type, and checks that they fit; streams are in the order in which
// folds name them first.
func planOf(folds []Fold, contract *contract.Contract) (plans map[string]plan, streams []string, err error) {
	plans = map[string]plan{}
	streamOf := map[*Table]string{}
	for _, fold := range folds {
		event, err := contract.EventOf(fold.Event.Zero().Interface())
		if err != nil {
			return nil, nil, err
		}
		stream := event.Stream.Name
		if fold.Into.derived {
			return nil, nil, fault.Wiring("table %s is derived: fold into one that is not", fold.Into.Name)
		}
		if other, ok := streamOf[fold.Into]; ok && other != stream {
			return nil, nil, fault.Wiring("table %s has folds of the streams %s and %s: give each stream "+
				"its table, and join them with NewJoin", fold.Into.Name, other, stream)
		}
		streamOf[fold.Into] = stream
		if plans[stream] == nil {
			plans[stream] = plan{}
			streams = append(streams, stream)
		}
		of := plans[stream][event.Name]
		if of == nil {
			of = &step{event: fold.Event}
			plans[stream][event.Name] = of
		}
		of.folds = append(of.folds, fold)
	}
	return plans, streams, nil
}

// decoded is an entry that folds take, or that is no fact.
type decoded struct {
	fact  *wire.Fact
	step  *step
	event proto.Message
	err   error
}

// decode parses what folds take. It needs no lock: partitions do it side by side. Facts and the bytes
// of events are parts of one allocation each.
func (e *Engine) decode(place *Place, entries []wire.Entry, size int) []decoded {
	steps := e.plans[place.Stream]
	work := make([]decoded, 0, len(entries))
	facts, events := make([]wire.Fact, len(entries)), make([]byte, 0, size)
	for i, entry := range entries {
		fact := &facts[i]
		*fact = wire.Fact{Stream: place.Stream, Partition: place.Partition, Epoch: place.Epoch, Entry: entry}
		name, hasName := entry.Field("type")
		key, hasKey := entry.Field("key")
		data, hasData := entry.Field("data")
		_, hasMeta := entry.Field("meta")
		if !hasName || !hasKey || !hasMeta || !hasData {
			work = append(work, decoded{fact: fact, err: errors.New("it lacks a field")})
			continue
		}
		step := steps[name]
		if step == nil {
			e.checkKnown(place.Stream, name)
			continue
		}
		one := decoded{fact: fact, step: step, event: step.event.New().Interface()}
		if one.err = wire.CheckKey(key); one.err == nil {
			begin := len(events)
			events = append(events, data...)
			one.err = proto.Unmarshal(events[begin:], one.event)
		}
		work = append(work, one)
	}
	return work
}

// checkKnown says once that the contract has lost a type: its facts are lost to the view.
func (e *Engine) checkKnown(stream, name string) {
	if _, known := e.contract.Streams[stream].Events[name]; known {
		return
	}
	e.state.Lock()
	said := e.unknown[name]
	e.unknown[name] = true
	e.state.Unlock()
	if said {
		return
	}
	if !utf8.ValidString(name) {
		name = fmt.Sprintf("%q", name)
	}
	logger().Warn(fmt.Sprintf("stream %s has facts of type %s, which its contract here does not "+
		"declare: view %s passes over them; a type that is in the log must stay in the contract",
		stream, name, e.view.Name))
}

// take folds a batch, all of it before anybody reads again. A fold that fails changes nothing, and
// is reported.
func (e *Engine) take(place *Place, batch redislog.Batch) {
	work := e.decode(place, batch.Entries, batch.Size)
	e.rows.Lock()
	defer e.rows.Unlock()
	for i := range work {
		if err := e.fold(&work[i]); err != nil {
			e.failures++
			// Skipped the same way in each rebuild: the view stays equal to its rebuild.
			e.count("factfold.view.errors", "view", e.view.Name, "stream", place.Stream)
			logger().Error(fmt.Sprintf("view %s cannot fold the fact at %s; mend the fold and restart",
				e.view.Name, work[i].fact.Position()), "exception", stackOf(err))
		}
	}
	// The journal first: whoever has waited for the place may ask it.
	remembered := e.journal != nil && e.own[place.Stream]
	if remembered {
		e.journal.take(place.Stream, place.Partition, batch.Entries, batch.Size)
	}
	place.advance(batch)
	e.cut.Store(nil)
	if remembered {
		e.journal.Wake() // not before: a watch that looks how far the place is would wait again
	}
}

// fold puts one fact into all tables that take it: one that fails is no reason for others to miss
// it.
func (e *Engine) fold(one *decoded) error {
	if one.err != nil {
		return one.err
	}
	var failures []error
	key := one.fact.Key()
	for _, fold := range one.step.folds {
		into := e.tables.of[fold.Into]
		at := into.tree.seek(key)
		present, err := into.parse(at.value())
		if err == nil {
			var row proto.Message
			if err = try(func() { row = fold.Function(present, one.event, one.fact) }); err == nil {
				err = into.change(at, row)
			}
		}
		if err != nil {
			failures = append(failures, err)
		}
	}
	return errors.Join(failures...)
}
