package orchestrator

import (
	"context"
	"encoding/binary"
	"time"
)

// Timers are entries of indexTimers that follow from records: of executions by
// their deadline, of jobs by when they are to be looked at. So a restart finds
// them where they were, and one that has come late is simply due.

// fireTimers does what the timers are for that are due, a bounded number of them,
// and says whether there were any.
func (s *Service) fireTimers(ctx context.Context) (fired bool, err error) {
	_, err = s.commit(ctx, func(t *txn) error {
		fired = false
		due, err := t.dueTimers()
		if err != nil {
			return err
		}
		fired = len(due) > 0
		for _, x := range due {
			if err := t.fire(x); err != nil {
				return err
			}
		}
		return nil
	})
	return fired, err
}

// timer is one that is due.
type timer struct {
	kind byte
	id   string
}

func timerOf(key []byte) (time.Time, timer) {
	at := time.Unix(0, int64(binary.BigEndian.Uint64(key)))
	return at.UTC(), timer{key[8], string(key[9:])}
}

func (t *txn) dueTimers() (due []timer, err error) {
	err = t.Scan(indexTimers, nil, nil, func(k, _ []byte) bool {
		at, x := timerOf(k)
		if at.After(t.now) {
			return false
		}
		due = append(due, x)
		return len(due) < t.batch
	})
	return due, err
}

func (t *txn) fire(x timer) error {
	if x.kind == timerJob {
		p, err := t.job(x.id)
		if err != nil {
			return err
		}
		t.progress[x.id].moved = true
		return t.bump(p)
	}
	e, err := find[executionRecord](t, x.id)
	if err != nil || e == nil || e.DueAt.IsZero() || e.DueAt.After(t.now) {
		return err // another timer of this round has moved it
	}
	dev, err := find[Device](t, e.Device)
	if err != nil {
		return err
	}
	return t.step(e.Device, dev, Due{x.id})
}

// nextTimer is when the next timer is due, zero if there is none.
func (s *Service) nextTimer(ctx context.Context) (next time.Time, err error) {
	err = s.store.View(ctx, func(r Reader) error {
		next = time.Time{}
		return r.Scan(indexTimers, nil, nil, func(k, _ []byte) bool {
			next, _ = timerOf(k)
			return false
		})
	})
	s.nextWake.Store(next.UnixNano())
	return next, err
}

// timerSet wakes the loop if a timer was set that is due before all others.
func (s *Service) timerSet(at time.Time) {
	if at.IsZero() {
		return
	}
	if next := s.nextWake.Load(); next <= 0 || at.UnixNano() < next {
		s.kickJobs()
	}
}
