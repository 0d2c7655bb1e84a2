package views

import (
	"context"
	"fmt"
	"sync"
	"time"

	"factfold/chassis/internal/redislog"
	"factfold/chassis/internal/wire"
)

const (
	cursorPause   = 2 * time.Second  // between two looks at what has changed
	cursorRefresh = 30 * time.Second // after which a cursor is written again, changed or not
)

// cursors say in the log where one view of one instance is, for who looks or trims.
type cursors struct {
	redis    *redislog.Redis
	view     string
	reader   string // service.view
	instance string
	lasting  bool // it comes back under the same name
	// again is from where a partition would be read again at the worst.
	again func(place placeKey, present mark) wire.ID

	mu      sync.Mutex
	written map[placeKey]cursor
	left    bool
	lost    bool // and said to be
}

type cursor struct {
	again, present wire.ID
	at             time.Time
}

// follow writes each that has changed, and each now and then, until ctx ends.
func (c *cursors) follow(ctx context.Context, present func() positions) {
	tick := time.NewTicker(cursorPause)
	defer tick.Stop()
	var links *redislog.Links
	defer func() {
		if links != nil {
			links.Close()
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if links == nil {
			links = c.redis.Links()
		}
		if err := c.send(ctx, links, c.marks(c.due(present()))); err != nil {
			c.say(ctx, err)
			links.Close()
			links = nil
		}
	}
}

// mark writes these, now.
func (c *cursors) mark(ctx context.Context, at positions) { c.tell(ctx, c.marks(at)) }

// leave writes the cursors of an instance that comes back for the last time, and removes those of
// another one.
func (c *cursors) leave(ctx context.Context, at positions) {
	if c.lasting {
		c.mark(ctx, at)
		return
	}
	c.mu.Lock()
	c.left = true
	c.mu.Unlock()
	var commands [][]any
	for place := range at {
		commands = append(commands, []any{"HDEL", c.key(place), c.instance})
	}
	c.tell(ctx, commands)
}

// due are those that the log does not have as they are, or has had for long.
func (c *cursors) due(present positions) positions {
	c.mu.Lock()
	defer c.mu.Unlock()
	due := positions{}
	for place, at := range present {
		last, ok := c.written[place]
		same := ok && last.again == c.again(place, at) && last.present == at.anchor.ID
		if !same || time.Since(last.at) >= cursorRefresh {
			due[place] = at
		}
	}
	return due
}

func (c *cursors) marks(at positions) [][]any {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left {
		return nil
	}
	now := time.Now()
	var commands [][]any
	for place, at := range at {
		again, present := c.again(place, at), at.anchor.ID
		c.written[place] = cursor{again, present, now}
		value := fmt.Sprintf("%s %d %s", again, now.UnixMilli(), present)
		commands = append(commands, []any{"HSET", c.key(place), "_", "1", c.instance, value})
	}
	return commands
}

func (c *cursors) tell(ctx context.Context, commands [][]any) {
	if len(commands) == 0 {
		return
	}
	links := c.redis.Links()
	defer links.Close()
	if err := c.send(ctx, links, commands); err != nil {
		c.say(ctx, err)
	}
}

func (c *cursors) send(ctx context.Context, links *redislog.Links, commands [][]any) error {
	byLink := map[*redislog.Link][][]any{}
	for _, command := range commands {
		link, err := links.To(ctx, command[1].(string))
		if err != nil {
			return err
		}
		byLink[link] = append(byLink[link], command)
	}
	for link, its := range byLink {
		replies, err := link.Pipe(ctx, replyTimeout, its...)
		if err != nil {
			return err
		}
		for _, reply := range replies {
			if failed, ok := reply.(error); ok {
				return failed
			}
		}
		c.mu.Lock()
		c.lost = false
		c.mu.Unlock()
	}
	return nil
}

func (c *cursors) say(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.written)
	if !c.lost {
		logger().Warn(fmt.Sprintf("the cursors of view %s were not written: %v", c.view, err))
	}
	c.lost = true
}

func (c *cursors) key(place placeKey) string {
	return wire.KeysOf(place.stream, place.partition).Cursors(c.reader)
}
