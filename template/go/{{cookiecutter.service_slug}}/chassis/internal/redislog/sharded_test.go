package redislog

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"factfold/chassis/internal/wire"
	"factfold/chassis/testing/redistest"
)

func TestKeysHaveTheirSlots(t *testing.T) {
	for key, want := range map[string]int{
		"123456789": 12739, "foo": 12182, "{foo}:log": 12182, "x{foo}{bar}": 12182, "": 0,
	} {
		if found := slotOf(key); found != want {
			t.Errorf("%q: %d, not %d", key, found, want)
		}
	}
	if slotOf("{}x") == slotOf("") {
		t.Error("empty braces do not count")
	}
}

// startCluster is of masters alone, which share the slots.
func startCluster(t *testing.T, masters int) []*server {
	t.Helper()
	var nodes []*server
	for at := range masters {
		port := freeBusPort(t)
		node := startServerAt(t, port, "--cluster-enabled", "yes", "--cluster-node-timeout", "1500")
		nodes = append(nodes, node)
		node.do("CLUSTER", "SET-CONFIG-EPOCH", at+1)
		add := []any{"CLUSTER", "ADDSLOTS"}
		for slot := slots * at / masters; slot < slots*(at+1)/masters; slot++ {
			add = append(add, slot)
		}
		node.do(add...)
		if at > 0 {
			node.do("CLUSTER", "MEET", "127.0.0.1", nodes[0].port)
		}
	}
	eventually(t, "the cluster is one", func() bool {
		return !slices.ContainsFunc(nodes, func(node *server) bool {
			info := Text(node.do("CLUSTER", "INFO"))
			return !strings.Contains(info, "cluster_state:ok") ||
				!strings.Contains(info, fmt.Sprintf("cluster_known_nodes:%d", masters))
		})
	})
	return nodes
}

// freeBusPort is one whose bus, 10,000 above, has a port, too.
func freeBusPort(t *testing.T) int {
	for {
		if port := freePort(t); port < 55_000 {
			return port
		}
	}
}

func clusterRedis(t *testing.T, nodes []*server) *Redis {
	return New(parsed(t, fmt.Sprintf("redis+cluster://127.0.0.1:%d", nodes[0].port)))
}

// ownerOf is the node that has the slot of a key, and the other one.
func ownerOf(t *testing.T, nodes []*server, key string) (owner, other *server) {
	t.Helper()
	at := slotOf(key) * len(nodes) / slots
	return nodes[at], nodes[1-at]
}

