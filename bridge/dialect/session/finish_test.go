package session

import (
	"bytes"
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"davit/internal/sim" // a line with a clock
)

// stopDuringWrite ends a session 10 ms into a write of 300 bytes on a line whose
// driver holds 16, and returns what came of it at the far end and how long the end took.
func stopDuringWrite(t *testing.T, during func(line *sim.Line)) (got []byte, took time.Duration) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		line := sim.NewLine(sim.LineConfig{TxBuffer: 16})
		s := New(line.Module(), sim.DefaultBaud, &puppet{next: Next{Write: bytes.Repeat([]byte("x"), 300)}})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		far := line.MCU()
		heard := make(chan []byte)
		go func() {
			b, _ := io.ReadAll(far) // until it is closed
			heard <- b
		}()
		time.Sleep(10 * time.Millisecond)
		during(line)
		began := time.Now()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		took = time.Since(began)
		line.Stall(false)
		time.Sleep(time.Second)
		_ = far.Close()
		got = <-heard
	})
	return got, took
}

// The end of a session cuts off no write.
func TestRunFinishesItsWrite(t *testing.T) {
	got, took := stopDuringWrite(t, func(*sim.Line) {})
	if len(got) != 300 || took > 30*time.Millisecond {
		t.Errorf("%d of 300 bytes arrived, the end took %v", len(got), took)
	}
}

// A line that takes nothing does not hold up the end.
func TestRunEndsOnAStuckLine(t *testing.T) {
	got, took := stopDuringWrite(t, func(line *sim.Line) { line.Stall(true) })
	if len(got) == 300 || took < finishSlack || took > finishSlack+100*time.Millisecond {
		t.Errorf("%d of 300 bytes arrived, the end took %v", len(got), took)
	}
}

// A line that dies meanwhile ends the wait.
func TestRunFinishesOnADeadLine(t *testing.T) {
	_, took := stopDuringWrite(t, func(line *sim.Line) {
		line.Stall(true)
		time.AfterFunc(100*time.Millisecond, line.Unplug)
	})
	if took > 200*time.Millisecond {
		t.Errorf("the end took %v", took)
	}
}

// A driver is given the rest of the time to send what it has taken.
func TestRunFlushesItsLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := sim.NewLine(sim.LineConfig{})
		f := &flushed{ReadWriteCloser: line.Module()}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if err := New(f, 9600, &puppet{next: Next{Write: make([]byte, 96)}}).Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
		if want := 96*bitsPerByte*time.Second/9600 + finishSlack; f.within < want-time.Millisecond || f.within > want {
			t.Errorf("Flush within %v, want %v", f.within, want)
		}
	})
}

type flushed struct {
	io.ReadWriteCloser
	within time.Duration
}

func (f *flushed) Flush(within time.Duration) { f.within = within }
