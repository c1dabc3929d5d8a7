package orchestrator

import (
	"fmt"
	"time"

	"davit/internal/clock"
	"davit/schemas"
)

// followClock moves the times back of executions that changed last at a time that is
// still to come: the clock was set back since, or was ahead then, and what they wait for
// would come later by as much. Then as much is left of it as there was at that change.
// Nothing lasts longer than its limit from now on, and nothing ends too early for it:
// what began at a time that has passed may have begun then, so it keeps that. What only
// waits for the device is left for later, as are all other rules on it: it need not be
// there (loadpart.go).
func (m *machine) followClock(subject string) {
	current := m.current()
	for i := range m.Executions {
		t := &m.Executions[i]
		waits := t.State == schemas.StateQueued && t.ID != subject && !m.hasSay(t, current)
		if waits || t.State.Final() || !m.moveBack(t) { // what has ended is moved if it is tried again
			continue
		}
		m.changed(t.State, t)
		// The device goes by the time that it was told.
		m.sayAgain = m.sayAgain || t.State == schemas.StateOffered && t.Action == ActionSoft
	}
}

// hasSay says whether a queued execution has a say while another is under way, current;
// -1 is none.
func (m *machine) hasSay(t *Tracked, current int) bool {
	if current < 0 {
		return true
	}
	of := &m.Executions[current]
	return of.State == schemas.StateOffered && t.Priority > of.Priority
}

// moveBack moves what lies ahead of the clock, if an execution changed last at a time that is
// still to come, and what is reckoned from that. It says whether that is so.
func (m *machine) moveBack(t *Tracked) bool {
	if !clock.ToCome(t.UpdatedAt, m.now) {
		return false
	}
	by := t.UpdatedAt.Sub(m.now)
	if v := m.view(t.Job); v.Plan == nil || t.DeferUntil.Add(-time.Duration(v.Plan.DeferLimit)).After(m.now) {
		t.DeferUntil = movedBack(t.DeferUntil, by, m.now)
	}
	for _, at := range []*time.Time{&t.CreatedAt, &t.OfferedAt, &t.PhaseAt, &t.UpdatedAt, &t.EndedAt, &t.NotBefore} {
		*at = movedBack(*at, by, m.now)
	}
	if t.open() {
		t.DueAt, _ = m.deadline(t)
	}
	return true
}

func movedBack(at time.Time, by time.Duration, now time.Time) time.Time {
	if at.After(now) {
		return at.Add(-by)
	}
	return at
}

// phase numbers the parts of an update that have a time limit of their own.
func phase(s schemas.State) int {
	switch s {
	case schemas.StateOffered:
		return 1
	case schemas.StateAccepted, schemas.StateDownloading:
		return 2
	case schemas.StateDownloaded, schemas.StateInstalling:
		return 3
	case schemas.StateBooting:
		return 4
	}
	return 0
}

// setDeadline notes until when an execution's present phase may last. Progress
// within a phase does not move it.
func (m *machine) setDeadline(from schemas.State, t *Tracked) {
	if t.State.Final() {
		t.DueAt = time.Time{}
		return
	}
	if t.State == schemas.StateQueued {
		t.PhaseAt, t.DueAt = time.Time{}, t.NotBefore
		return
	}
	if from != t.State && phase(from) != phase(t.State) {
		t.PhaseAt = m.now
		t.DueAt, _ = m.deadline(t)
	}
}

// deadline is when an execution that is under way is over a limit, and which.
// The zero time means never.
func (m *machine) deadline(t *Tracked) (at time.Time, which string) {
	earlier := func(when time.Time, what string) {
		if at.IsZero() || when.Before(at) {
			at, which = when, what
		}
	}
	if t.State == schemas.StateOffered && t.Action == ActionSoft {
		earlier(t.DeferUntil, "the time to put it off")
	}
	if v := m.view(t.Job); v.Plan != nil && v.Plan.Timeouts != nil {
		limits := v.Plan.Timeouts
		if d, what := limits.limit(t.State, t.BytesTotal, m.Host); d > 0 {
			earlier(t.PhaseAt.Add(d), what)
		}
		if limits.Total > 0 {
			earlier(t.OfferedAt.Add(time.Duration(limits.Total)), "the whole update")
		}
	}
	return at, which
}

// due does what an execution's timer is for.
func (m *machine) due(execution string) {
	i := m.find(execution)
	if i < 0 {
		return
	}
	t := &m.Executions[i]
	if t.DueAt.IsZero() || m.now.Before(t.DueAt) {
		return
	}
	from := t.State
	switch {
	case t.State == schemas.StateQueued:
		t.NotBefore = time.Time{}
		m.changed(from, t)
	case t.State == schemas.StateOffered && t.Action == ActionSoft && !m.now.Before(t.DeferUntil):
		m.again(t, "the time to put it off is over")
		m.changed(from, t)
	case t.State == schemas.StateOffered && !m.Online:
		m.again(t, "the device was gone and did not answer")
		m.changed(from, t)
	default:
		m.timeOut(t)
	}
}

// timeOut ends an execution that is over a limit.
func (m *machine) timeOut(t *Tracked) {
	at, which := m.deadline(t)
	began := t.PhaseAt
	if which == "the whole update" {
		began = t.OfferedAt
	}
	m.end(t, ending{state: schemas.StateTimedOut, cause: schemas.CauseTimeout,
		detail: fmt.Sprintf("%s took longer than %v", which, at.Sub(began))})
	m.follow(t)
}
