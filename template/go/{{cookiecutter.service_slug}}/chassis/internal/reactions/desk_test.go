package reactions

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	factfoldv1 "factfold/chassis/factfold/v1"
	"factfold/chassis/internal/contract"
	"factfold/chassis/internal/redislog"
	"factfold/chassis/internal/settings"
	"factfold/chassis/internal/wire"
	"factfold/chassis/testing/redistest"
)

const (
	patience = 15 * time.Second // until something that must happen counts as not happening
	made     = "bank.v1.PaymentMade"
	placed   = "shop.v1.OrderPlaced"

	held     = factfoldv1.DeadLetter_HELD
	retrying = factfoldv1.DeadLetter_RETRYING
	dead     = factfoldv1.DeadLetter_DEAD
)

// Payments of one partition, and orders of two.
var (
	a, b, c     = keysHere()[0], keysHere()[1], keysHere()[2]
	here, there = "order-1", "order-2"
)

func keysHere() []string {
	var keys []string
	for i := range 200 {
		if key := strconv.Itoa(i); wire.PartitionOf(key, 2) == 0 {
			keys = append(keys, key)
		}
	}
	return keys
}

// file is a contract with one stream and one event, which has a key and one field more.
func file(t testing.TB, stream *factfoldv1.Stream, event, key, more string, kind descriptorpb.FieldDescriptorProto_Type) protoreflect.FileDescriptor {
	t.Helper()
	pack, name, _ := cutLast(event)
	streamOptions, eventOptions, keyOptions := &descriptorpb.FileOptions{}, &descriptorpb.MessageOptions{}, &descriptorpb.FieldOptions{}
	proto.SetExtension(streamOptions, factfoldv1.E_Stream, stream)
	proto.SetExtension(eventOptions, factfoldv1.E_Event, &factfoldv1.Event{})
	proto.SetExtension(keyOptions, factfoldv1.E_Key, true)
	one := descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL
	text := descriptorpb.FieldDescriptorProto_TYPE_STRING
	made, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String(pack + ".proto"), Package: proto.String(pack), Syntax: proto.String("proto3"),
		Dependency: []string{"factfold/v1/options.proto"}, Options: streamOptions,
		MessageType: []*descriptorpb.DescriptorProto{{
			Name: proto.String(name), Options: eventOptions,
			Field: []*descriptorpb.FieldDescriptorProto{
				{Name: proto.String(key), Number: proto.Int32(1), Label: &one, Type: &text, Options: keyOptions},
				{Name: proto.String(more), Number: proto.Int32(2), Label: &one, Type: &kind},
			},
		}},
	}, protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func cutLast(name string) (before, after string, ok bool) {
	i := strings.LastIndex(name, ".")
	return name[:i], name[i+1:], true
}

type try struct {
	key    string
	amount int64
}

// desk owns payments and orders; answer is what it does about a payment.
type desk struct {
	t        *testing.T
	url      string
	contract *contract.Contract
	redis    *redislog.Redis
	link     *redislog.Link // of the test alone
	epochs   map[string][]string

	mu     sync.Mutex
	tries  []try
	alarms []string
	answer func(ctx context.Context, key string, amount int64) ([]Append, error)
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	server := redistest.Start(t)
	whole := descriptorpb.FieldDescriptorProto_TYPE_INT64
	text := descriptorpb.FieldDescriptorProto_TYPE_STRING
	own := []protoreflect.FileDescriptor{
		file(t, &factfoldv1.Stream{Name: "payments", Partitions: 2}, made, "order_id", "amount", whole),
		file(t, &factfoldv1.Stream{Name: "orders", Partitions: 4, Versioned: true}, placed, "id", "name", text),
	}
	declared, err := contract.New(own, nil)
	if err != nil {
		t.Fatal(err)
	}
	d := &desk{t: t, url: server.URL(), contract: declared, epochs: map[string][]string{}}
	d.redis = d.servers(d.url)
	for _, stream := range declared.OwnStreams() {
		d.epochs[stream.Name], err = redislog.CreateStream(
			t.Context(), d.redis, stream.Name, stream.Partitions, func() string { return "" })
		if err != nil {
			t.Fatal(err)
		}
	}
	if d.link, err = d.redis.Link(t.Context(), "{payments/0}:log"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.link.Close)
	return d
}

func (d *desk) servers(url string) *redislog.Redis {
	parsed, err := redislog.ParseURL(url)
	if err != nil {
		d.t.Fatal(err)
	}
	return redislog.New(parsed)
}

func (d *desk) does(answer func(ctx context.Context, key string, amount int64) ([]Append, error)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.answer = answer
}

func (d *desk) tried() []try {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.tries)
}

