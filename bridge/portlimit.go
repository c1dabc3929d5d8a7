package bridge

import (
	"errors"
	"fmt"
	"time"

	"davit/bridge/dialect"
	"davit/schemas"
)

// holdUp is what is known of a port that takes no bytes: its sessions give up
// one after the other, and each would begin the update's own limits anew.
type holdUp struct {
	since  time.Time // the first of them gave up, the zero time for none
	loaded uint64    // bytes that the MCU had acknowledged then
}

// gaveUp takes note of why a session ended.
func (d *device) gaveUp(err error) {
	switch {
	case !errors.Is(err, dialect.ErrHeldBack):
		d.held = holdUp{}
	case d.held.since.IsZero():
		d.held.since = time.Now()
		if d.ex != nil {
			d.held.loaded = d.ex.loaded.Load()
		}
	}
}

// portLimit ends an execution whose port does not come back, or takes nothing,
// and returns when it will.
func (d *device) portLimit(now time.Time) time.Time {
	if d.ex.fetchesOnly() {
		return time.Time{}
	}
	patience := d.b.cfg.PortPatience
	if ms := d.ex.offer.Host.AnswerTimeoutMS; ms > 0 {
		patience = milliseconds(ms)
	}
	if d.ex.loaded.Load() != d.held.loaded || d.session != nil && now.Sub(d.upSince) >= patience {
		d.held = holdUp{} // it takes something again, or the session's own limits hold
	}
	since, what := d.downSince, "has been gone"
	switch {
	case !d.held.since.IsZero():
		since, what = d.held.since, "has taken nothing"
	case d.session != nil, d.plan.awaiting:
		return time.Time{}
	}
	if d.ex.since.After(since) {
		since = d.ex.since
	}
	limit := since.Add(patience)
	if now.Before(limit) {
		return limit
	}
	d.finish(dialect.Result{
		State: schemas.StateFailed, Cause: schemas.CauseSerial,
		Detail: fmt.Sprintf("The serial port %s %s for %v.", d.port.Path, what, patience),
	})
	return time.Time{}
}
