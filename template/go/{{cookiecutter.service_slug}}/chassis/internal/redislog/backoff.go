package redislog

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/redis/go-redis/v9"
)

// Backoff makes pauses that grow from 50 ms to 1 s, with jitter. Its zero value is ready.
type Backoff struct {
	OnLoss  func(reason string, attempt int) // told before each pause; attempts count from 1
	attempt int
}

// Reset says that something worked: the next pause is short again.
func (b *Backoff) Reset() { b.attempt = 0 }

// Pause waits; its error is that of ctx.
func (b *Backoff) Pause(ctx context.Context, err error) error {
	b.attempt++
	if b.OnLoss != nil {
		b.OnLoss(err.Error(), b.attempt)
	}
	longest := min(time.Second, 50*time.Millisecond<<min(b.attempt-1, 6))
	return sleep(ctx, time.Duration(float64(longest)*(0.5+rand.Float64()/2)))
}

func sleep(ctx context.Context, pause time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(pause):
		return nil
	}
}

// Persist runs work until it succeeds, again after each lost link and each error that Redis
// answers. Pauses are short again after a link that lasted: not if none was made, however long that
// took.
func Persist(ctx context.Context, onLoss func(reason string, attempt int), work func(context.Context) error) error {
	backoff := Backoff{OnLoss: onLoss}
	for {
		began := time.Now()
		err := work(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !Passing(err) {
			return err
		}
		lost := (*LinkLost)(nil)
		linked := !errors.As(err, &lost) || !lost.NoLink
		if linked && time.Since(began) > time.Second {
			backoff.Reset()
		}
		if err := backoff.Pause(ctx, err); err != nil {
			return err
		}
	}
}

// Passing tells whether an error may be gone on another connection: a lost link, or an error that
// Redis has answered.
func Passing(err error) bool {
	answer := redis.Error(nil)
	return errors.Is(err, ErrLost) || errors.As(err, &answer)
}
