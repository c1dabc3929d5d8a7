package serialport

import (
	"testing"
	"testing/synctest"
	"time"
)

// slow sends a byte each millisecond until it is stuck.
type slow struct {
	began   time.Time
	n       int
	stuckAt int
	dropped bool
}

func (s *slow) queued() (int, error) {
	return max(s.stuckAt, s.n-int(time.Since(s.began).Milliseconds())), nil
}

func (s *slow) drop() error { s.dropped = true; return nil }

// What goes out in time is waited for; what does not is dropped then.
func TestFlush(t *testing.T) {
	for _, c := range []struct {
		stuckAt int
		within  time.Duration
		dropped bool
	}{
		{0, time.Second, false}, {5, time.Second, true}, {0, 10 * time.Millisecond, true}, {0, -time.Second, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			q := &slow{began: time.Now(), n: 100, stuckAt: c.stuckAt}
			flush(q, c.within)
			if q.dropped != c.dropped {
				t.Errorf("stuck at %d, within %v: dropped %v", c.stuckAt, c.within, q.dropped)
			}
			if took := time.Since(q.began); took > max(0, c.within)+flushLook {
				t.Errorf("stuck at %d, within %v: took %v", c.stuckAt, c.within, took)
			}
		})
	}
}

// A real terminal whose reader takes everything has nothing queued.
func TestFlushOfATerminal(t *testing.T) {
	_, path := pty(t)
	p := open(t, path, line8O1)
	if _, err := p.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	p.Flush(time.Minute)
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
	_ = p.Close()
	p.Flush(time.Minute) // of a closed port: nothing
}
