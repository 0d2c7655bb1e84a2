package views

import (
	"strings"
	"sync"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"factfold/chassis/internal/wire"
)

const (
	requestsPerKey = 64
	recentFacts    = 1024 // of a partition, at most
	recentBytes    = 4 << 20
	requestIDField = 9 // of FactMeta
)

// answers are facts of one key that commands with a request id appended, in their order. They are
// never changed, as frozen trees share them.
type answers []answer

type answer struct {
	requestID string
	id        wire.ID
}

// size is in bytes, about.
func (a answers) size() (bytes int) {
	for _, each := range a {
		bytes += len(each.requestID)
	}
	return bytes
}

// requests are the answers by stream and key.
type requests map[string]*tree[answers]

// Journal is what an owner remembers of its own streams: request ids, so that a repeated command
// gets its first answer, and the newest facts, which feed watches without a read for each of them.
// It is fed by the view that folds the service's own streams.
type Journal struct {
	mu       sync.RWMutex
	requests requests
	recent   map[placeKey]*recent
	watching map[chan struct{}]struct{}
}

type placeKey struct {
	stream    string
	partition int
}

// NewJournal makes an empty one.
func NewJournal() *Journal {
	return &Journal{
		requests: requests{}, recent: map[placeKey]*recent{}, watching: map[chan struct{}]struct{}{},
	}
}

// Answered are the ids of the facts of key that the command requestID appended, in order.
func (j *Journal) Answered(stream, key, requestID string) []wire.ID {
	j.mu.RLock()
	defer j.mu.RUnlock()
	of := j.requests[stream]
	if of == nil {
		return nil
	}
	known, _ := of.get(key)
	var found []wire.ID
	for _, each := range known {
		if each.requestID == requestID {
			found = append(found, each.id)
		}
	}
	return found
}

// Recent are the facts of a partition from number n on; nil if they are not all remembered.
func (j *Journal) Recent(stream string, partition int, n uint64) []wire.Entry {
	j.mu.RLock()
	defer j.mu.RUnlock()
	if of := j.recent[placeKey{stream, partition}]; of != nil {
		return of.since(n)
	}
	return nil
}

// Watch returns a channel that has a value whenever something new is there, and what ends that.
func (j *Journal) Watch() (news <-chan struct{}, stop func()) {
	watch := make(chan struct{}, 1)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.watching[watch] = struct{}{}
	return watch, func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		delete(j.watching, watch)
	}
}

// Wake lets all watches look again.
func (j *Journal) Wake() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.wake()
}

func (j *Journal) wake() {
	for watch := range j.watching {
		select {
		case watch <- struct{}{}:
		default: // it has not looked since the last time
		}
	}
}

// reset begins anew, with what a snapshot remembers.
func (j *Journal) reset(known requests) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.requests = known
	j.recent = map[placeKey]*recent{}
	j.wake()
}

// take remembers a batch of so many bytes; Wake is to follow. Entries that cannot be read are passed
// over.
func (j *Journal) take(stream string, partition int, entries []wire.Entry, size int) {
	if len(entries) == 0 {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	of := j.requests[stream]
	if of == nil {
		of = &tree[answers]{}
		j.requests[stream] = of
	}
	for _, entry := range entries {
		meta, _ := entry.Field("meta")
		requestID := requestIDOf(meta)
		key, hasKey := entry.Field("key")
		if requestID == "" || !hasKey || !utf8.ValidString(key) {
			continue
		}
		known, _ := of.get(key)
		known = known[max(0, len(known)+1-requestsPerKey):]
		// Exactly as long as it is: most keys have few, and there are many keys.
		of.set(key, append(append(make(answers, 0, len(known)+1), known...), answer{requestID, entry.ID}))
	}
	at := placeKey{stream, partition}
	if j.recent[at] == nil {
		j.recent[at] = &recent{}
	}
	j.recent[at].take(entries, size)
}

// frozen are the request ids as they are now.
func (j *Journal) frozen() requests {
	j.mu.Lock()
	defer j.mu.Unlock()
	now := make(requests, len(j.requests))
	for stream, of := range j.requests {
		frozen := of.freeze()
		now[stream] = &frozen
	}
	return now
}

// requestIDOf is FactMeta.request_id; empty if there is none, or the metadata cannot be read. Every
// fact of an own stream comes by, most have none, and parsing all the rest costs more than a fold.
func requestIDOf(meta string) string {
	if strings.IndexByte(meta, requestIDField<<3|byte(protowire.BytesType)) < 0 {
		return ""
	}
	found, rest := "", []byte(meta)
	for len(rest) > 0 {
		number, kind, size := protowire.ConsumeTag(rest)
		if size < 0 {
			return ""
		}
		rest = rest[size:]
		size = protowire.ConsumeFieldValue(number, kind, rest)
		if size < 0 {
			return ""
		}
		if number == requestIDField && kind == protowire.BytesType {
			value, _ := protowire.ConsumeBytes(rest)
			found = string(value)
		}
		rest = rest[size:]
	}
	if !utf8.ValidString(found) {
		return ""
	}
	return found
}

// recent are the newest facts of a partition, by batch.
type recent struct {
	batches []recentBatch
	facts   int
	bytes   int
}

type recentBatch struct {
	entries []wire.Entry
	size    int
}

func (r *recent) take(entries []wire.Entry, size int) {
	r.batches = append(r.batches, recentBatch{entries, size})
	r.facts += len(entries)
	r.bytes += size
	for r.facts > recentFacts || r.bytes > recentBytes {
		oldest := r.batches[0]
		r.batches[0] = recentBatch{} // the array lives on for a while
		r.batches = r.batches[1:]
		r.facts -= len(oldest.entries)
		r.bytes -= oldest.size
	}
}

func (r *recent) since(n uint64) []wire.Entry {
	var found [][]wire.Entry
	size := 0
	for i := len(r.batches) - 1; i >= 0; i-- {
		entries := r.batches[i].entries
		first := entries[0].ID.N
		if n > first {
			entries = entries[min(n-first, uint64(len(entries))):]
		}
		found = append(found, entries)
		size += len(entries)
		if first <= n {
			all := make([]wire.Entry, 0, size)
			for at := len(found) - 1; at >= 0; at-- {
				all = append(all, found[at]...)
			}
			return all
		}
	}
	return nil
}
