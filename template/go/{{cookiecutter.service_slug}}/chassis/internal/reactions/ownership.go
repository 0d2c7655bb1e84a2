package reactions

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"factfold/chassis/internal/redislog"
)

// No clock is shared and nothing expires on the server: whose beat has not changed for the lease, as
// measured by who looks, is gone.

const (
	beats     = 10 // in each lease
	forgotten = 10 // leases of silence after which a member's field is removed
)

// seen is what the owner of a partition was last seen with.
type seen struct{ token, beat string }

// ours is a claim to what nobody else owns.
var ours = seen{}

// chosen is who of the members is to own a partition: rendezvous hashing.
func chosen(members []string, partition int) string {
	var best string
	var most uint64
	for _, member := range members {
		sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%d", member, partition))
		weight := binary.BigEndian.Uint64(sum[:])
		if best == "" || weight > most || weight == most && member > best {
			best, most = member, weight
		}
	}
	return best
}

// silence is how long things have not changed, on this instance's own clock.
type silence map[string]sighting

type sighting struct {
	value string
	since time.Time
}

// of is the time since the value was first seen, without a change since.
func (s silence) of(what, value string, now time.Time) time.Duration {
	if before, ok := s[what]; ok && before.value == value {
		return now.Sub(before.since)
	}
	s[what] = sighting{value, now}
	return 0
}

// request is something that the command line asks of a partition's owner.
type request struct {
	sequence uint64
	what     string // redrive:n or discard:n
}

// ownership is one partition as this instance sees it.
type ownership struct {
	partition int
	group     string
	redrive   string

	mu      sync.Mutex
	present *claim    // nil: somebody else owns the partition
	vacant  chan seen // nil: nobody waits for it
}

// claim is what an owner hears while it has the partition.
type claim struct {
	token string
	// Each beat tells all requests that are open, so one reply is enough.
	requests chan []request
	unwanted chan struct{} // closed: another live member is to have it
	once     sync.Once
}

func (c *claim) giveUp() { c.once.Do(func() { close(c.unwanted) }) }

// begin says that this instance owns the partition now.
func (o *ownership) begin(token string) *claim {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.present = &claim{
		token: token, requests: make(chan []request, 1), unwanted: make(chan struct{}),
	}
	return o.present
}

func (o *ownership) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.present = nil
}

func (o *ownership) held() *claim {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.present
}

// vacancy waits until this instance is to own the partition and nobody alive does.
func (o *ownership) vacancy(ctx context.Context) (seen, error) {
	vacant := make(chan seen, 1)
	o.mu.Lock()
	o.vacant = vacant
	o.mu.Unlock()
	select {
	case found := <-vacant:
		return found, nil
	case <-ctx.Done():
		return seen{}, ctx.Err()
	}
}

func (o *ownership) offer(found seen) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.vacant != nil {
		o.vacant <- found
		o.vacant = nil
	}
}

// membership is this instance among those that share a reaction's partitions.
type membership struct {
	redis      *redislog.Redis
	instance   string
	key        string // {S}:members:G
	ownerships []*ownership
	lease      time.Duration // of silence, after which a member or an owner counts as gone

	silence silence
	alive   []string // members, when they were last seen
}

// tend beats and looks until the context ends.
func (m *membership) tend(ctx context.Context) error {
	say := func(reason string, _ int) { logger().Debug("tending: " + reason) }
	return redislog.Persist(ctx, say, m.session)
}

func (m *membership) session(ctx context.Context) error {
	links := m.redis.Links()
	defer links.Close()
	for {
		if err := m.round(ctx, links); err != nil {
			return err
		}
		if err := sleep(ctx, m.lease/beats); err != nil {
			return err
		}
	}
}

// round is one beat of everything; partitions whose server is away do not keep others from theirs.
func (m *membership) round(ctx context.Context, links *redislog.Links) error {
	away := m.look(ctx, links)
	if away != nil && !redislog.Passing(away) {
		return away
	}
	members := m.alive
	if len(members) == 0 {
		members = []string{m.instance}
	}
	for _, each := range m.ownerships {
		err := m.beat(ctx, links, each, chosen(members, each.partition) == m.instance)
		if err != nil {
			if !redislog.Passing(err) {
				return err
			}
			away = err
		}
	}
	return away
}

// leave lets the others share what this one had.
func (m *membership) leave(ctx context.Context) {
	lastWord(ctx, m.redis, m.key, func(ctx context.Context, link *redislog.Link) error {
		_, err := link.Do(ctx, "HDEL", m.key, m.instance)
		return err
	})
}

// look beats, and finds the members that are alive, this one among them.
func (m *membership) look(ctx context.Context, links *redislog.Links) error {
	link, err := links.To(ctx, m.key)
	if err != nil {
		return err
	}
	reply, err := link.Script(ctx, "member", []string{m.key}, m.instance)
	if err != nil {
		return err
	}
	alive := []string{m.instance}
	now := time.Now()
	for i := 0; i+1 < len(reply); i += 2 {
		member := redislog.Text(reply[i])
		silent := m.silence.of(member, redislog.Text(reply[i+1]), now)
		switch {
		case member == m.instance:
		case silent < m.lease:
			alive = append(alive, member)
		case silent > forgotten*m.lease:
			if _, err := link.Do(ctx, "HDEL", m.key, member); err != nil {
				return err
			}
		}
	}
	m.alive = alive
	return nil
}

// beat is one partition's, if this instance owns it; else a look whether it may.
func (m *membership) beat(ctx context.Context, links *redislog.Links, o *ownership, wanted bool) error {
	link, err := links.To(ctx, o.group, o.redrive)
	if err != nil {
		return err
	}
	if held := o.held(); held != nil {
		reply, err := link.Script(ctx, "beat", []string{o.group, o.redrive}, held.token)
		if err != nil {
			return err
		}
		hear(held, reply, wanted)
		return nil
	}
	reply, err := link.Do(ctx, "HMGET", o.group, "token", "beat", "owner")
	if err != nil {
		return err
	}
	state := redislog.List(reply)
	token, beat, owner := field(state, 0), field(state, 1), field(state, 2)
	if owner == "" || owner == m.instance {
		if wanted {
			o.offer(ours)
		}
		return nil
	}
	silent := m.silence.of(o.group, token+" "+beat, time.Now())
	if wanted && silent >= m.lease {
		o.offer(seen{token, beat})
	}
	return nil
}

// hear is what the reply to a beat says to the claim that it was sent for.
func hear(held *claim, reply []any, wanted bool) {
	known := field(reply, 0) == "OK"
	var requests []request
	for i := 1; known && i+1 < len(reply); i += 2 {
		if sequence, err := redislog.Number(reply[i]); err == nil {
			requests = append(requests, request{sequence, redislog.Text(reply[i+1])})
		}
	}
	if len(requests) > 0 {
		select {
		case held.requests <- requests:
		default: // the one before is not carried out yet; the next beat tells again
		}
	}
	// Who is fenced must not wait for a fact to hear it: who took over may be gone again.
	if !known || !wanted {
		held.giveUp()
	}
}
