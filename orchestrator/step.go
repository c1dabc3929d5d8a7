package orchestrator

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"davit/schemas"
)

// Tracked is an execution with the facts of its job and image that the rules
// need, so that no rule has to look anything up.
type Tracked struct {
	Execution
	// Order sorts a device's executions by the start of their jobs.
	Order uint64 `json:"order"`
	// MinVersion is the exact version that has to be running; empty means any.
	MinVersion string `json:"min_version,omitempty"`
	// IgnoreValidation deploys the image whatever version is running.
	IgnoreValidation bool `json:"ignore_validation,omitempty"`
	// SHA256 of the image, in hex.
	SHA256 string `json:"sha256"`
}

// open says whether the execution takes up the device: it was offered and has
// not ended.
func (t *Tracked) open() bool { return t.State != schemas.StateQueued && !t.State.Final() }

// State is the aggregate that the rules work on: one device, the versions
// that its host MCU runs, and its executions.
type State struct {
	Device string
	// Versions maps an image type to the version that the host MCU reported.
	Versions map[string]string
	// Executions are in ascending Order. Those that have not ended must all be
	// there; ended ones may be.
	Executions []Tracked
	// Retained says that an offer may stand on the device's offer topic. It
	// is set with the decision to offer and cleared by Withdrawn, so that a
	// crash in between is made good by the next Resync.
	Retained bool
	// Paused are the jobs that are paused, of those with an execution here that is
	// queued or offered, and those of the execution that the event names.
	Paused map[string]bool
}

// current returns the index of the execution that is offered, or -1.
func (s *State) current() int {
	return slices.IndexFunc(s.Executions, func(t Tracked) bool { return t.open() })
}

func (s *State) find(execution string) int {
	return slices.IndexFunc(s.Executions, func(t Tracked) bool { return t.ID == execution })
}

// Event is something that happened to a device's aggregate: Queue, Heard,
// Reported, Cancel, Retry, Settle, Resync or Withdrawn.
type Event interface{ event() }

// Queue adds an execution of a job that was started.
type Queue struct{ Execution Tracked }

// Heard is what a hello said.
type Heard struct {
	// Versions maps image types to reported versions; an empty version means
	// that it is unknown again. Types that are not named keep theirs.
	Versions map[string]string
	// Execution and Attempt are what the device works on, if anything.
	Execution string
	Attempt   int
}

// Reported is a status report.
type Reported struct{ Status schemas.Status }

// Cancel ends an execution for an operator.
type Cancel struct{ Execution string }

// Retry queues an execution once more, if it is the attempt named that ended,
// and ended without success and not by an operator.
type Retry struct {
	Execution string
	Attempt   int
}

// Settle asks for the rules to be applied again, because a job was paused or
// goes on.
type Settle struct{}

// Resync asks for what stands to be said again: after a start of the service, a
// lost connection to the broker or a failed publication.
type Resync struct{}

// Withdrawn says that the offer topic was cleared after no execution was open.
type Withdrawn struct{}

func (Queue) event()     {}
func (Heard) event()     {}
func (Reported) event()  {}
func (Cancel) event()    {}
func (Retry) event()     {}
func (Settle) event()    {}
func (Resync) event()    {}
func (Withdrawn) event() {}

// Effect is something to do once the new state is on disk: Offer, Withdraw,
// Acknowledge or Changed. Every effect may be repeated. Offer and Withdraw that
// are carried out later ask with Resync what stands by then, one at a time for a
// device, so that nothing old overtakes something new (outbox.go).
type Effect interface{ effect() }

// Offer publishes the retained offer of an execution.
type Offer struct{ Execution Tracked }

// Withdraw clears the offer topic.
type Withdraw struct{}

// Acknowledge answers a status report.
type Acknowledge struct{ Ack schemas.Ack }

// Changed says that an execution's record changed. From is its state before,
// empty if it is new and equal to the state after if only its progress changed.
type Changed struct {
	From schemas.State
	To   Tracked
}

func (Offer) effect()       {}
func (Withdraw) effect()    {}
func (Acknowledge) effect() {}
func (Changed) effect()     {}

