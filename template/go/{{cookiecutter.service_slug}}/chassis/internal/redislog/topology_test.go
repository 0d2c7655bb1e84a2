package redislog

import (
	"fmt"
	"testing"
)

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
