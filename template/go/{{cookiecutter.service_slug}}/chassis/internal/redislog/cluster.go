package redislog

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
)

const slots = 16384

// clusterServers share the slots; each knows who has which.
type clusterServers struct {
	url     URL
	looking sync.Mutex // held by who asks for the map, before mutex

	mutex    sync.Mutex
	owners   map[int]string // by slot
	moving   map[int]bool   // slots of which a part may be on another server already
	outdated bool
	told     string // whose map it is
}

func newClusterServers(url URL) *clusterServers {
	return &clusterServers{url: url, owners: map[int]string{}, moving: map[int]bool{}, outdated: true}
}

func (c *clusterServers) sharded() bool { return true }

func (c *clusterServers) find(ctx context.Context, keys []string) (place, error) {
	if err := c.look(ctx); err != nil {
		return place{}, err
	}
	slot := slotOf(keys[0])
	c.mutex.Lock()
	owner, moving := c.owners[slot], c.moving[slot]
	if owner == "" {
		c.outdated = true
	}
	c.mutex.Unlock()
	if owner == "" {
		reason := fmt.Sprintf("no node of the cluster serves slot %d", slot)
		return place{}, &LinkLost{Reason: reason, NoLink: true}
	}
	if moving {
		return c.oneOfTwo(ctx, slot, owner, keys)
	}
	return place{address: owner}, nil
}

// oneOfTwo is where keys are of a slot that is on its way: they go one by one, so each time anew.
func (c *clusterServers) oneOfTwo(ctx context.Context, slot int, owner string, keys []string) (place, error) {
	link, err := c.open(ctx, owner)
	if err != nil {
		return place{}, err
	}
	defer link.Close()
	err = exist(ctx, link, keys)
	var lost *LinkLost
	switch {
	case err == nil:
		return place{address: owner}, nil
	case errors.As(err, &lost) && strings.HasPrefix(lost.answer, "ASK "):
		_, to, _ := redirected(owner, lost.answer)
		return place{to, strings.Join(keys, separator)}, nil
	case errors.Is(err, ErrLost) || ctx.Err() != nil:
		return place{}, err
	}
	c.mutex.Lock()
	delete(c.moving, slot)
	c.mutex.Unlock()
	return place{}, &LinkLost{Reason: err.Error()}
}

func exist(ctx context.Context, link *Link, keys []string) error {
	command := []any{"EXISTS"}
	for _, key := range keys {
		command = append(command, key)
	}
	_, err := link.Do(ctx, command...)
	return err
}

func (c *clusterServers) link(ctx context.Context, at place) (*Link, error) {
	link, err := c.open(ctx, at.address)
	if err != nil {
		c.mutex.Lock()
		c.outdated = true
		c.mutex.Unlock()
		return nil, err
	}
	link.asking = at.asking != ""
	// Of one key, the server that had it has said that it is gone. Of several some may be on their
	// way, and an absent key looks like an empty one.
	if keys := strings.Split(at.asking, separator); len(keys) > 1 {
		if err := exist(ctx, link, keys); err != nil {
			link.Close()
			if errors.Is(err, ErrLost) || ctx.Err() != nil {
				return nil, err
			}
			return nil, &LinkLost{Reason: err.Error()}
		}
	}
	return link, nil
}

func (c *clusterServers) open(ctx context.Context, at string) (*Link, error) {
	return open(ctx, at, c.url, c.url.login(), func(answer string) string { return c.redirect(at, answer) })
}

// redirect learns from what a server answers that does not have what it is asked for.
func (c *clusterServers) redirect(at, answer string) string {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	slot, to, ok := redirected(at, answer)
	switch {
	case !ok:
		c.outdated = true
		return at + ": " + answer
	case strings.HasPrefix(answer, "ASK "):
		c.moving[slot] = true
		return fmt.Sprintf("slot %d of the cluster is on its way to %s", slot, to)
	default:
		c.owners[slot] = to
		delete(c.moving, slot)
		return fmt.Sprintf("slot %d of the cluster has moved to %s", slot, to)
	}
}

