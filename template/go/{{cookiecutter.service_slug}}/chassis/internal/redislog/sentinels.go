package redislog

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
)

// sentinelServers is one server that others follow; sentinels know which one it is.
type sentinelServers struct {
	url URL

	mutex     sync.Mutex
	sentinels []string          // in the order in which they are asked
	toldOf    map[string]string // by server: the sentinel that named it last
}

func newSentinelServers(url URL) *sentinelServers {
	return &sentinelServers{
		url: url, sentinels: slices.Clone(url.addresses), toldOf: map[string]string{},
	}
}

func (s *sentinelServers) sharded() bool { return false }

func (s *sentinelServers) find(ctx context.Context, _ []string) (place, error) {
	s.mutex.Lock()
	asked := slices.Clone(s.sentinels)
	s.mutex.Unlock()
	reason := ""
	for _, each := range asked {
		server, err := s.ask(ctx, each)
		if ctx.Err() != nil {
			return place{}, ctx.Err()
		}
		if err != nil {
			reason = fmt.Sprintf("sentinel %s: %s", each, err)
			continue
		}
		if server == "" {
			reason = fmt.Sprintf("sentinel %s knows no %s", each, s.url.name)
			continue
		}
		s.mutex.Lock()
		s.move(each, 0) // the first one that is asked next time
		s.toldOf[server] = each
		s.mutex.Unlock()
		return place{address: server}, nil
	}
	return place{}, &LinkLost{Reason: reason, NoLink: true}
}

// ask is the server that a sentinel names; empty if it knows none.
func (s *sentinelServers) ask(ctx context.Context, sentinel string) (string, error) {
	who := login{username: s.url.options[sentinelUser], password: s.url.options[sentinelPass]}
	link, err := open(ctx, sentinel, s.url, who, nil)
	if err != nil {
		return "", err
	}
	defer link.Close()
	// Others can be asked: one that hangs is not waited for as long as for a reply that counts.
	reply, err := link.do(ctx, connectTimeout, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", s.url.name)
	if parts := List(reply); len(parts) == 2 {
		return net.JoinHostPort(Text(parts[0]), Text(parts[1])), nil
	}
	return "", err
}

func (s *sentinelServers) link(ctx context.Context, at place) (*Link, error) {
	link, err := open(ctx, at.address, s.url, s.url.login(), oneNode(at.address))
	if err == nil {
		if err = isMaster(ctx, link); err == nil {
			return link, nil
		}
		link.Close()
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	// Another one may know better: this one may be cut off from the others.
	s.mutex.Lock()
	if s.toldOf[at.address] == s.sentinels[0] {
		s.move(s.sentinels[0], len(s.sentinels)-1)
	}
	s.mutex.Unlock()
	return nil, &LinkLost{Reason: err.Error(), NoLink: true}
}

// isMaster: a server may have become a follower since, and sentinels hear of it late.
func isMaster(ctx context.Context, link *Link) error {
	reply, err := link.Do(ctx, "ROLE")
	if err != nil {
		return err
	}
	if parts := List(reply); len(parts) > 0 && Text(parts[0]) != "master" {
		return fmt.Errorf("%s is a %s now", link.at, Text(parts[0]))
	}
	return nil
}

// move puts a sentinel to this place; s.mutex is held.
func (s *sentinelServers) move(sentinel string, to int) {
	s.sentinels = slices.DeleteFunc(s.sentinels, func(each string) bool { return each == sentinel })
	s.sentinels = slices.Insert(s.sentinels, to, sentinel)
}
