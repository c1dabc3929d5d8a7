package sim

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// Defaults of LineConfig.
const (
	DefaultBaud        = 115200
	DefaultBitsPerByte = 11      // start, eight data bits, parity, stop
	DefaultTxBuffer    = 4 << 10 // what a Linux UART driver holds (one page)
	DefaultRxBuffer    = 4 << 10 // what a Linux terminal holds unread
	DefaultRxTrigger   = 64      // a common depth of a UART's receive FIFO

	DefaultBurstBytes   = 16
	DefaultGarbageBytes = 16
)

// Errors of a line's ends.
var (
	// ErrUnplugged is what the module's end gets once the line was unplugged,
	// as a program gets EIO when its USB adapter is pulled.
	ErrUnplugged = errors.New("serial line is unplugged")
	// ErrInUse is returned by Open while the module's end is open.
	ErrInUse = errors.New("serial line is in use")
)

// LineConfig describes a serial line. The zero value is a clean line of
// 115,200 bit/s, 8 data bits, odd parity, 1 stop bit and RTS/CTS.
type LineConfig struct {
	Baud        int // bit/s; 0 means DefaultBaud
	BitsPerByte int // bits that one byte takes on the line; 0 means DefaultBitsPerByte
	// Latency is how much later than its last bit a byte is seen at the far
	// end (adapters, USB polling).
	Latency time.Duration
	// Jitter is the most by which the first byte after a pause is held back;
	// the delay is drawn anew for each.
	Jitter time.Duration
	// TxBuffer is how many bytes each end's driver takes ahead of the line:
	// a Write blocks while it is full. 0 means DefaultTxBuffer.
	TxBuffer int
	// RxBuffer is how many received bytes each end holds unread; 0 means
	// DefaultRxBuffer. When it is full, RTS goes low and the far end stops.
	RxBuffer int
	// NoFlowControl leaves RTS/CTS unconnected: bytes that meet a full
	// RxBuffer are lost and counted as overruns.
	NoFlowControl bool
	// RxTrigger is after how many received bytes a waiting Read is woken, if
	// the far end's Write has not ended before; 0 means DefaultRxTrigger, 1
	// wakes for every byte. It costs CPU, not accuracy: no byte is ever seen
	// before its time, and the last byte of a Write is seen exactly in time.
	RxTrigger int
	// Seed makes the faults repeatable.
	Seed uint64
	// ToMCU and FromMCU are what goes wrong in each direction.
	ToMCU, FromMCU LineFaults
	// UnplugAfter unplugs the line once, when so many bytes have gone towards
	// the MCU; 0 means never.
	UnplugAfter int64
}

// LineFaults is what goes wrong in one direction. Rates are probabilities
// between 0 and 1.
type LineFaults struct {
	BitErrorRate float64 // of each of a byte's eight data bits being inverted
	DropRate     float64 // of each byte being lost
	DoubleRate   float64 // of each byte being received twice
	// BurstRate is the probability of each byte being the first of a burst:
	// BurstBytes in a row of which none arrives as it was sent.
	BurstRate  float64
	BurstBytes int // 0 means DefaultBurstBytes
	// GarbageRate is the probability of each Write being followed by 1 to
	// GarbageBytes bytes that nobody has sent.
	GarbageRate  float64
	GarbageBytes int // 0 means DefaultGarbageBytes
	// Dead makes a half-open line: what is sent goes out and never arrives.
	Dead bool
}

// LineStats counts the bytes of one direction.
type LineStats struct {
	Written   int64 // taken from Write
	Sent      int64 // gone out on the line
	Delivered int64 // put into the receive buffer
	Flipped   int64 // delivered with a bit error or out of a burst
	Dropped   int64 // lost by DropRate or Dead
	Doubled   int64 // delivered twice
	Garbage   int64 // delivered and never sent
	Overrun   int64 // lost to a full receive buffer
	Lost      int64 // lost because the receiving end was closed or unplugged
}

// Line is a serial line between a module and a host MCU: two directions of
// bytes that each take BitsPerByte/Baud seconds, counted from an absolute
// clock so that no rounding adds up.
type Line struct {
	mu        sync.Mutex
	cfg       LineConfig
	toMCU     *half // module writes, MCU reads
	fromMCU   *half
	module    *End // open handles, nil if closed
	mcu       *End
	unplugged bool
	exact     bool // the time is real, and a program measures it
}