// Step applies one event to a device's aggregate. It is deterministic and
// does no I/O: the caller persists the state that it returns and then performs
// the effects. It does not change s.
//
// The rules: a device has at most one execution offered; the others wait in
// the order in which their jobs were started. An image whose version is
// running already needs no transfer, and one whose min version is not running is
// not offered, unless the job ignores validation. Of a paused job nothing new is
// offered, and what no device has accepted yet is taken back; that holds back
// no other job. States only move forward within an attempt; a new attempt begins
// where an offer is taken back, and where an operator has an execution that
// ended without success tried again.
func Step(s State, ev Event, now time.Time) (State, []Effect) {
	s.Executions = slices.Clone(s.Executions)
	s.Versions = maps.Clone(s.Versions)
	m := machine{State: s, now: now.UTC()}
	before := m.currentID()
	switch e := ev.(type) {
	case Queue:
		m.queue(e.Execution)
	case Heard:
		m.hear(e)
	case Reported:
		m.report(e.Status)
	case Cancel:
		m.cancel(e.Execution)
	case Retry:
		m.retry(e)
	case Settle:
	case Resync:
		m.sayAgain = true
	case Withdrawn:
		m.Retained = m.current() >= 0
	}
	m.takeBack()
	m.settle()
	m.announce(before)
	return m.State, m.effects
}

// machine is one run of Step.
type machine struct {
	State
	now      time.Time
	effects  []Effect
	sayAgain bool // publish the offer, or withdraw, even if it did not change
}

func (m *machine) currentID() string {
	if i := m.current(); i >= 0 {
		return m.Executions[i].ID
	}
	return ""
}

// announce adds the effect on the offer topic, if one is due.
func (m *machine) announce(before string) {
	i := m.current()
	if m.currentID() == before && !m.sayAgain {
		return
	}
	switch {
	case i >= 0:
		m.Retained = true
		m.effects = append(m.effects, Offer{m.Executions[i]})
	case m.Retained:
		m.effects = append(m.effects, Withdraw{})
	}
}

func (m *machine) queue(t Tracked) {
	if m.find(t.ID) >= 0 {
		return
	}
	t.State, t.Attempt = schemas.StateQueued, 1
	t.CreatedAt, t.UpdatedAt = m.now, m.now
	at, _ := slices.BinarySearchFunc(m.Executions, t.Order, func(x Tracked, order uint64) int {
		if x.Order < order {
			return -1
		}
		return 1
	})
	m.Executions = slices.Insert(m.Executions, at, t)
	m.effects = append(m.effects, Changed{To: t})
}

func (m *machine) hear(e Heard) {
	for imageType, version := range e.Versions {
		m.setVersion(imageType, version)
	}
	if i := m.current(); i >= 0 {
		t := &m.Executions[i]
		if v := e.Versions[t.ImageType]; v != "" && v == t.Version && !t.IgnoreValidation {
			m.end(t, ending{state: schemas.StateSucceeded, hostVersion: v})
		}
	}
	i := m.current()
	if i >= 0 {
		t := &m.Executions[i]
		m.sayAgain = t.ID != e.Execution || t.Attempt != e.Attempt
		return
	}
	if e.Execution != "" {
		// The device works on what has ended: whatever it read from its offer
		// topic is cleared once more.
		m.Retained, m.sayAgain = true, true
	}
}

func (m *machine) setVersion(imageType, version string) {
	if version == "" {
		delete(m.Versions, imageType)
		return
	}
	if m.Versions == nil {
		m.Versions = map[string]string{}
	}
	m.Versions[imageType] = version
}

