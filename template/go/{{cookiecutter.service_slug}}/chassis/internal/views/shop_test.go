package views

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	factfoldv1 "factfold/chassis/factfold/v1"
	"factfold/chassis/internal/contract"
	"factfold/chassis/internal/redislog"
	"factfold/chassis/internal/wire"
	"factfold/chassis/testing/redistest"
)

// shop is a contract of an own stream, orders, and a foreign one, customers, and a view of both.
type shop struct {
	contract *contract.Contract
	types    map[string]protoreflect.MessageType

	view                            *View
	orders, customers, lines, byWho *Table
	folds                           []Fold
}

// A message of the shop is text and a number under its key.
const (
	keyField, textField, numberField = 1, 2, 3
	partitions                       = 2
)

func newShop(t testing.TB) *shop {
	t.Helper()
	s := &shop{types: map[string]protoreflect.MessageType{}}
	own := s.file(t, "orders", "Placed", "Cancelled")
	foreign := s.file(t, "customers", "Named")
	s.file(t, "", "Order", "Customer", "Line", "Total")
	var err error
	s.contract, err = contract.New(
		[]protoreflect.FileDescriptor{own}, []protoreflect.FileDescriptor{foreign})
	if err != nil {
		t.Fatal(err)
	}
	s.view = NewView("shop")
	s.orders = NewTable(s.view, "orders", s.types["Order"])
	s.customers = NewTable(s.view, "customers", s.types["Customer"])
	s.lines = Join{
		Left: s.orders, Right: s.customers,
		On: func(order proto.Message) (string, bool) { return text(order), text(order) != "" },
		Combine: func(order, customer proto.Message) proto.Message {
			name := "?"
			if customer != nil {
				name = text(customer)
			}
			return s.message("Line", "", name, number(order))
		},
	}.Declare("lines", s.view, s.types["Line"])
	s.byWho = Aggregate{
		Source: s.lines,
		By:     func(line proto.Message) (string, bool) { return text(line), true },
		Add:    func(row, line proto.Message) { setNumber(row, number(row)+number(line)) },
		Remove: func(row, line proto.Message) { setNumber(row, number(row)-number(line)) },
	}.Declare("by_who", s.view, s.types["Total"])
	s.folds = []Fold{
		{s.types["Placed"], s.orders, func(row, event proto.Message, _ *wire.Fact) proto.Message {
			if row == nil {
				row = s.message("Order", "", text(event), 0)
			}
			if number(event) == 666 {
				panic("no such number")
			}
			setNumber(row, number(row)+number(event))
			return row
		}},
		{s.types["Cancelled"], s.orders, func(proto.Message, proto.Message, *wire.Fact) proto.Message {
			return nil
		}},
		{s.types["Named"], s.customers, func(_, event proto.Message, _ *wire.Fact) proto.Message {
			return s.message("Customer", "", text(event), 0)
		}},
	}
	return s
}

