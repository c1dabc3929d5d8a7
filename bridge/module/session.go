package module

import (
	"maps"
	"strings"
	"time"

	"davit/internal/logevent"
	"davit/schemas"
)

// link takes that the connection stands, or does not any more.
func (m *Module) link(up bool) {
	m.connected = up
	if u := m.up; u != nil && u.fetch != nil {
		u.fetch.Restart()
		u.deadline = time.Now().Add(m.cfg.Patience)
		u.transfer.following = false // subscriptions end with their connection
		if up {
			m.follow(u)
		}
	}
	if !up {
		return
	}
	m.say("presence", &schemas.Presence{V: schemas.Version, Online: true}, nil)
	m.hello()
	for _, r := range m.reports {
		r.due, r.wait = time.Now(), firstRepeat
	}
}

// hello says who the module is. What is said without a connection is said with the next
// one.
func (m *Module) hello() {
	if m.connected {
		m.helloDue = time.Now().Add(helloEvery)
		h := m.helloWith(maps.Clone(m.versions))
		if u := m.up; u != nil {
			h.Execution, h.Attempt = u.offer.Execution, u.offer.Attempt
		}
		m.say("hello", h, m.helloTrace())
	}
}

func (m *Module) helloWith(versions map[string]string) *schemas.Hello {
	return &schemas.Hello{
		V: schemas.Version, DeviceType: m.cfg.DeviceType, Module: m.cfg.Software, Dialect: m.cfg.Dialect,
		HostVersions: versions, MaxChunk: m.cfg.MaxChunk, Streams: true,
	}
}

// fits says why a hello cannot have these versions, if that is so.
func (m *Module) fits(versions map[string]string) error {
	h := m.helloWith(versions)
	h.Execution, h.Attempt = strings.Repeat("x", schemas.MaxIDLength), schemas.MaxAttempt
	_, err := schemas.Encode(h)
	return err
}

// repeat says a status until it is acknowledged, in the place of the one before of the same
// execution: the service needs the newest only.
func (m *Module) repeat(s schemas.Status, h *schemas.TraceHeader) {
	m.forget(s.Execution)
	m.reports = append(m.reports, &report{status: s, trace: h, due: time.Now(), wait: firstRepeat})
}

// forget repeats nothing of an execution any more.
func (m *Module) forget(execution string) {
	kept := m.reports[:0]
	for _, r := range m.reports {
		if r.status.Execution != execution {
			kept = append(kept, r)
		}
	}
	m.reports = kept
}

// onAck takes that a status is on the service's disk.
func (m *Module) onAck(payload []byte) {
	var a schemas.Ack
	if err := schemas.Decode(payload, &a); err != nil {
		m.log.Warn("malformed ack", "event", logevent.ServiceMessageMalformed, "error", err)
		return
	}
	for _, r := range m.reports {
		if s := r.status; s.Execution == a.Execution && s.Attempt == a.Attempt && a.Seq >= s.Seq {
			m.forget(a.Execution)
			break
		}
	}
	if r := m.rec.result(a.Execution, a.Attempt); r != nil && a.Seq >= r.Status.Seq && !r.Acked {
		r.Acked = true
		m.save()
	}
	u := m.up
	if u == nil || u.offer.Execution != a.Execution || u.offer.Attempt != a.Attempt {
		return
	}
	switch {
	case a.Superseded, a.State.Final():
		m.drop("the service has recorded it as " + string(a.State))
	case u.offer.Action == schemas.ActionDownload && u.state == schemas.StateDownloaded && a.Seq >= u.seq:
		m.close() // the image stays in its slot until it is offered to be installed
	}
}

// tick does what is due and returns when something will be again.
func (m *Module) tick(now time.Time) time.Time {
	next := now.Add(time.Hour)
	soonest := func(at time.Time) {
		if !at.IsZero() && at.Before(next) {
			next = at
		}
	}
	if m.up != nil {
		soonest(m.tickUpdate(now))
	}
	if !m.connected {
		return next
	}
	if !now.Before(m.helloDue) {
		m.hello()
	}
	soonest(m.helloDue)
	for _, r := range m.reports {
		if !now.Before(r.due) {
			s := r.status
			m.say("status of "+s.Execution, &s, r.trace)
			r.due, r.wait = now.Add(r.wait), min(2*r.wait, lastRepeat)
		}
		soonest(r.due)
	}
	return next
}

// tickUpdate is tick for the update under way.
func (m *Module) tickUpdate(now time.Time) time.Time {
	u := m.up
	switch {
	case u.state == schemas.StateBooting && !now.Before(u.deadline):
		m.finish(schemas.Status{State: schemas.StateFailed, Cause: schemas.CauseBoot, Detail: "The host MCU did not report the new version in time."})
	case u.state == schemas.StateBooting:
		return u.deadline
	case u.fetch != nil && m.connected:
		return m.tickDownload(now)
	}
	return time.Time{}
}
