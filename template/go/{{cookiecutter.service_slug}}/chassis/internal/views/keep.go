package views

import (
	"context"
	"fmt"
	"sync"
	"time"

	"factfold/chassis/internal/redislog"
	"factfold/chassis/internal/wire"
)

const replyTimeout = 5 * time.Second

// keeper keeps of one view what outlives the process: its snapshots on disk, and its cursors in the
// log.
type keeper struct {
	home    *Home
	view    *View
	files   *files // nil: no snapshots are kept
	cursors *cursors

	disk  sync.Mutex // who has it writes or sets aside
	mu    sync.Mutex
	saved positions // of the newest snapshot
	again positions // where the view reads on at the worst
}

func newKeeper(home *Home, redis *redislog.Redis, view *View, fingerprint func() ([]byte, error)) *keeper {
	k := &keeper{home: home, view: view}
	k.cursors = &cursors{
		redis: redis, view: view.Name, reader: home.service + "." + view.Name,
		instance: home.instance, lasting: home.lasting, again: k.from,
		written: map[placeKey]cursor{},
	}
	if home.folder != "" {
		if hash, err := fingerprint(); err != nil {
			home.alarm(fmt.Sprintf("view %s keeps no snapshots: %v", view.Name, err))
		} else {
			k.files = newFiles(home.folder, home.service, view, hash)
		}
	}
	return k
}

// restore is the newest snapshot that can be used, and the tables that it makes; nil if none can.
func (k *keeper) restore(ctx context.Context) (*snapshot, *tables) {
	if k.files == nil {
		return nil, nil
	}
	var found *snapshot
	var its *tables
	var err error
	if failed := try(func() { found, its, err = k.load(ctx) }); failed != nil {
		err = failed
	}
	if err != nil && ctx.Err() == nil {
		logger().Error(fmt.Sprintf("view %s cannot use its snapshots: rebuilding", k.view.Name),
			"exception", stackOf(err))
	}
	if found == nil || err != nil {
		return nil, nil
	}
	k.mu.Lock()
	k.saved = found.positions
	k.mu.Unlock()
	return found, its
}

func (k *keeper) load(ctx context.Context) (*snapshot, *tables, error) {
	if k.home.first {
		again, err := k.files.tidy(ctx)
		if err != nil {
			return nil, nil, err
		}
		k.mu.Lock()
		k.again = again
		k.mu.Unlock()
	}
	found, err := k.files.load(ctx)
	if found == nil || err != nil {
		return nil, nil, err
	}
	its := newTables(k.view)
	for table, rows := range found.rows {
		its.of[table].tree = *rows
	}
	failures, err := its.derive(ctx.Err)
	if err != nil {
		return nil, nil, err
	}
	if len(failures) > 0 {
		logger().Error(fmt.Sprintf("view %s: %d rows cannot be derived from, the first one:",
			k.view.Name, len(failures)), "exception", stackOf(failures[0]))
	}
	logger().Info(fmt.Sprintf("view %s begins with a snapshot of %d rows", k.view.Name, found.size()))
	if found.failures > 0 {
		logger().Warn(fmt.Sprintf("view %s: %d facts before its snapshot could not be folded: to try "+
			"them again, remove its files in %s and restart", k.view.Name, found.failures, k.home.folder))
	}
	return found, its, nil
}

// save writes what cut(positions of the last one) returns. A failure is an alarm, no more.
//
// twice: also if nothing has changed, until both snapshots that are kept are of that. Or else the
// log has to keep what came between the two for as long as nothing comes.
func (k *keeper) save(ctx context.Context, cut func(saved positions) *snapshot, twice bool) {
	if k.files == nil || !k.home.first {
		return
	}
	k.disk.Lock()
	defer k.disk.Unlock()
	k.mu.Lock()
	last := k.saved
	if twice && !k.again.same(last) {
		last = nil
	}
	k.mu.Unlock()
	snapshot := cut(last)
	if snapshot == nil {
		return
	}
	err := k.files.write(ctx, snapshot)
	var again positions
	if err == nil {
		again, err = k.files.tidy(ctx)
	}
	if err != nil {
		if ctx.Err() == nil {
			k.home.alarm(fmt.Sprintf("no snapshot of view %s written: %v", k.view.Name, err))
		}
		return
	}
	k.mu.Lock()
	k.again, k.saved = again, snapshot.positions
	k.mu.Unlock()
}

// setAside takes away the snapshots of a log that is no more. Nobody need wait for the disk.
func (k *keeper) setAside() {
	if k.files == nil || !k.home.first {
		return
	}
	k.mu.Lock()
	k.saved, k.again = nil, nil
	k.mu.Unlock()
	go func() {
		k.disk.Lock() // behind one that is being written
		defer k.disk.Unlock()
		k.mu.Lock()
		k.saved, k.again = nil, nil
		k.mu.Unlock()
		if err := k.files.setAside(); err != nil {
			k.home.alarm(fmt.Sprintf("the snapshots of view %s were not set aside: %v", k.view.Name, err))
		}
	}()
}

// knows is what a snapshot says about the stream, as one clause; empty if none has read it.
func (k *keeper) knows(ctx context.Context, stream string) string {
	if k.files == nil {
		return ""
	}
	if name := k.files.knows(ctx, stream); name != "" {
		return name + " is a snapshot of it"
	}
	return ""
}

// from is what a cursor says first: from where the view reads again at the worst.
func (k *keeper) from(place placeKey, present mark) wire.ID {
	if k.home.folder != "" && !k.home.first {
		return present.anchor.ID // where it begins again is kept by the first one
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if at, ok := k.again[place]; ok && at.epoch == present.epoch {
		return at.anchor.ID
	}
	return wire.ID{}
}
