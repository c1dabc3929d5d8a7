package orchestrator

import (
	"fmt"
	"slices"
	"time"

	"davit/schemas"
)

func (m *machine) report(s schemas.Status) {
	ack := schemas.Ack{V: schemas.Version, Execution: s.Execution, Attempt: s.Attempt, Seq: s.Seq}
	i := m.find(s.Execution)
	if i < 0 {
		ack.State, ack.Superseded = schemas.StateCanceled, true
		m.effects = append(m.effects, Acknowledge{ack})
		return
	}
	t := &m.Executions[i]
	ack.State = t.State
	switch {
	case s.Attempt != t.Attempt:
		ack.Superseded = true
	case !news(t, s):
	case m.putsOff(t, s):
		ack.State = s.State
		m.putOff(t, s)
	default:
		m.apply(t, s)
		ack.State = t.State // what is recorded of this attempt, whatever follows it
		m.follow(t)
	}
	m.effects = append(m.effects, Acknowledge{ack})
}

// news says whether a report of the current attempt tells more than is
// recorded. A queued execution was never offered, so nothing can be said of it.
func news(t *Tracked, s schemas.Status) bool {
	if !t.open() {
		return false
	}
	have, got := t.State.Rank(), s.State.Rank()
	return got > have || got == have && s.Seq > t.Seq
}

func (m *machine) apply(t *Tracked, s schemas.Status) {
	t.Seq = max(t.Seq, s.Seq)
	if s.BytesDone > 0 || countsBytes(s.State) {
		t.BytesDone = min(s.BytesDone, t.BytesTotal)
	}
	if s.HostVersion != "" {
		t.HostVersion = s.HostVersion
		m.setVersion(t.ImageType, s.HostVersion)
	}
	if !s.State.Final() {
		from := t.State
		t.State, t.UpdatedAt, t.Detail = s.State, m.now, s.Detail
		m.changed(from, t)
		return
	}
	e := ending{state: s.State, cause: s.Cause, code: s.Code, detail: s.Detail, hostVersion: s.HostVersion}
	if s.State == schemas.StateSucceeded && s.HostVersion != t.Version {
		e.state, e.cause = schemas.StateFailed, schemas.CauseBoot
		e.detail = fmt.Sprintf("the module reported success, but the host MCU runs %q and not %q", s.HostVersion, t.Version)
	}
	m.end(t, e)
}

// countsBytes says whether a report in state s speaks of bytes, so that 0 of
// them is a figure and not an omission.
func countsBytes(s schemas.State) bool {
	return s == schemas.StateDownloading || s == schemas.StateDownloaded || s == schemas.StateInstalling
}

// putsOff says whether a report puts off an update that may be put off.
func (m *machine) putsOff(t *Tracked, s schemas.Status) bool {
	if s.State != schemas.StateRejected || s.Cause != schemas.CauseDeferred || m.view(t.Job).Over {
		return false
	}
	return t.Action == ActionConfirm || t.Action == ActionSoft && m.now.Before(t.DeferUntil)
}

// putOff takes the offer back for as long as the device asks, though not longer
// than it may be put off.
func (m *machine) putOff(t *Tracked, s schemas.Status) {
	wait := time.Duration(s.DeferS) * time.Second
	if t.Action == ActionSoft {
		wait = min(wait, t.DeferUntil.Sub(m.now))
	}
	why := fmt.Sprintf("the device put it off for %v", wait.Round(time.Second))
	if s.Detail != "" {
		why += ": " + s.Detail
	}
	from := t.State
	m.again(t, why)
	t.NotBefore = m.now.Add(wait)
	m.changed(from, t)
}

// follow does what comes after a report: an update that was only to be
// downloaded waits, one of several steps goes on, and one that failed is tried
// again if the policy says so.
func (m *machine) follow(t *Tracked) {
	v := m.view(t.Job)
	switch {
	case t.State == schemas.StateDownloaded && t.Action == ActionDownload:
		m.again(t, "the image is downloaded; it is installed on command")
		t.Downloaded = true
		m.changed(schemas.StateDownloaded, t)
		m.tooLate(t, v, "the job ended before the command to install it")
	case t.State == schemas.StateSucceeded && t.Version != t.goal():
		m.again(t, "")
		t.Downloaded, t.Install = false, false
		m.changed(schemas.StateSucceeded, t)
		m.tooLate(t, v, fmt.Sprintf("the job ended before the device had come to version %q", t.goal()))
	case retryable(t.State) && v.Plan != nil && !v.Over && !v.NoRetries:
		m.tryAgain(t, v)
	}
}

// tooLate cancels what would go on in a job that has ended meanwhile.
func (m *machine) tooLate(t *Tracked, v *JobView, why string) {
	if v.Over {
		m.end(t, ending{state: schemas.StateCanceled, cause: schemas.CauseCanceled, detail: why})
	}
}

