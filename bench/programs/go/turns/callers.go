package turns

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"factfold/chassis/bench/pb"
	"factfold/chassis/internal/wire"
)

// Keys is how many different ones are appended to.
const Keys = 4096

// Fields are of one fact, about 200 bytes.
type Fields struct {
	Type, Key  string
	Meta, Data []byte
}

// Made are the same fields for everybody, one for each key, made before the clock runs.
func Made() []Fields {
	meta := Must(proto.Marshal(wire.NewMeta("/parcels", "", 0)))
	made := make([]Fields, Keys)
	for number := range made {
		key := uuid.NewSHA1(uuid.NameSpaceOID, fmt.Append(nil, number)).String()
		moved := &pb.ParcelMoved{
			Id: key, Place: fmt.Sprintf("terminal %09d, gate 4, Rotterdam", number),
			Carrier: "Nordsee Kontor", Weight: 1000 + uint64(number),
		}
		made[number] = Fields{"bench.v1.ParcelMoved", key, meta, Must(proto.Marshal(moved))}
	}
	return made
}

// Appended is what so many callers append, each again and again as soon as its last append is
// acknowledged; call says how many facts it has put into the log.
func Appended(limit time.Duration, callers int, call func(number int) int) Answer {
	var number, facts atomic.Int64
	var working sync.WaitGroup
	began := time.Now()
	for range callers {
		working.Go(func() {
			for time.Since(began) < limit {
				facts.Add(int64(call(int(number.Add(1)))))
			}
		})
	}
	working.Wait()
	return Answer{"value": float64(facts.Load()) / time.Since(began).Seconds()}
}
