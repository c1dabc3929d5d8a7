package orchestrator

import (
	"context"
	"time"
)

// Glance is what a few keys of a store tell.
type Glance struct {
	// Newest is when somebody asked for a change last, the zero time if nobody ever did.
	Newest time.Time
	// Believed is the latest time that retention has believed, or would begin with; the zero time if none is known.
	Believed time.Time
	// Devices is how many there are.
	Devices int
}

// RetentionHeld says whether retention deletes nothing at a time, unless an NTP client keeps the clock, and which is the last
// time that is known to be right. confirmed is Options.ClockConfirmed.
func (g Glance) RetentionHeld(confirmed, now time.Time) (right time.Time, held bool) {
	right = lastRight(g.Believed, confirmed, now)
	return right, !right.IsZero() && now.After(right.Add(clockLeap+retentionEvery))
}

// Glanced reads a Glance: a number of keys that does not depend on the size of the store.
func Glanced(ctx context.Context, view func(context.Context, func(Reader) error) error) (Glance, error) {
	var g Glance
	err := view(ctx, func(r Reader) error {
		var failed error
		if err := r.Scan(tableAudit, nil, nil, func(_, v []byte) bool {
			var e AuditEntry
			failed = decode(v, &e)
			g.Newest = e.Time
			return false
		}); err != nil {
			return err
		}
		if failed != nil {
			return failed
		}
		var err error
		if g.Believed, _, err = clockBefore(r); err != nil {
			return err
		}
		return readCounters(r, countDevices, func(_ []string, n int) { g.Devices += n })
	})
	return g, err
}