// NewLine makes a line; in a testing/synctest bubble it must be made and used
// inside. It panics if a field of cfg is negative.
func NewLine(cfg LineConfig) *Line {
	setDefault(&cfg.Baud, DefaultBaud)
	setDefault(&cfg.BitsPerByte, DefaultBitsPerByte)
	setDefault(&cfg.TxBuffer, DefaultTxBuffer)
	setDefault(&cfg.RxBuffer, DefaultRxBuffer)
	setDefault(&cfg.RxTrigger, DefaultRxTrigger)
	l := &Line{cfg: cfg}
	l.toMCU = newHalf(cfg, cfg.ToMCU, 1)
	l.fromMCU = newHalf(cfg, cfg.FromMCU, 2)
	return l
}

func setDefault(v *int, d int) {
	if *v < 0 {
		panic(fmt.Sprintf("sim: negative value %d in a configuration", *v))
	}
	if *v == 0 {
		*v = d
	}
}

// ByteTime is how long one byte takes on the line.
func (l *Line) ByteTime() time.Duration {
	return time.Duration(l.cfg.BitsPerByte) * time.Second / time.Duration(l.cfg.Baud)
}

// Open opens the module's end, as a program opens a serial port. It returns
// an error that wraps ErrUnplugged or ErrInUse.
func (l *Line) Open() (*End, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.syncLocked()
	switch {
	case l.unplugged:
		return nil, fmt.Errorf("open the module's end: %w", ErrUnplugged)
	case l.module != nil:
		return nil, fmt.Errorf("open the module's end: %w; close it first", ErrInUse)
	}
	l.module = newEnd(l, l.toMCU, l.fromMCU)
	return l.module, nil
}

// Module returns the open handle of the module's end and opens it if it is
// closed. It panics if the line is unplugged.
func (l *Line) Module() *End {
	l.mu.Lock()
	open := l.module
	l.mu.Unlock()
	if open != nil {
		return open
	}
	e, err := l.Open()
	if err != nil {
		panic("sim: " + err.Error())
	}
	return e
}

// MCU returns the open handle of the MCU's end and opens it if it is closed.
// An MCU does not notice that the line is unplugged: its reads wait and what
// it writes goes nowhere.
func (l *Line) MCU() *End {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mcu == nil {
		l.syncLocked()
		l.mcu = newEnd(l, l.fromMCU, l.toMCU)
	}
	return l.mcu
}

// Unplug pulls the line: the module's handle is dead for good, everything
// under way is lost.
func (l *Line) Unplug() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.syncLocked()
	l.unplugLocked()
}

func (l *Line) unplugLocked() {
	if l.unplugged {
		return
	}
	l.unplugged = true
	if l.module != nil {
		l.module.endLocked(ErrUnplugged)
	}
	l.toMCU.clearLocked()
}

// Replug puts the line back; the module's end can be opened again.
func (l *Line) Replug() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.syncLocked()
	l.unplugged = false
}

// Stall holds the MCU's RTS low (true), so that the module's bytes wait, or
// raises it again. A byte that is under way counts as not begun.
func (l *Line) Stall(low bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stallLocked(l.toMCU, low)
}

// StallModule is Stall for the other direction: the module's RTS.
func (l *Line) StallModule(low bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stallLocked(l.fromMCU, low)
}

func (l *Line) stallLocked(h *half, low bool) {
	now := time.Now()
	l.advanceLocked(h, now)
	h.stalled = low
	h.resumeLocked(now)
	h.wakeLocked()
}

// SetFaults replaces what goes wrong in each direction from now on.
func (l *Line) SetFaults(toMCU, fromMCU LineFaults) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.syncLocked()
	l.toMCU.noise.set(toMCU)
	l.fromMCU.noise.set(fromMCU)
}

// Stats returns the counters of both directions.
func (l *Line) Stats() (toMCU, fromMCU LineStats) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.syncLocked()
	return l.toMCU.stats, l.fromMCU.stats
}

// syncLocked brings both directions to the present, before something changes
// that decides what becomes of the bytes under way.
func (l *Line) syncLocked() {
	now := time.Now()
	l.advanceLocked(l.toMCU, now)
	l.advanceLocked(l.fromMCU, now)
}

