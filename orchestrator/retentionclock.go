package orchestrator

import (
	"context"
	"fmt"
	"sync"
	"time"

	"davit/internal/logevent"
)

// clockLeap is how far the clock may be ahead of what retention has seen of it, beside the time for which the
// process has run since. It is less than half of MinKeepJobs, so that what a leap of that size deletes too early is
// at least a day old all the same.
const clockLeap = 24 * time.Hour

// retentionClock says whether retention may believe the clock: what is deleted because of a clock that is years
// ahead is gone for ever, and what is kept for too long is not. The latest time that was believed is in the store.
type retentionClock struct {
	kept      func() bool // whether somebody vouches for the clock; nil for nobody
	confirmed time.Time   // an operator says that it was right then

	mu       sync.Mutex
	believed time.Time // the latest time that was
	at       time.Time // when that was, for the time that has passed since (monotonic)
	read     bool      // the store was asked
	noted    bool      // believed is in the store
	held     string    // why nothing is deleted, empty if nothing is wrong
}

// RetentionHeld says why nothing is deleted at present although Options.Retention says so; empty if that is not so.
func (s *Service) RetentionHeld() string {
	s.retentionClock.mu.Lock()
	defer s.retentionClock.mu.Unlock()
	return s.retentionClock.held
}

// believeClock says whether the clock may be believed, and notes that.
func (s *Service) believeClock(ctx context.Context) (bool, error) {
	c := &s.retentionClock
	c.mu.Lock()
	defer c.mu.Unlock()
	now := s.now()
	if err := s.readClock(ctx); err != nil {
		return false, err
	}
	base := lastRight(c.believed, c.confirmed, now)
	// A store of which no time is known has nothing to lose.
	good := base.IsZero() || !now.After(base.Add(time.Since(c.at)+clockLeap)) || c.kept != nil && c.kept()
	was := c.held
	s.metrics.holdRetention(!good)
	if !good {
		c.held = fmt.Sprintf("the clock says %s, which is %s ahead of %s, the last time that is known to be right, and no NTP client keeps it: nothing is deleted for its age until it is right, an NTP client keeps it, or --clock-confirmed says that it is",
			now.UTC().Format(time.RFC3339), now.Sub(base).Round(time.Hour), base.UTC().Format(time.RFC3339))
		s.log.Warn("nothing is deleted for its age: the clock has leapt ahead", "event", logevent.RetentionHeld, "reason", c.held)
		return false, nil
	}
	if now.After(c.believed) || !c.noted {
		if _, err := s.commit(ctx, func(t *txn) error {
			return writeNumber(t, metaRetentionClock, uint64(later(now, c.believed).UnixNano()))
		}); err != nil {
			return false, err
		}
		c.believed, c.at, c.noted = later(now, c.believed), time.Now(), true
	}
	if c.held = ""; was != "" {
		s.log.Info("the clock is believed again: what is kept no longer is deleted", "event", logevent.RetentionGoesOn)
	}
	return true, nil
}

// lastRight is the last time that is known to be right: what was believed, or what an operator says, unless that is
// still to come.
func lastRight(believed, confirmed, now time.Time) time.Time {
	if confirmed.After(now) {
		return believed
	}
	return later(believed, confirmed)
}

// noteClock reads what is believed before anything of this process is recorded.
func (s *Service) noteClock(ctx context.Context) error {
	if s.retention == (Retention{}) {
		return nil
	}
	s.retentionClock.mu.Lock()
	defer s.retentionClock.mu.Unlock()
	return s.readClock(ctx)
}

// readClock asks the store, once.
func (s *Service) readClock(ctx context.Context) error {
	c := &s.retentionClock
	if c.read {
		return nil
	}
	err := s.store.View(ctx, func(r Reader) (err error) {
		c.believed, c.noted, err = clockBefore(r)
		return err
	})
	c.read, c.at = err == nil, time.Now()
	return err
}

// clockBefore is the latest time that retention has believed; of a store from before that was noted, the time of the
// newest entry of the audit log.
func clockBefore(r Reader) (believed time.Time, noted bool, err error) {
	n, err := readNumber(r, metaRetentionClock)
	if err != nil || n > 0 {
		return time.Unix(0, int64(n)), true, err
	}
	last, err := readNumber(r, metaAudit)
	if err != nil || last == 0 {
		return time.Time{}, false, err
	}
	e, err := need[AuditEntry](r, "audit entry", string(revKey(^last)))
	if err != nil {
		return time.Time{}, false, err
	}
	return e.Time, false, nil
}