func (d *desk) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tries = nil
}

func (d *desk) amounts(key string) []int64 {
	var found []int64
	for _, each := range d.tried() {
		if each.key == key {
			found = append(found, each.amount)
		}
	}
	return found
}

func (d *desk) alarmed(part string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Count(strings.Join(d.alarms, "\n"), part)
}

func (d *desk) event(name string) proto.Message { return d.contract.Events[name].New() }

func field1(message proto.Message, name string) protoreflect.Value {
	its := message.ProtoReflect()
	return its.Get(its.Descriptor().Fields().ByName(protoreflect.Name(name)))
}

func with(message proto.Message, values map[string]any) proto.Message {
	its := message.ProtoReflect()
	for name, value := range values {
		its.Set(its.Descriptor().Fields().ByName(protoreflect.Name(name)), protoreflect.ValueOf(value))
	}
	return message
}

func (d *desk) order(key, name string, expected uint64) Append {
	return Append{with(d.event(placed), map[string]any{"id": key, "name": name}), &expected}
}

func (d *desk) handle(ctx context.Context, event proto.Message, _ *wire.Fact) ([]Append, error) {
	key, amount := field1(event, "order_id").String(), field1(event, "amount").Int()
	d.mu.Lock()
	d.tries = append(d.tries, try{key, amount})
	answer := d.answer
	d.mu.Unlock()
	if answer == nil {
		return nil, nil
	}
	return answer(ctx, key, amount)
}

// engine is one that runs until it is stopped.
type engine struct {
	*Engine
	cancel context.CancelFunc
	done   chan error
}

// remembered is as one process remembers these streams.
func (d *desk) remembered(streams ...string) func() map[string][]*redislog.Memory {
	memories := map[string][]*redislog.Memory{}
	for _, stream := range streams {
		for partition, epoch := range d.epochs[stream] {
			part := redislog.Part{Stream: stream, Partition: partition, Epoch: epoch}
			memories[stream] = append(memories[stream], redislog.NewMemory(part))
		}
	}
	return func() map[string][]*redislog.Memory { return memories }
}

func (d *desk) config() Config {
	its := settings.Default()
	its.Lease = 500 * time.Millisecond
	return Config{
		Service: "desk", Instance: "desk-" + randomHex()[:8], Redis: d.redis, Foreign: d.redis,
		Contract:   d.contract,
		Reaction:   Reaction{"book", []proto.Message{d.event(made)}, d.handle},
		Memories:   d.remembered("payments", "orders"),
		ViewsReady: func(context.Context) error { return nil },
		Settings:   its,
		Alarm: func(text string) {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.alarms = append(d.alarms, text)
		},
		Changed: func() {},
		pauses:  pauses{20 * time.Millisecond, 80 * time.Millisecond},
	}
}