// look asks nodes who has which slot, until one answers, if the map is outdated.
func (c *clusterServers) look(ctx context.Context) error {
	c.looking.Lock()
	defer c.looking.Unlock()
	c.mutex.Lock()
	outdated, told := c.outdated, c.told
	nodes := slices.Collect(maps.Values(c.owners))
	c.mutex.Unlock()
	if !outdated {
		return nil
	}
	slices.Sort(nodes)
	nodes = slices.Compact(nodes)
	rand.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
	for _, each := range c.url.addresses {
		if !slices.Contains(nodes, each) {
			nodes = append(nodes, each)
		}
	}
	// A node that is cut off, or has left, still answers. So who told last is asked last.
	if at := slices.Index(nodes, told); at >= 0 {
		nodes = append(slices.Delete(nodes, at, at+1), told)
	}
	reason := ""
	for _, each := range nodes {
		owners, err := c.ask(ctx, each)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			reason = fmt.Sprintf("%s: %s", each, err)
			continue
		}
		c.mutex.Lock()
		c.owners, c.outdated, c.told = owners, false, each
		c.mutex.Unlock()
		return nil
	}
	return &LinkLost{Reason: "no node of the cluster answers; " + reason, NoLink: true}
}

// ask is the map of a node.
func (c *clusterServers) ask(ctx context.Context, node string) (map[int]string, error) {
	link, err := c.open(ctx, node)
	if err != nil {
		return nil, err
	}
	defer link.Close()
	reply, err := link.do(ctx, connectTimeout, "CLUSTER", "SLOTS")
	if err != nil {
		return nil, err
	}
	own, _, _ := net.SplitHostPort(node)
	owners := map[int]string{}
	for _, each := range List(reply) {
		parts := List(each)
		if len(parts) < 3 || len(List(parts[2])) < 2 {
			continue // it has no master
		}
		first, err1 := Number(parts[0])
		last, err2 := Number(parts[1])
		if err := errors.Join(err1, err2); err != nil || last >= slots {
			return nil, fmt.Errorf("its slots cannot be read: %v", each)
		}
		master := List(parts[2])
		host := Text(master[0])
		if host == "" {
			host = own
		}
		owner := net.JoinHostPort(host, Text(master[1]))
		for slot := first; slot <= last; slot++ {
			owners[int(slot)] = owner
		}
	}
	return owners, nil
}

// redirected is where an answer MOVED or ASK of a server sends, and for which slot. Without a host
// it is the server's own, as a client finds it.
func redirected(at, answer string) (slot int, to string, ok bool) {
	words := strings.Fields(answer)
	if len(words) < 3 || words[0] != "MOVED" && words[0] != "ASK" {
		return 0, "", false
	}
	slot, err := strconv.Atoi(words[1])
	end := strings.LastIndex(words[2], ":")
	if err != nil || end < 0 {
		return 0, "", false
	}
	host := words[2][:end]
	if host == "" {
		host, _, _ = net.SplitHostPort(at)
	}
	return slot, net.JoinHostPort(host, words[2][end+1:]), true
}

// slotOf is the slot of a key: CRC-16 (XMODEM) of what stands in its first braces.
func slotOf(key string) int {
	if begin := strings.IndexByte(key, '{'); begin >= 0 {
		if length := strings.IndexByte(key[begin+1:], '}'); length > 0 {
			key = key[begin+1 : begin+1+length]
		}
	}
	var sum uint16
	for i := range len(key) {
		sum ^= uint16(key[i]) << 8
		for range 8 {
			if sum&0x8000 != 0 {
				sum = sum<<1 ^ 0x1021
			} else {
				sum <<= 1
			}
		}
	}
	return int(sum % slots)
}
