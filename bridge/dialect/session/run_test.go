package session

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"davit/bridge/dialect"
	"davit/internal/sim" // a line with a clock
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// puppet is a Machine that notes what it is called for, and wants what the test
// says.
type puppet struct {
	next  Next
	began time.Time
	calls []string
}

func (p *puppet) note(now time.Time, format string, args ...any) {
	p.calls = append(p.calls, fmt.Sprintf("%v ", now.Sub(p.began).Round(time.Second))+fmt.Sprintf(format, args...))
}

func (p *puppet) Begin(now time.Time) { p.began = now; p.note(now, "begin") }

func (p *puppet) Receive(b []byte, now time.Time) { p.note(now, "receive %s", b) }

func (p *puppet) Sent(now time.Time) { p.note(now, "sent") }

func (p *puppet) Order(u *dialect.Update, now time.Time) {
	if u == nil {
		p.note(now, "cancel")
		return
	}
	p.note(now, "update to %s", u.Version)
}

// Step wants what the test said, once.
func (p *puppet) Step(now time.Time) Next {
	n := p.next
	if !n.Wake.IsZero() && !now.Before(n.Wake) {
		p.note(now, "due")
		n.Wake = time.Time{}
	}
	if n.Wake.IsZero() {
		n.Wake = now.Add(time.Hour)
	}
	p.next.Write, p.next.Wake = nil, n.Wake
	return n
}

// run runs f with a session of p, and returns what its Run returned.
func run(t *testing.T, p *puppet, f func(s dialect.Session, line *sim.Line)) (err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		line := sim.NewLine(sim.LineConfig{})
		s := New(line.Module(), sim.DefaultBaud, p)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		synctest.Wait()
		f(s, line)
		synctest.Wait()
		cancel()
		err = <-done
		_ = line.MCU().Close()
	})
	return err
}

func (p *puppet) wants(t *testing.T, want ...string) {
	t.Helper()
	if want = append([]string{"0s begin"}, want...); !slices.Equal(p.calls, want) {
		t.Errorf("called for %q, want %q", p.calls, want)
	}
}

// A machine hears of what happens in its order, and of each write that the line
// has taken.
func TestRun(t *testing.T) {
	p := &puppet{next: Next{Write: []byte("hello")}}
	err := run(t, p, func(s dialect.Session, line *sim.Line) {
		b := make([]byte, 5)
		if n, err := line.MCU().Read(b); err != nil || string(b[:n]) != "hello" {
			t.Errorf("the peer reads %q, %v", b[:n], err)
		}
		time.Sleep(2 * time.Second)
		if _, err := line.MCU().Write([]byte("hi")); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second)
		s.Start(dialect.Update{Version: "1"})
		time.Sleep(time.Second)
		s.Cancel()
	})
	if err != nil {
		t.Errorf("Run: %v", err)
	}
	p.wants(t, "0s sent", "2s receive hi", "3s update to 1", "4s cancel")
}

// Of wishes that come faster than they are carried out, the newest counts.
func TestRunTakesTheNewestWish(t *testing.T) {
	p := &puppet{}
	synctest.Test(t, func(t *testing.T) {
		line := sim.NewLine(sim.LineConfig{})
		s := New(line.Module(), sim.DefaultBaud, p)
		s.Start(dialect.Update{Version: "1"})
		s.Cancel()
		s.Start(dialect.Update{Version: "2"})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	p.wants(t, "0s update to 2")
}

// A machine is woken when it wants to be, or by the image.
func TestRunWakes(t *testing.T) {
	p := &puppet{}
	synctest.Test(t, func(t *testing.T) {
		line := sim.NewLine(sim.LineConfig{})
		image := make(chan struct{})
		s := New(line.Module(), sim.DefaultBaud, &wakeful{p, image})
		p.next.Wake = time.Now().Add(5 * time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		time.AfterFunc(7*time.Second, func() { close(image) })
		if err := s.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	p.wants(t, "5s due", "7s image")
}

// wakeful waits for an image.
type wakeful struct {
	*puppet
	image <-chan struct{}
}

// Step implements Machine.
func (w *wakeful) Step(now time.Time) Next {
	n := w.puppet.Step(now)
	select {
	case <-w.image:
		w.note(now, "image")
		w.image = nil
	default:
	}
	n.Image = w.image
	return n
}

// A line that dies ends the session with an error, whether it reads or writes.
func TestRunEndsWithItsLine(t *testing.T) {
	for name, next := range map[string]Next{
		"reading": {},
		"writing": {Write: make([]byte, 1<<20)},
	} {
		t.Run(name, func(t *testing.T) {
			p := &puppet{next: next}
			err := run(t, p, func(_ dialect.Session, line *sim.Line) {
				time.Sleep(time.Second)
				line.Unplug()
			})
			if !errors.Is(err, sim.ErrUnplugged) {
				t.Errorf("Run: %v", err)
			}
			p.wants(t)
		})
	}
}

// A write that is held back does not hold up the session, which goes on when the
// line does, and ends when that takes too long: so does the write.
func TestRunGivesUpALineThatTakesNothing(t *testing.T) {
	for _, c := range []struct {
		name  string
		low   time.Duration
		ends  error
		calls []string
	}{
		{"for a minute", time.Minute, nil, []string{"30s receive hi", "1m0s sent"}},
		{"for nearly too long", WriteLimit - time.Second, nil, []string{"30s receive hi", "1m59s sent"}},
		{"for ever", time.Hour, dialect.ErrHeldBack, []string{"30s receive hi"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &puppet{next: Next{Write: make([]byte, 100)}}
			synctest.Test(t, func(t *testing.T) {
				line := sim.NewLine(sim.LineConfig{TxBuffer: 10, Baud: 4_000_000})
				line.Stall(true)
				s := New(line.Module(), 4_000_000, p)
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
				defer cancel()
				time.AfterFunc(30*time.Second, func() { _, _ = line.MCU().Write([]byte("hi")) })
				time.AfterFunc(c.low, func() { line.Stall(false) })
				began := time.Now()
				err := s.Run(ctx)
				if !errors.Is(err, c.ends) {
					t.Errorf("Run: %v, want %v", err, c.ends)
				}
				if took := time.Since(began); c.ends != nil && took != WriteLimit {
					t.Errorf("it took %v", took)
				}
				_ = line.MCU().Close()
			})
			p.wants(t, c.calls...)
		})
	}
}

// The time that one write took is not counted for the next one.
func TestRunCountsEachWriteForItself(t *testing.T) {
	p := &writes{puppet: puppet{}}
	synctest.Test(t, func(t *testing.T) {
		line := sim.NewLine(sim.LineConfig{TxBuffer: 10, Baud: 4_000_000})
		s := New(line.Module(), sim.DefaultBaud, p)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		go func() {
			for range 10 {
				line.Stall(true)
				time.Sleep(WriteLimit - time.Second)
				line.Stall(false)
				time.Sleep(10 * time.Millisecond)
			}
		}()
		if err := s.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
		_ = line.MCU().Close()
	})
	if p.sent < 10 {
		t.Errorf("%d writes", p.sent)
	}
}

// writes is a Machine that always has something to write.
type writes struct {
	puppet
	sent int
	busy bool
}

// Step implements Machine.
func (w *writes) Step(now time.Time) Next {
	n := Next{Wake: now.Add(time.Second)}
	if !w.busy && w.sent < 1000 {
		n.Write, w.busy = make([]byte, 100), true
	}
	return n
}

// Sent implements Machine.
func (w *writes) Sent(time.Time) { w.sent, w.busy = w.sent+1, false }
