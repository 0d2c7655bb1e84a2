package redislog

import (
	"errors"
	"fmt"
	"slices"
	"testing"
)

func TestAnswersThatEndALink(t *testing.T) {
	for answer, ends := range map[string]bool{
		"MOVED 12 127.0.0.1:7001":             true,
		"ASK 12 127.0.0.1:7001":               true,
		"TRYAGAIN Multiple keys":              true,
		"CLUSTERDOWN The cluster is down":     true,
		"READONLY You can't write":            true,
		"LOADING Redis is loading":            true,
		"MASTERDOWN Link with MASTER is down": true,
		"NOAUTH Authentication required.":     true,
		"ERR max number of clients reached":   true,
		"ERR wrong number of arguments":       false,
		"NOSCRIPT No matching script":         false,
		"OOM command not allowed":             false,
	} {
		if why := (&Link{}).elsewhere(answer); (why != "") != ends {
			t.Errorf("%s: %q", answer, why)
		}
	}
}

func TestAServerThatSentinelsNameMustBeAMaster(t *testing.T) {
	follower := startServer(t, "--replicaof", "127.0.0.1", "1")
	s := newSentinelServers(parsed(t, "redis+sentinel://127.0.0.1:1,127.0.0.1:2/facts"))
	at := fmt.Sprintf("127.0.0.1:%d", follower.port)
	s.toldOf[at] = "127.0.0.1:1"
	_, err := s.link(t.Context(), place{address: at})
	if !errors.Is(err, ErrLost) || err.Error() != at+" is a slave now" {
		t.Errorf("%v", err)
	}
	if !slices.Equal(s.sentinels, []string{"127.0.0.1:2", "127.0.0.1:1"}) {
		t.Errorf("the next one that is asked is that of %v", s.sentinels)
	}
}

func TestKeysOfASlotOnItsWayAreAskedForOneByOne(t *testing.T) {
	nodes := startCluster(t, 2)
	redis := clusterRedis(t, nodes)
	const gone, absent = "{a}:gone", "{a}:absent"
	source, target := ownerOf(t, nodes, gone)
	source.do("SET", gone, "1")
	slot := slotOf(gone)
	target.do("CLUSTER", "SETSLOT", slot, "IMPORTING", source.do("CLUSTER", "MYID"))
	source.do("CLUSTER", "SETSLOT", slot, "MIGRATING", target.do("CLUSTER", "MYID"))
	source.do("MIGRATE", "127.0.0.1", target.port, gone, 0, 5000)
	get := func() (any, error) {
		link, err := redis.Link(t.Context(), gone)
		if err != nil {
			return nil, err
		}
		defer link.Close()
		return link.Do(t.Context(), "GET", gone)
	}
	if found, err := get(); !errors.Is(err, ErrLost) {
		t.Errorf("the server that had it has answered %v %v", found, err)
	}
	for range 2 {
		if found, err := get(); err != nil || found != "1" {
			t.Errorf("the server that has it has answered %v %v", found, err)
		}
	}
	if link, err := redis.Link(t.Context(), gone, absent); !errors.Is(err, ErrLost) {
		link.Close()
		t.Errorf("a key that may be on its way is taken for an absent one: %v", err)
	}
}

func TestARedirectionWithoutAHostStaysOnItsHost(t *testing.T) {
	for answer, want := range map[string]string{
		"MOVED 12 10.0.0.2:7001": "10.0.0.2:7001",
		"MOVED 12 :7001":         "10.0.0.1:7001",
		"ASK 12 :7001":           "10.0.0.1:7001",
		"ASK 12 ::1:7001":        "[::1]:7001",
	} {
		slot, to, ok := redirected("10.0.0.1:7000", answer)
		if slot != 12 || to != want || !ok {
			t.Errorf("%s: slot %d at %s, %v", answer, slot, to, ok)
		}
	}
}

func TestTheNodeThatToldLastIsAskedLast(t *testing.T) {
	nodes := startCluster(t, 2)
	c := newClusterServers(parsed(t, fmt.Sprintf("redis+cluster://127.0.0.1:%d", nodes[0].port)))
	for range 8 {
		before := c.told
		c.outdated = true
		if err := c.look(t.Context()); err != nil {
			t.Fatal(err)
		}
		if c.told == before {
			t.Fatalf("%s is asked again", before)
		}
	}
	nodes[0].kill()
	c.told, c.outdated = fmt.Sprintf("127.0.0.1:%d", nodes[1].port), true
	if err := c.look(t.Context()); err != nil || c.outdated {
		t.Errorf("nobody else answers, and it is not asked: %v", err)
	}
}