// tryAgain queues an execution that has just failed once more, after a wait.
func (m *machine) tryAgain(t *Tracked, v *JobView) {
	policy := v.Plan.Retry
	if policy == nil && v.Plan.Continuous && t.Cause == schemas.CauseBoot {
		policy = &RetryPolicy{} // what fell back is still to be brought to the image
	}
	wait, again := policy.next(t.Cause, t.Tries, fmt.Sprintf("%s/%d", t.ID, t.Attempt))
	if !again {
		return
	}
	from := t.State
	m.again(t, "")
	t.NotBefore = m.now.Add(wait)
	t.Retries++
	m.changed(from, t)
}

// cancel ends an execution for an operator or a rule.
func (m *machine) cancel(e Cancel) {
	i := m.find(e.Execution)
	if i < 0 {
		return
	}
	t := &m.Executions[i]
	if t.State.Final() || e.Finish && t.State.Rank() > schemas.StateOffered.Rank() {
		return
	}
	why := e.Why
	if why == "" {
		why = "canceled by an operator"
	}
	m.end(t, ending{state: schemas.StateCanceled, cause: schemas.CauseCanceled, detail: why})
}

type ending struct {
	state       schemas.State
	cause       schemas.Cause
	code        int
	detail      string
	hostVersion string
}

func (m *machine) end(t *Tracked, e ending) {
	from := t.State
	t.State, t.Cause, t.Code, t.Detail = e.state, e.cause, e.code, e.detail
	t.UpdatedAt, t.EndedAt, t.NotBefore = m.now, m.now, time.Time{}
	if e.hostVersion != "" {
		t.HostVersion = e.hostVersion
	}
	switch {
	case e.state == schemas.StateCanceled, e.state == schemas.StateSucceeded && t.Version != t.goal():
	default:
		t.Met, t.Ended, t.Failing = true, true, e.cause
	}
	if retryable(e.state) {
		t.Tries++
	}
	m.changed(from, t)
}

// succeed ends an execution, or a step of it, with success.
func (m *machine) succeed(t *Tracked, e ending) {
	e.state = schemas.StateSucceeded
	m.end(t, e)
	m.follow(t)
}

// retryable says whether an execution that ended so may be tried again.
func retryable(s schemas.State) bool {
	return s == schemas.StateRejected || s == schemas.StateFailed || s == schemas.StateTimedOut
}

func (m *machine) retry(e Retry) {
	i := m.find(e.Execution)
	if i < 0 {
		return
	}
	t := &m.Executions[i]
	if t.Attempt != e.Attempt || !retryable(t.State) {
		return
	}
	from := t.State
	m.again(t, "")
	t.Tries = 0
	m.changed(from, t)
}

func (m *machine) install(execution string) {
	if i := m.find(execution); i >= 0 && m.Executions[i].Downloaded {
		t := &m.Executions[i]
		t.Downloaded, t.Install, t.UpdatedAt = false, true, m.now
		m.changed(t.State, t)
	}
}

func (m *machine) confirm(execution string) {
	if i := m.find(execution); i >= 0 && !m.Executions[i].State.Final() && !m.Executions[i].Confirmed {
		t := &m.Executions[i]
		t.Confirmed, t.UpdatedAt = true, m.now
		m.changed(t.State, t)
	}
}

// maxHistory is how many earlier attempts an execution remembers.
const maxHistory = 10

// again begins a new attempt of an execution, which waits for its turn. A
// report of the attempt before is superseded from now on. Why says of an attempt
// that has not ended what became of it. The caller notes the change.
func (m *machine) again(t *Tracked, why string) {
	m.moveBack(t) // of what had ended
	last := Attempt{
		Attempt: t.Attempt, State: t.State, Cause: t.Cause, Code: t.Code, Detail: t.Detail,
		BytesDone: t.BytesDone, HostVersion: t.HostVersion, OfferedAt: t.OfferedAt, EndedAt: t.EndedAt,
	}
	if !last.State.Final() {
		last.State, last.Detail, last.EndedAt = schemas.StateQueued, why, m.now
	}
	if t.Version != t.goal() {
		last.Version = t.Version
	}
	t.History = append(slices.Clone(t.History[max(0, len(t.History)+1-maxHistory):]), last)
	t.Attempt++
	t.State, t.Cause, t.Code, t.Detail, t.HostVersion = schemas.StateQueued, schemas.CauseNone, 0, "", ""
	t.BytesDone, t.Seq, t.Action = 0, 0, ""
	t.OfferedAt, t.EndedAt, t.NotBefore, t.UpdatedAt = time.Time{}, time.Time{}, time.Time{}, m.now
}
