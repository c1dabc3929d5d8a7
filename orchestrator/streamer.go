package orchestrator

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"davit/schemas"
)

// maxFlows is about how many devices are known at a time: those that ask, and
// those that did within forgetAfter.
const maxFlows = 1 << 17

type streamerConfig struct {
	blobs        Blobs
	publisher    Publisher
	log          *slog.Logger
	metrics      *Metrics
	doings       *doings // may be nil
	workers      int
	moduleCredit int64
	totalCredit  int64
	multicaster  Multicaster // nil for none
}

// streamer sends the chunks that devices ask for. Devices take turns; one worker
// at a time serves a device, so its chunks keep their order. It holds ranges, never
// image bytes, for what is not being sent. What may be sent to whom is in
// credit.go, what waits to be sent in flow.go.
//
// A flow waits in a queue only while something could be sent to it: one whose
// session takes no more waits until the session is ready, and one whose credit is
// used up until something has arrived or others leave it more.
type streamer struct {
	streamerConfig
	cache   *blobCache
	buffers sync.Pool // of the long way
	spare   sync.Pool // of *turn, for those who are no worker

	mu      sync.Mutex
	devices map[string]*flow
	proven  flowQueue // flows that can be sent something and that no worker has
	trial   flowQueue // the same, of those on trial
	starved flowQueue // flows that wait for credit
	turns   uint
	ended   bool           // nothing is sent any more
	callers sync.WaitGroup // turns of those who are no worker
	// sent and onTrial are the bytes under way to all, and to those on trial.
	sent    int64
	onTrial int64
	wake    chan struct{} // capacity 1: there is something that a worker may send
	// starving has capacity 1: starved is not empty any more.
	starving chan struct{}

	streams   map[string]*stream // by SHA-256; each has followers
	shares    []*stream          // the same, in the order of their turns
	following map[string]*follower
	alone     map[string]time.Time // devices that do not follow until then
	shareWake chan struct{}        // capacity 1: something may be shared
	lent      *rate.Limiter        // fetches that devices have not earned yet
}

func newStreamer(c streamerConfig) *streamer {
	s := &streamer{
		streamerConfig: c, cache: newBlobCache(c.blobs), devices: map[string]*flow{}, wake: make(chan struct{}, 1), starving: make(chan struct{}, 1),
		streams: map[string]*stream{}, following: map[string]*follower{}, alone: map[string]time.Time{}, shareWake: make(chan struct{}, 1),
		lent: rate.NewLimiter(lendRate, lendBurst),
	}
	s.buffers.New = func() any {
		b := make([]byte, 0, schemas.ChunkHeaderSize+schemas.MaxChunkSize)
		return &b
	}
	s.spare.New = func() any { return &turn{streamer: s} }
	return s
}

// flowOf returns the flow of a device; mu is held. It is made if there is none.
func (s *streamer) flowOf(device string, now time.Time) *flow {
	f := s.devices[device]
	if f == nil {
		f = &flow{device: device, allowance: s.moduleCredit, trial: true, touched: now, asks: askFirst, askedAt: now}
		f.onReady = func() { s.sessionReady(f) }
		s.devices[device] = f
	}
	return f
}

// flowFrom is flowOf for a device that asks over a session, which remembers the flow of the
// device that did last; mu is held. It returns nil if there are too many flows for one more.
func (s *streamer) flowFrom(from Session, device string, now time.Time) *flow {
	m, ok := from.(Memory)
	if ok {
		if f, ok := (*m.Memory()).(*flow); ok && f.device == device && !f.gone {
			return f
		}
	}
	if len(s.devices) >= maxFlows && s.devices[device] == nil {
		return nil
	}
	f := s.flowOf(device, now)
	if ok {
		*m.Memory() = f
		f.memory = m
	}
	return f
}

// mayAsk takes one of a device's fetches.
func (s *streamer) mayAsk(device string, from Session) (Ask, bool) {
	a := Ask{Device: device, at: time.Now()}
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.flow = s.flowFrom(from, device, a.at); a.flow == nil {
		return a, true // add knows which devices are real
	}
	a.grant = a.flow.grant
	return a, a.flow.mayAsk(a.at, s.lent)
}