func (m *machine) report(s schemas.Status) {
	ack := schemas.Ack{V: schemas.Version, Execution: s.Execution, Attempt: s.Attempt, Seq: s.Seq}
	i := m.find(s.Execution)
	if i < 0 {
		ack.State, ack.Superseded = schemas.StateCanceled, true
		m.effects = append(m.effects, Acknowledge{ack})
		return
	}
	t := &m.Executions[i]
	switch {
	case s.Attempt != t.Attempt:
		ack.Superseded = true
	case news(t, s):
		m.apply(t, s)
	}
	ack.State = t.State
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
		m.effects = append(m.effects, Changed{From: from, To: *t})
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

func (m *machine) cancel(execution string) {
	if i := m.find(execution); i >= 0 && !m.Executions[i].State.Final() {
		m.end(&m.Executions[i], ending{state: schemas.StateCanceled, cause: schemas.CauseCanceled, detail: "canceled by an operator"})
	}
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
	t.UpdatedAt, t.EndedAt = m.now, m.now
	if e.hostVersion != "" {
		t.HostVersion = e.hostVersion
	}
	m.effects = append(m.effects, Changed{From: from, To: *t})
}

// retryable says whether an execution that ended so may be tried again.
func retryable(s schemas.State) bool {
	return s == schemas.StateRejected || s == schemas.StateFailed || s == schemas.StateTimedOut
}

func (m *machine) retry(e Retry) {
	if i := m.find(e.Execution); i >= 0 && m.Executions[i].Attempt == e.Attempt && retryable(m.Executions[i].State) {
		m.again(&m.Executions[i])
	}
}

// takeBack withdraws an offer of a paused job that no device has accepted.
func (m *machine) takeBack() {
	if i := m.current(); i >= 0 && m.Executions[i].State == schemas.StateOffered && m.Paused[m.Executions[i].Job] {
		m.again(&m.Executions[i])
	}
}

// maxHistory is how many earlier attempts an execution remembers.
const maxHistory = 10

// again begins a new attempt of an execution, which waits for its turn. A
// report of the attempt before is superseded from now on.
func (m *machine) again(t *Tracked) {
	before := Attempt{
		Attempt: t.Attempt, State: t.State, Cause: t.Cause, Code: t.Code, Detail: t.Detail,
		BytesDone: t.BytesDone, HostVersion: t.HostVersion, OfferedAt: t.OfferedAt, EndedAt: t.EndedAt,
	}
	if !before.State.Final() {
		before.State, before.Detail, before.EndedAt = schemas.StateQueued, "the offer was withdrawn because the job was paused", m.now
	}
	from := t.State
	t.History = append(slices.Clone(t.History[max(0, len(t.History)+1-maxHistory):]), before)
	t.Attempt++
	t.State, t.Cause, t.Code, t.Detail, t.HostVersion = schemas.StateQueued, schemas.CauseNone, 0, "", ""
	t.BytesDone, t.Seq = 0, 0
	t.OfferedAt, t.EndedAt, t.UpdatedAt = time.Time{}, time.Time{}, m.now
	m.effects = append(m.effects, Changed{From: from, To: *t})
}

// settle offers the first waiting execution that may be offered, and ends
// those before it that need no transfer or are ruled out. One that waits for a
// version to be reported holds back the later ones of its image type only.
func (m *machine) settle() {
	if m.current() >= 0 {
		return
	}
	var waiting []string
	for i := range m.Executions {
		t := &m.Executions[i]
		if t.State != schemas.StateQueued || m.Paused[t.Job] || slices.Contains(waiting, t.ImageType) {
			continue
		}
		running := m.Versions[t.ImageType]
		switch {
		case t.IgnoreValidation:
			m.offer(t)
			return
		case running == t.Version:
			m.end(t, ending{state: schemas.StateSucceeded, detail: "the host MCU runs this version already", hostVersion: running})
		case t.MinVersion == "" || running == t.MinVersion:
			m.offer(t)
			return
		case running == "":
			waiting = append(waiting, t.ImageType)
		default:
			m.end(t, ending{state: schemas.StateRejected, cause: schemas.CauseMinVersion, hostVersion: running,
				detail: fmt.Sprintf("the image needs version %q, the host MCU runs %q", t.MinVersion, running)})
		}
	}
}

func (m *machine) offer(t *Tracked) {
	t.State, t.OfferedAt, t.UpdatedAt = schemas.StateOffered, m.now, m.now
	m.effects = append(m.effects, Changed{From: schemas.StateQueued, To: *t})
}
