package redislog

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"weak"

	"factfold/chassis/internal/wire"
)

const aLine = 100 // positions that an alarm names

// Of a partition are remembered so many batches in any case, and all within a minute up to so many
// facts. A master that nobody follows any more goes on for seconds.
const minBatches, maxFacts, minute = 256, 10_000, 60_000

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

// CountKept is how many of these facts, the first ones, the log still has, or had until it was
// trimmed. They are in the order of one log, and the last one is lost: a failover takes the newest.
func CountKept(ctx context.Context, link *Link, part Part, facts []Anchor) (int, error) {
	kept, lost := 0, len(facts)-1
	for kept < lost {
		middle := (kept + lost) / 2
		there, err := HasFact(ctx, link, part, facts[middle])
		switch {
		case err != nil:
			return 0, err
		case there:
			kept = middle + 1
		default:
			lost = middle
		}
	}
	return kept, nil
}

// NameLost tells alarm which facts are lost: all behind the first so many, which are kept. were is what
// they were: "acknowledged". With none kept, earlier ones that nobody remembers may be lost too.
func NameLost(part Part, facts []Anchor, kept int, were string, alarm func(string)) {
	var lost []string
	for _, each := range facts[kept:] {
		lost = append(lost, wire.Position{
			Stream: part.Stream, Partition: part.Partition, Epoch: part.Epoch, ID: each.ID,
		}.String())
	}
	them := "them"
	if kept == 0 {
		them = "them, and for earlier ones that are remembered no more,"
	}
	for some := range slices.Chunk(lost, aLine) {
		alarm(fmt.Sprintf("the log of stream %s, partition %d, was rolled back: of the facts that "+
			"were %s, %d are lost: %s; look for %s in a replica or a backup", part.Stream, part.Partition,
			were, len(lost), strings.Join(some, ", "), them))
	}
}

// Acknowledged are facts that follow each other, and that the log said it has: none, if Last is below
// First.
type Acknowledged struct {
	Ms, First, Last uint64 // n
	FactID          string // of the last; empty: not known
}

func (a Acknowledged) facts() []Anchor {
	var facts []Anchor
	for n := a.First; n <= a.Last; n++ {
		facts = append(facts, Anchor{ID: wire.ID{Ms: a.Ms, N: n}})
	}
	facts[len(facts)-1].FactID = a.FactID
	return facts
}

func (a Acknowledged) len() int { return int(a.Last + 1 - a.First) }

// Memory is what this process appended to one partition, by calls and by reactions: the newest of it.
type Memory struct {
	Part

	mutex sync.Mutex
	known []*told
	facts int
}

// told is what one link has brought.
type told struct {
	Acknowledged
	link weak.Pointer[Link] // the newest one whose server had them
}

// NewMemory remembers nothing yet.
func NewMemory(part Part) *Memory { return &Memory{Part: part} }

// Remember keeps what the log has acknowledged on a link.
func (m *Memory) Remember(facts Acknowledged, link *Link) {
	if facts.Last < facts.First {
		return
	}
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.known = append(m.known, &told{facts, weak.Make(link)})
	m.facts += facts.len()
	for len(m.known) > minBatches && (m.facts > maxFacts || facts.Ms > m.known[0].Ms+minute) {
		m.facts -= m.known[0].len()
		m.known[0] = nil
		m.known = m.known[1:]
	}
}

// Compare tells alarm which facts a failover took out of the log; on each new connection.
func (m *Memory) Compare(ctx context.Context, link *Link, alarm func(string)) error {
	for _, known := range m.byLink() {
		newest := known[len(known)-1].facts()
		there, err := HasFact(ctx, link, m.Part, newest[len(newest)-1])
		if err != nil {
			return err
		}
		if there {
			m.renew(known, link)
			continue
		}
		var facts []Anchor
		for _, each := range known {
			facts = append(facts, each.facts()...)
		}
		kept, err := CountKept(ctx, link, m.Part, facts)
		if err != nil {
			return err
		}
		// Only now: if the connection is lost meanwhile, the next one says it. And once: of those who
		// connect side by side only the first one still knows them.
		if m.forget(known) {
			NameLost(m.Part, facts, kept, "acknowledged", alarm)
		}
	}
	return nil
}

// byLink is what is known, of each link in the order of the log: those who append side by side do not
// hear of it in that one. And each link by itself: one may go on with a server that nobody follows any
// more, while another one has appended behind what its successor has.
func (m *Memory) byLink() map[weak.Pointer[Link]][]*told {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	found := map[weak.Pointer[Link]][]*told{}
	for _, each := range m.known {
		found[each.link] = append(found[each.link], each)
	}
	for _, known := range found {
		slices.SortFunc(known, func(a, b *told) int { return cmp.Compare(a.Last, b.Last) })
	}
	return found
}

func (m *Memory) renew(known []*told, link *Link) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	for _, each := range known {
		each.link = weak.Make(link)
	}
}

// forget returns whether they were still known.
func (m *Memory) forget(known []*told) bool {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	if !slices.Contains(m.known, known[len(known)-1]) {
		return false
	}
	gone := map[*told]bool{}
	for _, each := range known {
		gone[each] = true
	}
	m.known = slices.DeleteFunc(m.known, func(each *told) bool { return gone[each] })
	m.facts = 0
	for _, each := range m.known {
		m.facts += each.len()
	}
	return true
}
