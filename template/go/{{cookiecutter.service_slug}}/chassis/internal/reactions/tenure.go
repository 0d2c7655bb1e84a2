package reactions

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"

	"google.golang.org/protobuf/proto"

	factfoldv1 "factfold/chassis/factfold/v1"
	"factfold/chassis/internal/redislog"
	"factfold/chassis/internal/wire"
)

// fenced says that another instance owns the partition.
type fenced struct{ owner string }

func (f *fenced) Error() string { return f.owner }

// stopped says that going on cannot help.
type stopped struct{ reason string }

func (s *stopped) Error() string { return s.reason }

func stop(format string, args ...any) error { return &stopped{fmt.Sprintf(format, args...)} }

// unclear says that the outcome of a step is not known: the partition is to be claimed anew, as after
// a lost link.
func unclear(format string, args ...any) error {
	return &redislog.LinkLost{Reason: fmt.Sprintf(format, args...)}
}

// group is one partition of a reaction's input, and where its state is.
type group struct {
	name      string // service.reaction
	stream    string
	partition int
	epoch     string
	keys      wire.Keys

	state, outbox, dead, deadKeys, redrive string   // keys
	log                                    []string // key that mirrors the position; of an own stream alone
}

func newGroup(name, stream string, partition int, epoch string, own bool) *group {
	keys := wire.KeysOf(stream, partition)
	g := &group{
		name: name, stream: stream, partition: partition, epoch: epoch, keys: keys,
		state: keys.Group(name), outbox: keys.Outbox(name), dead: keys.Dead(name),
		deadKeys: keys.DeadKeys(name), redrive: keys.Redrive(name),
	}
	if own {
		g.log = []string{keys.Log()}
	}
	return g
}

// producer is who appends for it; name is the epoch, or what took its place.
func (g *group) producer(name string) string {
	return fmt.Sprintf("%s/%s/%d/%s", g.name, g.stream, g.partition, name)
}

// tenure is one instance's time as the owner of one partition: what it may do there, each step
// fenced by the token of its claim.
//
// Its methods return a *fenced if another one owns the partition, a *stopped if going on cannot
// help, and whatever else is passing if the outcome is unknown: then it is to be claimed anew.
type tenure struct {
	token    string
	anchor   redislog.Anchor                // the last fact that is committed
	settled  uint64                         // n up to which no fact is answered again
	outcomes map[uint64]*factfoldv1.Outcome // by n, of facts that are settled and not committed
	held     *heldBack

	*group
	memories map[string][]*redislog.Memory
	replicas redislog.Replicas
	alarm    func(text string)
	links    *redislog.Links
	link     *redislog.Link

	// The partition's batches and its dead letters share the connections.
	turn      sync.Mutex
	broken    bool
	loaded    map[*redislog.Link]bool // whose servers have the append script
	compared  map[place]bool          // with what is remembered
	sent      map[lane]uint64
	producers []producerFrom // ascending
}

// take claims the partition from who was seen to own it.
func take(ctx context.Context, config Config, g *group, from seen) (*tenure, error) {
	t := &tenure{
		group: g, held: newHeldBack(), outcomes: map[uint64]*factfoldv1.Outcome{},
		memories: config.Memories(), replicas: config.Replicas, alarm: config.Alarm,
		links: config.Redis.Links(), loaded: map[*redislog.Link]bool{}, compared: map[place]bool{},
		sent: map[lane]uint64{}, producers: []producerFrom{{0, g.epoch}},
	}
	if err := t.claim(ctx, config.Instance, from); err != nil {
		t.links.Close()
		return nil, err
	}
	err := t.findProducers(ctx)
	if err == nil {
		err = t.confirm(ctx) // also what was settled and not confirmed before
	}
	if err != nil {
		t.release(ctx, config.Redis)
		return nil, err
	}
	return t, nil
}

func (t *tenure) claim(ctx context.Context, instance string, from seen) (err error) {
	keys := append([]string{t.keys.Head(), t.state, t.outbox, t.dead, t.deadKeys, t.redrive}, t.log...)
	if t.link, err = t.links.To(ctx, keys...); err != nil {
		return err
	}
	// All at once, before there is anything to lose: later ones would each cost a round trip.
	if err := t.link.Load(ctx, "claim", "settle", "append", "commit", "letters", "renew"); err != nil {
		return err
	}
	t.loaded[t.link] = true
	reply, err := t.link.Script(
		ctx, "claim", keys, t.name, t.epoch, instance, randomHex(), from.token, from.beat)
	if err != nil {
		return err
	}
	switch status, what := field(reply, 0), field(reply, 1); {
	case status == "HELD":
		return &fenced{what}
	case status == "EPOCH" && what == "":
		return stop("its epoch was %s, now it is gone", t.epoch)
	case status == "EPOCH":
		return stop("its epoch was %s, now it is %s", t.epoch, what)
	case status != "OK" || len(reply) != 7:
		return unclear("claim.lua has answered %s, and %d values", status, len(reply))
	}
	if err := t.begin(reply); err != nil {
		return fmt.Errorf("what is kept of %s: %w", t.state, err)
	}
	return nil
}

