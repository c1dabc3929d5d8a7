package orchestrator

import (
	"context"
	"sync"
	"time"
)

// withdrawals are devices whose offer topic was cleared, which is still to be noted
// in the store. A publisher leaves that to noteLoop, which notes all that have
// gathered in one transaction: otherwise no more updates could end with each commit
// than there are publishers. Meanwhile the outbox has the device as busy, so that
// nothing else is published on its topic.
type withdrawals struct {
	mu   sync.Mutex
	list []withdrawal
	wake chan struct{} // capacity 1: there is something in the list
}

// withdrawal is one of them. existed says that the device did when it was cleared.
type withdrawal struct {
	device  string
	existed bool
}

func newWithdrawals() *withdrawals { return &withdrawals{wake: make(chan struct{}, 1)} }

func (w *withdrawals) add(one withdrawal) {
	w.mu.Lock()
	w.list = append(w.list, one)
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// take waits until there are some; none when ctx ends.
func (w *withdrawals) take(ctx context.Context) []withdrawal {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.wake:
		}
		w.mu.Lock()
		list := w.list
		w.list = nil
		w.mu.Unlock()
		if len(list) > 0 {
			return list
		}
	}
}

// noteLoop notes withdrawals until ctx ends. Where that fails, the offer topic is
// cleared again after a wait.
func (s *Service) noteLoop(ctx context.Context) {
	backoff := firstBackoff
	for {
		list := s.cleared.take(ctx)
		if list == nil {
			return
		}
		failed := s.note(ctx, list)
		if len(failed) == 0 {
			backoff = firstBackoff
			continue
		}
		select {
		case <-time.After(backoff):
		case <-ctx.Done():
			return
		}
		backoff = min(2*backoff, lastBackoff)
		for _, device := range failed {
			s.outbox.done(device, true)
		}
	}
}

// note notes withdrawals, gives the devices back to the outbox and returns those
// for which it failed, which it does not give back.
func (s *Service) note(ctx context.Context, list []withdrawal) (failed []string) {
	for len(list) > 0 {
		n := min(len(list), maxTogether)
		parts := make([]*part, n)
		for i, w := range list[:n] {
			parts[i] = &part{run: w.note}
		}
		s.together.run(ctx, parts)
		for i, p := range parts {
			if p.err == nil {
				s.outbox.done(list[i].device, false)
				continue
			}
			failed = append(failed, list[i].device)
			s.notPublished(ctx, list[i].device, p.err)
		}
		list = list[n:]
	}
	return failed
}

// note notes that the offer topic was cleared. If the device was deleted
// meanwhile, there is more to clear than its offer, and the note of that stays.
func (w withdrawal) note(t *txn) error {
	dev, err := find[Device](t, w.device)
	if err != nil || w.existed && dev == nil {
		return err
	}
	return t.step(w.device, dev, Withdrawn{})
}
