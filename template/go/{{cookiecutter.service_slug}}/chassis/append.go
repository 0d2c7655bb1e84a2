package chassis

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"factfold/chassis/internal/contract"
	"factfold/chassis/internal/fault"
	"factfold/chassis/internal/redislog"
	"factfold/chassis/internal/telemetry"
	"factfold/chassis/internal/wire"
)

// appending is one append of a command: events of one key, all or nothing.
type appending struct {
	core     *core
	call     *Command
	events   []proto.Message
	specs    []*contract.Event
	stream   *contract.Stream
	key      string
	begin    int     // facts of the key that this run of the command has passed already
	expected *uint64 // version of the key, of a stream that is versioned
}

func (c *core) newAppending(call *Command, events []proto.Message, expected *uint64) (*appending, error) {
	a := &appending{core: c, call: call, events: events, expected: expected}
	for _, event := range events {
		spec, err := c.contract.EventOf(event)
		if err != nil {
			return nil, err
		}
		if !spec.Stream.Own || (a.stream != nil && spec.Stream != a.stream) {
			return nil, fault.Wiring("%s: append events of one own stream", spec.Name)
		}
		a.specs, a.stream = append(a.specs, spec), spec.Stream
	}
	switch {
	case len(events) == 0:
		return nil, fault.Wiring("AppendAll: there is nothing to append")
	case a.stream.Versioned && expected == nil:
		return nil, fault.Wiring("stream %s is versioned: pass ExpectedVersion", a.stream.Name)
	case !a.stream.Versioned && expected != nil:
		return nil, fault.Wiring("stream %s is not versioned: do not pass ExpectedVersion", a.stream.Name)
	}
	a.key = a.specs[0].KeyOf(events[0])
	a.begin = call.behind(a.stream.Name, a.key)
	return a, nil
}

func (a *appending) run(ctx context.Context) (Appended, error) {
	if known := a.core.answered(a.stream.Name, a.key, a.call.RequestID); len(known) > a.begin {
		// Known here: a handler may take the version from the view, and then none conflicts.
		if found, ok, err := a.answer(ctx); err != nil || ok {
			return found, err
		}
	}
	send := a.core.telemetry.Send(ctx, a.stream.Name)
	done, err := a.put(ctx, send)
	var conflict *fault.VersionConflict
	if errors.As(err, &conflict) && a.call.RequestID != "" {
		if found, ok, failed := a.answer(ctx); failed != nil || ok {
			done, err = found, failed
		}
	}
	send.End(err)
	return done, err
}

// put appends them now.
func (a *appending) put(ctx context.Context, send *telemetry.Send) (Appended, error) {
	facts := make([]redislog.NewFact, len(a.events))
	version := uint64(0)
	for i, event := range a.events {
		meta := wire.NewMeta(a.core.source, a.call.RequestID, 0)
		fact := redislog.NewFact{Type: a.specs[i].Name, Key: a.specs[i].KeyOf(event)}
		if a.expected != nil {
			expected := *a.expected + uint64(i)
			if err := redislog.CheckVersion(expected); err != nil {
				return Appended{}, err
			}
			version = expected + 1
			fact.Expected, meta.Version = &expected, version
		}
		send.Fill(meta)
		var err error
		if fact.Meta, err = proto.Marshal(meta); err != nil {
			return Appended{}, err
		}
		if fact.Data, err = proto.Marshal(event); err != nil {
			return Appended{}, err
		}
		facts[i] = fact
	}
	position, err := a.core.appender(a.stream.Name).Append(ctx, facts)
	if err != nil {
		return Appended{}, err
	}
	send.Placed(position.Partition, position.String())
	return Appended{Event: a.events[0], Version: version, Position: position}, nil
}

func (c *core) appender(stream string) *redislog.Appender {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.appenders[stream]
}

