package redislog

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"factfold/chassis/internal/wire"
	"factfold/chassis/testing/redistest"
)

// server is a redis-server of a test's own, which writes all to disk before it answers.
type server struct {
	t       *testing.T
	port    int
	folder  string
	more    []string
	process *exec.Cmd
}

func startServer(t *testing.T, more ...string) *server {
	t.Helper()
	return startServerAt(t, freePort(t), more...)
}

func startServerAt(t *testing.T, port int, more ...string) *server {
	t.Helper()
	s := &server{t: t, port: port, folder: t.TempDir(), more: more}
	s.start()
	t.Cleanup(s.kill)
	return s
}

func freePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

func (s *server) start() {
	s.t.Helper()
	s.process = exec.Command(redistest.Need(s.t), append([]string{
		"--port", strconv.Itoa(s.port), "--bind", "127.0.0.1", "--dir", s.folder, "--save", "",
		"--appendonly", "yes", "--appendfsync", "always", "--loglevel", "warning",
	}, s.more...)...)
	if err := s.process.Start(); err != nil {
		s.t.Fatal(err)
	}
	eventually(s.t, "the server answers", func() bool {
		link, err := s.redis().Link(context.Background(), "any")
		if err != nil {
			return false
		}
		link.Close()
		return true
	})
}

// kill is a SIGKILL.
func (s *server) kill() {
	_ = s.process.Process.Kill()
	_ = s.process.Wait()
}

func (s *server) redis() *Redis { return New(parsed(s.t, s.url())) }

func (s *server) url() string { return fmt.Sprintf("redis://127.0.0.1:%d/0", s.port) }

// do sends a command on a connection of its own.
func (s *server) do(args ...any) any {
	s.t.Helper()
	link := s.link()
	defer link.Close()
	reply, err := link.Do(context.Background(), args...)
	if err != nil {
		s.t.Fatalf("%v: %v", args, err)
	}
	return reply
}

func (s *server) link() *Link {
	s.t.Helper()
	link, err := s.redis().Link(context.Background(), "any")
	if err != nil {
		s.t.Fatal(err)
	}
	return link
}

// create makes a stream and returns its epochs.
func (s *server) create(stream string, partitions int) []string {
	s.t.Helper()
	epochs, err := CreateStream(
		s.t.Context(), s.redis(), stream, partitions, func() string { return "" })
	if err != nil {
		s.t.Fatal(err)
	}
	return epochs
}

// data is the data of all facts of a partition, in their order.
func (s *server) data(stream string, partition int) []string {
	s.t.Helper()
	entries, err := Entries(s.do("XRANGE", wire.KeysOf(stream, partition).Log(), "-", "+"))
	if err != nil {
		s.t.Fatal(err)
	}
	var found []string
	for i, entry := range entries {
		if entry.ID.N != uint64(i+1) {
			s.t.Fatalf("fact %d has the id %s", i+1, entry.ID)
		}
		data, _ := entry.Field("data")
		found = append(found, data)
	}
	return found
}

func parsed(t *testing.T, text string) URL {
	t.Helper()
	url, err := ParseURL(text)
	if err != nil {
		t.Fatal(err)
	}
	return url
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

func fact(key, data string) NewFact {
	meta := append([]byte{0x0a, 16}, wire.NewFactID()...)
	return NewFact{Type: "t.T", Key: key, Meta: meta, Data: []byte(data)}
}

// alarms collects what operators are told.
type alarms struct{ said chan string }

func newAlarms() alarms { return alarms{make(chan string, 100)} }

func (a alarms) tell(text string) { a.said <- text }

func (a alarms) next(t *testing.T) string {
	t.Helper()
	select {
	case text := <-a.said:
		return text
	case <-time.After(10 * time.Second):
		t.Fatal("no alarm")
		return ""
	}
}

// startAppender runs one on a server.
func startAppender(t *testing.T, s *server, stream string, epochs []string, change func(*AppendOptions)) *Appender {
	t.Helper()
	options := AppendOptions{
		Timeout: 10 * time.Second, Limit: 10_000, MaxFactBytes: 1 << 20,
		Alarm: func(text string) { t.Log("alarm: " + text) },
	}
	if change != nil {
		change(&options)
	}
	return runAppender(t, NewAppender(s.redis(), stream, epochs, options))
}

// runAppender runs it until the test ends.
func runAppender(t *testing.T, appender *Appender) *Appender {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- appender.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != context.Canceled {
			t.Errorf("the appender has ended with %v", err)
		}
	})
	return appender
}
