package orchestrator

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	publishTimeout = 10 * time.Second
	firstBackoff   = 100 * time.Millisecond
	lastBackoff    = 5 * time.Second
)

// outbox holds the devices whose offer topic has to be brought up to date with
// the store. What to publish is read when a worker takes the device, so marks
// of one device melt into one, nothing old overtakes something new, and after a
// crash the marks are found again from tableOffers.
type outbox struct {
	mu    sync.Mutex
	queue []string
	state map[string]markState
	wake  chan struct{} // capacity 1: the queue is not empty
}

type markState byte

const (
	markQueued markState = iota + 1
	markBusy             // a worker has it
	markAgain            // a worker has it and it was marked since
)

func newOutbox() *outbox {
	return &outbox{state: map[string]markState{}, wake: make(chan struct{}, 1)}
}

func (o *outbox) mark(device string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch o.state[device] {
	case 0:
		o.state[device] = markQueued
		o.queue = append(o.queue, device)
		o.signal()
	case markBusy:
		o.state[device] = markAgain
	}
}

func (o *outbox) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// take waits for a device; false when ctx ends.
func (o *outbox) take(ctx context.Context) (string, bool) {
	for {
		if device, ok := o.pop(); ok {
			return device, true
		}
		select {
		case <-o.wake:
		case <-ctx.Done():
			return "", false
		}
	}
}

func (o *outbox) pop() (string, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.queue) == 0 {
		return "", false
	}
	device := o.queue[0]
	o.queue = o.queue[1:]
	o.state[device] = markBusy
	if len(o.queue) > 0 {
		o.signal()
	}
	return device, true
}

// done gives a device back; it is queued again if it was marked since, or if
// again is set.
func (o *outbox) done(device string, again bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !again && o.state[device] == markBusy {
		delete(o.state, device)
		return
	}
	o.state[device] = markQueued
	o.queue = append(o.queue, device)
	o.signal()
}

// publishLoop brings marked devices up to date until ctx ends. After a failure
// it waits, longer each time, before it tries another.
func (s *Service) publishLoop(ctx context.Context) {
	backoff := firstBackoff
	for {
		device, ok := s.outbox.take(ctx)
		if !ok {
			return
		}
		err := s.publishOffer(ctx, device)
		s.outbox.done(device, err != nil)
		if err == nil {
			backoff = firstBackoff
			continue
		}
		if ctx.Err() != nil {
			return
		}
		s.metrics.publishFailed()
		if s.refused.Allow("publish") {
			s.log.Warn("offer not published; it is tried again", slog.String("device", device), slog.Any("error", err))
		}
		select {
		case <-time.After(backoff):
		case <-ctx.Done():
			return
		}
		backoff = min(2*backoff, lastBackoff)
	}
}

// publishOffer makes a device's offer topic say what the store says.
func (s *Service) publishOffer(ctx context.Context, device string) error {
	effects, dev, dt, jobs, err := s.wanted(ctx, device)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	for _, e := range effects {
		switch e := e.(type) {
		case Changed:
			// The rules of this program decide otherwise than those of the one
			// that wrote the state. What they decide is kept first; that marks
			// the device again.
			return s.happen(ctx, device, Resync{})
		case Offer:
			if err := s.publisher.Offer(ctx, device, offerOf(&e.Execution, dev, dt, jobs[e.Execution.Job])); err != nil {
				return err
			}
			s.metrics.offered()
		case Withdraw:
			clear := s.publisher.Withdraw
			if dev == nil {
				clear = s.publisher.Forget
			}
			if err := clear(ctx, device); err != nil {
				return err
			}
			s.metrics.withdrawn()
			if err := s.withdrawn(ctx, device, dev != nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// wanted reads what a device's offer topic should say.
func (s *Service) wanted(ctx context.Context, device string) (effects []Effect, dev *Device, dt *DeviceType, jobs map[string]*JobView, err error) {
	err = s.store.View(ctx, func(r Reader) (err error) {
		if dev, err = find[Device](r, device); err != nil {
			return err
		}
		if dev != nil {
			if dt, err = need[DeviceType](r, "device type", dev.Type); err != nil {
				return err
			}
		}
		st, _, err := load(r, device, dev)
		if err != nil {
			return err
		}
		// What stands is asked for, not what may be offered now: that is for
		// whoever notes it.
		if err := st.see(func(job string) (*JobView, error) { return s.standing(r, job) }); err != nil {
			return err
		}
		jobs = st.Jobs
		_, effects = Step(st, Resync{}, s.now())
		return nil
	})
	return effects, dev, dt, jobs, err
}

// standing is what the rules know of a job that offers nothing new.
func (s *Service) standing(r Reader, job string) (*JobView, error) {
	p, err := need[progressRecord](r, "progress of job", job)
	if err != nil {
		return nil, err
	}
	pl, err := s.plans.of(r, job)
	if err != nil {
		return nil, err
	}
	v := p.view(pl, unlimited, s.now())
	v.Full = true
	return v, nil
}

// happen applies an event to a device's aggregate.
func (s *Service) happen(ctx context.Context, device string, ev Event) error {
	_, err := s.commit(ctx, func(t *txn) error {
		dev, err := find[Device](t, device)
		if err != nil {
			return err
		}
		return t.step(device, dev, ev)
	})
	return err
}

// withdrawn notes that the offer topic was cleared. If the device was deleted
// meanwhile, there is more to clear than its offer, and the note of that stays.
func (s *Service) withdrawn(ctx context.Context, device string, existed bool) error {
	_, err := s.commit(ctx, func(t *txn) error {
		dev, err := find[Device](t, device)
		if err != nil || existed && dev == nil {
			return err
		}
		return t.step(device, dev, Withdrawn{})
	})
	return err
}

// Republish marks every device whose offer topic may hold an offer, so that
// what stands is published again: for a broker that may have lost retained
// messages. O(devices with an offer).
func (s *Service) Republish(ctx context.Context) error {
	return s.store.View(ctx, func(r Reader) error {
		return r.Scan(tableOffers, nil, nil, func(_, device []byte) bool {
			s.outbox.mark(string(device))
			return true
		})
	})
}