// answered are the facts of a key that the command has appended, as the owner's view knows them.
func (c *core) answered(stream, key, requestID string) []wire.ID {
	if requestID == "" {
		return nil
	}
	return c.journal.Answered(stream, key, requestID)
}

// answer is what this command appended when it came before; false if it did not.
func (a *appending) answer(ctx context.Context) (Appended, bool, error) {
	select {
	case a.core.lookingUp <- struct{}{}:
		defer func() { <-a.core.lookingUp }()
	case <-ctx.Done():
		return Appended{}, false, ctx.Err()
	}
	facts, missing, err := a.lookUp(ctx)
	var lost *redislog.LinkLost
	switch {
	case errors.As(err, &lost):
		return Appended{}, false, fault.LogUnreachable(a.stream.Name, lost.Error())
	case errors.Is(err, fault.KindPositionLost):
		return Appended{}, false, fault.NotReady(fmt.Sprintf("view %s is about to be rebuilt", a.core.owner.Name()))
	case err != nil:
		return Appended{}, false, err
	case len(facts) > 0 && missing != "":
		return Appended{}, false, fault.OutcomeUnknown(a.stream.Name, "it is in the log, but "+missing)
	case len(facts) < len(a.specs):
		return Appended{}, false, nil
	}
	for i, fact := range facts {
		if name, _ := fact.Type(); name != a.specs[i].Name {
			return Appended{}, false, fault.InvalidRequest("request_id",
				"another command has used it; take a new one for each command")
		}
	}
	event := a.specs[0].New()
	if proto.Unmarshal(facts[0].Data(), event) != nil {
		return Appended{}, false, nil
	}
	last := facts[len(facts)-1]
	return Appended{Event: event, Version: last.Version(), Position: last.Position(), Repeated: true}, true, nil
}

// lookUp reads the facts from the log once the owner's view has passed its tail; missing says that
// replicas do not have it, as the caller may have heard.
func (a *appending) lookUp(ctx context.Context) (facts []*Fact, missing string, err error) {
	c, stream := a.core, a.stream
	partition := wire.PartitionOf(a.key, stream.Partitions)
	keys := wire.KeysOf(stream.Name, partition)
	link, err := c.redis.Link(ctx, keys.Appending()...)
	if err != nil {
		return nil, "", err
	}
	defer link.Close()
	head, found, err := redislog.ReadHead(ctx, link, stream.Name, partition)
	if err != nil || !found {
		return nil, "", err
	}
	at := wire.Position{Stream: stream.Name, Partition: partition, Epoch: head.Epoch}
	at.ID = wire.ID{Ms: head.Ms, N: head.N}
	reaching, cancel := context.WithTimeout(ctx, c.settings.ReadTimeout)
	defer cancel()
	if err := c.owner.Reach(reaching, at); err != nil {
		return nil, "", err
	}
	ids := c.answered(stream.Name, a.key, a.call.RequestID)
	for _, id := range ids[min(a.begin, len(ids)):min(a.begin+len(a.specs), len(ids))] {
		reply, err := link.Do(ctx, "XRANGE", keys.Log(), id.String(), id.String())
		if err != nil {
			return nil, "", err
		}
		entries, err := redislog.Entries(reply)
		if err != nil {
			return nil, "", err
		}
		if len(entries) == 0 {
			trimmed, err := redislog.ReadTrimmed(ctx, link, keys)
			if err != nil {
				return nil, "", err
			}
			if id.N <= trimmed {
				at.ID = id
				return nil, "", fault.FailedPrecondition(fmt.Sprintf("the command was carried out when it came "+
					"first, at %s, and its answer was trimmed with that fact: ask for the present state", at))
			}
		}
		for _, entry := range entries {
			facts = append(facts, &Fact{Stream: stream.Name, Partition: partition, Epoch: head.Epoch, Entry: entry})
		}
	}
	missing, err = c.replicas.MissingNow(ctx, link, keys.Producers())
	return facts, missing, err
}
