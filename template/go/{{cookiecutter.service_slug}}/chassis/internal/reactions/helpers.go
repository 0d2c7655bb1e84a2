package reactions

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"factfold/chassis/internal/redislog"
)

const (
	replyTimeout = 5 * time.Second
	leaving      = time.Second // that who goes has for telling the others
)

func logger() *slog.Logger { return slog.With("logger", "factfold.reactions") }

// errGone is of code that has left by runtime.Goexit: what it was to do must not count as done.
var errGone = errors.New("a handler has ended the goroutine that it was called in")

// working runs functions side by side; the first error ends the context of all.
type working struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup
}

func sideBySide(ctx context.Context) *working {
	ctx, cancel := context.WithCancelCause(ctx)
	return &working{ctx: ctx, cancel: cancel}
}

func (w *working) start(work func(context.Context) error) {
	w.wg.Go(func() {
		err := errGone
		defer func() {
			if err != nil {
				w.cancel(err)
			}
		}()
		err = work(w.ctx)
	})
}

// wait returns the first error once all have ended; that of the context, if it was ended from
// outside.
func (w *working) wait() error {
	w.wg.Wait()
	err := context.Cause(w.ctx)
	w.cancel(nil)
	return err
}

// end ends all of them, and waits until they have.
func (w *working) end() {
	w.cancel(nil)
	w.wg.Wait()
}

// lastWord is one more command of who goes, whose own context may have ended. Without it the others
// wait for as long as the lease.
func lastWord(
	ctx context.Context, redis *redislog.Redis, key string,
	say func(context.Context, *redislog.Link) error,
) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaving)
	defer cancel()
	link, err := redis.Link(ctx, key)
	if err == nil {
		defer link.Close()
		err = say(ctx, link)
	}
	if err != nil {
		logger().Debug("leaving: " + err.Error())
	}
}

func sleep(ctx context.Context, pause time.Duration) error {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

func ascending[K cmp.Ordered, V any](of map[K]V) []K { return slices.Sorted(maps.Keys(of)) }

// field is a part of a reply; empty if it is not there.
func field(reply []any, i int) string {
	if i < len(reply) {
		return redislog.Text(reply[i])
	}
	return ""
}

// eachPair is of a reply of names and values in turn.
func eachPair(reply any, do func(name, value string) error) error {
	for pair := range slices.Chunk(redislog.List(reply), 2) {
		if err := do(field(pair, 0), field(pair, 1)); err != nil {
			return err
		}
	}
	return nil
}