// advanceLocked brings h to now and carries out what follows from it.
func (l *Line) advanceLocked(h *half, now time.Time) {
	listening := l.mcu != nil && !l.unplugged
	if h == l.fromMCU {
		listening = l.module != nil
	}
	h.advanceLocked(now, listening)
	if h == l.toMCU && l.cfg.UnplugAfter > 0 && h.stats.Sent >= l.cfg.UnplugAfter {
		l.cfg.UnplugAfter = 0
		l.unplugLocked()
	}
}

// End is one end of a line: what a program has after opening a serial port.
// One goroutine may read and another write at the same time; Close may be
// called from any and ends both.
type End struct {
	line    *Line
	out, in *half
	done    chan struct{} // closed with err set
	err     error         // guarded by line.mu
	reading alarm         // of Read, if the line is exact
}

func newEnd(l *Line, out, in *half) *End {
	e := &End{line: l, out: out, in: in, done: make(chan struct{})}
	if l.exact {
		e.reading = newExact()
	}
	return e
}

// endLocked makes every present and later call on e return err.
func (e *End) endLocked(err error) {
	if e.err != nil {
		return
	}
	e.err = err
	close(e.done)
	if e.reading != nil {
		e.reading.Close()
	}
	e.in.rx = e.in.rx[:0]
	e.in.pipe = e.in.pipe[:0]
	if e.line.module == e {
		e.line.module = nil
	} else {
		e.line.mcu = nil
	}
	// The far end may have waited for room in the buffer that is empty now.
	e.in.resumeLocked(time.Now())
	e.in.wakeLocked()
}

// Close closes the end. Bytes that its driver has taken still go out; bytes
// that arrive from now on are lost. The end can be opened again.
func (e *End) Close() error {
	e.line.mu.Lock()
	defer e.line.mu.Unlock()
	e.line.syncLocked()
	e.endLocked(io.ErrClosedPipe)
	return nil
}

// Read waits for at least one byte and returns what has arrived. It returns
// ErrUnplugged or io.ErrClosedPipe when the end has died.
func (e *End) Read(p []byte) (int, error) {
	alarm := e.reading
	if alarm == nil {
		alarm = &usual{}
	}
	defer alarm.Stop()
	for {
		e.line.mu.Lock()
		now := time.Now()
		if e.err == nil {
			e.line.advanceLocked(e.in, now)
		}
		if e.err != nil {
			e.line.mu.Unlock()
			return 0, e.err
		}
		if len(p) == 0 {
			e.line.mu.Unlock()
			return 0, nil
		}
		if n := e.in.takeLocked(p, now); n > 0 {
			e.line.mu.Unlock()
			return n, nil
		}
		wake, ok := e.in.nextArrivalLocked()
		e.line.mu.Unlock()
		e.wait(alarm, e.in.readable, wake.Sub(now), ok)
	}
}

// Write hands p to the driver and returns when it has taken all of it, which
// may be up to TxBuffer bytes before the last one is on the line.
func (e *End) Write(p []byte) (int, error) {
	alarm := &usual{}
	defer alarm.Stop()
	taken := 0
	for {
		e.line.mu.Lock()
		now := time.Now()
		if e.err == nil {
			e.line.advanceLocked(e.out, now)
		}
		if e.err != nil {
			e.line.mu.Unlock()
			return taken, e.err
		}
		taken += e.out.putLocked(p[taken:], e.beginLocked(now))
		if taken == len(p) {
			e.out.markLocked()
			e.line.mu.Unlock()
			return taken, nil
		}
		wake, ok := e.out.nextRoomLocked(len(p) - taken)
		e.line.mu.Unlock()
		e.wait(alarm, e.out.writable, wake.Sub(now), ok)
	}
}

// beginLocked is when what is written now begins to go out. On a line whose time is real, what it answers was read
// late because the machine had something else to do; the hardware that the line stands for would not have been.
func (e *End) beginLocked(now time.Time) time.Time {
	if !e.line.exact || e.in.late == 0 {
		return now
	}
	begin := now.Add(-e.in.late)
	e.in.late = 0
	if free := e.out.endLocked(); free.After(begin) {
		return free
	}
	return begin
}

// wait blocks until the direction changes, the end dies or, if timed, d has
// passed.
func (e *End) wait(a alarm, changed <-chan struct{}, d time.Duration, timed bool) {
	var rings <-chan time.Time
	if timed {
		a.Set(d)
		rings = a.Rings()
	}
	select {
	case <-changed:
	case <-e.done:
	case <-rings:
	}
}
