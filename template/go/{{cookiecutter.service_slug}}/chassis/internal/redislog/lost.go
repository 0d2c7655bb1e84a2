package redislog

import (
	"context"
	"fmt"
	"strings"

	"factfold/chassis/internal/wire"
)

// aLine is how many positions an alarm names.
const aLine = 100

// Part is a partition as it was known.
type Part struct {
	Stream    string
	Partition int
	Epoch     string
}

// HasFact tells whether the log has this fact, or had it until it was trimmed. A log of another
// epoch counts as having it: whoever uses it finds that out by itself.
func HasFact(ctx context.Context, link *Link, part Part, at Anchor) (bool, error) {
	keys := wire.KeysOf(part.Stream, part.Partition)
	replies, err := link.Pipe(ctx, replyTimeout,
		[]any{"HMGET", keys.Head(), "epoch", "trimmed"},
		[]any{"XRANGE", keys.Log(), at.ID.String(), at.ID.String()})
	if err != nil {
		return false, err
	}
	for _, reply := range replies {
		if err, failed := reply.(error); failed {
			return false, err
		}
	}
	head := List(replies[0])
	trimmed, _ := Number(head[1]) // absent: nothing was
	if Text(head[0]) != part.Epoch || at.ID.N <= trimmed {
		return true, nil
	}
	entries, err := Entries(replies[1])
	return len(entries) > 0 && (at.FactID == "" || at.FactID == entries[0].FactID()), err
}

// NameLost tells alarm which of these entries, in their order, the log has no more: after a failover
// an operator looks for them elsewhere. There is at least one id, and the last one is known to be
// gone, or of another fact. were is what the facts were: "acknowledged".
func NameLost(
	ctx context.Context, link *Link, part Part, ids []wire.ID, were string, alarm func(string),
) error {
	keys := wire.KeysOf(part.Stream, part.Partition)
	last := ids[len(ids)-1]
	// As many others may stand between them by now.
	reply, err := link.Do(ctx,
		"XRANGE", keys.Log(), ids[0].String(), last.String(), "COUNT", 2*len(ids))
	if err != nil {
		return err
	}
	entries, err := Entries(reply)
	if err != nil {
		return err
	}
	trimmed, err := ReadTrimmed(ctx, link, keys)
	if err != nil {
		return err
	}
	present := map[wire.ID]bool{}
	for _, entry := range entries {
		present[entry.ID] = entry.ID != last
	}
	var lost []string
	for _, id := range ids {
		if !present[id] && id.N > trimmed {
			lost = append(lost, wire.Position{
				Stream: part.Stream, Partition: part.Partition, Epoch: part.Epoch, ID: id,
			}.String())
		}
	}
	them := "them"
	if !present[ids[0]] && ids[0].N > trimmed {
		them = "them, and for earlier ones that are remembered no more,"
	}
	for from := 0; from < len(lost); from += aLine {
		alarm(fmt.Sprintf("the log of stream %s, partition %d, was rolled back: of the facts that "+
			"were %s, %d are lost: %s; look for %s in a replica or a backup", part.Stream, part.Partition,
			were, len(lost), strings.Join(lost[from:min(len(lost), from+aLine)], ", "), them))
	}
	return nil
}
