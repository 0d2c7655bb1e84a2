package views

import (
	"sync"

	"factfold/chassis/internal/redislog"
	"factfold/chassis/internal/telemetry"
	"factfold/chassis/internal/wire"
)

const recentIDs = 1024 // facts of a partition of which a position is compared in full

// Place is how far a view is in one partition.
type Place struct {
	Stream    string
	Partition int
	Epoch     string

	target uint64 // the view is ready once it has passed the tail seen at start

	mu      sync.Mutex
	anchor  redislog.Anchor
	checked bool // the log has said that the anchor is in it
	tail    uint64
	ended   bool
	news    chan struct{} // closed at the next change; nil if nobody waits
	ids     []wire.ID     // of the last facts, up to the anchor
}

func newPlace(stream string, partition int, head redislog.Head, anchor redislog.Anchor) *Place {
	place := &Place{
		Stream: stream, Partition: partition, Epoch: head.Epoch,
		target: head.N, tail: head.N, anchor: anchor,
	}
	if anchor.ID.N > 0 {
		place.ids = []wire.ID{anchor.ID}
	}
	return place
}

// Anchor is the last fact that was folded.
func (p *Place) Anchor() redislog.Anchor {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.anchor
}

// Position is that of the last fact that was folded.
func (p *Place) Position() wire.Position { return p.at(p.Anchor()) }

func (p *Place) at(anchor redislog.Anchor) wire.Position {
	return wire.Position{Stream: p.Stream, Partition: p.Partition, Epoch: p.Epoch, ID: anchor.ID}
}

func (p *Place) key() placeKey { return placeKey{p.Stream, p.Partition} }

// done is how many facts of the target it has.
func (p *Place) done() uint64 { return min(p.Anchor().ID.N, p.target) }

func (p *Place) passed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.checked && p.anchor.ID.N >= p.target
}

func (p *Place) lag() telemetry.Lag {
	p.mu.Lock()
	defer p.mu.Unlock()
	behind := max(p.tail, p.anchor.ID.N) - p.anchor.ID.N
	return telemetry.LagOf(p.Stream, p.Partition, behind, p.anchor.ID.Ms)
}

func (p *Place) advance(batch redislog.Batch) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.checked = true
	p.anchor, p.tail = batch.Anchor, batch.Tail
	for _, entry := range batch.Entries {
		p.ids = append(p.ids, entry.ID)
	}
	if len(p.ids) > 2*recentIDs { // moved now and then, not each time
		p.ids = append(make([]wire.ID, 0, 2*recentIDs), p.ids[len(p.ids)-recentIDs:]...)
	}
	p.wake()
}

// end says that nothing comes here any more.
func (p *Place) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	p.wake()
}

func (p *Place) wake() {
	if p.news != nil {
		close(p.news)
		p.news = nil
	}
}

// look says whether the fact with number n was folded, and whether nothing comes any more; if
// neither, the channel is closed at the next change.
func (p *Place) look(n uint64) (reached, ended bool, news <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.anchor.ID.N >= n || p.ended {
		return p.anchor.ID.N >= n, p.ended, nil
	}
	if p.news == nil {
		p.news = make(chan struct{})
	}
	return false, false, p.news
}

// had says whether this fact was folded, and not another one with its n; older ones are believed.
func (p *Place) had(id wire.ID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	back := p.anchor.ID.N - id.N
	if back >= uint64(min(len(p.ids), recentIDs)) {
		return true
	}
	return p.ids[uint64(len(p.ids))-1-back] == id
}

// recent are the last facts, up to the anchor.
func (p *Place) recent() []redislog.Anchor {
	p.mu.Lock()
	defer p.mu.Unlock()
	var found []redislog.Anchor
	for _, id := range p.ids[max(0, len(p.ids)-recentIDs):] {
		found = append(found, redislog.Anchor{ID: id})
	}
	return found
}
