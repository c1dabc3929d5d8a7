package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"davit/internal/logevent"
)

// Run recovers what an earlier process left and then publishes offers and
// sends chunks until ctx ends; it returns nil then. It may be called once.
//
// Recovery: every device is offline until its presence says otherwise (of a large fleet
// most are set offline after Ready, unheard.go); blobs
// without an image are removed; images of a store that is older than the numbers
// of versions get them; started or canceled jobs are finished; every offer topic
// in use is published again. The cost is O(online devices + blobs + images + open
// offers) of reading.
func (s *Service) Run(ctx context.Context) error {
	if s.running.Swap(true) {
		return errors.New("orchestrator: Run was called twice")
	}
	if err := s.recover(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("recover: %w", err)
	}
	g, ctx := errgroup.WithContext(ctx)
	for range s.publishers {
		g.Go(func() error { s.publishLoop(ctx); return nil })
	}
	g.Go(func() error { s.noteLoop(ctx); return nil })
	g.Go(func() error { s.jobLoop(ctx); return nil })
	g.Go(func() error { s.uploadLoop(ctx); return nil })
	g.Go(func() error { s.unheardLoop(ctx); return nil })
	g.Go(func() error { s.retentionLoop(ctx); return nil })
	g.Go(func() error { return s.streamer.run(ctx) })
	close(s.ready)
	return g.Wait()
}

func (s *Service) recover(ctx context.Context) error {
	if err := s.noteClock(ctx); err != nil {
		return err
	}
	if err := s.allOffline(ctx); err != nil {
		return err
	}
	if err := s.sweepBlobs(ctx); err != nil {
		return err
	}
	if err := s.numberImages(ctx); err != nil {
		return err
	}
	if err := s.unstarve(ctx); err != nil {
		return err
	}
	return s.Republish(ctx)
}

// unstarve looks at the jobs that waited for a place of the service's limit, which
// may be another one now, or none.
func (s *Service) unstarve(ctx context.Context) error {
	_, err := s.commit(ctx, func(t *txn) error {
		jobs, err := t.starved()
		for _, p := range jobs {
			err = errors.Join(err, t.bump(p))
		}
		return err
	})
	return err
}

// jobLoop does what is due of jobs: the work that a caller, or an earlier process,
// left in the middle, and what timers are for.
func (s *Service) jobLoop(ctx context.Context) {
	timer := time.NewTimer(0) // at once: what an earlier process left
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.jobKick:
		case <-timer.C:
		}
		next, err := s.Advance(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			s.log.Warn("something that was asked of jobs is not done on all of their devices yet; it is tried again", "event", logevent.JobTaskDelayed, slog.Any("error", err))
			timer.Reset(lastBackoff)
		case next.IsZero():
			timer.Stop()
		default:
			// Not longer than that, so that a clock that is set is noticed.
			timer.Reset(min(next.Sub(s.now()), time.Minute))
		}
	}
}

// Advance does everything of jobs that is due at this moment, timers and work that
// was left, and returns when the next timer is due, the zero time if there is none.
// Run calls it by itself; only who has a clock of his own does so as well. An error
// means that something is left to do.
func (s *Service) Advance(ctx context.Context) (next time.Time, err error) {
	s.advancing.Begin()
	defer s.advancing.End()
	if err := s.lookAtClock(ctx); err != nil {
		return time.Time{}, err
	}
	for {
		s.advancing.Begin() // each round is a piece of work of a bounded size
		fired, err := s.fireTimers(ctx)
		if err != nil {
			return time.Time{}, err
		}
		worked, err := s.workRound(ctx)
		if err != nil {
			return time.Time{}, err
		}
		moved, err := s.moveBack(ctx)
		if err != nil {
			return time.Time{}, err
		}
		shared, err := s.share(ctx)
		if err != nil {
			return time.Time{}, err
		}
		if fired || worked || moved || shared {
			continue
		}
		next, err := s.nextTimer(ctx)
		if err != nil || next.IsZero() || next.After(s.now()) {
			return next, err
		}
	}
}

// Advancing is for how long the present round of the rollout loop has been under way, 0 if it
// waits for something to be due. A round makes a bounded number of transactions.
func (s *Service) Advancing() time.Duration { return s.advancing.Busy() }

// workRound does some parts of the work of each job in turn, so that a large job
// does not hold up the others, and says whether there was any.
func (s *Service) workRound(ctx context.Context) (more bool, err error) {
	var names []string
	if err := s.store.View(ctx, func(r Reader) error {
		names = nil
		return r.Scan(indexJobWork, nil, nil, func(_, name []byte) bool {
			names = append(names, string(name))
			return true
		})
	}); err != nil {
		return false, err
	}
	var failed error
	for _, name := range names {
		if _, err := s.work(ctx, name, promptParts); err != nil {
			failed = errors.Join(failed, fmt.Errorf("job %q: %w", name, err))
		} else {
			more = true // what is left, and what it has led to, is for the next round
		}
	}
	if more {
		return true, nil // what failed is met again
	}
	return false, failed
}
