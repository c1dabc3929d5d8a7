// Package session is what the sessions of all dialects share: the goroutines
// that drive an open line and the clock (Run), an update under way with its
// limits, reports and end (Leg), the watch for the version report that proves it
// (Watch), the questions for versions (Asks) and the timer that follows the
// peer's turn-around (Turnaround). A dialect adds its codec and its state machine.
//
// A session has one goroutine that makes all calls of its Machine and thereby
// owns the machine's state, and two more that only read from and write to the
// line; the line's kernel buffers and flow control may block those, never the
// session, which gives up a line that takes nothing for WriteLimit. The package imports schemas and bridge/dialect. It opens no port,
// stores nothing and logs nothing: that is the bridge's.
package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"davit/bridge/dialect"
)

// Machine is a dialect's state machine for one line. All calls come from one
// goroutine and none may block; now never goes back.
type Machine interface {
	// Begin is called once, before all others: the line is open.
	Begin(now time.Time)
	// Receive takes bytes of the peer, which are the caller's again when it
	// returns.
	Receive(b []byte, now time.Time)
	// Order carries out the bridge's newest wish: an update in the place of the
	// one under way, or nil to drop that one.
	Order(u *dialect.Update, now time.Time)
	// Step does what is due and says what comes next. It is called after every
	// other call and when the time that it named has come.
	Step(now time.Time) Next
	// Sent says that the line has taken all of Next.Write.
	Sent(now time.Time)
}

// Next is what a Machine wants.
type Next struct {
	// Write goes to the line as one write; nothing if empty. The machine leaves
	// it alone, and asks for no other, until Sent.
	Write []byte
	// Wake is when Step is to be called again at the latest.
	Wake time.Time
	// Image, if not nil, wakes the machine as well when it is closed.
	Image <-chan struct{}
}

// WriteLimit is how long a line may hold a write back before the session gives
// the line up: a host MCU that keeps RTS low, or an adapter that is stuck. An MCU
// that erases its flash with RTS low needs less.
const WriteLimit = 2 * time.Minute

// readSize is how much is taken from the line at once: more than a driver hands
// over at a time.
const readSize = 1024

// session drives one line.
type session struct {
	line     io.ReadWriteCloser
	byteTime time.Duration
	machine  Machine
	mail     mailbox
	writing  bool // the writer has bytes that the line has not taken
	written  int  // the length of the last write
}

// New returns a session that drives a line of baud bit/s with m.
func New(line io.ReadWriteCloser, baud int, m Machine) dialect.Session {
	return &session{line: line, byteTime: bitsPerByte * time.Second / time.Duration(baud), machine: m, mail: mailbox{wake: make(chan struct{}, 1)}}
}

// mailbox holds the newest wish of other goroutines.
type mailbox struct {
	mu     sync.Mutex
	full   bool
	update *dialect.Update // nil to cancel
	wake   chan struct{}
}

func (m *mailbox) put(u *dialect.Update) {
	m.mu.Lock()
	m.full, m.update = true, u
	m.mu.Unlock()
	select {
	case m.wake <- struct{}{}:
	default: // awake already
	}
}

func (m *mailbox) take() (u *dialect.Update, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	u, ok = m.update, m.full
	m.update, m.full = nil, false
	return u, ok
}

// Start implements dialect.Session.
func (s *session) Start(u dialect.Update) { s.mail.put(&u) }

// Cancel implements dialect.Session.
func (s *session) Cancel() { s.mail.put(nil) }

// wires are the channels between the session's goroutine and the two that
// wait for the line.
type wires struct {
	in    chan []byte // pieces read
	free  chan []byte // buffers to read into
	out   chan []byte // one write
	wrote chan struct{}
	dead  chan error
	stop  chan struct{}
}

// Run implements dialect.Session.
func (s *session) Run(ctx context.Context) error {
	w := wires{
		in: make(chan []byte), free: make(chan []byte, 2), out: make(chan []byte, 1),
		wrote: make(chan struct{}, 1), dead: make(chan error, 2), stop: make(chan struct{}),
	}
	for range cap(w.free) {
		w.free <- make([]byte, readSize)
	}
	var both sync.WaitGroup
	both.Go(func() { read(s.line, &w) })
	both.Go(func() { write(s.line, &w) })
	err := s.loop(ctx, &w)
	if err == nil {
		s.finish(&w)
	}
	close(w.stop)
	closed := s.line.Close()
	both.Wait()
	if err == nil {
		return nil
	}
	return errors.Join(err, closed)
}

func read(line io.Reader, w *wires) {
	for {
		var b []byte
		select {
		case b = <-w.free:
		case <-w.stop:
			return
		}
		n, err := line.Read(b)
		if n > 0 {
			select {
			case w.in <- b[:n]:
			case <-w.stop:
				return
			}
		} else {
			w.free <- b
		}
		if err != nil {
			w.dead <- err
			return
		}
	}
}

func write(line io.Writer, w *wires) {
	for {
		select {
		case b := <-w.out:
			if _, err := line.Write(b); err != nil {
				w.dead <- err
				return
			}
			w.wrote <- struct{}{}
		case <-w.stop:
			return
		}
	}
}

func (s *session) loop(ctx context.Context, w *wires) error {
	now := time.Now()
	s.machine.Begin(now)
	timer := time.NewTimer(0)
	defer timer.Stop()
	limit := time.NewTimer(WriteLimit) // of the write under way
	limit.Stop()
	defer limit.Stop()
	for {
		next := s.machine.Step(now)
		if len(next.Write) > 0 {
			s.writing, s.written = true, len(next.Write)
			w.out <- next.Write // never blocks: the machine gives out one at a time
			limit.Reset(WriteLimit)
		}
		timer.Reset(max(0, next.Wake.Sub(now)))
		select {
		case <-ctx.Done():
			return nil
		case err := <-w.dead:
			return fmt.Errorf("serial line: %w", err)
		case b := <-w.in:
			now = time.Now()
			s.machine.Receive(b, now)
			w.free <- b[:cap(b)]
		case <-limit.C:
			return fmt.Errorf("serial line: %w for %v", dialect.ErrHeldBack, WriteLimit)
		case <-w.wrote:
			limit.Stop()
			s.writing = false
			now = time.Now()
			s.machine.Sent(now)
		case <-s.mail.wake:
			now = time.Now()
			if u, ok := s.mail.take(); ok {
				s.machine.Order(u, now)
			}
		case <-next.Image:
			now = time.Now()
		case <-timer.C:
			now = time.Now()
		}
	}
}
