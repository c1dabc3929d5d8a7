package orchestrator

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"davit/internal/logevent"
	"davit/internal/trace"
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
//
// What stands already and is only to be said again, to devices that come back or a
// broker that may have lost it, comes after what is new, in no order, and at a
// limited rate: so a fleet that reconnects at once does not begin its downloads at
// once.
type outbox struct {
	mu    sync.Mutex
	queue []string
	again []string // devices in state markRepeat, and some that are not any more
	state map[string]markState
	// heard is when devices that are marked said hello, if that is why.
	heard map[string]time.Time
	wake  chan struct{} // capacity 1: something is queued
	pace  *rate.Limiter // of what is only repeated
}

type markState byte

const (
	markQueued markState = iota + 1
	markBusy             // a worker has it
	markAgain            // a worker has it and it was marked since
	markRepeat           // it waits among those whose offer is only repeated
)

// repeatBurst is how much of a second's repetitions goes out at once.
const repeatBurst = 4

func newOutbox(repeats int) *outbox {
	return &outbox{
		state: map[string]markState{}, heard: map[string]time.Time{}, wake: make(chan struct{}, 1),
		pace: rate.NewLimiter(rate.Limit(repeats), max(1, repeats/repeatBurst)),
	}
}

// mark has a device's offer topic brought up to date at once.
func (o *outbox) mark(device string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch o.state[device] {
	case 0, markRepeat:
		o.state[device] = markQueued
		o.queue = append(o.queue, device)
		o.signal()
	case markBusy:
		o.state[device] = markAgain
	}
}

// markRepeat has what stands on a device's offer topic said again.
func (o *outbox) markRepeat(device string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch o.state[device] {
	case 0:
		o.state[device] = markRepeat
		o.again = append(o.again, device)
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

// take waits for a device, and says whether its offer is only repeated; ok is
// false when ctx ends.
func (o *outbox) take(ctx context.Context) (device string, repeated, ok bool) {
	for {
		device, repeated, wait := o.pop(time.Now())
		if device != "" {
			return device, repeated, true
		}
		if !o.rest(ctx, wait) {
			return "", false, false
		}
	}
}

// rest waits for a mark, or for the time after which one more may be repeated.
func (o *outbox) rest(ctx context.Context, wait time.Duration) bool {
	var due <-chan time.Time
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-o.wake:
	case <-due:
	case <-ctx.Done():
		return false
	}
	return true
}

// pop takes a device if there is one that may be published now. Otherwise wait is
// how long none may be, 0 if none is queued.
func (o *outbox) pop(now time.Time) (device string, repeated bool, wait time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.queue) > 0 {
		device, o.queue = o.queue[0], o.queue[1:]
	} else if device, wait = o.popRepeat(now); device != "" {
		repeated = true
	}
	if device == "" {
		return "", false, wait
	}
	o.state[device] = markBusy
	if len(o.queue)+len(o.again) > 0 {
		o.signal()
	}
	return device, repeated, 0
}

// popRepeat takes any of the devices whose offer is only repeated.
func (o *outbox) popRepeat(now time.Time) (device string, wait time.Duration) {
	for len(o.again) > 0 {
		i, last := rand.IntN(len(o.again)), len(o.again)-1
		device := o.again[i]
		if o.state[device] == markRepeat {
			r := o.pace.ReserveN(now, 1)
			if wait := r.DelayFrom(now); wait > 0 {
				r.CancelAt(now)
				return "", wait
			}
		}
		o.again[i] = o.again[last]
		o.again = o.again[:last]
		if o.state[device] == markRepeat {
			return device, 0
		}
	}
	return "", 0
}

// done gives a device back; it is queued again if it was marked since, or if
// again is set.
func (o *outbox) done(device string, again bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !again && o.state[device] == markBusy {
		delete(o.state, device)
		delete(o.heard, device)
		return
	}
	o.state[device] = markQueued
	o.queue = append(o.queue, device)
	o.signal()
}

// hello notes that a device says hello, before that may mark it; unheard that it is over
// and has not, so that no offer comes of it.
func (o *outbox) hello(device string, now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.heard[device] = now
}

func (o *outbox) unheard(device string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.state[device] == 0 {
		delete(o.heard, device)
	}
}

// offered is when the device said hello whose offer is published now, zero if it was
// published for another reason.
func (o *outbox) offered(device string) time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	since := o.heard[device]
	delete(o.heard, device)
	return since
}

// waiting is how many devices wait for something new to be published, and how many for
// what stands to be said again. The latter may count some that do not wait any more.
func (o *outbox) waiting() (queued, repeats int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.queue), len(o.again)
}

