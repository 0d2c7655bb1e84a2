package wire

import (
	"time"

	"github.com/google/uuid"

	factfoldv1 "factfold/chassis/factfold/v1"
)

// NewFactID is a UUIDv7: sortable by time, random in the rest.
func NewFactID() []byte {
	id := uuid.Must(uuid.NewV7()) // it fails only if the system has no random bytes
	return id[:]
}

// NewMeta is the metadata of a fact made now, without its trace context and what few facts have.
func NewMeta(source, requestID string, version uint64) *factfoldv1.FactMeta {
	return &factfoldv1.FactMeta{
		Id:           NewFactID(),
		Source:       source,
		TimeUnixNano: uint64(time.Now().UnixNano()),
		RequestId:    requestID,
		Version:      version,
	}
}

// DerivedID is the id that a seed (a request id, a fact id) always gives in a stream, as UUID text:
// a command that is repeated, or a reaction that runs again, names the same thing again.
func DerivedID(stream, seed string) string {
	return uuid.NewSHA1(uuid.NewSHA1(uuid.Nil, []byte(stream)), []byte(seed)).String()
}
