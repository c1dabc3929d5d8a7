package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"davit/internal/durable"
	"davit/internal/logevent"
	"davit/orchestrator"
)

// probeEvery is how often a full disk is tried again.
const probeEvery = time.Second

// disk watches whether records can be written. While they cannot, the service stays up:
// it answers what it can read, refuses what it would have to write, and goes on by itself
// when there is room. It is safe for concurrent use.
type disk struct {
	dir     string
	log     *slog.Logger
	metrics *diskMetrics

	mu   sync.Mutex
	full error // why the last commit failed, nil if it did not for want of room
}

// committed notes how a commit went.
func (d *disk) committed(err error) {
	full := errors.Is(err, orchestrator.ErrNoSpace)
	if err != nil && !full {
		return // something else is wrong, which says nothing of the room
	}
	d.mu.Lock()
	was := d.full != nil
	if d.full = nil; full {
		d.full = err
	}
	d.mu.Unlock()
	d.metrics.setFull(full)
	switch {
	case full && !was:
		d.log.Error("the disk is full: nothing can be recorded until there is room; the service stays up and tries again by itself", "event", logevent.StoreFull, "path", d.dir, "bytes", d.free(), "error", err)
	case !full && was:
		d.log.Info("the disk has room again: records are written", "event", logevent.StoreWrites, "path", d.dir, "bytes", d.free())
	}
}

func (d *disk) free() int64 {
	free, _, err := durable.Room(d.dir)
	if err != nil {
		return -1 // it is told in a log only
	}
	return free
}

// isFull says whether the last commit found no room.
func (d *disk) isFull() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.full != nil
}

// healthy is the condition for being ready.
func (d *disk) healthy(context.Context) error {
	if !d.isFull() {
		return nil
	}
	return fmt.Errorf("the disk of %s is full (%d bytes are free): nothing can be recorded", d.dir, d.free())
}

// run tries to commit something while the disk is full, until ctx ends: devices may be
// waiting for an answer before they say anything more.
func (d *disk) run(ctx context.Context, probe func(context.Context) error) error {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if d.isFull() {
				_ = probe(ctx) // its commit is noted like any
			}
		}
	}
}
