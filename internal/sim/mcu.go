package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"davit/schemas/tlv"
)

// MCU is a simulated host MCU: the application with its frame layer, the flash
// with two slots, and the boot loader that boots an image once and goes back
// unless it confirms itself. What the flash holds survives resets and further
// calls of Run; everything else does not.
type MCU struct {
	mu     sync.Mutex // held by Run while it handles something
	cfg    MCUConfig
	rng    *rand.Rand
	slots  [2]slot
	active int // the slot that runs

	boots, resets int
	stats         MCUStats
	fallbackStat  bool // STAT(BOOT) is owed after a fallback
	bootStat      bool // STAT(0) is owed after a good boot
	resetDone     bool // the one-time resets of Fault have happened
	running       bool // Run is active
	poke          chan struct{}
	pokes         []func()

	app    app
	out    []byte  // to be written when the handler returns
	events []Event // to be told when the handler returns
}

// app is the volatile state: gone after a reset.
type app struct {
	up        bool // the application runs; otherwise the line is quiet
	timers    []timer
	busyUntil time.Time // no frame is taken before
	link      link
	ota       ota
	nextReq   uint16
	traffic   int
	strayLoad bool // a piece that nobody had offered was answered
}

type timer struct {
	at   time.Time
	fn   func(now time.Time)
	name string // timers with a name can be stopped
}

// NewMCU makes an MCU. It panics on a configuration that makes no sense, for
// example an Image larger than a slot.
func NewMCU(cfg MCUConfig) *MCU {
	cfg.setDefaults()
	m := &MCU{cfg: cfg, rng: rand.New(rand.NewPCG(cfg.Seed, 3)), poke: make(chan struct{}, 1)}
	for i := range m.slots {
		m.slots[i] = slot{flash: NewFlash(cfg.SlotSize, cfg.PageSize, cfg.SectorSize), state: slotEmpty}
	}
	if len(cfg.Image) > cfg.SlotSize {
		panic(fmt.Sprintf("sim: an image of %d bytes does not fit a slot of %d", len(cfg.Image), cfg.SlotSize))
	}
	a := &m.slots[0]
	copy(a.flash.mem, cfg.Image)
	a.size, a.version, a.state = len(cfg.Image), cfg.Version, slotConfirmed
	// The other slot holds the rest of some older image: it has to be erased before it can be written.
	clear(m.slots[1].flash.mem)
	return m
}

// Run powers the MCU up on rw and runs it until ctx ends, which returns nil,
// or until rw fails. It closes rw. An MCU can be run again, one Run at a time:
// that is a power cycle.
func (m *MCU) Run(ctx context.Context, rw io.ReadWriteCloser) error {
	m.mu.Lock()
	if m.running {
		m.mu.Unlock()
		return errors.New("the simulated MCU is running already")
	}
	m.running = true
	m.mu.Unlock()

	frames := make(chan received)
	stop := make(chan struct{})
	var reader sync.WaitGroup
	reader.Go(func() { m.read(rw, frames, stop) })
	unblock := context.AfterFunc(ctx, func() { _ = rw.Close() })

	m.handle(func(now time.Time) { m.bootLoader(now) })
	err := m.loop(ctx, rw, frames)

	unblock()
	close(stop)
	closeErr := rw.Close()
	reader.Wait()
	m.mu.Lock()
	m.running = false
	m.app = app{}
	m.mu.Unlock()
	if ctx.Err() != nil {
		return nil
	}
	return errors.Join(err, closeErr)
}

// received is a frame of the line, or what was wrong with it.
type received struct {
	frame tlv.Frame
	err   error
}

// read hands over one frame after the other until the port fails.
func (m *MCU) read(r io.Reader, frames chan<- received, stop <-chan struct{}) {
	if m.cfg.DoubleFlags {
		r = &doubleFlagReader{src: r}
	}
	in := tlv.NewReader(r)
	for {
		f, err := in.Next()
		f.Payload = slices.Clone(f.Payload)
		select {
		case frames <- received{f, err}:
		case <-stop:
			return
		}
		if err != nil && !errors.Is(err, tlv.ErrFrame) {
			return
		}
	}
}

