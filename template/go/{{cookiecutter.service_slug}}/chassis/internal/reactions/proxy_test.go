package reactions

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"factfold/chassis/internal/redislog"
)

// proxy stands before a Redis: it loses connections when it is told to.
type proxy struct {
	url      string
	listener net.Listener
	server   string

	mu    sync.Mutex
	open  map[net.Conn]bool
	cut   *cut
	calls int
	dead  bool
}

// cut loses the connection with some call of a script.
type cut struct {
	sha   string
	after bool // once the server has run it: its reply is lost
	left  int  // calls until then
	done  bool
}

func newProxy(t *testing.T, url string) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := strings.TrimSuffix(strings.TrimPrefix(url, "redis://"), "/0")
	p := &proxy{
		url: fmt.Sprintf("redis://%s/0", listener.Addr()), listener: listener, server: server,
		open: map[net.Conn]bool{},
	}
	go p.accept()
	t.Cleanup(p.kill)
	return p
}

// loses has the connection lost at the nth call of a script from now on.
func (p *proxy) loses(script string, after bool, nth int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = &cut{sha: redislog.Command(script, nil)[1].(string), after: after, left: nth}
}

func (p *proxy) hasLost() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cut != nil && p.cut.done
}

// kill ends all connections at once, and takes no more: as if whoever uses it were gone.
func (p *proxy) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dead = true
	_ = p.listener.Close()
	for each := range p.open {
		_ = each.Close()
	}
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.server)
		if err != nil {
			_ = client.Close()
			continue
		}
		p.mu.Lock()
		p.open[client], p.open[server] = true, true
		if p.dead {
			_ = client.Close()
			_ = server.Close()
		}
		p.mu.Unlock()
		go p.serve(client, server)
	}
}

func (p *proxy) serve(client, server net.Conn) {
	lost := make(chan struct{})
	go func() {
		defer func() { _, _ = client.Close(), server.Close() }()
		buffer := make([]byte, 1<<16)
		for {
			n, err := server.Read(buffer)
			if err != nil {
				return
			}
			select {
			case <-lost:
				time.Sleep(20 * time.Millisecond) // it has run what came
				return
			default:
			}
			if _, err := client.Write(buffer[:n]); err != nil {
				return
			}
		}
	}()
	defer func() { _, _ = client.Close(), server.Close() }()
	from := bufio.NewReader(client)
	for {
		raw, script, err := command(from)
		if err != nil {
			return
		}
		due, after := p.due(script)
		if due && !after {
			return
		}
		if due {
			close(lost)
		}
		if _, err := server.Write(raw); err != nil {
			return
		}
		if due {
			_, _ = io.Copy(io.Discard, from)
			return
		}
	}
}

func (p *proxy) due(script string) (due, after bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls++
	if p.cut == nil || p.cut.done || script != p.cut.sha {
		return false, false
	}
	p.cut.left--
	p.cut.done = p.cut.left == 0
	return p.cut.done, p.cut.after
}

// command reads one command; script is the second part of an EVALSHA.
func command(from *bufio.Reader) (raw []byte, script string, err error) {
	line, err := from.ReadString('\n')
	if err != nil {
		return nil, "", err
	}
	raw = append(raw, line...)
	parts, err := strconv.Atoi(strings.TrimSpace(line[1:]))
	if err != nil {
		return nil, "", err
	}
	name := ""
	for i := range parts {
		if line, err = from.ReadString('\n'); err != nil {
			return nil, "", err
		}
		size, err := strconv.Atoi(strings.TrimSpace(line[1:]))
		if err != nil {
			return nil, "", err
		}
		part := make([]byte, size+2)
		if _, err := io.ReadFull(from, part); err != nil {
			return nil, "", err
		}
		raw = append(append(raw, line...), part...)
		switch {
		case i == 0:
			name = strings.ToUpper(string(part[:size]))
		case i == 1 && name == "EVALSHA":
			script = string(part[:size])
		}
	}
	return raw, script, nil
}