// begin reads what a claim has found.
func (t *tenure) begin(reply []any) (err error) {
	t.token = field(reply, 1)
	if t.anchor.ID, err = wire.ParseID(field(reply, 2)); err != nil {
		return err
	}
	if t.settled, err = redislog.Number(reply[3]); err != nil {
		return err
	}
	factID, err := hex.DecodeString(field(reply, 4))
	if err != nil {
		return err
	}
	t.anchor.FactID = string(factID)
	err = eachPair(reply[5], func(field, value string) error {
		n, err := redislog.Number(field)
		if err != nil {
			return err
		}
		t.outcomes[n] = &factfoldv1.Outcome{}
		return proto.Unmarshal([]byte(value), t.outcomes[n])
	})
	if err != nil {
		return err
	}
	return eachPair(reply[6], func(key, ns string) error {
		for each := range strings.SplitSeq(ns, ",") {
			n, err := redislog.Number(each)
			if err != nil {
				return err
			}
			t.held.add(key, n)
		}
		return nil
	})
}

// release gives the partition up. On a connection of its own: a reply may still be due on the other.
func (t *tenure) release(ctx context.Context, redis *redislog.Redis) {
	t.links.Close()
	lastWord(ctx, redis, t.state, func(ctx context.Context, link *redislog.Link) error {
		_, err := link.Script(ctx, "release", []string{t.state}, t.token)
		return err
	})
}

// step has the connections for itself; they are of no use to anybody once a step was broken off.
func (t *tenure) step(do func() error) error {
	t.turn.Lock()
	defer t.turn.Unlock()
	if t.broken {
		return unclear("replies are due to a step that was broken off")
	}
	err := do()
	t.broken = err != nil
	return err
}

// call runs a script that the token fences.
func (t *tenure) call(ctx context.Context, script string, keys []string, args ...any) error {
	var reply []any
	err := t.step(func() (err error) {
		reply, err = t.link.Script(ctx, script, keys, append([]any{t.token}, args...)...)
		return err
	})
	if err != nil {
		return err
	}
	switch status, what := field(reply, 0), field(reply, 1); {
	case status == "OK":
		return nil
	case status == "FENCED" && what == "":
		return &fenced{"nobody yet"}
	case status == "FENCED":
		return &fenced{what}
	default:
		return unclear("%s %s: claimed anew", status, what)
	}
}

// confirm waits until replicas have what was decided, before anything comes of it on other servers:
// else a failover of this one would take the decision away and leave what came of it.
func (t *tenure) confirm(ctx context.Context) error {
	return t.step(func() error { return t.replicas.Confirm(ctx, t.link) })
}

// settle says that nobody answers the facts up to last again. An empty outcome need not be kept.
func (t *tenure) settle(ctx context.Context, last uint64, outcomes map[uint64]*factfoldv1.Outcome) error {
	args := []any{t.settled + 1, last}
	for _, n := range ascending(outcomes) {
		data, err := proto.Marshal(outcomes[n])
		if err != nil {
			return err
		}
		if len(data) > 0 {
			args = append(args, n, data)
		}
	}
	if err := t.call(ctx, "settle", []string{t.state, t.outbox}, args...); err != nil {
		return err
	}
	if err := t.confirm(ctx); err != nil {
		return err
	}
	t.settled = last
	return nil
}

// letterAt is a dead letter that a commit puts aside.
type letterAt struct {
	n      uint64
	key    string
	letter *factfoldv1.DeadLetter
}

// commit moves the position; done are the outbox entries that are carried out.
func (t *tenure) commit(ctx context.Context, after redislog.Anchor, letters []letterAt, done []uint64) error {
	args := []any{
		t.anchor.ID.String(), after.ID.String(), hex.EncodeToString([]byte(after.FactID)), t.name,
		len(letters),
	}
	for _, each := range letters {
		data, err := proto.Marshal(each.letter)
		if err != nil {
			return err
		}
		args = append(args, each.n, each.key, data)
	}
	for _, n := range done {
		args = append(args, n)
	}
	keys := append([]string{t.state, t.outbox, t.dead, t.deadKeys}, t.log...)
	if err := t.call(ctx, "commit", keys, args...); err != nil {
		return err
	}
	t.anchor = after
	for _, each := range letters {
		t.held.add(each.key, each.n)
	}
	return nil
}

// letter is the dead letter of a fact.
func (t *tenure) letter(ctx context.Context, n uint64) (*factfoldv1.DeadLetter, error) {
	var reply any
	err := t.step(func() (err error) {
		reply, err = t.link.Do(ctx, "HGET", t.dead, n)
		return err
	})
	if err != nil {
		return nil, err
	}
	if reply == nil {
		return nil, unclear("the dead letter %d is gone", n)
	}
	letter := &factfoldv1.DeadLetter{}
	if err := proto.Unmarshal([]byte(redislog.Text(reply)), letter); err != nil {
		return nil, fmt.Errorf("the dead letter %d: %w", n, err)
	}
	return letter, nil
}

// change writes a dead letter down as it is now; nil drops it. requests are those of the command
// line that are carried out with it.
func (t *tenure) change(
	ctx context.Context, n uint64, key string, letter *factfoldv1.DeadLetter, requests ...any,
) error {
	data, err := proto.Marshal(letter) // of nil it is empty
	if err != nil {
		return err
	}
	args := append([]any{1, n, key, data}, requests...)
	if err := t.call(ctx, "letters", t.letterKeys(), args...); err != nil {
		return err
	}
	if err := t.confirm(ctx); err != nil {
		return err
	}
	if letter == nil {
		t.held.drop(key, n)
	}
	return nil
}

// forget is a request of the command line that there is nothing to do for.
func (t *tenure) forget(ctx context.Context, request uint64) error {
	return t.call(ctx, "letters", t.letterKeys(), 0, request)
}

func (t *tenure) letterKeys() []string { return []string{t.state, t.dead, t.deadKeys, t.redrive} }