func (d *desk) start(changes ...func(*Config)) *engine {
	d.t.Helper()
	config := d.config()
	for _, change := range changes {
		change(&config)
	}
	made, err := NewEngine(config)
	if err != nil {
		d.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	its := &engine{made, cancel, make(chan error, 1)}
	go func() { its.done <- made.Run(ctx) }()
	d.t.Cleanup(its.stop)
	return its
}

func (e *engine) stop() {
	e.cancel()
	e.done <- <-e.done
}

func attempts(n int) func(*Config) { return func(c *Config) { c.Settings.ReactionAttempts = n } }

// do is a command of the test.
func (d *desk) do(args ...any) any {
	d.t.Helper()
	reply, err := d.link.Do(d.t.Context(), args...)
	if err != nil {
		d.t.Fatal(err)
	}
	return reply
}

func (d *desk) key(name string) string { return "{payments/0}:" + name + ":desk.book" }

// pay appends payments as a process does.
func (d *desk) pay(key string, amounts ...int64) {
	d.t.Helper()
	partition := wire.PartitionOf(key, 2)
	args := []any{d.epochs["payments"][partition], randomHex() + randomHex(), "batch", 1, 0, "", ""}
	for _, amount := range amounts {
		meta, err := proto.Marshal(wire.NewMeta("/desk", "", 0))
		if err != nil {
			d.t.Fatal(err)
		}
		data, err := proto.Marshal(with(d.event(made), map[string]any{"order_id": key, "amount": amount}))
		if err != nil {
			d.t.Fatal(err)
		}
		args = append(args, made, key, meta, data)
	}
	reply, err := d.link.Script(
		d.t.Context(), "append", wire.KeysOf("payments", partition).Appending(), args...)
	if err != nil || redislog.Text(reply[0]) != "OK" {
		d.t.Fatal(reply, err)
	}
}

// write puts an entry into payments/0 as an appender does, whatever is in it.
func (d *desk) write(fields ...string) uint64 {
	d.t.Helper()
	n, err := redislog.Number(d.do("HGET", "{payments/0}:head", "n"))
	if err != nil {
		d.t.Fatal(err)
	}
	ms := time.Now().UnixMilli()
	args := []any{"XADD", "{payments/0}:log", fmt.Sprintf("%d-%d", ms, n+1)}
	for _, each := range fields {
		args = append(args, each)
	}
	// At once: a reader takes what is behind the head for the work of somebody else.
	_, err = d.link.Pipe(d.t.Context(), replyTimeout, []any{"MULTI"}, args,
		[]any{"HSET", "{payments/0}:head", "n", n + 1, "ms", ms}, []any{"EXEC"})
	if err != nil {
		d.t.Fatal(err)
	}
	return n + 1
}

// hash is what stands in a hash, without its field _.
func (d *desk) hash(key string) map[string]string {
	found := map[string]string{}
	for pair := range slices.Chunk(redislog.List(d.do("HGETALL", key)), 2) {
		found[redislog.Text(pair[0])] = redislog.Text(pair[1])
	}
	delete(found, "_")
	return found
}

func (d *desk) letters() map[uint64]*factfoldv1.DeadLetter {
	d.t.Helper()
	found := map[uint64]*factfoldv1.DeadLetter{}
	for n, data := range d.hash(d.key("dead")) {
		letter := &factfoldv1.DeadLetter{}
		if err := proto.Unmarshal([]byte(data), letter); err != nil {
			d.t.Fatal(err)
		}
		parsed, _ := strconv.ParseUint(n, 10, 64)
		found[parsed] = letter
	}
	return found
}

type states map[uint64]factfoldv1.DeadLetter_State

func (d *desk) states() states {
	found := states{}
	for n, letter := range d.letters() {
		found[n] = letter.State
	}
	return found
}

// becomes waits until the letters are in these states.
func (d *desk) becomes(wanted states) {
	d.t.Helper()
	var found states
	d.eventually(func() bool { found = d.states(); return maps.Equal(found, wanted) },
		func() any { return found })
}

func (d *desk) position(partition int) uint64 {
	key := wire.KeysOf("payments", partition).Group("desk.book")
	id, _ := wire.ParseID(redislog.Text(d.do("HGET", key, "position")))
	return id.N
}

// commits waits until payments/0 is committed up to n.
func (d *desk) commits(n uint64) {
	d.t.Helper()
	d.eventually(func() bool { return d.position(0) == n }, func() any { return d.position(0) })
}

func (d *desk) ask(requests ...any) {
	d.t.Helper()
	reply, err := d.link.Script(d.t.Context(), "ask", []string{d.key("redrive")}, requests...)
	if err != nil || redislog.Text(reply[0]) != "OK" {
		d.t.Fatal(reply, err)
	}
}

// asked is how many requests are not carried out.
func (d *desk) asked() int {
	found := d.hash(d.key("redrive"))
	delete(found, "last")
	return len(found)
}

// orders are key and name of each order in the log, partition after partition.
func (d *desk) orders() [][2]string {
	d.t.Helper()
	var found [][2]string
	for partition := range 4 {
		entries, err := redislog.Entries(d.do("XRANGE", wire.KeysOf("orders", partition).Log(), "-", "+"))
		if err != nil {
			d.t.Fatal(err)
		}
		for _, entry := range entries {
			event := d.event(placed)
			if err := (wire.Fact{Entry: entry}).Read(event); err != nil {
				d.t.Fatal(err)
			}
			found = append(found, [2]string{field1(event, "id").String(), field1(event, "name").String()})
		}
	}
	return found
}

func (d *desk) eventually(check func() bool, last ...func() any) {
	d.t.Helper()
	for end := time.Now().Add(patience); !check(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			for _, each := range last {
				d.t.Log(each())
			}
			d.t.Fatalf("it has not become true; tries: %v", d.tried())
		}
	}
}

func failing(keys ...string) func(context.Context, string, int64) ([]Append, error) {
	return func(_ context.Context, key string, _ int64) ([]Append, error) {
		if slices.Contains(keys, key) {
			return nil, errNotNow
		}
		return nil, nil
	}
}

var errNotNow = fmt.Errorf("not now")

func equal[T any](t *testing.T, found, wanted T) {
	t.Helper()
	if fmt.Sprint(found) != fmt.Sprint(wanted) {
		t.Fatalf("%v, not %v", found, wanted)
	}
}

func TestMain(m *testing.M) {
	slog.SetLogLoggerLevel(slog.LevelError) // what is expected to fail would fill the screen
	m.Run()
}
