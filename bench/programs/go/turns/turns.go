// Package turns is the contenders' side of bench/rounds.py.
package turns

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Answer has "value", and whatever else is worth keeping.
type Answer map[string]any

// Take answers each turn with what turn reached, until there are no more.
func Take(turn func(limit time.Duration) Answer) {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var seconds float64
		Must(fmt.Sscanf(lines.Text(), "turn %f", &seconds))
		Print(turn(time.Duration(seconds * float64(time.Second))))
	}
}

// Print writes one answer.
func Print(answer Answer) { fmt.Println(string(Must(json.Marshal(answer)))) }

// Again reads everything there is again and again; once says how many facts that were.
func Again(limit time.Duration, once func() int) Answer {
	facts, began := 0, time.Now()
	for time.Since(began) < limit {
		facts += once()
	}
	return Answer{"value": float64(facts) / time.Since(began).Seconds()}
}

// Must is the value of what cannot fail here.
func Must[T any](value T, err error) T {
	Check(err)
	return value
}

// Check ends the program on an error: the bench then says so.
func Check(err error) {
	if err != nil {
		panic(err)
	}
}

// Client is go-redis' with its defaults.
func Client(url string) *redis.Client { return redis.NewClient(Must(redis.ParseURL(url))) }

// Empty begins with an empty Redis and an empty append-only file, at nobody's cost.
func Empty(client *redis.Client) {
	ctx := context.Background()
	Check(client.FlushAll(ctx).Err())
	rewritten(ctx, client)
	Check(client.BgRewriteAOF(ctx).Err())
	rewritten(ctx, client)
}

func rewritten(ctx context.Context, client *redis.Client) {
	for {
		found := Must(client.Info(ctx, "persistence").Result())
		if strings.Contains(found, "aof_rewrite_in_progress:0") && strings.Contains(found, "aof_rewrite_scheduled:0") {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Lengths is how many entries the streams have.
func Lengths(client *redis.Client, streams ...string) (total int64) {
	for _, stream := range streams {
		total += Must(client.XLen(context.Background(), stream).Result())
	}
	return total
}

// Growth is the rate at which streams grow, from their first entry on, until they have as many as
// size or limit is over: starting is measured elsewhere.
func Growth(limit time.Duration, size int64, client *redis.Client, streams ...string) Answer {
	const poll = 10 * time.Millisecond
	for Lengths(client, streams...) == 0 {
		time.Sleep(poll)
	}
	before, began := Lengths(client, streams...), time.Now()
	now := before
	for now < size && time.Since(began) < limit {
		time.Sleep(poll)
		now = Lengths(client, streams...)
	}
	return Answer{"value": float64(now-before) / time.Since(began).Seconds()}
}

// Latency is of one thing after the other: the median in ms, and the 99th percentile.
func Latency(limit time.Duration, once func() time.Duration) Answer {
	var took []time.Duration
	for began := time.Now(); time.Since(began) < limit; {
		took = append(took, once())
	}
	slices.Sort(took)
	ms := func(at int) float64 { return took[at].Seconds() * 1e3 }
	return Answer{"value": ms(len(took) / 2), "p99": ms(len(took) * 99 / 100), "samples": len(took)}
}
