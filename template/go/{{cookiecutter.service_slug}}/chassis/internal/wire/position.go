package wire

import (
	"fmt"
	"iter"
	"regexp"
	"strconv"
	"strings"

	"factfold/chassis/internal/fault"
)

// AtLeastHeader says how far a view must be before a call is answered from it.
const AtLeastHeader = "factfold-at-least"

// ID is an entry's: Ms is of the server's time, N counts the facts of the partition from 1.
type ID struct{ Ms, N uint64 }

func (id ID) String() string {
	return strconv.FormatUint(id.Ms, 10) + "-" + strconv.FormatUint(id.N, 10)
}

// ParseID reads ms-n.
func ParseID(text string) (ID, error) {
	before, after, _ := strings.Cut(text, "-")
	ms, err := strconv.ParseUint(before, 10, 64)
	if err == nil {
		var n uint64
		if n, err = strconv.ParseUint(after, 10, 64); err == nil {
			return ID{ms, n}, nil
		}
	}
	return ID{}, fmt.Errorf("%q is no id of an entry", text)
}

// Position is the place of a fact in one partition of one log.
type Position struct {
	Stream    string
	Partition int
	Epoch     string // 16 hex digits
	ID
}

func (p Position) String() string {
	return fmt.Sprintf("%s/%d@%s:%s", p.Stream, p.Partition, p.Epoch, p.ID)
}

// FormatPositions is the text of trailers, headers and tokens: comma-separated.
func FormatPositions(positions iter.Seq[Position]) string {
	var texts []string
	for position := range positions {
		texts = append(texts, position.String())
	}
	return strings.Join(texts, ",")
}

var positionText = regexp.MustCompile(
	`^([a-z0-9.-]{1,64})/([0-9]{1,9})@([0-9a-f]{16}):([0-9]{1,16})-([0-9]{1,16})$`)

// ParsePositions reads what a header or a token has; field is what an error names.
// It returns a fault of KindInvalidRequest for a text that this project does not write.
func ParsePositions(text, field string) ([]Position, error) {
	var positions []Position
	for part := range strings.SplitSeq(text, ",") {
		if part == "" {
			continue
		}
		found := positionText.FindStringSubmatch(part)
		if found == nil {
			return nil, fault.InvalidRequest(field, fmt.Sprintf(
				"'%.80s' is no position; send back one that a service returned", part))
		}
		// They cannot fail: the expression limits the digits.
		partition, _ := strconv.Atoi(found[2])
		ms, _ := strconv.ParseUint(found[4], 10, 64)
		n, _ := strconv.ParseUint(found[5], 10, 64)
		positions = append(positions, Position{found[1], partition, found[3], ID{ms, n}})
	}
	return positions, nil
}
