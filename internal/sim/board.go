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
)

// Host is what every simulated host MCU can do, whatever wire it speaks.
type Host interface {
	// Run powers it up on a line and runs it until ctx ends.
	Run(ctx context.Context, rw io.ReadWriteCloser) error
	// Reset presses its reset button.
	Reset()
	// SetFault replaces what is wrong with it.
	SetFault(Fault)
	Running
}

// Running is what can be seen of a simulated MCU, whatever it says of itself.
type Running interface {
	RunningVersion() string
	RunningImage() []byte
	Confirmed() bool
	Boots() int
	Resets() int
}

// board is what every simulated MCU has, whatever wire it speaks: flash with
// two slots, a boot loader, timers, and the loop in which everything happens.
// What the flash holds survives resets and further calls of Run; everything
// else does not.
type board struct {
	mu       sync.Mutex // held by Run while it handles something
	cfg      *MCUConfig
	rng      *rand.Rand
	firmware firmware
	slots    [2]slot
	active   int        // the slot that runs
	cause    startCause // of the next start

	boots, resets int
	flashed       flashed
	resetDone     bool // the one-time resets of Fault have happened
	running       bool // Run is active
	poke          chan struct{}
	pokes         []func()

	volatile
	out    []byte  // to be written when the handler returns
	events []Event // to be told when the handler returns
}

// volatile is what every application has in its memory: gone after a reset.
type volatile struct {
	up        bool // the application runs; otherwise the line is quiet
	timers    []timer
	busyUntil time.Time // nothing is taken from the line before
}

// flashed counts what was done to the flash.
type flashed struct{ pages, sectors int }

type timer struct {
	at   time.Time
	fn   func(now time.Time)
	name string // timers with a name can be stopped
}

// firmware is the part of an MCU that speaks its wire. All but what listen
// returns is called with the board's state locked.
type firmware interface {
	// listen returns a function that waits for the next thing on the line and
	// returns what is to be done with it. Its error ends Run.
	listen(r io.Reader) func() (take func(now time.Time), err error)
	// begin starts the application, with nothing in its memory.
	begin(now time.Time, cause startCause)
	// forget loses everything that is in memory.
	forget()
}

// newBoard makes a board for a configuration whose defaults are set, with the
// image in slot A. It panics if the image is larger than a slot.
func newBoard(cfg *MCUConfig, f firmware) *board {
	b := &board{cfg: cfg, rng: rand.New(rand.NewPCG(cfg.Seed, 3)), firmware: f, poke: make(chan struct{}, 1)}
	for i := range b.slots {
		b.slots[i] = slot{flash: NewFlash(cfg.SlotSize, cfg.PageSize, cfg.SectorSize), state: slotEmpty}
	}
	if len(cfg.Image) > cfg.SlotSize {
		panic(fmt.Sprintf("sim: an image of %d bytes does not fit a slot of %d", len(cfg.Image), cfg.SlotSize))
	}
	a := &b.slots[0]
	copy(a.flash.mem, cfg.Image)
	a.size, a.version, a.state = len(cfg.Image), cfg.Version, slotConfirmed
	// The other slot holds the rest of some older image: it has to be erased before it can be written.
	clear(b.slots[1].flash.mem)
	return b
}

// Run powers the MCU up on rw and runs it until ctx ends, which returns nil,
// or until rw fails. It closes rw. An MCU can be run again, one Run at a time:
// that is a power cycle.
func (b *board) Run(ctx context.Context, rw io.ReadWriteCloser) error {
	b.mu.Lock()
	if b.running {
		b.mu.Unlock()
		return errors.New("the simulated MCU is running already")
	}
	b.running = true
	b.mu.Unlock()

	arrivals := make(chan arrival)
	stop := make(chan struct{})
	var reader sync.WaitGroup
	reader.Go(func() { read(b.firmware.listen(rw), arrivals, stop) })
	unblock := context.AfterFunc(ctx, func() { _ = rw.Close() })

	b.handle(b.bootLoader)
	err := b.loop(ctx, rw, arrivals)

	unblock()
	close(stop)
	closeErr := rw.Close()
	reader.Wait()
	b.mu.Lock()
	b.running = false
	b.wipe()
	b.mu.Unlock()
	if ctx.Err() != nil {
		return nil
	}
	return errors.Join(err, closeErr)
}

