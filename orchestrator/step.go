package orchestrator

import (
	"cmp"
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
	// Priority is the job's; the higher has its turn first.
	Priority int `json:"priority,omitempty"`
	// Lane is which of the job's lanes the device is in (lanes.go), Rank its
	// place in its wave (waves.go).
	Lane int    `json:"lane,omitempty"`
	Rank uint64 `json:"rank,omitempty"`
	// Action is what the device was offered the image for.
	Action ActionKind `json:"action,omitempty"`
	// Install says that the command to install has been given.
	Install bool `json:"install,omitempty"`
	// DeferUntil is until when the device may put the update off.
	DeferUntil time.Time `json:"defer_until,omitzero"`
	// PhaseAt is when the present phase began (steptime.go).
	PhaseAt time.Time `json:"phase_at,omitzero"`
	// Tries counts the attempts that ended without success since it was queued
	// or tried again by hand, Retries those that the retry policy made.
	Tries   int `json:"tries,omitempty"`
	Retries int `json:"retries,omitempty"`
	// Met says that it was offered, or ended, at least once; Ended that an
	// attempt came to an end, and Failing how the last one did.
	Met     bool          `json:"met,omitempty"`
	Ended   bool          `json:"ended,omitempty"`
	Failing schemas.Cause `json:"failing,omitempty"`
}

// open says whether the execution takes up the device: it was offered and has
// not ended.
func (t *Tracked) open() bool { return t.State != schemas.StateQueued && !t.State.Final() }

// goal is the version that the execution is to bring the device to.
func (t *Tracked) goal() string {
	if t.Goal != "" {
		return t.Goal
	}
	return t.Version
}

// State is the aggregate that the rules work on: one device, the versions
// that its host MCU runs, and its executions.
type State struct {
	Device string
	// Online says whether the device is connected.
	Online bool
	// Quarantined: nothing is offered, and what is under way is taken back.
	Quarantined bool
	// Versions maps an image type to the version that the host MCU reported.
	Versions map[string]string
	// Host is what the device type says of the host MCU, where a job leaves that to it.
	Host HostTimes
	// RequireSignature says that the device's type takes signed images only. Then
	// SignedUntil is, by image, until when a manifest may be used whose signatures the
	// service has verified; one without has the zero time.
	RequireSignature bool
	SignedUntil      map[string]time.Time
	// Revoked says, by image, why an image that was verified may not be offered to the device
	// any more: who signed it has been revoked since. Others are not in it.
	Revoked map[string]string
	// Executions are in the order in which they have their turn. Those that have
	// not ended must all be there; ended ones may be.
	Executions []Tracked
	// Retained says that an offer may stand on the device's offer topic. It
	// is set with the decision to offer and cleared by Withdrawn, so that a
	// crash in between is made good by the next Resync.
	Retained bool
	// Jobs are the jobs of the executions, as far as the rules may ask for them.
	// A job that is not there lets everything through.
	Jobs map[string]*JobView
	// Waiting are the queued executions that only their job holds back: all of them
	// while nothing is under way, those of a higher priority while something is
	// offered, none once it was accepted. Step finds them anew each time.
	Waiting []string
}

// JobView is what the rules know of a job. The zero value is a running job
// without any rules of its own.
type JobView struct {
	Plan *Rollout // nil for none
	// Paused: nothing is offered, and what nobody has accepted is taken back.
	Paused bool
	// Over: the job was canceled or has come to its end; nothing is offered or
	// tried again. Past: its end has passed, so that what nobody has accepted is
	// canceled.
	Over, Past bool
	// Connected: only connected devices are offered the image.
	Connected bool
	// Wave is the last one that was released.
	Wave int
	// Full: no more devices may be offered the image at this moment; FullLanes
	// and Closed say so of lanes, Closed because no window is open.
	Full      bool
	FullLanes map[int]bool
	Closed    map[int]bool
	// NoRetries: the budget is spent.
	NoRetries bool
	// Started is when the job was; no rule goes by it.
	Started time.Time

	links []link // of a job that leads over several versions
	last  link
}

// current returns the index of the execution that is offered, or -1.
func (s *State) current() int {
	return slices.IndexFunc(s.Executions, func(t Tracked) bool { return t.open() })
}

// accepted says whether the device has accepted the execution that is under way.
func (s *State) accepted() bool {
	i := s.current()
	return i >= 0 && s.Executions[i].State != schemas.StateOffered
}

func (s *State) find(execution string) int {
	return slices.IndexFunc(s.Executions, func(t Tracked) bool { return t.ID == execution })
}

// Event is something that happened to a device's aggregate: Queue, Heard,
// Reported, Cancel, Retry, Install, Confirm, Due, Settle, Resync or Withdrawn.
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

// Cancel ends an execution. With Finish it leaves alone what the device has
// accepted. Why is a sentence for people; none means that a person did it.
type Cancel struct {
	Execution string
	Finish    bool
	Why       string
}

// Retry queues an execution once more, if it is the attempt named that ended,
// and ended without success and not by an operator.
type Retry struct {
	Execution string
	Attempt   int
}

// Install is the command to install what the device has downloaded.
type Install struct{ Execution string }

// Confirm says that a person agrees to the update.
type Confirm struct{ Execution string }

// Due says that the time has come for which the execution has a timer.
type Due struct{ Execution string }

// Settle asks for the rules to be applied again, because something about the job
// or the connection of the device has changed.
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
func (Install) event()   {}
func (Confirm) event()   {}
func (Due) event()       {}
func (Settle) event()    {}
func (Resync) event()    {}
func (Withdrawn) event() {}

