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
	units   []*unit
	command []any
}

// answer is what the reply to one append says.
type answer struct {
	refused []refused
	added   redislog.Acknowledged
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
			var answers []answer
			for some := range slices.Chunk(its, atOnce) {
				there, err := t.send(ctx, link, some)
				if err != nil {
					return err
				}
				answers = append(answers, there...)
			}
			if err := t.replicas.Confirm(ctx, link); err != nil {
				return err
			}
			for i, each := range answers {
				found = append(found, each.refused...)
				t.at(its[i].to).Remember(each.added, link)
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
		if its.to.partition >= len(t.memories[its.to.stream]) {
			return nil, stop("there is no output partition %s, and something is settled for it", its.to)
		}
		link, err := t.toAppend(ctx, its.to)
		if err != nil {
			return nil, err
		}
		for _, part := range parts(units) {
			predecessor, round := uint64(0), letter.GetRound()
			if letter == nil {
				predecessor, t.sent[its] = t.sent[its], part[len(part)-1].n
			}
			command := redislog.Command("append", its.to.keys().Appending(),
				appendArgs(t.at(its.to).Epoch, its.producer, predecessor, part, round, ms)...)
			calls[link] = append(calls[link], appendCall{its, part, command})
		}
	}
	return calls, nil
}

// toAppend is the link to an output partition; its server has the script that appends.
func (t *tenure) toAppend(ctx context.Context, to place) (*redislog.Link, error) {
	link, err := t.links.To(ctx, to.keys().Appending()...)
	if err != nil {
		return nil, err
	}
	if !t.loaded[link] {
		if err := link.Load(ctx, "append"); err != nil {
			return nil, err
		}
		t.loaded[link] = true
	}
	if !t.compared[to] {
		if err := t.at(to).Compare(ctx, link, t.alarm); err != nil {
			return nil, err
		}
		t.compared[to] = true
	}
	return link, nil
}

func (t *tenure) at(to place) *redislog.Memory { return t.memories[to.stream][to.partition] }

func (t *tenure) send(ctx context.Context, link *redislog.Link, calls []appendCall) ([]answer, error) {
	commands := make([][]any, len(calls))
	for i, each := range calls {
		commands[i] = each.command
	}
	replies, err := link.Pipe(ctx, replyTimeout, commands...)
	if err != nil {
		return nil, err
	}
	answers := make([]answer, len(calls))
	for i, reply := range replies {
		if err, failed := reply.(error); failed {
			return nil, err
		}
		if answers[i], err = t.placed(calls[i], redislog.List(reply)); err != nil {
			return nil, err
		}
	}
	return answers, nil
}

// placed is what the reply to one append says; ends the spans of what was appended now.
func (t *tenure) placed(call appendCall, reply []any) (found answer, err error) {
	to, status := call.to, field(reply, 0)
	switch {
	case status == "EPOCH":
		return answer{}, stop("the output stream %s was replaced", to.stream)
	case status == "GAP":
		return answer{}, stop("the output log %s was rolled back: it lacks what was appended for fact %d; "+
			"compare it with a replica or a backup", to, t.sent[call.lane])
	case status != "OK" || field(reply, 5) != "":
		return answer{}, unclear("%s answered %s %s", to, status, field(reply, 1))
	}
	result, err := redislog.AppendedOf(reply)
	if err != nil {
		return answer{}, err
	}
	n := result.First - 1
	found.added = redislog.Acknowledged{Ms: result.Ms, First: result.First, Last: n + result.Facts}
	for i, each := range call.units {
		if actual, refusal := result.Actual[i]; refusal {
			output := each.Facts[0]
			conflict := &fault.VersionConflict{
				Stream: to.stream, Key: output.Key, Expected: output.GetExpectedVersion(), Actual: actual,
			}
			found.refused = append(found.refused, refused{each.n, to, conflict.Error()})
			each.end(conflict)
		} else if uint64(i) >= result.Skipped {
			n += uint64(len(each.Facts))
			found.added.FactID = logFact(each.Facts[len(each.Facts)-1]).FactID()
			position := wire.Position{
				Stream: to.stream, Partition: to.partition, Epoch: t.at(to).Epoch,
				ID: wire.ID{Ms: result.Ms, N: n},
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
