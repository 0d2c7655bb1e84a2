package redislog

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"factfold/chassis/internal/wire"
)

func TestEntriesAreReadAsGoRedisReadsThem(t *testing.T) {
	server := startServer(t)
	for _, entry := range [][]any{
		{"1-1", "type", "a", "key", "k", "meta", "", "data", "\r\n$3\r\n"},
		{"1-2", "key", strings.Repeat("x", 3*readBuffer), "", ""},
		{"1-4", "data", strings.Repeat("\xff", readBuffer-40), "data", strings.Repeat("y", readBuffer)},
	} {
		server.do(append([]any{"XADD", "log"}, entry...)...)
	}
	link := server.link()
	defer link.Close()
	for _, each := range [][]any{
		{"XRANGE", "log", "-", "+"}, {"XRANGE", "log", "1-2", "1-3"}, {"XRANGE", "log", "2", "+"},
		{"XRANGE", "nothing", "-", "+"},
	} {
		want, err := Entries(server.do(each...))
		if err != nil {
			t.Fatal(err)
		}
		size := 0
		for _, entry := range want {
			size += len(strings.Join(entry.Fields, ""))
		}
		connection := link.duplex()
		if err := connection.send(each, each); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			found, bytes, err := connection.receiveEntries()
			if err != nil || bytes != size || len(found) != len(want) ||
				len(want) > 0 && !reflect.DeepEqual(found, want) {
				t.Errorf("%v: %d entries, %d bytes, %v", each, len(found), bytes, err)
			}
		}
	}
}

func TestEntriesOfAStreamThatIsWaitedFor(t *testing.T) {
	server := startServer(t)
	server.do("XADD", "log", "1-1", "key", "k")
	link := server.link()
	defer link.Close()
	connection := link.duplex()
	read := []any{"XREAD", "BLOCK", 10, "STREAMS", "log"}
	if err := connection.send(append(read, "0"), append(read, "1-1"), []any{"PING"}); err != nil {
		t.Fatal(err)
	}
	found, _, err := connection.receiveStream()
	want := []wire.Entry{{ID: wire.ID{Ms: 1, N: 1}, Fields: []string{"key", "k"}}}
	if err != nil || !reflect.DeepEqual(found, want) {
		t.Errorf("%v, %v", found, err)
	}
	if found, _, err := connection.receiveStream(); err != nil || found != nil {
		t.Errorf("%v, %v", found, err)
	}
	if pong, err := connection.receive(); err != nil || pong != "PONG" {
		t.Errorf("%v, %v", pong, err)
	}
}

func TestAnErrorInPlaceOfEntriesLeavesTheRepliesBehindIt(t *testing.T) {
	server := startServer(t)
	server.do("SET", "log", "text")
	link := server.link()
	defer link.Close()
	connection := link.duplex()
	if err := connection.send([]any{"XRANGE", "log", "-", "+"}, []any{"GET", "log"}); err != nil {
		t.Fatal(err)
	}
	var answered redis.Error
	if _, _, err := connection.receiveEntries(); !errors.As(err, &answered) || !strings.HasPrefix(err.Error(), "WRONGTYPE") {
		t.Errorf("%v", err)
	}
	if text, err := connection.receive(); err != nil || text != "text" {
		t.Errorf("%v, %v", text, err)
	}
}

func TestWhatIsNoReplyOfEntriesEndsTheConnection(t *testing.T) {
	server := startServer(t)
	link := server.link()
	connection := link.duplex()
	if err := connection.send([]any{"PING"}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := connection.receiveEntries(); !errors.Is(err, ErrLost) || !strings.Contains(err.Error(), `"+PONG"`) {
		t.Errorf("%v", err)
	}
	if link.Lost() == nil {
		t.Error("it is still there")
	}
}