func TestAClusterTakesAppendsAndReadsWhileASlotMoves(t *testing.T) {
	nodes := startCluster(t, 2)
	redis := clusterRedis(t, nodes)
	if !redis.Sharded() {
		t.Error("partitions lie on different servers")
	}
	epochs, err := CreateStream(t.Context(), redis, "orders", 2, func() string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	appender := runAppender(t, NewAppender(redis, "orders", epochs, AppendOptions{
		Timeout: 10 * time.Second, Limit: 1000, MaxFactBytes: 1 << 20, Alarm: func(text string) { t.Error(text) },
	}))
	key := keyOf(0)
	var appended int
	var waits sync.WaitGroup
	enough := make(chan struct{})
	waits.Go(func() {
		for ; ; appended++ {
			select {
			case <-enough:
				return
			case <-time.After(time.Millisecond):
			}
			if _, err := appender.Append(t.Context(), []NewFact{fact(key, fmt.Sprint(appended+1))}); err != nil {
				t.Error(err)
				return
			}
		}
	})
	time.Sleep(50 * time.Millisecond)
	keys := wire.KeysOf("orders", 0)
	source, target := ownerOf(t, nodes, keys.Log())
	slot := slotOf(keys.Log())
	target.do("CLUSTER", "SETSLOT", slot, "IMPORTING", source.do("CLUSTER", "MYID"))
	source.do("CLUSTER", "SETSLOT", slot, "MIGRATING", target.do("CLUSTER", "MYID"))
	for _, each := range keys.Appending() {
		time.Sleep(50 * time.Millisecond)
		source.do("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", each)
	}
	time.Sleep(300 * time.Millisecond) // all keys are there, and the slot is not
	for _, each := range []*server{target, source} {
		each.do("CLUSTER", "SETSLOT", slot, "NODE", target.do("CLUSTER", "MYID"))
	}
	time.Sleep(300 * time.Millisecond)
	close(enough)
	waits.Wait()
	found := target.data("orders", 0)
	isNumbered(t, found, 1)
	if len(found) != appended || appended < 10 {
		t.Errorf("%d facts of %d appends", len(found), appended)
	}
	read := 0
	for batch, err := range NewReader(redis, "orders", 0, epochs[0], Options{}).Batches(t.Context()) {
		if read += len(batch.Entries); err != nil || read >= appended {
			if err != nil {
				t.Error(err)
			}
			break
		}
	}
	t.Logf("%d facts", appended)
}

func TestOneNodeOfAClusterIsSaidToBeOne(t *testing.T) {
	nodes := startCluster(t, 2)
	_, other := ownerOf(t, nodes, "a")
	link := other.link()
	defer link.Close()
	if _, err := link.Do(t.Context(), "GET", "a"); !errors.Is(err, ErrLost) ||
		!strings.Contains(err.Error(), "is one node of a cluster: begin the URL with redis+cluster://") {
		t.Errorf("%v", err)
	}
}

func TestAServerThatSentinelsPromoteIsFound(t *testing.T) {
	master := startServer(t)
	replica := startServer(t, "--replicaof", "127.0.0.1", strconv.Itoa(master.port))
	port := startSentinel(t, master.port)
	redis := New(parsed(t, fmt.Sprintf("redis+sentinel://127.0.0.1:1,127.0.0.1:%d/facts", port)))
	link, err := redis.Link(t.Context(), "any")
	if err != nil || link.at != fmt.Sprintf("127.0.0.1:%d", master.port) {
		t.Fatal(link, err)
	}
	link.Close()
	if _, err := New(parsed(t, fmt.Sprintf("redis+sentinel://127.0.0.1:%d/others", port))).Link(t.Context(), "any"); err == nil || !strings.Contains(err.Error(), "knows no others") {
		t.Errorf("%v", err)
	}
	epochs, err := CreateStream(t.Context(), redis, "orders", 1, func() string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	appender := runAppender(t, NewAppender(redis, "orders", epochs, AppendOptions{
		Timeout: 15 * time.Second, Limit: 1000, MaxFactBytes: 1 << 20, Replicas: ReplicasWithin(1, 2*time.Second),
		Alarm: func(text string) { t.Error(text) },
	}))
	eventually(t, "the replica confirms", func() bool {
		_, err := appender.Append(t.Context(), []NewFact{fact("a", "1")})
		return err == nil
	})
	eventually(t, "the sentinel knows the replica", func() bool {
		link, err := New(parsed(t, fmt.Sprintf("redis://127.0.0.1:%d", port))).Link(t.Context(), "any")
		if err != nil {
			return false
		}
		defer link.Close()
		reply, err := link.Do(t.Context(), "SENTINEL", "REPLICAS", "facts")
		return err == nil && len(List(reply)) == 1
	})
	master.kill()
	eventually(t, "the promoted one takes over", func() bool {
		link, err := redis.Link(t.Context(), "any")
		if err != nil {
			return false
		}
		defer link.Close()
		return link.at == fmt.Sprintf("127.0.0.1:%d", replica.port)
	})
	if _, err := appender.Append(t.Context(), []NewFact{fact("a", "2")}); err != nil && !strings.Contains(err.Error(), "it is in the log, but") {
		t.Error(err)
	}
	if found := replica.data("orders", 0); found[0] != "1" || found[len(found)-1] != "2" {
		t.Errorf("%v", found)
	}
}

// startSentinel watches a master under the name facts, and decides alone.
func startSentinel(t *testing.T, master int) (port int) {
	t.Helper()
	port = freePort(t)
	folder := t.TempDir()
	file := filepath.Join(folder, "sentinel.conf")
	text := fmt.Sprintf("port %d\nbind 127.0.0.1\ndir %s\nsentinel monitor facts 127.0.0.1 %d 1\n"+
		"sentinel down-after-milliseconds facts 500\nsentinel failover-timeout facts 3000\n", port, folder, master)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	process := exec.Command(redistest.Need(t), file, "--sentinel")
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = process.Process.Kill()
		_ = process.Wait()
	})
	eventually(t, "the sentinel answers", func() bool {
		link, err := New(parsed(t, fmt.Sprintf("redis://127.0.0.1:%d", port))).Link(context.Background(), "any")
		if err != nil {
			return false
		}
		link.Close()
		return true
	})
	return port
}

// keyOf is a key of this partition of two.
func keyOf(partition int) string {
	for i := 0; ; i++ {
		if key := fmt.Sprint("key-", i); wire.PartitionOf(key, 2) == partition {
			return key
		}
	}
}