// publishLoop brings marked devices up to date until ctx ends. After a failure
// it waits, longer each time, before it tries another.
func (s *Service) publishLoop(ctx context.Context) {
	backoff := firstBackoff
	for {
		device, repeated, ok := s.outbox.take(ctx)
		if !ok {
			return
		}
		cleared, err := s.publishOffer(ctx, device)
		if repeated && err == nil {
			s.metrics.reoffered()
		}
		if cleared != nil {
			s.cleared.add(*cleared)
		} else {
			s.outbox.done(device, err != nil)
		}
		if err == nil {
			backoff = firstBackoff
			continue
		}
		s.notPublished(ctx, device, err)
		select {
		case <-time.After(backoff):
		case <-ctx.Done():
			return
		}
		backoff = min(2*backoff, lastBackoff)
	}
}

// notPublished logs and counts a failure, unless everything ends.
func (s *Service) notPublished(ctx context.Context, device string, err error) {
	if ctx.Err() != nil {
		return
	}
	s.metrics.publishFailed()
	if s.refused.Allow("publish") {
		s.log.Warn("offer not published; it is tried again", "event", logevent.OfferNotPublished, slog.String("device", device), slog.Any("error", err))
	}
}

// publishOffer makes a device's offer topic say what the store says. A withdrawal
// that it returns is still to be noted.
func (s *Service) publishOffer(ctx context.Context, device string) (*withdrawal, error) {
	w, err := s.wanted(ctx, device)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	for _, e := range w.effects {
		switch e := e.(type) {
		case Changed:
			// The rules of this program decide otherwise than those of the one
			// that wrote the state. What they decide is kept first; that marks
			// the device again.
			return nil, s.happen(ctx, device, Resync{})
		case Offer:
			o := offerOf(&e.Execution, w.dev, w.dt, w.jobs[e.Execution.Job], w.signed)
			o.Stream = o.Stream && s.streamer.multicaster != nil
			if c := s.offeredIn(&e.Execution, w.jobs[e.Execution.Job]); c.Valid() {
				ctx = trace.Carry(ctx, c)
			}
			if err := s.publisher.Offer(ctx, device, o); err != nil {
				return nil, err
			}
			s.metrics.offered()
			s.metrics.offeredAfterHello(s.outbox.offered(device))
		case Withdraw:
			clear := s.publisher.Withdraw
			if w.dev == nil {
				clear = s.publisher.Forget
			}
			if err := clear(ctx, device); err != nil {
				return nil, err
			}
			s.metrics.withdrawn()
			return &withdrawal{device, w.dev != nil}, nil
		}
	}
	return nil, nil
}

// wanted is what a device's offer topic should say, and what that is said with.
type wanted struct {
	effects []Effect
	dev     *Device
	dt      *DeviceType
	jobs    map[string]*JobView
	signed  *ImageManifest // of the image that is offered
}

// wanted reads what a device's offer topic should say.
func (s *Service) wanted(ctx context.Context, device string) (w wanted, err error) {
	err = s.store.View(ctx, func(r Reader) (err error) {
		w = wanted{}
		if w.dev, err = find[Device](r, device); err != nil {
			return err
		}
		if w.dev != nil {
			if w.dt, err = need[DeviceType](r, "device type", w.dev.Type); err != nil {
				return err
			}
		}
		st, _, err := load(r, device, w.dev)
		if err != nil {
			return err
		}
		// What stands is asked for, not what may be offered now: that is for
		// whoever notes it.
		if err := st.see(func(job string) (*JobView, error) { return s.standing(r, job) }); err != nil {
			return err
		}
		w.jobs = st.Jobs
		_, w.effects = Step(st, Resync{}, s.now())
		if i := st.current(); i >= 0 {
			w.signed, err = s.manifestOf(r, st.Executions[i].Image)
		}
		return err
	})
	return w, err
}

// manifestOf is the manifest of an image that is offered, nil if it has none.
func (s *Service) manifestOf(r Reader, image string) (*ImageManifest, error) {
	m, err := recall(s.plans.images, r, "image", image)
	if err != nil {
		return nil, err
	}
	return m.Manifest, nil
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

// Republish marks every device whose offer topic may hold an offer, so that
// what stands is published again: for a broker that may have lost retained
// messages. O(devices with an offer); they go out at the rate of repetitions.
func (s *Service) Republish(ctx context.Context) error {
	return s.store.View(ctx, func(r Reader) error {
		return r.Scan(tableOffers, nil, nil, func(_, device []byte) bool {
			s.outbox.markRepeat(string(device))
			return true
		})
	})
}
