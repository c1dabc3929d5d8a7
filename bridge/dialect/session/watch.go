package session

import "time"

// Times of the watch for the version report.
const (
	// ProbeEvery is how often the version is asked for after the MCU was told
	// to boot: it may say nothing by itself when it is back.
	ProbeEvery = 5 * time.Second
	// Settle is how long the old version has to be reported after a restart
	// of the bridge before the image is offered again: an MCU that was told to
	// boot answers for a moment before it resets.
	Settle = 10 * time.Second
	// Grace is between a report of the old version after the boot and the
	// failure: more may follow, one ack timeout later if something was lost.
	Grace = AckCeiling + 2*time.Second
	// MaxReboots is how often the MCU leg begins anew because the MCU restarted
	// before it could be sure to have heard that it should boot the image.
	MaxReboots = 2
)

// Watch is the wait for the report of the booted version. A first report is not
// always the last word, so it keeps when each was heard.
type Watch struct {
	// Back says that the MCU has restarted since it was told to boot.
	Back bool
	// ProbeAt is when the version is asked for again.
	ProbeAt time.Time
	// LastWord is when the watch ends, however often the MCU restarts.
	LastWord time.Time

	oldAt  time.Time // another version was reported
	sameAt time.Time // after a restart, the version was reported that may have run before
}

// Clear forgets what was reported.
func (w *Watch) Clear() { w.Back, w.oldAt, w.sameAt = false, time.Time{}, time.Time{} }

// Restart takes note that the MCU has restarted: what it reported before does
// not count.
func (w *Watch) Restart(now time.Time) {
	w.Clear()
	w.Back, w.ProbeAt = true, now.Add(ProbeEvery)
}

// SawOld takes a report of another version than the image's.
func (w *Watch) SawOld(now time.Time) {
	if w.oldAt.IsZero() {
		w.oldAt = now
	}
}

// SawSame takes a report of the image's version that may have run before.
func (w *Watch) SawSame(now time.Time) {
	if w.sameAt.IsZero() {
		w.sameAt = now
	}
}

// Old says whether another version was reported, Same whether the image's was
// that may have run before.
func (w *Watch) Old() bool  { return !w.oldAt.IsZero() }
func (w *Watch) Same() bool { return !w.sameAt.IsZero() }

// OldAfter is d after the report of another version, the zero time without one.
func (w *Watch) OldAfter(d time.Duration) time.Time { return after(w.oldAt, d) }

// SameAfter is d after the report of the version that may have run before, the
// zero time without one.
func (w *Watch) SameAfter(d time.Duration) time.Time { return after(w.sameAt, d) }

func after(t time.Time, d time.Duration) time.Time {
	if t.IsZero() {
		return t
	}
	return t.Add(d)
}

// Earliest is the first of times that is set, and at if none is before it.
func Earliest(at time.Time, times ...time.Time) time.Time {
	for _, t := range times {
		if !t.IsZero() && t.Before(at) {
			at = t
		}
	}
	return at
}

// Passed says whether at is set and not in the future.
func Passed(at, now time.Time) bool { return !at.IsZero() && !now.Before(at) }
