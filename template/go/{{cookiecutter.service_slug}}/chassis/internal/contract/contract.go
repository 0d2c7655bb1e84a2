// Package contract reads what a contract declares from its descriptors: streams, events and methods.
package contract

import (
	"regexp"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	factfoldv1 "factfold/chassis/factfold/v1"
	"factfold/chassis/internal/fault"
)

const defaultPartitions = 4

var streamName = regexp.MustCompile(`^[a-z0-9.-]{1,64}$`)

// Stream is one stream as its owner's contract declares it.
type Stream struct {
	Name       string
	Partitions int
	Versioned  bool
	Own        bool
	Events     map[string]*Event
}

// Event is one event type of a stream.
type Event struct {
	Name   string // full protobuf name
	Type   protoreflect.MessageType
	Key    protoreflect.FieldDescriptor
	Stream *Stream
}

// KeyOf is the key of one such event.
func (e *Event) KeyOf(event proto.Message) string {
	return event.ProtoReflect().Get(e.Key).String()
}

// New makes an empty event of this type.
func (e *Event) New() proto.Message { return e.Type.New().Interface() }

// Kind says what a call does.
type Kind int

// A method that streams its answers is a watch, one that is marked NO_SIDE_EFFECTS a query.
const (
	Command Kind = iota
	Query
	Watch
)

// Method is one RPC.
type Method struct {
	Path    string // "/package.Service/Name"
	Service string // full protobuf name
	Kind    Kind
}

// Contract is the service's own contract and those that it subscribes to.
type Contract struct {
	Streams map[string]*Stream
	Events  map[string]*Event
	Methods []*Method

	own []*Stream
}

// New reads a contract. own are the files whose streams this service writes and whose RPCs it
// answers, foreign those of other services.
func New(own, foreign []protoreflect.FileDescriptor) (*Contract, error) {
	c := &Contract{Streams: map[string]*Stream{}, Events: map[string]*Event{}}
	for _, file := range own {
		if err := c.readStream(file, true); err != nil {
			return nil, err
		}
		if err := c.readMethods(file); err != nil {
			return nil, err
		}
	}
	for _, file := range foreign {
		if err := c.readStream(file, false); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// OwnStreams are those that this service writes, in the order of its files.
func (c *Contract) OwnStreams() []*Stream { return c.own }

// EventOf is the event type of a message.
func (c *Contract) EventOf(message proto.Message) (*Event, error) {
	name := string(message.ProtoReflect().Descriptor().FullName())
	if event, ok := c.Events[name]; ok {
		return event, nil
	}
	return nil, fault.Wiring(
		"%s is not an event of a stream in the contract: give it "+
			"`option (factfold.v1.event) = {};` and a field with `[(factfold.v1.key) = true]`", name)
}

func (c *Contract) readStream(file protoreflect.FileDescriptor, own bool) error {
	options, _ := file.Options().(*descriptorpb.FileOptions)
	if !proto.HasExtension(options, factfoldv1.E_Stream) {
		return nil
	}
	declared := proto.GetExtension(options, factfoldv1.E_Stream).(*factfoldv1.Stream)
	if !streamName.MatchString(declared.GetName()) {
		return fault.Wiring("%s: the stream name '%s' must be 1 to 64 characters of a-z, 0-9, '-' and '.'",
			file.Path(), declared.GetName())
	}
	if _, twice := c.Streams[declared.GetName()]; twice {
		return fault.Wiring("%s: the stream %s is declared twice", file.Path(), declared.GetName())
	}
	stream := &Stream{
		Name:       declared.GetName(),
		Partitions: int(declared.GetPartitions()),
		Versioned:  declared.GetVersioned(),
		Own:        own,
		Events:     map[string]*Event{},
	}
	if stream.Partitions == 0 {
		stream.Partitions = defaultPartitions
	}
	c.Streams[stream.Name] = stream
	if own {
		c.own = append(c.own, stream)
	}
	messages := file.Messages()
	for i := range messages.Len() {
		if !proto.HasExtension(messages.Get(i).Options(), factfoldv1.E_Event) {
			continue
		}
		event, err := newEvent(messages.Get(i), stream)
		if err != nil {
			return err
		}
		stream.Events[event.Name] = event
		c.Events[event.Name] = event
	}
	return nil
}

func newEvent(message protoreflect.MessageDescriptor, stream *Stream) (*Event, error) {
	var keys []protoreflect.FieldDescriptor
	fields := message.Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		isKey, _ := proto.GetExtension(field.Options(), factfoldv1.E_Key).(bool)
		if isKey && field.Kind() == protoreflect.StringKind && !field.IsList() {
			keys = append(keys, field)
		}
	}
	if len(keys) != 1 {
		return nil, fault.Wiring("%s: an event needs exactly one string field with "+
			"`[(factfold.v1.key) = true]`, it has %d", message.FullName(), len(keys))
	}
	return &Event{Name: string(message.FullName()), Type: typeOf(message), Key: keys[0], Stream: stream}, nil
}

// typeOf is the generated type, if the program has one.
func typeOf(message protoreflect.MessageDescriptor) protoreflect.MessageType {
	found, err := protoregistry.GlobalTypes.FindMessageByName(message.FullName())
	if err == nil && found.Descriptor() == message {
		return found
	}
	return dynamicpb.NewMessageType(message)
}

func (c *Contract) readMethods(file protoreflect.FileDescriptor) error {
	services := file.Services()
	for i := range services.Len() {
		methods := services.Get(i).Methods()
		for j := range methods.Len() {
			method, err := newMethod(methods.Get(j))
			if err != nil {
				return err
			}
			c.Methods = append(c.Methods, method)
		}
	}
	return nil
}

func newMethod(method protoreflect.MethodDescriptor) (*Method, error) {
	service := string(method.Parent().FullName())
	found := &Method{Path: "/" + service + "/" + string(method.Name()), Service: service}
	options, _ := method.Options().(*descriptorpb.MethodOptions)
	switch {
	case method.IsStreamingClient():
		return nil, fault.Wiring("%s: streams of requests are not supported: send one request", found.Path)
	case method.IsStreamingServer():
		found.Kind = Watch
	case options.GetIdempotencyLevel() == descriptorpb.MethodOptions_NO_SIDE_EFFECTS:
		found.Kind = Query
	}
	return found, nil
}
