package fleet

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"davit/internal/fleet/mqtt"
	"davit/schemas"
)

// Fleet is a fleet that runs.
type Fleet struct {
	cfg     Config
	kinds   []kind
	devices []*device
	clock   *clock
	images  images
	count   counters
	readers int // devices that do read, and so can bring an update to its end

	online, offline []byte          // payloads
	ctx             context.Context // ends with the fleet
	stop            context.CancelFunc
	tasks           sync.WaitGroup // connections, the clock and the view
	era             atomic.Int32   // grows with each storm
	storming        atomic.Bool    // a storm is under way
	ending          atomic.Bool    // no connection is begun any more
	signal          chan struct{}  // capacity 1: something has changed
}

// Run connects the devices, has them do what cfg says, and says what became of it. It
// returns when all connections have ended. An error is about cfg or the machine; what goes
// wrong with the devices stands in the result. When ctx ends the fleet ends in order: before
// its time, unless it holds.
func Run(ctx context.Context, cfg Config) (*Result, error) {
	f, err := newFleet(ctx, cfg)
	if err != nil {
		return nil, err
	}
	before := memory()
	f.tasks.Go(func() { f.clock.run(f.ctx) })
	if cfg.View != nil {
		f.tasks.Go(f.show)
	}
	began := f.clock.now()
	for i, d := range f.devices {
		d.connectAt = began + instant(float64(i)/cfg.Ramp*float64(time.Second))
		d.wake(d.connectAt)
	}
	r := &Result{Seed: cfg.Seed, Devices: len(f.devices)}
	err = f.play(ctx, r, before)
	f.result(r)
	f.end()
	return r, err
}

// Greet connects to the broker as a device and says goodbye. An error says that nothing answers there: a refusal is an
// answer.
func Greet(ctx context.Context, cfg *Config, l Login) error {
	const patience = 10 * time.Second
	conn, err := mqtt.Dial(ctx, mqtt.Options{Addr: cfg.Broker, Version: mqtt.V5, ClientID: l.ID, Username: l.ID, Password: l.Password, Timeout: patience})
	var refused *mqtt.RefusedError
	switch {
	case errors.As(err, &refused):
		return nil
	case err != nil:
		return err
	}
	_ = conn.Disconnect() // it has answered
	return nil
}

func newFleet(ctx context.Context, cfg Config) (*Fleet, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if len(cfg.Devices) < 1 || len(cfg.Devices) > MaxDevices {
		return nil, fmt.Errorf("the fleet has %d devices, allowed are 1 to %d", len(cfg.Devices), MaxDevices)
	}
	if err := CheckFiles(len(cfg.Devices)); err != nil {
		return nil, err
	}
	online, err := schemas.Encode(&schemas.Presence{V: schemas.Version, Online: true})
	if err != nil {
		return nil, err
	}
	offline, err := schemas.Encode(&schemas.Presence{V: schemas.Version})
	if err != nil {
		return nil, err
	}
	f := &Fleet{
		cfg: cfg, clock: newClock(), online: online, offline: offline, signal: make(chan struct{}, 1),
		kinds: assign(len(cfg.Devices), cfg.Profiles, cfg.Seed), devices: make([]*device, len(cfg.Devices)),
	}
	// What ends ctx ends the fleet in its own order.
	f.ctx, f.stop = context.WithCancel(context.WithoutCancel(ctx))
	for i, l := range cfg.Devices {
		f.devices[i] = f.newDevice(i, l, &f.kinds[i])
		if !f.kinds[i].neverRead {
			f.readers++
		}
	}
	f.era.Store(1)
	f.count.links[linkOff].Store(int64(len(f.devices)))
	f.count.phases[phaseNone].Store(int64(len(f.devices)))
	return f, nil
}

// errTime is that something has taken longer than the Timeout.
var errTime = errors.New("the time limit has passed")

// play does one thing after the other, and notes in r what did not go as it should.
func (f *Fleet) play(ctx context.Context, r *Result, before footprint) error {
	if err := f.await(ctx, f.allUp); err != nil {
		r.miss(err, "not all devices have connected: %d of %d have been online", f.count.met.Load(), len(f.devices))
		return nil
	}
	r.Connects.Seconds = f.seconds(f.count.firstAttempt.Load(), int64(f.clock.now()))
	r.Process.idle(before, memory(), len(f.devices))
	r.connected = true
	if n := f.count.links[linkRefused].Load(); n > 0 {
		r.miss(nil, "%d devices were refused by the broker", n)
		return nil
	}
	if f.cfg.Storm != NoStorm {
		if err := f.storm(ctx, r); err != nil {
			f.missStorm(r, err)
			return nil
		}
	} else if f.cfg.Connected != nil {
		f.cfg.Connected()
	}
	if f.cfg.Ready != nil {
		for _, d := range f.devices {
			d.forgetHello() // offers that answer Ready answer no hello
		}
		if err := f.cfg.Ready(); err != nil {
			return err
		}
	}
	if f.cfg.Update {
		if err := f.await(ctx, f.allUpdated); err != nil {
			r.miss(err, "not all devices have brought an update to its end: %d of %d", f.count.finished.Load(), f.readers)
			return nil
		}
	}
	if held, err := f.hold(ctx); err != nil {
		r.miss(err, "the connections were held for %v of %v", held.Round(100*time.Millisecond), f.cfg.Hold)
	}
	return nil
}

