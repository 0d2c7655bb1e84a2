package redislog

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"factfold/chassis/internal/telemetry"
	"factfold/chassis/internal/wire"
)

// trimAtOnce is how many facts one call removes: a third of a millisecond, and 1 ms if each has 5 KiB.
const trimAtOnce = 1000

// Policy is what may be trimmed. A fact may go as soon as one of the two lets it.
type Policy struct {
	Age   time.Duration // a fact that is older may go; 0: no age is enough
	Facts int           // a partition may be left with so many; 0: with all
}

func (p Policy) String() string {
	var given []string
	if p.Age > 0 {
		given = append(given, "FACTFOLD_KEEP_AGE")
	}
	if p.Facts > 0 {
		given = append(given, "FACTFOLD_KEEP_FACTS")
	}
	return strings.Join(given, " and ")
}

// Trimmer applies a policy to a service's own streams: facts leave them, as far as their readers
// allow.
type Trimmer struct {
	redis  *Redis
	policy Policy
	alarm  func(string)
	said   map[string]bool
	// By stream, who was said to hold facts back since all that may go was gone for the last time.
	named map[string]map[string]bool

	mutex    sync.Mutex
	heldBack map[telemetry.Place]int
}

// NewTrimmer applies this policy; alarm is told in one line what an operator must know.
func NewTrimmer(redis *Redis, policy Policy, alarm func(string)) *Trimmer {
	return &Trimmer{
		redis: redis, policy: policy, alarm: alarm, said: map[string]bool{},
		named: map[string]map[string]bool{}, heldBack: map[telemetry.Place]int{},
	}
}

// HeldBack is how many facts may go that somebody still needs.
func (t *Trimmer) HeldBack() map[telemetry.Place]int {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	return maps.Clone(t.heldBack)
}

func (t *Trimmer) hold(part Part, facts int) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	t.heldBack[telemetry.Place{Stream: part.Stream, Partition: part.Partition}] = facts
}

// Trim trims each stream once, given the epochs of its partitions. What fails is said in the log.
func (t *Trimmer) Trim(ctx context.Context, epochs map[string][]string) {
	if t.policy == (Policy{}) {
		return
	}
	for stream, its := range epochs {
		err := t.trimStream(ctx, stream, its)
		if err == nil || ctx.Err() != nil {
			continue
		}
		text := fmt.Sprintf("stream %s was not trimmed: %s", stream, err)
		if errors.Is(err, ErrLost) || t.firstTime(text) {
			logger().Warn(text)
		}
	}
}

// readers are the keys of those who read one partition.
type readers struct{ cursors, groups []string }

// due is what is to be trimmed of one partition.
type due struct {
	part  Part
	keys  wire.Keys
	link  *Link
	first uint64 // n of the first fact that is kept
}

// holder needs a fact that may go otherwise: a reader, or the group of a reaction.
type holder struct {
	name     string // service.view or service.reaction; empty: nobody does
	instance string // of a reader; empty if none has left a cursor, or for a group
	position string
}

func (t *Trimmer) trimStream(ctx context.Context, stream string, epochs []string) error {
	links := t.redis.Links()
	defer links.Close()
	var all []due
	for partition, epoch := range epochs {
		its := due{part: Part{stream, partition, epoch}, keys: wire.KeysOf(stream, partition)}
		t.hold(its.part, 0)
		var err error
		if its.link, err = links.To(ctx, its.keys.Log(), its.keys.Head()); err != nil {
			return err
		}
		if its.first, err = t.firstToKeep(ctx, its); err != nil {
			return err
		}
		if its.first == 0 {
			continue
		}
		// Nothing is removed yet, see findReaders.
		reply, err := t.call(ctx, its, readers{}, 0)
		if err != nil {
			return err
		}
		if reply != nil {
			all = append(all, its)
		}
	}
	found := map[*Link]map[int]readers{}
	var worst holder
	most := 0
	for _, its := range all {
		if found[its.link] == nil {
			var err error
			if found[its.link], err = findReaders(ctx, its.link, stream); err != nil {
				return err
			}
		}
		who, held, err := t.trimPartition(ctx, its, found[its.link][its.part.Partition])
		if err != nil {
			return err
		}
		t.hold(its.part, held)
		if who.name != "" && (worst.name == "" || held > most) {
			worst, most = who, held
		}
	}
	if worst.name == "" {
		delete(t.named, stream)
		return nil
	}
	t.sayHeld(stream, worst)
	return nil
}

// firstToKeep is the n of the first fact that the policy keeps; 0 if it keeps all there are.
func (t *Trimmer) firstToKeep(ctx context.Context, its due) (uint64, error) {
	reply, err := its.link.Do(ctx, "HMGET", its.keys.Head(), "n", "trimmed")
	if err != nil {
		return 0, err
	}
	counts := List(reply)
	n, err1 := Number(counts[0])
	trimmed, err2 := Number(counts[1])
	if err1 != nil || err2 != nil {
		return 0, nil // there is no such log any more: who appends says so
	}
	first := uint64(1)
	if kept := uint64(t.policy.Facts); kept > 0 && n > kept {
		first = n - kept + 1
	}
	if t.policy.Age > 0 {
		aged, err := t.firstYoung(ctx, its)
		if err != nil {
			return 0, err
		}
		if aged == 0 {
			aged = n + 1
		}
		first = max(first, aged)
	}
	if first <= trimmed+1 {
		return 0, nil
	}
	return first, nil
}

