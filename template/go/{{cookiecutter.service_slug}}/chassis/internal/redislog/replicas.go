package redislog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// Replicas is how many must have confirmed what a connection has written, so that a failover loses
// less. Redis tells it of the connection's own last write: on a new one, of none. The zero value
// asks for none.
type Replicas struct {
	Number int
	Wait   time.Duration
}

// ReplicasWithin is as a part of an append that may take so long.
func ReplicasWithin(number int, timeout time.Duration) Replicas {
	return Replicas{number, max(time.Millisecond, timeout*8/10)}
}

// Wanted tells whether any must confirm.
func (r Replicas) Wanted() bool { return r.Number > 0 }

// Command is what makes them confirm all that was written before on a connection.
func (r Replicas) Command() []any { return []any{"WAIT", r.Number, r.Wait.Milliseconds()} }

// Missing is what the reply to Command says, as one clause; empty if all is well.
func (r Replicas) Missing(reply any) string {
	confirmed, err := Number(reply)
	if err == nil && confirmed >= uint64(r.Number) {
		return ""
	}
	return fmt.Sprintf("%d of %d replicas have confirmed it", confirmed, r.Number)
}

// Confirm waits; a LinkLost says that too few replicas have what was written on this link.
func (r Replicas) Confirm(ctx context.Context, link *Link) error {
	missing, err := r.missingOn(ctx, link)
	if err == nil && missing != "" {
		err = link.lose(missing + ", as FACTFOLD_WAIT_REPLICAS asks")
	}
	return err
}

// MissingNow is as Missing, of all that was written before, on any link; key is a hash to write to.
func (r Replicas) MissingNow(ctx context.Context, link *Link, key string) (string, error) {
	if !r.Wanted() {
		return "", nil
	}
	_, err := link.Do(ctx, "HSET", key, "_", "1")
	if refused := redis.Error(nil); errors.As(err, &refused) { // full, or with too few replicas to write at all
		return fmt.Sprintf("whether replicas have it cannot be asked: %s", err), nil
	}
	if err != nil {
		return "", err
	}
	return r.missingOn(ctx, link)
}

func (r Replicas) missingOn(ctx context.Context, link *Link) (string, error) {
	if !r.Wanted() {
		return "", nil
	}
	reply, err := link.do(ctx, r.Wait+replyTimeout, r.Command()...)
	if err != nil {
		return "", err
	}
	return r.Missing(reply), nil
}
