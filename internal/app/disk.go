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

// probeEvery is how often a disk that takes nothing is tried again.
const probeEvery = time.Second

// disk watches whether records can be written. While they cannot, the service stays up:
// it answers what it can read, refuses what it would have to write, and goes on by itself
// when they can. It is safe for concurrent use.
type disk struct {
	dir     string
	log     *slog.Logger
	metrics *diskMetrics

	mu      sync.Mutex
	refused error // why the disk took nothing of the last commit; nil if it did
}

// committed notes how a commit went.
func (d *disk) committed(err error) {
	full, unwritable := errors.Is(err, orchestrator.ErrNoSpace), errors.Is(err, orchestrator.ErrUnwritable)
	if err != nil && !full && !unwritable {
		return // something else is wrong, which says nothing of the disk
	}
	d.mu.Lock()
	was := d.refused
	d.refused = err
	d.mu.Unlock()
	d.metrics.setFull(full)
	switch {
	case unwritable && !errors.Is(was, orchestrator.ErrUnwritable):
		d.log.Error("the disk cannot be written: nothing can be recorded; the service stays up and tries again by itself", "event", logevent.StoreUnwritable, "path", d.dir, "error", err)
	case full && !errors.Is(was, orchestrator.ErrNoSpace):
		d.log.Error("the disk is full: nothing can be recorded until there is room; the service stays up and tries again by itself", "event", logevent.StoreFull, "path", d.dir, "bytes", d.free(), "error", err)
	case err == nil && was != nil:
		d.log.Info("the disk takes records again", "event", logevent.StoreWrites, "path", d.dir, "bytes", d.free())
	}
}

func (d *disk) free() int64 {
	free, _, err := durable.Room(d.dir)
	if err != nil {
		return -1 // it is told in a log only
	}
	return free
}

// refusal is why the disk took nothing of the last commit; nil if it did.
func (d *disk) refusal() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.refused
}

// healthy is nil while the disk takes records.
func (d *disk) healthy(context.Context) error {
	switch err := d.refusal(); {
	case err == nil:
		return nil
	case errors.Is(err, orchestrator.ErrUnwritable):
		return fmt.Errorf("nothing can be recorded: %w", err)
	}
	return fmt.Errorf("the disk of %s is full (%d bytes are free): nothing can be recorded", d.dir, d.free())
}

// recorded is the condition for being ready: records are written, and where they will be found again.
func (s *Server) recorded(ctx context.Context) error {
	return errors.Join(s.disk.healthy(ctx), s.storage.store.InPlace())
}

// run tries to commit something while the disk takes nothing, until ctx ends: devices may be
// waiting for an answer before they say anything more.
func (d *disk) run(ctx context.Context, probe func(context.Context) error) error {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if d.refusal() != nil {
				_ = probe(ctx) // its commit is noted like any
			}
		}
	}
}
