package orchestrator

import (
	"sync"
	"time"
)

// onceAMinute limits log lines: each reason is let through once a minute. It
// keeps at most maxReasons of them and lets nothing new through beyond.
type onceAMinute struct {
	now  func() time.Time
	mu   sync.Mutex
	last map[string]time.Time
}

const maxReasons = 10_000

func newOnceAMinute(now func() time.Time) *onceAMinute {
	return &onceAMinute{now: now, last: map[string]time.Time{}}
}

func (o *onceAMinute) allow(reason string) bool {
	now := o.now()
	o.mu.Lock()
	defer o.mu.Unlock()
	if last, ok := o.last[reason]; ok && now.Sub(last) < time.Minute {
		return false
	}
	if len(o.last) >= maxReasons {
		for r, t := range o.last {
			if now.Sub(t) >= time.Minute {
				delete(o.last, r)
			}
		}
		if len(o.last) >= maxReasons {
			return false
		}
	}
	o.last[reason] = now
	return true
}
