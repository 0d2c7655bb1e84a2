package reactions

import (
	"context"
	"fmt"
	"slices"
	"strings"

	factfoldv1 "factfold/chassis/factfold/v1"
	"factfold/chassis/internal/fault"
	"factfold/chassis/internal/redislog"
	"factfold/chassis/internal/wire"
)

// atOnce is how many calls of the append script go out together: each may have 1 MiB, and their
// replies have to come within the time of one.
const atOnce = 16

// lane is an output partition, and a producer.
type lane struct {
	to       place
	producer string
}

// appendCall is one call of the append script.
type appendCall struct {
	lane
	epoch   string
	units   []*unit
	command []any
}

// refused is a unit that was not appended: its key has another version.
type refused struct {
	n      uint64 // of the fact that it answers
	place  place
	reason string
}

// append puts settled units into the log, those to one place in this order. ms is of the last input
// that is settled with them. A dead letter that they answer is its own producer.
func (t *tenure) append(
	ctx context.Context, units []*unit, letter *factfoldv1.DeadLetter, ms uint64,
) (found []refused, err error) {
	err = t.step(func() error {
		calls, err := t.calls(ctx, units, letter, ms)
		if err != nil {
			return err
		}
		for link, its := range calls {
			for some := range slices.Chunk(its, atOnce) {
				refusals, err := t.send(ctx, link, some)
				if err != nil {
					return err
				}
				found = append(found, refusals...)
			}
			if err := t.replicas.Confirm(ctx, link); err != nil {
				return err
			}
		}
		return nil
	})
	return found, err
}

// calls are those that append units, by their connection.
func (t *tenure) calls(
	ctx context.Context, units []*unit, letter *factfoldv1.DeadLetter, ms uint64,
) (map[*redislog.Link][]appendCall, error) {
	lanes := map[lane][]*unit{}
	for _, each := range units {
		producer := t.producer(t.producerOf(each.n))
		if letter != nil {
			producer = t.producer(t.epoch) + "/" + string(letter.EntryId)
		}
		its := lane{each.place(), producer}
		lanes[its] = append(lanes[its], each)
	}
	calls := map[*redislog.Link][]appendCall{}
	for its, units := range lanes {
		keys := wire.KeysOf(its.to.stream, its.to.partition).Appending()
		link, err := t.toAppend(ctx, keys)
		if err != nil {
			return nil, err
		}
		if its.to.partition >= len(t.epochs[its.to.stream]) {
			return nil, stop("there is no output partition %s, and something is settled for it", its.to)
		}
		epoch := t.epochs[its.to.stream][its.to.partition]
		for _, part := range parts(units) {
			predecessor, round := uint64(0), letter.GetRound()
			if letter == nil {
				predecessor, t.sent[its] = t.sent[its], part[len(part)-1].n
			}
			command := redislog.Command("append", keys,
				appendArgs(epoch, its.producer, predecessor, part, round, ms)...)
			calls[link] = append(calls[link], appendCall{its, epoch, part, command})
		}
	}
	return calls, nil
}

// toAppend is the link to an output partition; its server has the script that appends.
func (t *tenure) toAppend(ctx context.Context, keys []string) (*redislog.Link, error) {
	link, err := t.links.To(ctx, keys...)
	if err != nil || t.loaded[link] {
		return link, err
	}
	t.loaded[link] = true
	return link, link.Load(ctx, "append")
}

func (t *tenure) send(ctx context.Context, link *redislog.Link, calls []appendCall) ([]refused, error) {
	commands := make([][]any, len(calls))
	for i, each := range calls {
		commands[i] = each.command
	}
	replies, err := link.Pipe(ctx, replyTimeout, commands...)
	if err != nil {
		return nil, err
	}
	var found []refused
	for i, reply := range replies {
		if err, failed := reply.(error); failed {
			return nil, err
		}
		refusals, err := t.placed(calls[i], redislog.List(reply))
		if err != nil {
			return nil, err
		}
		found = append(found, refusals...)
	}
	return found, nil
}

// placed is what the reply to one append says; ends the spans of what was appended now.
func (t *tenure) placed(call appendCall, reply []any) ([]refused, error) {
	to, status := call.to, field(reply, 0)
	switch {
	case status == "EPOCH":
		return nil, stop("the output stream %s was replaced", to.stream)
	case status == "GAP":
		return nil, stop("the output log %s was rolled back: it lacks what was appended for fact %d; "+
			"compare it with a replica or a backup", to, t.sent[call.lane])
	case status != "OK" || field(reply, 5) != "":
		return nil, unclear("%s answered %s %s", to, status, field(reply, 1))
	}
	result, err := redislog.AppendedOf(reply)
	if err != nil {
		return nil, err
	}
	var found []refused
	n := result.First - 1
	for i, each := range call.units {
		if actual, refusal := result.Actual[i]; refusal {
			output := each.Facts[0]
			conflict := &fault.VersionConflict{
				Stream: to.stream, Key: output.Key, Expected: output.GetExpectedVersion(), Actual: actual,
			}
			found = append(found, refused{each.n, to, conflict.Error()})
			each.end(conflict)
		} else if uint64(i) >= result.Skipped {
			n += uint64(len(each.Facts))
			position := wire.Position{
				Stream: to.stream, Partition: to.partition, Epoch: call.epoch, ID: wire.ID{Ms: result.Ms, N: n},
			}
			each.placed(position)
		}
	}
	return found, nil
}

// parts are units as calls of the append script take them, within its limits or one alone.
func parts(units []*unit) [][]*unit {
	var found [][]*unit
	facts, size := 0, 0
	for _, each := range units {
		facts += len(each.Facts)
		size += each.size
		if len(found) == 0 || facts > redislog.MaxBatchFacts || size > redislog.MaxBatchBytes {
			found = append(found, nil)
			facts, size = len(each.Facts), each.size
		}
		last := len(found) - 1
		found[last] = append(found[last], each)
	}
	return found
}

// appendArgs are those of the append script. The sequence of a unit is the n that it answers, or the
// round of a dead letter. ms is of an input that is answered with them, or of a later one that is
// settled.
func appendArgs(epoch, producer string, predecessor uint64, units []*unit, round uint32, ms uint64) []any {
	var facts []redislog.NewFact
	sizes := make([]string, len(units))
	for i, each := range units {
		sequence := each.n
		if round != 0 {
			sequence = uint64(round)
		}
		sizes[i] = fmt.Sprintf("%d:%d", sequence, len(each.Facts))
		for _, output := range each.Facts {
			facts = append(facts, logFact(output))
		}
	}
	args := []any{
		epoch, producer, "units", ms, predecessor, strings.Join(sizes, ","), redislog.ListedVersions(facts),
	}
	for _, fact := range facts {
		args = append(args, fact.Type, fact.Key, fact.Meta, fact.Data)
	}
	return args
}
