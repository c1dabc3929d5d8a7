package orchestrator

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"davit/internal/clock"
	"davit/internal/logevent"
)

// setBack is by how much a clock has to be set back to be noticed.
const setBack = 5 * time.Second

// clockNoted is how often the store is told the time with what is written anyway, so that
// the next process knows of a clock that was set back meanwhile.
const clockNoted = time.Minute

// saw notes the time of an update, by which jobs may have been woken. A process
// that has not looked at its clock yet does so anyway.
func (s *Service) saw(now time.Time) {
	for at := now.UnixNano(); ; {
		last := s.clock.Load()
		if last == 0 || at <= last || s.clock.CompareAndSwap(last, at) {
			return
		}
	}
}

// lookAtClock looks at all active jobs anew when the clock was set back, or may
// have been while no process ran, so that none waits for a time that has moved away.
// If it was set back by more than executions are left as they are for, moveBack follows.
func (s *Service) lookAtClock(ctx context.Context) error {
	now := s.now()
	last := s.clock.Load()
	if last != 0 && now.UnixNano() >= last-int64(setBack) {
		s.clock.Store(now.UnixNano())
		return nil
	}
	var noted uint64
	_, err := s.commit(ctx, func(t *txn) error {
		var names []string
		var failed error
		if err := t.Scan(tableProgress, nil, nil, func(name, rec []byte) bool {
			var p progressRecord
			if failed = decode(rec, &p); failed == nil && p.active() {
				names = append(names, string(name))
			}
			return failed == nil
		}); err != nil || failed != nil {
			return errors.Join(err, failed)
		}
		for _, name := range names {
			if err := t.fire(timer{timerJob, name}); err != nil {
				return err
			}
		}
		var err error
		noted, err = readNumber(t, metaClock)
		return err
	})
	if err != nil {
		return err
	}
	s.clock.Store(now.UnixNano())
	if newest := time.Unix(0, max(int64(noted), last)); clock.ToCome(newest, now) {
		s.log.Warn("the clock was set back: the times of executions that lie ahead of it are moved back with it", "event", logevent.ClockSetBack, slog.Duration("by", newest.Sub(now)))
		s.movedTo = timerKey(now.Add(clock.Slack))
	}
	return nil
}

// moveLooks is how many executions moveBack may look at in one transaction for each that
// it may change.
const moveLooks = 16

// moveBack has the rules move the times of the next executions that lie ahead of the
// clock (machine.followClock), and says whether there are more. It goes through the timers
// that are still to come. What has none waits for nothing; the rules see to it with the
// next thing that happens to it. Only when all are done is the store told of the time that
// it is now, so that a process that ends before begins with the first one again.
func (s *Service) moveBack(ctx context.Context) (more bool, err error) {
	if s.movedTo == nil {
		return false, nil
	}
	var at []byte
	_, err = s.commit(ctx, func(t *txn) error {
		var err error
		if at, err = t.moveSome(s.movedTo); err != nil || at != nil {
			return err
		}
		t.noted = t.now.UnixNano()
		return writeNumber(t, metaClock, uint64(t.noted))
	})
	if err != nil {
		return false, err
	}
	s.movedTo = at
	return at != nil, nil
}

// moveSome does so with those whose timers come next, and returns the last of these; nil
// if there is none behind it.
func (t *txn) moveSome(after []byte) (at []byte, err error) {
	var keys [][]byte
	if err := t.Scan(indexTimers, nil, after, func(k, _ []byte) bool {
		keys = append(keys, k)
		return len(keys) < t.batch*moveLooks
	}); err != nil {
		return nil, err
	}
	moved := 0
	for _, key := range keys {
		if moved == t.batch {
			return at, nil
		}
		at = key
		_, x := timerOf(key)
		if x.kind != timerExecution {
			continue
		}
		e, err := find[executionRecord](t, x.id)
		if err != nil {
			return nil, err
		}
		if e == nil || !clock.ToCome(e.UpdatedAt, t.now) {
			continue // it was moved with another of its device
		}
		dev, err := find[Device](t, e.Device)
		if err != nil {
			return nil, err
		}
		if err := t.step(e.Device, dev, Due{x.id}); err != nil {
			return nil, err
		}
		moved++
	}
	if len(keys) < t.batch*moveLooks {
		return nil, nil
	}
	return at, nil
}

// flushClock notes the time in the store, if executions were written and it was not noted
// lately. It is never noted to be earlier but by moveBack.
func (t *txn) flushClock() error {
	now := t.now.UnixNano()
	if len(t.out.fetchers) == 0 || now < t.noted+int64(clockNoted) {
		return nil
	}
	if t.noted == 0 { // this process does not know yet
		noted, err := readNumber(t, metaClock)
		if err != nil {
			return err
		}
		if t.noted = int64(noted); now < t.noted+int64(clockNoted) {
			return nil
		}
	}
	t.noted = now
	return writeNumber(t, metaClock, uint64(now))
}
