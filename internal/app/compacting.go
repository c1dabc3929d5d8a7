package app

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"time"

	"davit/internal/durable"
	"davit/internal/logevent"
	"davit/orchestrator"
	"davit/orchestrator/boltstore"
	"davit/schemas"
)

const (
	// DefaultCompactFree is the share of the records' file, in percent, above which it is
	// compacted by itself.
	DefaultCompactFree = 50
	// compactLeast is how many free bytes it takes besides: less is soon used again.
	compactLeast = 64 << 20
	// compactQuiet is for how long nothing may have been rolled out before, looked at every
	// compactLook.
	compactQuiet = 10 * time.Minute
	compactLook  = 30 * time.Second
	// compactAgain is the least time from one compaction, or an attempt, to the next.
	compactAgain = time.Hour
)

// compacting has the records compacted at a quiet time when much of their file is free.
// It is one goroutine's.
type compacting struct {
	free  int   // percent; 0 never compacts
	spare int64 // bytes of the disk that are to be left free
	dir   string
	log   *slog.Logger

	sizes   func() (boltstore.Sizes, error)
	room    func(dir string) (free, all int64, err error)
	work    func(context.Context) (rollingOut, error)
	compact func(context.Context) (orchestrator.Compaction, error)

	last  rollingOut // what was seen last
	since time.Time  // since when that is so, and nothing was sent or reported
}

// rollingOut is what says whether a rollout moves.
type rollingOut struct {
	executions map[schemas.State]int // of all jobs
	moves      bool                  // something was sent or reported in the last seconds, or waits for that
}

// newCompacting makes the compacting of a Server.
func (s *Server) newCompacting(o ServerOptions, store *boltstore.Store) *compacting {
	return &compacting{
		free: o.CompactFree, spare: s.storage.minFree, dir: o.Data, log: s.log.With("part", "storage"),
		sizes: store.Sizes, room: durable.Room, work: s.rollingOut,
		compact: s.compactByItself,
	}
}

// compactByItself is a compaction that nobody has asked for. The audit log has it as what the system did.
func (s *Server) compactByItself(ctx context.Context) (orchestrator.Compaction, error) {
	got, err := s.storage.compact(ctx, true)
	if err == nil {
		err = s.service.Audit(ctx, "compact", orchestrator.KindStorage, "records", nil, got)
	}
	return got, err
}

// rollingOut costs the same for any fleet.
func (s *Server) rollingOut(ctx context.Context) (r rollingOut, err error) {
	f, err := s.service.Fleet(ctx)
	if err != nil {
		return r, err
	}
	a, err := s.service.Activity(ctx)
	q := a.Queues
	return rollingOut{f.Executions, a.Throughput.Chunks > 0 || a.Throughput.Reports > 0 || q.Offers+q.Reports+q.Chunks+q.Starved > 0}, err
}

// run compacts until ctx ends. What fails is said and tried again later: nothing depends on it.
func (c *compacting) run(ctx context.Context) error {
	if c.free <= 0 {
		return nil
	}
	for wait := compactLook; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		wait = compactLook
		if tried := c.look(ctx); tried {
			wait, c.since = compactAgain, time.Time{}
		}
	}
}

// look compacts if there is much to be given back and nothing else to do. tried says that
// it did, or could not.
func (c *compacting) look(ctx context.Context) (tried bool) {
	quiet, err := c.quiet(ctx)
	if err != nil {
		return c.failed(ctx, err)
	}
	z, err := c.sizes()
	if err != nil {
		return c.failed(ctx, err)
	}
	if !quiet || !c.much(z) {
		return false
	}
	need := z.File - z.Free + c.spare
	if free, _, err := c.room(c.dir); err != nil || free < need {
		if err == nil {
			err = fmt.Errorf("the new file and what is to be left free need %d bytes, and the disk has %d: make room, or %w", need, free, orchestrator.ErrNoSpace)
		}
		return c.failed(ctx, err)
	}
	got, err := c.compact(ctx)
	if err != nil {
		return c.failed(ctx, err)
	}
	c.log.Info("the records were compacted by themselves and gave room back to the disk", "event", logevent.StoreCompacted, "bytes", got.Before-got.After, "took", got.Took)
	return true
}

func (c *compacting) failed(ctx context.Context, err error) (tried bool) {
	if ctx.Err() == nil {
		c.log.Warn("the records could not be compacted by themselves; it is tried again in an hour, everything else goes on", "event", logevent.StoreNotCompacted, "path", c.dir, "error", err)
	}
	return true
}

// much says whether it is worth it.
func (c *compacting) much(z boltstore.Sizes) bool {
	return z.Free >= compactLeast && z.Free*100 > z.File*int64(c.free)
}

// quiet says whether nothing has been rolled out for a while. An execution that stands
// where it stood, because its device is away, is nothing that is rolled out.
func (c *compacting) quiet(ctx context.Context) (bool, error) {
	now, err := c.work(ctx)
	if err != nil {
		return false, err
	}
	if c.since.IsZero() || now.moves || !maps.Equal(now.executions, c.last.executions) {
		c.since = time.Now()
	}
	c.last = now
	return time.Since(c.since) >= compactQuiet, nil
}
