package redislog

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Appended is what a reply OK of the append script says of the call's facts that are in the log.
type Appended struct {
	Ms, First, Facts uint64
	Skipped          uint64         // units that were known
	Actual           map[int]uint64 // versions, by the number of a unit that was dropped for its own
	Failure          string         // why the facts end early; empty if they do not
}

// AppendedOf reads a reply OK.
func AppendedOf(reply []any) (Appended, error) {
	var none Appended
	if len(reply) < 7 {
		return none, fmt.Errorf("the script append has answered %v", reply)
	}
	ms, err1 := Number(reply[1])
	first, err2 := Number(reply[2])
	facts, err3 := Number(reply[3])
	skipped, err4 := Number(reply[6])
	actual, err5 := actualOf(Text(reply[4]))
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		return none, fmt.Errorf("the script append has answered %v: %w", reply, err)
	}
	return Appended{ms, first, facts, skipped, actual, Text(reply[5])}, nil
}

func actualOf(conflicts string) (map[int]uint64, error) {
	actual := map[int]uint64{}
	for pair := range strings.SplitSeq(conflicts, ",") {
		if pair == "" {
			continue
		}
		before, after, _ := strings.Cut(pair, ":")
		unit, err := strconv.Atoi(before)
		if err != nil {
			return nil, err
		}
		if actual[unit], err = strconv.ParseUint(after, 10, 64); err != nil {
			return nil, err
		}
	}
	return actual, nil
}
