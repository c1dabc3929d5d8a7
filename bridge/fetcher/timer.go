package fetcher

import "time"

// Times after which a chunk that did not come is asked for again.
const (
	// firstStall stands before anything was measured.
	firstStall = 2 * time.Second
	// leastSpread is how much later than on average a chunk may always come.
	leastSpread = 200 * time.Millisecond
	maxStall    = 30 * time.Second
)

// stallTimer measures how long chunks take to come, and says when to ask again, as
// RFC 6298 does.
type stallTimer struct {
	mean, spread time.Duration
	measured     bool
	backoff      int
}

func (t *stallTimer) observe(took time.Duration) {
	if !t.measured {
		t.mean, t.spread, t.measured = took, took/2, true
		return
	}
	t.spread += ((took - t.mean).Abs() - t.spread) / 4
	t.mean += (took - t.mean) / 8
}

func (t *stallTimer) stalled() { t.backoff = min(t.backoff+1, 10) }

func (t *stallTimer) wait() time.Duration {
	w := firstStall
	if t.measured {
		w = t.mean + max(leastSpread, 4*t.spread)
	}
	return min(w<<t.backoff, maxStall)
}