// loop handles frames, timers and requests from outside, one at a time.
func (m *MCU) loop(ctx context.Context, w io.Writer, frames <-chan received) error {
	clock := time.NewTimer(time.Hour)
	defer clock.Stop()
	for {
		if err := m.flush(w); err != nil {
			return fmt.Errorf("write to the line: %w", err)
		}
		wait, busy := m.nextWake()
		clock.Reset(wait)
		in := frames
		if busy {
			in = nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-m.poke:
			m.handle(m.runPokes)
		case <-clock.C:
			m.handle(m.runTimers)
		case r := <-in:
			if r.err != nil && !errors.Is(r.err, tlv.ErrFrame) {
				return fmt.Errorf("read from the line: %w", r.err)
			}
			m.handle(func(now time.Time) { m.onFrame(r, now) })
		}
	}
}

// handle runs fn with the state locked and then tells what happened.
func (m *MCU) handle(fn func(now time.Time)) {
	m.mu.Lock()
	fn(time.Now())
	events := m.events
	m.events = nil
	m.mu.Unlock()
	if m.cfg.OnEvent != nil {
		for _, e := range events {
			m.cfg.OnEvent(e)
		}
	}
}

func (m *MCU) flush(w io.Writer) error {
	m.mu.Lock()
	out := m.out
	m.out = nil
	m.mu.Unlock()
	if len(out) == 0 {
		return nil
	}
	_, err := w.Write(out)
	return err
}

// nextWake is how long until the next timer, and whether the MCU is too busy
// to take a frame meanwhile.
func (m *MCU) nextWake() (time.Duration, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	wait := time.Hour
	for _, t := range m.app.timers {
		wait = min(wait, t.at.Sub(now))
	}
	busy := m.app.busyUntil.After(now)
	if busy {
		wait = min(wait, m.app.busyUntil.Sub(now))
	}
	return max(wait, 0), busy
}

// after runs fn once in d, unless a reset comes first. A timer with the same
// name is replaced.
func (m *MCU) after(now time.Time, d time.Duration, name string, fn func(now time.Time)) {
	m.stopTimer(name)
	m.app.timers = append(m.app.timers, timer{at: now.Add(d), fn: fn, name: name})
}

func (m *MCU) stopTimer(name string) {
	if name == "" {
		return
	}
	m.app.timers = slices.DeleteFunc(m.app.timers, func(t timer) bool { return t.name == name })
}

// runTimers runs what is due, earliest first.
func (m *MCU) runTimers(now time.Time) {
	for {
		due := -1
		for i, t := range m.app.timers {
			if !t.at.After(now) && (due < 0 || t.at.Before(m.app.timers[due].at)) {
				due = i
			}
		}
		if due < 0 {
			return
		}
		t := m.app.timers[due]
		m.app.timers = slices.Delete(m.app.timers, due, due+1)
		t.fn(now)
	}
}

func (m *MCU) runPokes(now time.Time) {
	for _, fn := range m.pokes {
		fn()
	}
	m.pokes = nil
}

func (m *MCU) event(e Event) { m.events = append(m.events, e) }

// Reset presses the reset button. It returns at once.
func (m *MCU) Reset() {
	m.mu.Lock()
	m.pokes = append(m.pokes, func() { m.reset(time.Now()) })
	m.mu.Unlock()
	notify(m.poke)
}

// SetFault replaces what is wrong with the MCU from the next frame on.
func (m *MCU) SetFault(f Fault) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cfg.Fault = f
	m.resetDone = false
}

// RunningVersion is the version of the image that runs, as its header or its
// slot's record says, whatever is reported.
func (m *MCU) RunningVersion() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.slots[m.active].version
}

// RunningImage is a copy of the image that runs, byte by byte.
func (m *MCU) RunningImage() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.slots[m.active].image())
}

// Confirmed says whether the running image has confirmed itself.
func (m *MCU) Confirmed() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.slots[m.active].state == slotConfirmed
}

// Boots counts how often an image was started, the first time included.
func (m *MCU) Boots() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.boots
}

// Resets counts the resets that nobody had asked for over the wire.
func (m *MCU) Resets() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.resets
}

// Stats returns the counters.
func (m *MCU) Stats() MCUStats {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stats
}
