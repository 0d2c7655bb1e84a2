package redislog

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"factfold/chassis/internal/fault"
	"factfold/chassis/internal/wire"
)

// proxy is between a client and a server, and can be made to lose replies.
type proxy struct {
	t        *testing.T
	listener net.Listener
	to       string
	swallow  atomic.Bool // the next reply, and the connection with it
	shut     atomic.Bool // to new connections
}

func startProxy(t *testing.T, s *server) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{t: t, listener: listener, to: fmt.Sprintf("127.0.0.1:%d", s.port)}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go p.join(client)
		}
	}()
	return p
}

func (p *proxy) join(client net.Conn) {
	behind, err := net.Dial("tcp", p.to)
	if err != nil || p.shut.Load() {
		client.Close()
		return
	}
	go func() {
		defer behind.Close()
		_, _ = behind.(*net.TCPConn).ReadFrom(client)
	}()
	defer client.Close()
	data := make([]byte, 64<<10)
	for {
		n, err := behind.Read(data)
		if err != nil || p.swallow.CompareAndSwap(true, false) {
			return
		}
		if _, err := client.Write(data[:n]); err != nil {
			return
		}
	}
}

func (p *proxy) redis() *Redis { return New(parsed(p.t, "redis://"+p.listener.Addr().String())) }

func TestABatchWhoseReplyIsLostIsAppendedOnceAndGetsItsFirstOutcome(t *testing.T) {
	s := startServer(t)
	between := startProxy(t, s)
	appender := runAppender(t, NewAppender(between.redis(), "orders", s.create("orders", 1), AppendOptions{
		Timeout: 10 * time.Second, Limit: 100, MaxFactBytes: 1000, Alarm: func(text string) { t.Error(text) },
	}))
	version := func(expected uint64) NewFact {
		its := fact("a", fmt.Sprint(expected))
		its.Expected = &expected
		return its
	}
	for n := range uint64(5) {
		between.swallow.Store(n > 0) // the first one finds a connection
		position, err := appender.Append(t.Context(), []NewFact{version(n)})
		if err != nil || position.N != n+1 {
			t.Errorf("fact %d: %v %v", n, position, err)
		}
	}
	between.swallow.Store(true)
	_, err := appender.Append(t.Context(), []NewFact{version(1)})
	var conflict *fault.VersionConflict
	if !errors.As(err, &conflict) || conflict.Actual != 5 {
		t.Errorf("%v", err)
	}
	if found := s.data("orders", 0); !slices.Equal(found, []string{"0", "1", "2", "3", "4"}) {
		t.Errorf("%v", found)
	}
}

func TestABatchThatMayHaveBeenForgottenIsNotAppendedAgain(t *testing.T) {
	s := startServer(t)
	between := startProxy(t, s)
	said := newAlarms()
	appender := runAppender(t, NewAppender(between.redis(), "orders", s.create("orders", 1), AppendOptions{
		Timeout: 10 * time.Second, Limit: 100, MaxFactBytes: 1000, Alarm: said.tell,
	}))
	if _, err := appender.Append(t.Context(), []NewFact{fact("a", "1")}); err != nil {
		t.Fatal(err)
	}
	between.swallow.Store(true)
	between.shut.Store(true)
	keys := wire.KeysOf("orders", 0)
	ended := make(chan error, 1)
	// The log forgets the producer as soon as it has the second fact, whose reply is lost.
	go func() {
		_, err := appender.Append(t.Context(), []NewFact{fact("a", "2")})
		ended <- err
	}()
	link := s.link()
	defer link.Close()
	for {
		length, err := link.Do(t.Context(), "XLEN", keys.Log())
		if err != nil {
			t.Fatal(err)
		}
		if length == int64(2) {
			break
		}
	}
	if _, err := link.Do(t.Context(), "DEL", keys.Producers()); err != nil {
		t.Fatal(err)
	}
	between.shut.Store(false)
	if err := <-ended; !errors.Is(err, fault.KindOutcomeUnknown) {
		t.Errorf("%v", err)
	}
	said.next(t)
	if position, err := appender.Append(t.Context(), []NewFact{fact("a", "3")}); err != nil || position.N != 3 {
		t.Errorf("%v %v", position, err)
	}
}

func TestAFlushedScriptCacheLosesAndDoublesNothing(t *testing.T) {
	s := startServer(t)
	appender := startAppender(t, s, "orders", s.create("orders", 1), nil)
	var want []string
	for n := range 10 {
		if n%3 == 0 {
			s.do("SCRIPT", "FLUSH")
		}
		want = append(want, fmt.Sprint(n))
		if _, err := appender.Append(t.Context(), []NewFact{fact("a", want[n])}); err != nil {
			t.Error(err)
		}
	}
	if found := s.data("orders", 0); !slices.Equal(found, want) {
		t.Errorf("%v", found)
	}
}

func TestFlushGivesUpWhatCannotBeSent(t *testing.T) {
	s := startServer(t)
	epochs := s.create("orders", 1)
	s.kill()
	appender := startAppender(t, s, "orders", epochs, nil)
	ended := make(chan error, 1)
	go func() {
		_, err := appender.Append(t.Context(), []NewFact{fact("a", "x")})
		ended <- err
	}()
	time.Sleep(50 * time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	appender.Flush(ctx)
	if err := <-ended; !errors.Is(err, fault.KindLogUnreachable) || !strings.Contains(err.Error(), shuttingDown) {
		t.Errorf("%v", err)
	}
}
