package orchestrator

import (
	"fmt"
	"time"

	"davit/schemas"
)

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