// missStorm notes how far a storm has come.
func (f *Fleet) missStorm(r *Result, err error) {
	if f.count.lossBegan.Load() == 0 {
		r.miss(err, "no storm has begun: no connection was lost")
		return
	}
	r.miss(err, "the storm has not ended: %d of %d devices have lost their connection and are online again", f.count.met.Load(), len(f.devices))
}

// allUp says whether all devices have been online in this era; they may reboot meanwhile.
func (f *Fleet) allUp() bool {
	return f.count.met.Load()+f.count.links[linkRefused].Load() >= int64(len(f.devices))
}

func (f *Fleet) allUpdated() bool { return f.count.finished.Load() >= int64(f.readers) }

// full says whether as many connections are in the making as may be; a storm has no limit.
func (f *Fleet) full() bool {
	return f.cfg.Pending > 0 && !f.storming.Load() && f.count.links[linkConnecting].Load() >= int64(f.cfg.Pending)
}

// changed says that it may be worth looking what await waits for.
func (f *Fleet) changed() {
	select {
	case f.signal <- struct{}{}:
	default:
	}
}

// await waits until there holds, at most for the Timeout.
func (f *Fleet) await(ctx context.Context, there func() bool) error {
	limit := time.NewTimer(f.cfg.Timeout)
	defer limit.Stop()
	for !there() {
		select {
		case <-f.signal:
		case <-ctx.Done():
			return ctx.Err()
		case <-limit.C:
			return errTime
		}
	}
	return nil
}

// storm waits until all connections are lost, or cuts them, and until all are back.
func (f *Fleet) storm(ctx context.Context, r *Result) error {
	attempts, busy, failed := f.count.attempts.Load(), f.count.busy.Load(), f.count.unreachable.Load()
	f.storming.Store(true)
	defer f.storming.Store(false)
	f.count.met.Store(0)
	f.era.Add(1)
	f.count.lossBegan.Store(0)
	if f.cfg.Connected != nil {
		f.cfg.Connected()
	}
	if f.cfg.Storm == StormCut {
		for _, d := range f.devices {
			d.cut()
		}
	}
	if err := f.await(ctx, f.allUp); err != nil {
		return err
	}
	r.Storm = &StormResult{
		Seconds:     f.seconds(f.count.lossBegan.Load(), f.count.allOnline.Load()),
		Attempts:    f.count.attempts.Load() - attempts,
		Busy:        f.count.busy.Load() - busy,
		Unreachable: f.count.unreachable.Load() - failed,
	}
	return nil
}

// hold keeps the connections, and has devices say hello in turns. It says for how long; an error if that was to be
// longer.
func (f *Fleet) hold(ctx context.Context) (time.Duration, error) {
	if f.cfg.Hold == 0 {
		return 0, nil
	}
	began := time.Now()
	end, cancel := context.WithCancel(ctx)
	defer cancel()
	defer time.AfterFunc(f.cfg.Hold, cancel).Stop()
	f.greetInTurns(end)
	if f.cfg.Hold == Forever {
		return time.Since(began), nil // there is no other end
	}
	return time.Since(began), ctx.Err()
}

// greetInTurns has devices say hello, one after the other, until ctx ends.
func (f *Fleet) greetInTurns(ctx context.Context) {
	if f.cfg.Hellos == 0 {
		<-ctx.Done()
		return
	}
	const beats = 50 // a second
	beat := time.NewTicker(time.Second / beats)
	defer beat.Stop()
	began := time.Now()
	said := 0
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-beat.C:
			// More may be due than can be said.
			for due := int(now.Sub(began).Seconds() * f.cfg.Hellos); said < due && ctx.Err() == nil; said++ {
				f.devices[said%len(f.devices)].sayHello()
			}
		}
	}
}

func (d *device) sayHello() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.link == linkOnline {
		d.hello(d.fleet.clock.now())
	}
}

func (d *device) forgetHello() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked = 0
}

// end says goodbye for all devices and waits for everything that runs.
func (f *Fleet) end() {
	f.ending.Store(true)
	for _, d := range f.devices {
		d.close()
	}
	f.stop()
	f.tasks.Wait()
}

func (f *Fleet) seconds(from, to int64) float64 {
	return float64(time.Duration(to-from).Round(time.Millisecond)) / float64(time.Second)
}
