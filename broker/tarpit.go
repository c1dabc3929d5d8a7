package broker

import (
	"sync"
	"time"
)

// tarpit keeps sockets that are not heard open for a while, because who is hung up on at
// once only comes back the sooner. A socket in it has no goroutine and no buffer.
type tarpit struct {
	most int

	mu     sync.Mutex
	held   map[*socket]*time.Timer
	closed bool
}

// hold closes s after longestDelay, or at once if there is no room.
func (t *tarpit) hold(s *socket) {
	t.mu.Lock()
	if t.closed || len(t.held) >= t.most {
		t.mu.Unlock()
		_ = s.Close() // there is nothing to be lost
		return
	}
	if t.held == nil {
		t.held = make(map[*socket]*time.Timer)
	}
	t.held[s] = time.AfterFunc(longestDelay, func() {
		t.mu.Lock()
		delete(t.held, s)
		t.mu.Unlock()
		_ = s.Close()
	})
	t.mu.Unlock()
}

// close closes all of them, and those that come later at once.
func (t *tarpit) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for s, timer := range t.held {
		timer.Stop()
		_ = s.Close()
	}
	t.held = nil
}

// len is how many there are.
func (t *tarpit) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.held)
}
