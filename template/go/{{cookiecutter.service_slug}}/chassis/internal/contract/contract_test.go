package contract

import (
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	factfoldv1 "factfold/chassis/factfold/v1"
	"factfold/chassis/internal/testorders"
)

// declared is a file with a stream, one event and one RPC.
func declared(t *testing.T, stream string, change func(*descriptorpb.FileDescriptorProto)) protoreflect.FileDescriptor {
	t.Helper()
	file := &descriptorpb.FileDescriptorProto{
		Name: proto.String("acme.proto"), Package: proto.String("acme"), Syntax: proto.String("proto3"),
		Options: &descriptorpb.FileOptions{},
		MessageType: []*descriptorpb.DescriptorProto{{
			Name: proto.String("Lit"), Options: &descriptorpb.MessageOptions{},
			Field: []*descriptorpb.FieldDescriptorProto{{
				Name: proto.String("id"), Number: proto.Int32(1), Options: &descriptorpb.FieldOptions{},
				Type:  descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum(),
				Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
			}},
		}},
		Service: []*descriptorpb.ServiceDescriptorProto{{
			Name: proto.String("Lamps"),
			Method: []*descriptorpb.MethodDescriptorProto{{
				Name: proto.String("Light"), InputType: proto.String(".acme.Lit"), OutputType: proto.String(".acme.Lit"),
			}},
		}},
	}
	proto.SetExtension(file.Options, factfoldv1.E_Stream, &factfoldv1.Stream{Name: stream})
	proto.SetExtension(file.MessageType[0].Options, factfoldv1.E_Event, &factfoldv1.Event{})
	proto.SetExtension(file.MessageType[0].Field[0].Options, factfoldv1.E_Key, true)
	change(file)
	found, err := protodesc.NewFile(file, &protoregistry.Files{})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func asIs(*descriptorpb.FileDescriptorProto) {}

func TestAContractIsReadFromItsDescriptors(t *testing.T) {
	found, err := New([]protoreflect.FileDescriptor{testorders.File_orders_proto},
		[]protoreflect.FileDescriptor{declared(t, "lamps", asIs)})
	if err != nil {
		t.Fatal(err)
	}
	if own := found.OwnStreams(); len(own) != 1 || own[0].Name != "orders" || !own[0].Versioned || own[0].Partitions != 2 {
		t.Error(own)
	}
	if lamps := found.Streams["lamps"]; lamps.Own || lamps.Versioned || lamps.Partitions != 4 {
		t.Error(lamps)
	}
	kinds := map[string]Kind{}
	for _, method := range found.Methods {
		kinds[method.Path] = method.Kind
	}
	if len(kinds) != 3 || kinds["/testorders.OrderService/Create"] != Command ||
		kinds["/testorders.OrderService/Get"] != Query || kinds["/testorders.OrderService/Watch"] != Watch {
		t.Error(kinds)
	}
	event, err := found.EventOf(&testorders.Created{})
	if err != nil || event.KeyOf(&testorders.Created{Id: "o-1"}) != "o-1" {
		t.Error(event, err)
	}
	if _, generated := event.New().(*testorders.Created); !generated {
		t.Errorf("%T", event.New())
	}
}

func TestWhatIsNotDeclaredAsItMustBeIsRefused(t *testing.T) {
	for want, files := range map[string][]protoreflect.FileDescriptor{
		"acme.proto: the stream name 'Lamps' must be 1 to 64 characters of a-z, 0-9, '-' and '.'": {
			declared(t, "Lamps", asIs),
		},
		"acme.proto: the stream lamps is declared twice": {declared(t, "lamps", asIs), declared(t, "lamps", asIs)},
		"acme.Lit: an event needs exactly one string field with `[(factfold.v1.key) = true]`, it has 0": {
			declared(t, "lamps", func(file *descriptorpb.FileDescriptorProto) {
				file.MessageType[0].Field[0].Type = descriptorpb.FieldDescriptorProto_TYPE_INT32.Enum()
			}),
		},
		"/acme.Lamps/Light: streams of requests are not supported: send one request": {
			declared(t, "lamps", func(file *descriptorpb.FileDescriptorProto) {
				file.Service[0].Method[0].ClientStreaming = proto.Bool(true)
			}),
		},
	} {
		if _, err := New(files, nil); err == nil || err.Error() != want {
			t.Errorf("%v\nwant %s", err, want)
		}
	}
	empty, err := New(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := "testorders.Created is not an event of a stream in the contract: give it " +
		"`option (factfold.v1.event) = {};` and a field with `[(factfold.v1.key) = true]`"
	if _, err := empty.EventOf(&testorders.Created{}); err == nil || err.Error() != want {
		t.Error(err)
	}
}
