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
	// asked is until when the broker has asked to be left alone, and excused how many of
	// the attempts in a row it has answered so: it is there, so they are no failures.
	asked   time.Time
	excused int
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

// told takes that the broker asks to be left alone for a time, and returns for how long it
// will be: that time, but no less than after a first failure.
func (r *reconnects) told(d time.Duration) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	d = max(d, draw(firstReconnect))
	r.asked = time.Now().Add(d)
	r.excused++
	return d
}

// wait is the time before an attempt, the first of which is number 0. It is what the broker
// has asked for; it has drawn that by chance and reckons with us then, so nothing is added. After
// failures it doubles from attempt to attempt and is drawn anew, so that a rack of bridges does
// not come back in step.
func (r *reconnects) wait(attempt int) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if attempt == 0 {
		r.excused = 0
	}
	if d := time.Until(r.asked); d > 0 {
		return d
	}
	return draw(longestWait(attempt - r.excused + r.brief))
}

// draw draws a wait from the upper half of those up to a limit.
func draw(limit time.Duration) time.Duration {
	if limit == 0 {
		return 0
	}
	return limit/2 + rand.N(limit/2)
}

// longestWait is the limit of the wait after so many failures in a row.
func longestWait(failures int) time.Duration {
	if failures <= 0 {
		return 0
	}
	return min(firstReconnect<<min(failures-1, 10), lastReconnect)
}
