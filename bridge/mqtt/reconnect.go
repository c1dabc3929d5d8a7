package mqtt

import (
	"math/rand/v2"
	"sync"
	"time"
)

// Times between attempts to reach the broker.
const (
	firstReconnect = 500 * time.Millisecond
	lastReconnect  = 30 * time.Second
)

// reconnects says how long to wait before the broker is tried again. A
// connection that is lost soon counts as a failed attempt: two bridges with one
// user name end each other's connections, and would do so without a pause.
type reconnects struct {
	mu sync.Mutex
	up time.Time
	// brief is how many connections in a row were lost soon.
	brief int
}

// connected begins a connection.
func (r *reconnects) connected() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.up = time.Now()
}

// lost ends one. It was lost soon if it held less than twice as long as the
// longest wait that comes next: the other of two bridges waits no longer than
// that before it takes the connection over again.
func (r *reconnects) lost() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.up) < 2*longestWait(r.brief+1) {
		r.brief++
	} else {
		r.brief = 0
	}
}

// wait is the time before an attempt, the first of which is number 0. It doubles
// from attempt to attempt and is drawn anew, so that a rack of bridges does not
// come back in step.
func (r *reconnects) wait(attempt int) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := longestWait(attempt + r.brief)
	if d == 0 {
		return 0
	}
	return d/2 + rand.N(d/2)
}

// longestWait is the limit of the wait after so many failures in a row.
func longestWait(failures int) time.Duration {
	if failures <= 0 {
		return 0
	}
	return min(firstReconnect<<min(failures-1, 10), lastReconnect)
}
