package broker

import (
	"sync"
	"time"
)

// longestDelay is the most that the answer to a wrong password is put off.
const longestDelay = 2 * time.Second

// failures spaces out the answers to wrong passwords: who guesses, or a fleet
// with wrong ones, comes back no faster than it is answered, and leaves the
// processor to the others. A second's worth is answered at once.
type failures struct {
	rate int // answers a second
	most int // that may be put off at a time

	mu      sync.Mutex
	next    time.Time // when the next answer is due
	waiting int
}

// delay waits before a wrong password is answered, until cut is closed. It
// returns false if too many wait already: then there is no answer.
func (f *failures) delay(cut <-chan struct{}) bool {
	f.mu.Lock()
	now := time.Now()
	if early := now.Add(-time.Second); f.next.Before(early) {
		f.next = early
	}
	f.next = f.next.Add(time.Second / time.Duration(f.rate))
	d := min(f.next.Sub(now), longestDelay)
	if d <= 0 {
		f.mu.Unlock()
		return true
	}
	f.next = now.Add(d)
	if f.waiting >= f.most {
		f.mu.Unlock()
		return false
	}
	f.waiting++
	f.mu.Unlock()
	t := time.NewTimer(d)
	select {
	case <-t.C:
	case <-cut:
		t.Stop()
	}
	f.mu.Lock()
	f.waiting--
	f.mu.Unlock()
	return true
}