// firstYoung is the n of the first fact that is not old enough; 0: there is none. The server's time
// counts, as ids have it.
func (t *Trimmer) firstYoung(ctx context.Context, its due) (uint64, error) {
	reply, err := its.link.Do(ctx, "TIME")
	if err != nil {
		return 0, err
	}
	seconds, err1 := Number(List(reply)[0])
	micros, err2 := Number(List(reply)[1])
	if err := errors.Join(err1, err2); err != nil {
		return 0, err
	}
	since := max(0, int64(seconds*1000+micros/1000)-t.policy.Age.Milliseconds())
	reply, err = its.link.Do(ctx, "XRANGE", its.keys.Log(), since, "+", "COUNT", 1)
	if err != nil {
		return 0, err
	}
	entries, err := Entries(reply)
	if err != nil || len(entries) == 0 {
		return 0, err
	}
	return entries[0].ID.N, nil
}

// trimPartition returns who still needs facts that may go, and how many are there yet.
func (t *Trimmer) trimPartition(ctx context.Context, its due, who readers) (holder, int, error) {
	for {
		reply, err := t.call(ctx, its, who, trimAtOnce)
		if err != nil || reply == nil {
			return holder{}, 0, err
		}
		trimmed, err1 := Number(reply[0])
		allowed, err2 := Number(reply[1])
		if err := errors.Join(err1, err2); err != nil {
			return holder{}, 0, err
		}
		if trimmed+1 < allowed {
			continue
		}
		_, after, _ := strings.Cut(Text(reply[2]), "}:")
		_, name, _ := strings.Cut(after, ":")
		if name == "" {
			return holder{}, 0, nil
		}
		return holder{name, Text(reply[3]), Text(reply[4])}, int(its.first - allowed), nil
	}
}

// call is the reply of the script behind OK; nil if this log is not to be trimmed.
func (t *Trimmer) call(ctx context.Context, its due, who readers, most int) ([]any, error) {
	names := append([]string{its.keys.Log(), its.keys.Head(), its.keys.Nobody()}, who.cursors...)
	names = append(names, who.groups...)
	reply, err := its.link.Script(
		ctx, "trim", names, its.part.Epoch, len(who.cursors), its.first, "most", most)
	if err != nil {
		return nil, err
	}
	if Text(reply[0]) == "OK" {
		return reply[1:], nil
	}
	if Text(reply[0]) == "GAP" && t.firstTime(its.keys.Log()) {
		t.alarm(fmt.Sprintf("stream %s, partition %d, is not trimmed: it has %s entries, and its head "+
			"counts %s", its.part.Stream, its.part.Partition, Text(reply[1]), Text(reply[2])))
	}
	return nil, nil // of another epoch: who appends says so
}

func (t *Trimmer) sayHeld(stream string, by holder) {
	if t.named[stream] == nil {
		t.named[stream] = map[string]bool{}
	}
	if t.named[stream][by.name] {
		return
	}
	t.named[stream][by.name] = true
	who, from := by.name, by.position
	if by.instance != "" {
		who += "/" + by.instance
	}
	if from == "0-0" {
		from = "the first fact"
	}
	logger().Warn(fmt.Sprintf("stream %s keeps more than %s asks for: %s needs facts from %s on; let it "+
		"catch up, keep its snapshots, or drop it if it will not come back: factfold trim %s --drop %s",
		stream, t.policy, who, from, stream, who))
}

func (t *Trimmer) firstTime(what string) bool {
	first := !t.said[what]
	t.said[what] = true
	return first
}

// findReaders finds who has ever read the partitions that this server has.
//
// Each one that is there from beginning to end is found; who comes meanwhile, comes too late for
// this trim, and is told so when it reads. Of a slot that is on its way to another server only a
// part is found: the script refuses then, as nobody is absent, and so it must have been called once
// before.
func findReaders(ctx context.Context, link *Link, stream string) (map[int]readers, error) {
	key := regexp.MustCompile(
		`(?s)^\{` + regexp.QuoteMeta(stream) + `/([0-9]{1,9})\}:(cursors|group):.+$`)
	found := map[int]readers{}
	seen := map[string]bool{}
	for at := "0"; ; {
		reply, err := link.Do(ctx, "SCAN", at, "MATCH", "{"+stream+"/*}:*", "COUNT", 1000)
		if err != nil {
			return nil, err
		}
		parts := List(reply)
		for _, name := range List(parts[1]) {
			match := key.FindStringSubmatch(Text(name))
			if match == nil || seen[match[0]] {
				continue
			}
			seen[match[0]] = true
			partition, _ := strconv.Atoi(match[1])
			its := found[partition]
			if match[2] == "cursors" {
				its.cursors = append(its.cursors, match[0])
			} else {
				its.groups = append(its.groups, match[0])
			}
			found[partition] = its
		}
		if at = Text(parts[0]); at == "0" {
			return found, nil
		}
	}
}
