// Package pulse notices that a loop is stuck: that a piece of its work, which should be short,
// does not come to its end. The loop says when a piece begins and ends, which costs a read of
// the clock and a store; whoever watches asks how long the present one has taken. A loop that
// waits for work is never stuck. It owns no goroutine and imports nothing of ours.
package pulse

import (
	"sync/atomic"
	"time"
)

// Pulse is the work of one loop. Its methods may be called from any goroutine; the loop's own
// calls are Begin and End.
type Pulse struct {
	base  time.Time    // with the monotonic clock, so that a clock that is set does no harm
	begun atomic.Int64 // nanoseconds after base, at least 1; 0 between two pieces
}

// New returns a Pulse whose loop does nothing yet.
func New() *Pulse { return &Pulse{base: time.Now()} }

// Begin says that a piece of work begins, and that the one before, if it was not ended, is over.
func (p *Pulse) Begin() { p.begun.Store(max(1, int64(time.Since(p.base)))) }

// End says that the loop waits for work.
func (p *Pulse) End() { p.begun.Store(0) }

// Busy is for how long the present piece of work has been under way, 0 if there is none.
func (p *Pulse) Busy() time.Duration {
	begun := p.begun.Load()
	if begun == 0 {
		return 0
	}
	return max(1, time.Since(p.base)-time.Duration(begun))
}
