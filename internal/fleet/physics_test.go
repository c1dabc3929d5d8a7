package fleet

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"davit/internal/fleet/mqtt"
	"davit/schemas"
)

// inTime is a fleet of n devices without connections whose clock runs, in virtual time.
func inTime(t *testing.T, cfg Config, n int) *Fleet {
	f := &Fleet{cfg: cfg, clock: newClock(), signal: make(chan struct{}, 1)}
	k := &kind{profile: &f.cfg.Profiles[0], fallsBack: true}
	for i := range n {
		f.devices = append(f.devices, f.newDevice(i, Login{ID: fmt.Sprintf("sim-%d", i)}, k))
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); f.clock.run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	return f
}

func (d *device) locked(do func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	do()
}

// witness plays the service for a device, and notes how long its host MCU takes for what.
type witness struct {
	t      *testing.T
	d      *device
	offer  schemas.Offer
	image  []byte
	since  time.Time
	phase  phase
	took   [phases]time.Duration // in a phase
	fellIn time.Duration         // after its success
}

func (w *witness) look(now time.Time) {
	var p phase
	var version string
	var pending *schemas.Status
	w.d.locked(func() { p, version, pending = w.d.phase, w.d.version, w.d.pending })
	if p == phaseSucceeded && w.fellIn == 0 && version == DefaultConfig().Version {
		w.fellIn = now.Sub(w.since)
	}
	if p == w.phase {
		return
	}
	w.took[w.phase] = now.Sub(w.since)
	w.since, w.phase = now, p
	var err error
	switch p {
	case phaseDownloading:
		tag, _ := schemas.TagOf(w.offer.SHA256)
		h := schemas.ChunkHeader{Transfer: 1, Image: tag, Flags: schemas.ChunkFlagLast}
		err = w.d.onChunk(append(h.AppendTo(nil), w.image...), false)
	case phaseReporting:
		var b []byte
		b, err = schemas.Encode(&schemas.Ack{V: schemas.Version, Execution: w.offer.Execution, Attempt: 1, Seq: pending.Seq, State: pending.State})
		if err == nil {
			err = w.d.onAck(b)
		}
	default:
		return
	}
	if err != nil {
		w.t.Error(err)
	}
	w.look(now)
}

// TestHostMCUsTakeTheirTime: accepting, loading, booting and falling back take what the profile says, and so many times
// less as time passes faster.
func TestHostMCUsTakeTheirTime(t *testing.T) {
	for _, scale := range []float64{1, 4} {
		t.Run(fmt.Sprintf("time scale %v", scale), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { hostMCUsTakeTheirTime(t, scale) })
		})
	}
}

func hostMCUsTakeTheirTime(t *testing.T, scale float64) {
	const (
		devices = 200
		step    = 10 * time.Millisecond // how exact the witnesses are
	)
	cfg := DefaultConfig()
	p := &cfg.Profiles[0]
	p.Answer, p.Line, p.Boot, p.FallBackAfter, cfg.TimeScale = 2*time.Second, 57600, 10*time.Second, 30*time.Second, scale
	image := bytes.Repeat([]byte("davit"), 57600/10/5) // a second of the line
	offer := *offerOf(image)
	offer.V, offer.Execution, offer.Attempt, offer.Version, offer.Chunk = schemas.Version, "ex-1", 1, "2.0.0", schemas.ChunkHint{Preferred: len(image), Max: len(image)}
	f := inTime(t, cfg, devices)
	began := time.Now()
	var all []*witness
	for _, d := range f.devices {
		w := &witness{t: t, d: d, offer: offer, image: image, since: began, phase: phaseAnswering}
		d.locked(func() { d.take(offer, f.clock.now()) })
		all = append(all, w)
	}
	for time.Since(began) < time.Minute {
		time.Sleep(step)
		for _, w := range all {
			w.look(time.Now())
		}
	}
	within := func(i int, what string, got, least, most time.Duration) {
		if scaled := func(d time.Duration) time.Duration { return time.Duration(float64(d) / scale) }; got < scaled(least)-step || got > scaled(most)+step {
			t.Errorf("device %d: %s took %v, want %v to %v", i, what, got, scaled(least), scaled(most))
		}
	}
	var answers time.Duration
	for i, w := range all {
		answers += w.took[phaseAnswering]
		within(i, "accepting", w.took[phaseAnswering], 0, 2*p.Answer)
		within(i, "loading", w.took[phaseInstalling], time.Second, time.Second)
		within(i, "booting", w.took[phaseBooting], p.Boot*8/10, p.Boot*12/10)
		within(i, "falling back", w.fellIn, p.FallBackAfter, p.FallBackAfter)
	}
	within(-1, "accepting, on average,", answers/devices, p.Answer*8/10, p.Answer*12/10)
}

// TestLatency: what a device says leaves when its latency is over, in its order, and not before.
func TestLatency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := DefaultConfig()
		cfg.Profiles[0].Latency, cfg.TimeScale = 300*time.Millisecond, 1000 // the path is not faster
		f := inTime(t, cfg, 1)
		d := f.devices[0]
		waiting := func(want int) {
			t.Helper()
			synctest.Wait()
			d.locked(func() {
				if len(d.later) != want {
					t.Errorf("after %v %d messages wait, want %d", time.Since(f.clock.began), len(d.later), want)
				}
			})
		}
		d.locked(func() { d.link = linkOnline; d.hello(f.clock.now()) })
		waiting(1)
		time.Sleep(100 * time.Millisecond)
		d.locked(func() { d.publish(schemas.KindPresence, nil, f.clock.now()) })
		time.Sleep(199 * time.Millisecond)
		waiting(2)
		time.Sleep(2 * time.Millisecond)
		waiting(1)
		time.Sleep(98 * time.Millisecond)
		waiting(1)
		time.Sleep(2 * time.Millisecond)
		waiting(0)
	})
}

// TestBandwidth: no more is read than the line carries, also after it was idle.
func TestBandwidth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := DefaultConfig()
		cfg.Profiles[0].Bandwidth, cfg.TimeScale = 10_000, 1000 // the path is not faster
		f := inTime(t, cfg, 1)
		d := f.devices[0]
		d.conn = &mqtt.Conn{} // which never ends
		read := func(times, n int, want time.Duration) {
			t.Helper()
			began := time.Now()
			for range times {
				if !d.pace(n) {
					t.Fatal("the connection is to end")
				}
			}
			if got := time.Since(began); got < want-time.Millisecond || got > want+time.Millisecond {
				t.Errorf("%d times %d bytes took %v, want %v", times, n, got, want)
			}
		}
		read(10, 1000, time.Second)
		read(1000, 10, time.Second)
		time.Sleep(time.Minute)
		read(5, 1000, 500*time.Millisecond)
	})
}
