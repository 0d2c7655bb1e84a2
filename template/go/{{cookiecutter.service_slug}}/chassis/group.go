package chassis

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
)

// gate is open or closed, and can be waited for.
type gate struct {
	mu     sync.Mutex
	open   bool
	opened chan struct{}
}

// set says whether that is new.
func (g *gate) set(open bool) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if open == g.open {
		return false
	}
	g.open = open
	if open && g.opened != nil {
		close(g.opened)
		g.opened = nil
	}
	return true
}

func (g *gate) isOpen() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.open
}

// wait until it is open, or ctx ends.
func (g *gate) wait(ctx context.Context) error {
	g.mu.Lock()
	if g.open {
		g.mu.Unlock()
		return nil
	}
	if g.opened == nil {
		g.opened = make(chan struct{})
	}
	opened := g.opened
	g.mu.Unlock()
	select {
	case <-opened:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// group is work that ends together.
type group struct {
	ctx    context.Context
	cancel context.CancelFunc
	wait   sync.WaitGroup
	failed func(err error, stack string)
}

func newGroup(ctx context.Context, failed func(error, string)) *group {
	ctx, cancel := context.WithCancel(ctx)
	return &group{ctx: ctx, cancel: cancel, failed: failed}
}

// run does work until it returns or the group ends. What fails before that, or panics, is told.
func (g *group) run(work func(context.Context) error) {
	g.wait.Go(func() {
		defer func() {
			if panicked := recover(); panicked != nil {
				g.failed(fmt.Errorf("panic: %v", panicked), string(debug.Stack()))
			}
		}()
		if err := work(g.ctx); err != nil && g.ctx.Err() == nil {
			g.failed(err, "")
		}
	})
}

// end stops the work, and waits for it until ctx ends.
func (g *group) end(ctx context.Context) {
	g.cancel()
	within(ctx, g.wait.Wait)
}

// within waits for do until ctx ends.
func within(ctx context.Context, do func()) {
	done := make(chan struct{})
	go func() { do(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
	}
}
