package reactions

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"

	factfoldv1 "factfold/chassis/factfold/v1"
	"factfold/chassis/internal/contract"
	"factfold/chassis/internal/fault"
	"factfold/chassis/internal/redislog"
	"factfold/chassis/internal/telemetry"
	"factfold/chassis/internal/wire"
)

// Of one fact. What is settled has to be appended, in one call for each partition, and Redis 6.2
// breaks the connection of who sends more than 2^20 arguments at once, again and again.
const (
	maxOutputs     = 4096
	maxOutputBytes = 4 << 20 // unless it is one output alone
)

// place is an output partition.
type place struct {
	stream    string
	partition int
}

func (p place) String() string { return fmt.Sprintf("%s/%d", p.stream, p.partition) }

func (p place) keys() wire.Keys { return wire.KeysOf(p.stream, p.partition) }

// unit is all outputs of one fact to one partition: appended together or not at all.
type unit struct {
	*factfoldv1.Unit
	n    uint64          // of the fact that it answers
	send *telemetry.Send // open until it is in the log, or the attempt is given up; nil: not known
	size int             // bytes, about
}

func (u *unit) place() place { return place{u.Stream, int(u.Partition)} }

// add returns the size of the output.
func (u *unit) add(output *factfoldv1.NewFact) int {
	size := logFact(output).Size()
	u.Facts = append(u.Facts, output)
	u.size += size
	return size
}

// placed ends the span: the unit's last fact is at this position.
func (u *unit) placed(position wire.Position) {
	if u.send != nil {
		u.send.Placed(position.Partition, position.String())
		u.send.End(nil)
	}
}

func (u *unit) end(err error) {
	if u.send != nil {
		u.send.End(err)
	}
}

// endAll ends the spans of units that have not been appended.
func endAll(units []*unit, err error) {
	for _, each := range units {
		each.end(err)
	}
}

// outcomeOf is units as they are settled.
func outcomeOf(units []*unit) *factfoldv1.Outcome {
	outcome := &factfoldv1.Outcome{}
	for _, each := range units {
		outcome.Units = append(outcome.Units, each.Unit)
	}
	return outcome
}

// unitsOf is units that were settled, by this owner or one before; what sent them is not known.
func unitsOf(n uint64, outcome *factfoldv1.Outcome) []*unit {
	var units []*unit
	for _, kept := range outcome.GetUnits() {
		found := &unit{n: n, Unit: &factfoldv1.Unit{Stream: kept.Stream, Partition: kept.Partition}}
		for _, fact := range kept.Facts {
			found.add(fact)
		}
		units = append(units, found)
	}
	return units
}

// decide is what is to be settled, and then appended.
//
// A *fault.WiringError says that an output is no event of an own stream, or that its version does
// not fit; a *fault.Refusal that its key, its size or its version does not, or that there are too
// many.
func (a *answers) decide(ctx context.Context, outputs []Append, fact *wire.Fact, cause []byte) ([]*unit, error) {
	var units []*unit
	at := map[place]*unit{}
	total := 0
	for i, each := range outputs {
		event, err := a.config.Contract.EventOf(each.Event)
		if err != nil {
			return nil, err
		}
		before, err := expected(event, each.ExpectedVersion)
		if err != nil {
			return nil, err
		}
		key := event.KeyOf(each.Event)
		if err := redislog.CheckKey(key); err != nil {
			return nil, err
		}
		to := place{event.Stream.Name, wire.PartitionOf(key, event.Stream.Partitions)}
		its := at[to]
		if its == nil {
			its = &unit{
				Unit: &factfoldv1.Unit{Stream: to.stream, Partition: uint32(to.partition)},
				n:    fact.Entry.ID.N,
				send: a.config.Telemetry.Send(ctx, to.stream),
			}
			at[to], units = its, append(units, its)
		}
		output, err := newOutput(its, event, key, before, each.Event, a.source, cause)
		if err != nil {
			return nil, err
		}
		size := its.add(output)
		if err := redislog.CheckSize(event.Name, size, a.config.Settings.MaxFactBytes); err != nil {
			return nil, err
		}
		total += size
		if i >= maxOutputs || i > 0 && total > maxOutputBytes {
			return nil, fault.InvalidRequest("outputs", fmt.Sprintf("one fact is answered with at most "+
				"%d events and %d bytes; append one event instead, and the rest in parts, as answers to "+
				"that", maxOutputs, maxOutputBytes))
		}
	}
	return units, nil
}

// expected is the version that an output expects; nil on streams without versions.
func expected(event *contract.Event, version *uint64) (*uint64, error) {
	stream := event.Stream
	if !stream.Own {
		return nil, fault.Wiring("%s belongs to stream %s of another service: append an event of this "+
			"service and let the other one react to it", event.Name, stream.Name)
	}
	if version != nil {
		if err := redislog.CheckVersion(*version); err != nil {
			return nil, err
		}
	}
	if !stream.Versioned {
		return nil, nil
	}
	if version == nil {
		return nil, fault.Wiring("stream %s is versioned: give Append an ExpectedVersion, 0 for a new key",
			stream.Name)
	}
	return version, nil
}

func newOutput(
	to *unit, event *contract.Event, key string, before *uint64, message proto.Message, source string,
	cause []byte,
) (*factfoldv1.NewFact, error) {
	version := uint64(0)
	if before != nil {
		version = *before + 1
	}
	meta := wire.NewMeta(source, "", version)
	meta.CausationId = cause
	to.send.Fill(meta)
	packed, err := proto.Marshal(meta)
	if err != nil {
		return nil, err
	}
	data, err := proto.Marshal(message)
	if err != nil {
		return nil, err
	}
	return &factfoldv1.NewFact{
		Key: key, ExpectedVersion: before, Type: event.Name, Meta: packed, Data: data,
	}, nil
}

// logFact is an output as it goes into the log.
func logFact(output *factfoldv1.NewFact) redislog.NewFact {
	return redislog.NewFact{
		Type: output.Type, Key: output.Key, Meta: output.Meta, Data: output.Data,
		Expected: output.ExpectedVersion,
	}
}