func (s *shop) file(t testing.TB, stream string, names ...string) protoreflect.FileDescriptor {
	t.Helper()
	file := &descriptorpb.FileDescriptorProto{
		Name: proto.String(cmp.Or(stream, "rows") + ".proto"), Package: proto.String("shop"),
		Syntax: proto.String("proto3"), Options: &descriptorpb.FileOptions{},
	}
	if stream != "" {
		proto.SetExtension(file.Options, factfoldv1.E_Stream,
			&factfoldv1.Stream{Name: stream, Partitions: partitions})
	}
	for _, name := range names {
		message := &descriptorpb.DescriptorProto{
			Name: &name, Options: &descriptorpb.MessageOptions{},
		}
		for i, field := range []string{"id", "text", "number"} {
			kind := descriptorpb.FieldDescriptorProto_TYPE_STRING
			if field == "number" {
				kind = descriptorpb.FieldDescriptorProto_TYPE_INT64
			}
			options := &descriptorpb.FieldOptions{}
			if field == "id" && stream != "" {
				proto.SetExtension(options, factfoldv1.E_Key, true)
			}
			message.Field = append(message.Field, &descriptorpb.FieldDescriptorProto{
				Name: &field, Number: proto.Int32(int32(i + 1)), Type: &kind, Options: options,
				Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
			})
		}
		if stream != "" {
			proto.SetExtension(message.Options, factfoldv1.E_Event, &factfoldv1.Event{})
		}
		file.MessageType = append(file.MessageType, message)
	}
	made, err := protodesc.NewFile(file, protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	for i := range made.Messages().Len() {
		message := made.Messages().Get(i)
		s.types[string(message.Name())] = dynamicpb.NewMessageType(message)
	}
	return made
}

func (s *shop) message(name, key, text string, number int64) proto.Message {
	made := s.types[name].New()
	fields := made.Descriptor().Fields()
	made.Set(fields.ByNumber(keyField), protoreflect.ValueOfString(key))
	made.Set(fields.ByNumber(textField), protoreflect.ValueOfString(text))
	made.Set(fields.ByNumber(numberField), protoreflect.ValueOfInt64(number))
	return made.Interface()
}

func text(message proto.Message) string {
	of := message.ProtoReflect()
	return of.Get(of.Descriptor().Fields().ByNumber(textField)).String()
}

func number(message proto.Message) int64 {
	of := message.ProtoReflect()
	return of.Get(of.Descriptor().Fields().ByNumber(numberField)).Int()
}

func setNumber(message proto.Message, number int64) {
	of := message.ProtoReflect()
	of.Set(of.Descriptor().Fields().ByNumber(numberField), protoreflect.ValueOfInt64(number))
}

// shown is all of a view: table → key → row.
func shown(view *View, cut *Cut) map[string]string {
	all := map[string]string{}
	for _, table := range view.tables {
		for key, kept := range cut.All(table, "") {
			row := table.Row.New().Interface()
			kept.Into(row)
			all[table.Name+"/"+key] = fmt.Sprintf("%s %d", text(row), number(row))
		}
	}
	return all
}

// stage is a shop on a Redis of its own.
type stage struct {
	*shop
	t      testing.TB
	server *redistest.Server
	redis  *redislog.Redis
	client *redis.Client
	last   map[placeKey]wire.ID
	said   *said
	folder string
	counts map[string]int
	mu     sync.Mutex
}

func newStage(t testing.TB) *stage {
	t.Helper()
	s := &stage{
		shop: newShop(t), t: t, server: redistest.Start(t), last: map[placeKey]wire.ID{},
		said: listen(t), folder: t.TempDir(), counts: map[string]int{},
	}
	url, err := redislog.ParseURL(s.server.URL())
	if err != nil {
		t.Fatal(err)
	}
	s.redis = redislog.New(url)
	options, err := redis.ParseURL(s.server.URL())
	if err != nil {
		t.Fatal(err)
	}
	s.client = redis.NewClient(options)
	t.Cleanup(func() { s.client.Close() })
	s.create("orders")
	s.create("customers")
	return s
}

func (s *stage) create(stream string) {
	s.t.Helper()
	_, err := redislog.CreateStream(
		s.t.Context(), s.redis, stream, partitions, func() string { return "" })
	if err != nil {
		s.t.Fatal(err)
	}
	for partition := range partitions {
		delete(s.last, placeKey{stream, partition})
	}
}

// put appends a fact as the scripts would, and returns its position.
func (s *stage) put(event, key, text string, number int64, requestID string) wire.Position {
	s.t.Helper()
	stream := "orders"
	if event == "Named" {
		stream = "customers"
	}
	data, err := proto.Marshal(s.message(event, key, text, number))
	if err != nil {
		s.t.Fatal(err)
	}
	meta, err := proto.Marshal(wire.NewMeta("/shop", requestID, 0))
	if err != nil {
		s.t.Fatal(err)
	}
	return s.append(stream, wire.PartitionOf(key, partitions),
		"type", "shop."+event, "key", key, "meta", string(meta), "data", string(data))
}

func (s *stage) append(stream string, partition int, fields ...any) wire.Position {
	s.t.Helper()
	at := placeKey{stream, partition}
	id := wire.ID{Ms: max(s.last[at].Ms, uint64(time.Now().UnixMilli())), N: s.last[at].N + 1}
	s.last[at] = id
	keys, ctx := wire.KeysOf(stream, partition), s.t.Context()
	pipe := s.client.Pipeline()
	pipe.XAdd(ctx, &redis.XAddArgs{Stream: keys.Log(), ID: id.String(), Values: fields})
	pipe.HSet(ctx, keys.Head(), "n", id.N, "ms", id.Ms)
	epoch := pipe.HGet(ctx, keys.Head(), "epoch")
	if _, err := pipe.Exec(ctx); err != nil {
		s.t.Fatal(err)
	}
	return wire.Position{Stream: stream, Partition: partition, Epoch: epoch.Val(), ID: id}
}

// fill appends n facts, the same ones for the same n.
func (s *stage) fill(n int) {
	for i := range n {
		key := fmt.Sprint("order-", i%37)
		switch {
		case i%11 == 10:
			s.put("Cancelled", key, "", 0, "")
		case i%7 == 6:
			s.put("Named", fmt.Sprint("customer-", i%5), fmt.Sprint("name ", i), 0, "")
		default:
			s.put("Placed", key, fmt.Sprint("customer-", i%5), int64(i%100), fmt.Sprint("request-", i%50))
		}
	}
}

// running is an engine at work.
type running struct {
	*Engine
	journal *Journal
	stop    func()
}

// start runs the view; it is ended with stop, or with the test.
func (s *stage) start(home *Home) *running {
	s.t.Helper()
	journal := NewJournal()
	engine, err := NewEngine(Config{
		View: s.view, Folds: s.folds, Contract: s.contract, Redis: s.redis, Journal: journal,
		Home: home, Count: s.count, Changed: func() {},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var ends sync.WaitGroup
	ends.Go(func() {
		if err := engine.Run(ctx); err != nil {
			s.t.Errorf("the engine has failed: %v", err)
		}
	})
	ends.Go(func() { engine.Tell(ctx) })
	stop := sync.OnceFunc(func() { cancel(); ends.Wait() })
	s.t.Cleanup(stop)
	return &running{engine, journal, stop}
}

// home keeps snapshots in the folder of the stage.
func (s *stage) home() *Home {
	return NewHome("probe", s.folder, true, func(text string) { slog.Error(text) })
}

func (s *stage) count(name string, namesAndValues ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[name+" "+strings.Join(namesAndValues, " ")]++
}

// ready waits until the engine is.
func (s *stage) ready(engine *running) {
	s.t.Helper()
	s.eventually(func() bool { return engine.Ready() }, "ready: %v", func() any { return engine.Status() })
}

// reach waits until the engine has the fact.
func (s *stage) reach(engine *running, position wire.Position) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
	defer cancel()
	if err := engine.Reach(ctx, position); err != nil {
		s.t.Fatal(err)
	}
}

func (s *stage) eventually(done func() bool, format string, now func() any) {
	s.t.Helper()
	for end := time.Now().Add(15 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("not "+format, now())
		}
	}
}

// said is what was logged.
type said struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func listen(t testing.TB) *said {
	found, before := &said{}, slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(found, nil)))
	t.Cleanup(func() {
		slog.SetDefault(before)
		if t.Failed() {
			t.Log(found.String())
		}
	})
	return found
}

func (s *said) Write(text []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(text)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}
