package orchestrator

import (
	"context"
	"time"
)

// Glance is what a few keys of a store tell.
type Glance struct {
	// Newest is when somebody asked for a change last, the zero time if nobody ever did.
	Newest time.Time
	// Devices is how many there are.
	Devices int
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
		return readCounters(r, countDevices, func(_ []string, n int) { g.Devices += n })
	})
	return g, err
}
