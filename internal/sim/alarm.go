package sim

import "time"

// alarm rings once, at the time that it is set to. A line in virtual time has time.Timer; one behind a
// pseudo-terminal, where a program measures it, has the most exact that the system offers.
type alarm interface {
	// Set makes it ring after d, and no more at the time set before.
	Set(d time.Duration)
	// Rings receives when it does. A ring of the time set before may be left in it.
	Rings() <-chan time.Time
	// Stop ends it; it may be set again.
	Stop()
	// Close frees it.
	Close()
}

// usual is the runtime's timer. Outside of virtual time it is up to a millisecond late, which is the unit in which the
// runtime waits for the system.
type usual struct{ t *time.Timer }

func (a *usual) Set(d time.Duration) {
	if a.t == nil {
		a.t = time.NewTimer(d)
		return
	}
	a.t.Reset(d)
}

func (a *usual) Rings() <-chan time.Time {
	if a.t == nil {
		return nil
	}
	return a.t.C
}

func (a *usual) Stop() {
	if a.t != nil {
		a.t.Stop()
	}
}

func (a *usual) Close() { a.Stop() }