// arrival is what to do with something that the line brought, or the error
// that the line failed with.
type arrival struct {
	take func(now time.Time)
	err  error
}

// read hands over one thing after the other until the port fails.
func read(next func() (func(now time.Time), error), arrivals chan<- arrival, stop <-chan struct{}) {
	for {
		take, err := next()
		select {
		case arrivals <- arrival{take, err}:
		case <-stop:
			return
		}
		if err != nil {
			return
		}
	}
}

// loop handles what arrives, timers and requests from outside, one at a time.
func (b *board) loop(ctx context.Context, w io.Writer, arrivals <-chan arrival) error {
	clock := time.NewTimer(time.Hour)
	defer clock.Stop()
	for {
		if err := b.flush(w); err != nil {
			return fmt.Errorf("write to the line: %w", err)
		}
		wait, busy := b.nextWake()
		clock.Reset(wait)
		in := arrivals
		if busy {
			in = nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-b.poke:
			b.handle(b.runPokes)
		case <-clock.C:
			b.handle(b.runTimers)
		case a := <-in:
			if a.err != nil {
				return fmt.Errorf("read from the line: %w", a.err)
			}
			b.handle(a.take)
		}
	}
}

// handle runs fn with the state locked and then tells what happened.
func (b *board) handle(fn func(now time.Time)) {
	b.mu.Lock()
	fn(time.Now())
	events := b.events
	b.events = nil
	b.mu.Unlock()
	if b.cfg.OnEvent != nil {
		for _, e := range events {
			b.cfg.OnEvent(e)
		}
	}
}

func (b *board) flush(w io.Writer) error {
	b.mu.Lock()
	out := b.out
	b.out = nil
	b.mu.Unlock()
	if len(out) == 0 {
		return nil
	}
	_, err := w.Write(out)
	return err
}

// nextWake is how long until the next timer, and whether the MCU is too busy
// to take anything from the line meanwhile.
func (b *board) nextWake() (time.Duration, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	wait := time.Hour
	for _, t := range b.timers {
		wait = min(wait, t.at.Sub(now))
	}
	busy := b.busyUntil.After(now)
	if busy {
		wait = min(wait, b.busyUntil.Sub(now))
	}
	return max(wait, 0), busy
}

// after runs fn once in d, unless a reset comes first. A timer with the same
// name is replaced.
func (b *board) after(now time.Time, d time.Duration, name string, fn func(now time.Time)) {
	b.stopTimer(name)
	b.timers = append(b.timers, timer{at: now.Add(d), fn: fn, name: name})
}

func (b *board) stopTimer(name string) {
	if name == "" {
		return
	}
	b.timers = slices.DeleteFunc(b.timers, func(t timer) bool { return t.name == name })
}

// runTimers runs what is due, earliest first.
func (b *board) runTimers(now time.Time) {
	for {
		due := -1
		for i, t := range b.timers {
			if !t.at.After(now) && (due < 0 || t.at.Before(b.timers[due].at)) {
				due = i
			}
		}
		if due < 0 {
			return
		}
		t := b.timers[due]
		b.timers = slices.Delete(b.timers, due, due+1)
		t.fn(now)
	}
}

func (b *board) runPokes(now time.Time) {
	for _, fn := range b.pokes {
		fn()
	}
	b.pokes = nil
}

func (b *board) event(e Event) { b.events = append(b.events, e) }

// Reset presses the reset button. It returns at once.
func (b *board) Reset() {
	b.mu.Lock()
	b.pokes = append(b.pokes, func() { b.reset(time.Now()) })
	b.mu.Unlock()
	notify(b.poke)
}

// SetFault replaces what is wrong with the MCU from now on.
func (b *board) SetFault(f Fault) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cfg.Fault = f
	b.resetDone = false
}

// RunningVersion is the version of the image that runs, as its header or its
// slot's record says, whatever is reported.
func (b *board) RunningVersion() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.slots[b.active].version
}

// RunningImage is a copy of the image that runs, byte by byte.
func (b *board) RunningImage() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.slots[b.active].image())
}

// Confirmed says whether the running image has confirmed itself.
func (b *board) Confirmed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.slots[b.active].state == slotConfirmed
}

// Boots counts how often an image was started, the first time included.
func (b *board) Boots() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.boots
}

// Resets counts the resets that nobody had asked for over the wire.
func (b *board) Resets() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.resets
}