// Effect is something to do once the new state is on disk: Offer, Withdraw,
// Acknowledge or Changed. Every effect may be repeated. Offer and Withdraw that
// are carried out later ask with Resync what stands by then, one at a time for a
// device, so that nothing old overtakes something new (outbox.go).
type Effect interface{ effect() }

// Offer publishes the retained offer of an execution. Again says that it stood
// before and is only repeated.
type Offer struct {
	Execution Tracked
	Again     bool
}

// Withdraw clears the offer topic.
type Withdraw struct{}

// Acknowledge answers a status report.
type Acknowledge struct{ Ack schemas.Ack }

// Changed says that an execution's record changed. From is its state before,
// empty if it is new and equal to the state after if only its progress changed.
type Changed struct {
	From schemas.State
	To   *Tracked
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
// the order of their jobs' priority and start. An image whose version is
// running already needs no transfer, and one whose min version is not running is
// not offered, unless the job ignores validation. A device whose type requires
// signatures is never offered an image without a verified manifest, or with one that
// has expired, or whose signers have been revoked; an offer of the latter that nobody
// has accepted is withdrawn. A job offers nothing while it is
// paused, to waves that are not released, beyond its pace and outside its windows;
// what no device has accepted when it is paused or its window closes is taken
// back, and so is the offer of a job when one of a higher priority may be made.
// None of that holds back another job. States only move forward within an
// attempt; a new attempt begins where an offer is taken back, where the retry
// policy or an operator has one tried again that ended without success, where a
// device that had succeeded runs another version again, and with each step of a
// way over several versions. What was recorded by a clock that was ahead of now is
// moved back first, so that limits and waits keep their length (steptime.go).
func Step(s State, ev Event, now time.Time) (State, []Effect) {
	return stepIn(&stepRoom{}, s, ev, now)
}

// stepRoom is memory that a run of the rules takes for what it returns. The next run
// in the same room takes it again.
type stepRoom struct {
	executions []Tracked
	effects    []Effect
	told       []Tracked // what Changed points to
}

// stepIn is Step with room from the caller.
func stepIn(r *stepRoom, s State, ev Event, now time.Time) (State, []Effect) {
	s.Executions = append(r.executions[:0], s.Executions...)
	s.Versions = maps.Clone(s.Versions)
	m := machine{State: s, now: now.UTC(), effects: r.effects[:0], told: r.told[:0]}
	before := m.currentID()
	m.followClock(subject(ev))
	m.happen(ev)
	m.takeBack()
	if m.current() < 0 {
		m.followClock("") // the others have their turn
	}
	m.settle()
	m.announce(before)
	r.executions, r.effects, r.told = m.Executions, m.effects, m.told
	return m.State, m.effects
}

// machine is one run of Step.
type machine struct {
	State
	now      time.Time
	effects  []Effect
	told     []Tracked
	sayAgain bool // publish the offer, or withdraw, even if it did not change
}

func (m *machine) happen(ev Event) {
	switch e := ev.(type) {
	case Queue:
		m.queue(e.Execution)
	case Heard:
		m.hear(e)
	case Reported:
		m.report(e.Status)
	case Cancel:
		m.cancel(e)
	case Retry:
		m.retry(e)
	case Install:
		m.install(e.Execution)
	case Confirm:
		m.confirm(e.Execution)
	case Due:
		m.due(e.Execution)
	case Settle:
	case Resync:
		m.sayAgain = true
	case Withdrawn:
		m.Retained = m.current() >= 0
	}
}

// subject is the execution that an event is about, empty if it names none.
func subject(ev Event) string {
	switch e := ev.(type) {
	case Reported:
		return e.Status.Execution
	case Cancel:
		return e.Execution
	case Retry:
		return e.Execution
	case Install:
		return e.Execution
	case Confirm:
		return e.Execution
	case Due:
		return e.Execution
	}
	return ""
}

// view is what is known of a job.
func (m *machine) view(job string) *JobView {
	if v := m.Jobs[job]; v != nil {
		return v
	}
	return &JobView{}
}

// currentID names the attempt that is offered.
func (s *State) currentID() attemptID {
	if i := s.current(); i >= 0 {
		return attemptID{s.Executions[i].ID, s.Executions[i].Attempt}
	}
	return attemptID{}
}

type attemptID struct {
	execution string
	attempt   int
}

// announce adds the effect on the offer topic, if one is due.
func (m *machine) announce(before attemptID) {
	i := m.current()
	same := m.currentID() == before
	if same && !m.sayAgain {
		return
	}
	switch {
	case i >= 0:
		m.Retained = true
		m.effects = append(m.effects, Offer{m.Executions[i], same})
	case m.Retained:
		m.effects = append(m.effects, Withdraw{})
	}
}

// changed notes that an execution has another record, with the deadline of its
// phase.
func (m *machine) changed(from schemas.State, t *Tracked) {
	m.setDeadline(from, t)
	m.told = append(m.told, *t) // what was told before stays where it is when this grows
	m.effects = append(m.effects, Changed{From: from, To: &m.told[len(m.told)-1]})
}

// before says which of two executions of a device has its turn first.
func before(a, b *Tracked) int {
	return cmp.Or(cmp.Compare(b.Priority, a.Priority), cmp.Compare(a.Order, b.Order))
}

func (m *machine) queue(t Tracked) {
	if m.find(t.ID) >= 0 {
		return
	}
	t.State, t.Attempt = schemas.StateQueued, 1
	t.CreatedAt, t.UpdatedAt = m.now, m.now
	at, _ := slices.BinarySearchFunc(m.Executions, &t, func(x Tracked, t *Tracked) int { return cmp.Or(before(&x, t), -1) })
	m.Executions = slices.Insert(m.Executions, at, t)
	m.changed("", &m.Executions[at])
}
