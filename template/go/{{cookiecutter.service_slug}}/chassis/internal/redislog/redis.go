// Package redislog is the log in Redis: where its servers are, connections to them, and streams that
// are created, appended to, read and trimmed there.
package redislog

import (
	"context"
	"strings"
	"sync"
)

// Redis is the log's servers; it opens links to them.
type Redis struct{ servers servers }

// servers is what there is of one server, a cluster, or a server that sentinels know.
type servers interface {
	sharded() bool
	// find says where keys of one slot are.
	find(ctx context.Context, keys []string) (place, error)
	link(ctx context.Context, at place) (*Link, error)
}

// place is a server, and, if their slot is still on its way to it, the keys that it is asked for.
type place struct {
	address string
	asking  string // the keys, with separators between them
}

const separator = "\x00"

// New is for the log at url. It connects when it is first needed.
func New(url URL) *Redis {
	switch url.kind {
	case cluster:
		return &Redis{newClusterServers(url)}
	case sentinel:
		return &Redis{newSentinelServers(url)}
	default:
		return &Redis{singleServer{url}}
	}
}

// Sharded tells whether partitions may lie on different servers.
func (r *Redis) Sharded() bool { return r.servers.sharded() }

// Link opens a connection to the server of keys, which are of one slot. While the slot is on its way
// to another server, it is of use for these keys alone. Whoever asks for it closes it.
func (r *Redis) Link(ctx context.Context, keys ...string) (*Link, error) {
	at, err := r.servers.find(ctx, keys)
	if err != nil {
		return nil, err
	}
	return r.servers.link(ctx, at)
}

// Links are for work on several partitions: one link a server, opened when it is first needed.
func (r *Redis) Links() *Links {
	return &Links{
		servers: r.servers, opened: map[place]*Link{}, away: map[place]error{}, known: map[string]*Link{},
	}
}

// Links has one link a server. It may be used by several goroutines.
type Links struct {
	servers servers
	mutex   sync.Mutex
	opened  map[place]*Link
	away    map[place]error // why there is none; not tried again
	known   map[string]*Link
}

// To is as Redis.Link; one that turns out to be wrong is lost, and Close ends all.
func (l *Links) To(ctx context.Context, keys ...string) (*Link, error) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	asked := ""
	if l.servers.sharded() {
		asked = strings.Join(keys, separator)
	}
	if link := l.known[asked]; link != nil {
		return link, nil
	}
	at, err := l.servers.find(ctx, keys)
	if err != nil {
		return nil, err
	}
	if err := l.away[at]; err != nil {
		return nil, err
	}
	link := l.opened[at]
	if link == nil {
		if link, err = l.servers.link(ctx, at); err != nil {
			if ctx.Err() == nil {
				l.away[at] = err
			}
			return nil, err
		}
		l.opened[at] = link
	}
	l.known[asked] = link
	return link, nil
}

// Close ends all links.
func (l *Links) Close() {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	for _, link := range l.opened {
		link.Close()
	}
}

type singleServer struct{ url URL }

func (s singleServer) sharded() bool { return false }

func (s singleServer) find(context.Context, []string) (place, error) {
	return place{address: s.url.addresses[0]}, nil
}

func (s singleServer) link(ctx context.Context, at place) (*Link, error) {
	return open(ctx, at.address, s.url, s.url.login(), oneNode(at.address))
}

func (u URL) login() login { return login{u.username, u.password, u.db} }

// oneNode is what an answer means by which something is elsewhere, of a server that is no cluster.
func oneNode(at string) func(answer string) string {
	return func(answer string) string {
		if _, _, ok := redirected(at, answer); ok {
			return at + " is one node of a cluster: begin the URL with redis+cluster://"
		}
		return at + ": " + answer
	}
}