// add queues a transfer for a device, and gives the device its first turn at once if
// nobody else waits for one: the caller has the processor, and so, soon, will the
// module, while the bytes are still in its cache.
func (s *streamer) add(ctx context.Context, a Ask, t *transfer) {
	if w := s.addFirst(a, t); w != nil {
		defer s.callers.Done()
		w.settle(w.send(ctx))
		s.spare.Put(w)
	}
}

// addFirst is add, except for that turn, which it returns if there is one.
func (s *streamer) addFirst(a Ask, t *transfer) *turn {
	t.backlog, t.asked = backlogOf(t.session), a.at
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return nil
	}
	f := a.flow
	if f == nil || f.gone {
		f = s.flowOf(a.Device, a.at)
	}
	f.touched, f.grant = a.at, a.grant
	if s.follow(f, t, a.at) {
		return nil
	}
	s.queue(f, t, a.at)
	if q := s.next(); q == nil || q.head != f || f.next != nil || f.session == nil || s.proven.head != nil && s.trial.head != nil {
		s.signal()
		return nil
	}
	s.callers.Add(1)
	w := s.spare.Get().(*turn)
	w.begin(f)
	return w
}

// queue puts a transfer in a device's queue; mu is held. signal tells a worker.
func (s *streamer) queue(f *flow, t *transfer, now time.Time) {
	if f.busy {
		if len(f.pending) == maxPending {
			s.metrics.withdrew(withdrawnNewer, f.pending[0].bytes)
			f.pending = append(f.pending[:0], f.pending[1:]...)
		}
		f.pending = append(f.pending, *t)
		return
	}
	s.apply(f, t, now)
	s.schedule(f)
}

// apply takes up a fetch; mu is held and no worker has the flow.
func (s *streamer) apply(f *flow, t *transfer, now time.Time) {
	if f.session != t.session {
		f.session, f.blocked = t.session, false
		if _, told := t.session.(Backlog); told {
			s.tryAnew(f, min(f.allowance, firstAllowance), now)
		}
	}
	s.metrics.withdrew(withdrawnNewer, f.enqueue(t))
	if t.handed {
		return
	}
	s.confirm(f, max(int64(t.awaited)-int64(f.bytes-t.bytes), t.backlog), now)
}

// waiting is how many devices something could be sent to now, and how many wait for credit.
func (s *streamer) waiting() (ready, starved int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proven.length + s.trial.length, s.starved.length
}

// forget drops what is queued for a device, which has the image or has ended its
// execution: nothing is under way any more.
func (s *streamer) forget(device string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leave(s.following[device])
	f := s.devices[device]
	if f == nil {
		return
	}
	s.confirm(f, 0, time.Now())
	f.pending = nil
	if f.busy {
		f.forgotten = true
		return
	}
	f.dropAll()
}

// sessionReady is called by sessions that have not taken everything.
func (s *streamer) sessionReady(f *flow) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case f.busy:
		f.woken = true
	case f.blocked:
		f.blocked = false
		s.schedule(f)
		s.signal()
	}
}

// schedule puts a flow in its queue if it can be sent something; mu is held.
func (s *streamer) schedule(f *flow) {
	waited := f.listed == &s.starved
	if waited {
		f.remove()
	}
	if f.busy || f.listed != nil || f.blocked || len(f.queue) == 0 {
		return
	}
	if !s.credit(f, f.worthSending()) {
		if !waited {
			s.metrics.waited(waitModule)
		}
		s.starve(f)
		return
	}
	if f.trial {
		s.trial.push(f)
	} else {
		s.proven.push(f)
	}
}

// signal wakes a worker if there is something that it may send. mu is held.
func (s *streamer) signal() {
	if s.next() == nil {
		return
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// run sends until ctx ends.
func (s *streamer) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for range s.workers {
		g.Go(func() error { s.work(ctx); return nil })
	}
	g.Go(func() error { s.sweep(ctx); return nil })
	if s.multicaster != nil {
		g.Go(func() error { s.share(ctx); return nil })
	}
	err := g.Wait()
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	s.callers.Wait() // their images are not taken away from them
	s.mu.Lock()
	for _, f := range s.devices {
		f.dropAll() // releases the blobs
	}
	for _, f := range s.following {
		s.leave(f)
	}
	s.mu.Unlock()
	s.cache.close()
	return err
}

func (s *streamer) work(ctx context.Context) {
	w := &turn{streamer: s}
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		}
		for ctx.Err() == nil && w.take() {
			w.settle(w.send(ctx))
		}
	}
}
