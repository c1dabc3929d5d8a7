package module

import (
	"context"
	"errors"
	"time"

	"davit/bridge/fetcher"
	"davit/bridge/rangeset"
	"davit/internal/logevent"
	"davit/schemas"
)

// Times of a module's reports.
const (
	// A status is repeated until its ack arrives, less and less often.
	firstRepeat = 5 * time.Second
	lastRepeat  = time.Minute
	// progressEvery is the least time between two reports of progress.
	progressEvery = 2 * time.Second
	// helloEvery is how often a hello is repeated: nobody acknowledges one.
	helloEvery = 10 * time.Minute
)

// update is the execution under way.
type update struct {
	offer  schemas.Offer
	state  schemas.State
	seq    uint64
	ctx    context.Context // of what the host does for it
	cancel context.CancelFunc
	next   *open // comes when this one has ended

	slot       Slot
	have       rangeset.Set
	unsynced   int
	syncedAt   time.Time
	fetch      *fetcher.Fetcher // nil unless the image is being fetched
	transfer   transfer
	mismatches int
	deadline   time.Time // of the download or the boot
	proven     bool      // the MCU has reported since it was told to boot
	reportAt   time.Time
	reported   uint64
	// fetched is what the first fetch of the image is to carry: the service has a span
	// for it, and one is enough.
	fetched *schemas.TraceHeader
}

// report is a status that is said until it is acknowledged.
type report struct {
	status schemas.Status
	trace  *schemas.TraceHeader
	due    time.Time
	wait   time.Duration
}

// resume takes up what was under way when the module stopped.
func (m *Module) resume() {
	for _, r := range m.rec.Results {
		if !r.Acked {
			m.repeat(r.Status, r.Trace)
		}
	}
	if m.rec.Open == nil {
		return
	}
	o := *m.rec.Open
	m.open(o.Offer)
	m.up.state, m.up.seq, m.up.proven = o.State, o.Seq+seqGap, true
	m.log.Info("taking up an execution", "event", logevent.ExecutionResumed, "execution", o.Offer.Execution, "state", o.State)
	if o.State.Rank() >= schemas.StateAccepted.Rank() {
		m.progress()
	}
	switch {
	case o.State.Rank() < schemas.StateAccepted.Rank():
		m.accept()
	case o.State == schemas.StateBooting, o.State == schemas.StateInstalling && !o.Offer.Force && m.runs(o.Offer):
		m.awaitVersion()
	default:
		m.download()
	}
}

func (m *Module) onOffer(payload []byte, h *schemas.TraceHeader) {
	if len(payload) == 0 {
		m.withdrawn()
		return
	}
	var o schemas.Offer
	if err := schemas.Decode(payload, &o); err != nil {
		m.log.Warn("malformed offer", "event", logevent.OfferMalformed, "error", err)
		return
	}
	u := m.up
	switch r := m.rec.result(o.Execution, o.Attempt); {
	case r != nil:
		m.repeat(r.Status, r.Trace) // the service has not heard of it
	case m.rec.overtaken(o), !o.Expires.IsZero() && !time.Now().Before(o.Expires):
	case u != nil && u.offer.Execution == o.Execution && u.offer.Attempt >= o.Attempt:
	case u != nil && u.state == schemas.StateBooting:
		u.next = &open{Offer: o, Trace: h} // what the MCU boots is decided
	default:
		if u != nil {
			m.drop("replaced by execution " + o.Execution)
		}
		m.begin(o, h)
	}
}

func (m *Module) withdrawn() {
	if m.up == nil {
		return
	}
	m.up.next = nil
	if m.up.state != schemas.StateBooting {
		m.drop("withdrawn by the service")
	}
}

func (m *Module) begin(o schemas.Offer, h *schemas.TraceHeader) {
	m.log.Info("offer", "event", logevent.OfferReceived, "execution", o.Execution, "attempt", o.Attempt, "version", o.Version, "bytes", o.Size)
	m.open(o)
	m.rec.Open = &open{Offer: o, State: schemas.StateOffered, Trace: h}
	m.save()
	m.hello()
	m.accept()
}

func (m *Module) open(o schemas.Offer) {
	m.up = &update{offer: o, state: schemas.StateOffered}
	m.up.ctx, m.up.cancel = context.WithCancel(m.ctx)
}

// ask has the host do something that may take its time, and then takes the answer, if the
// update is still wanted.
func (m *Module) ask(f func(u *update) error, answer func(error)) {
	u := m.up
	m.work.Go(func() {
		m.hosting.Lock()
		err := f(u)
		m.hosting.Unlock()
		m.mail.post(func() {
			if m.up == u {
				answer(err)
			}
		})
	})
}

func (m *Module) accept() {
	if m.up.offer.Action == schemas.ActionDownload { // the host has no part in that
		m.advance(schemas.StateAccepted)
		m.download()
		return
	}
	m.ask(func(u *update) error { return m.cfg.Host.Accept(u.ctx, u.offer) }, func(err error) {
		if err != nil {
			m.refused(err)
			return
		}
		m.advance(schemas.StateAccepted)
		m.download()
	})
}

// refused ends the update with the host's no.
func (m *Module) refused(err error) {
	s := schemas.Status{State: schemas.StateRejected, Cause: schemas.CauseRejected, Detail: err.Error()}
	if r, ok := errors.AsType[*Refusal](err); ok {
		s.Code = r.Code
		if r.Cause != "" {
			s.Cause = r.Cause
		}
		if r.Defer > 0 && m.up.offer.Action.Deferrable() {
			s.Cause, s.DeferS = schemas.CauseDeferred, int(max(r.Defer, time.Second)/time.Second)
		}
	}
	m.finish(s)
}

// boot has the host MCU run the image, which is whole and verified.
func (m *Module) boot() {
	m.advance(schemas.StateInstalling)
	m.up.proven = false
	m.ask(func(u *update) error { return m.cfg.Host.Boot(u.ctx, u.offer) }, func(err error) {
		if err == nil {
			m.awaitVersion()
			return
		}
		s := schemas.Status{State: schemas.StateFailed, Cause: schemas.CauseBoot, Detail: err.Error()}
		if r, ok := errors.AsType[*Refusal](err); ok {
			s.Code = r.Code
			if r.Cause != "" {
				s.Cause = r.Cause
			}
		}
		m.finish(s)
	})
}

// awaitVersion waits for the one proof that there is.
func (m *Module) awaitVersion() {
	m.advance(schemas.StateBooting)
	patience := m.cfg.BootTimeout
	if ms := m.up.offer.Host.BootTimeoutMS; ms > 0 {
		patience = time.Duration(ms) * time.Millisecond
	}
	m.up.deadline = time.Now().Add(patience)
	m.judge()
}

// reported takes what the host MCU reports.
func (m *Module) reported(versions map[string]string) {
	m.versions = versions
	m.hello()
	if m.up != nil {
		m.up.proven = true
		m.judge()
	}
}

func (m *Module) judge() {
	if u := m.up; u.state == schemas.StateBooting && u.proven && m.runs(u.offer) {
		m.finish(schemas.Status{State: schemas.StateSucceeded, HostVersion: u.offer.Version})
	}
}

// runs says whether the host MCU reports the offer's version.
func (m *Module) runs(o schemas.Offer) bool {
	if p := o.Host.VersionProperty; p != "" {
		return m.versions[p] == o.Version
	}
	for _, v := range m.versions {
		if v == o.Version {
			return true
		}
	}
	return false
}

// advance moves the update on, on record first, and says so.
func (m *Module) advance(s schemas.State) {
	u := m.up
	if s.Rank() <= u.state.Rank() {
		return
	}
	u.state = s
	m.rec.Open.State = s
	m.rec.Open.Seq = u.seq + 1
	m.save()
	m.log.Info("update", "event", logevent.Execution(string(s)), "execution", u.offer.Execution, "state", s)
	m.progress()
}

// progress says where the update stands.
func (m *Module) progress() {
	u := m.up
	s := schemas.Status{State: u.state}
	switch u.state {
	case schemas.StateDownloading:
		s.BytesDone = u.have.Total()
	case schemas.StateDownloaded, schemas.StateInstalling, schemas.StateBooting:
		s.BytesDone = u.offer.Size
	}
	u.reportAt, u.reported = time.Now(), u.have.Total()
	m.repeat(m.numbered(s), m.rec.Open.Trace)
}

func (m *Module) numbered(s schemas.Status) schemas.Status {
	u := m.up
	u.seq++
	s.V, s.Execution, s.Attempt, s.Seq = schemas.Version, u.offer.Execution, u.offer.Attempt, u.seq
	return s
}

// finish ends the update and says how, until the service has heard it.
func (m *Module) finish(s schemas.Status) {
	s = m.numbered(s)
	s.Detail = schemas.Detail(s.Detail)
	s.BytesDone = m.up.have.Total()
	if s.State == schemas.StateSucceeded {
		s.BytesDone = m.up.offer.Size
	}
	if err := s.Validate(); err != nil {
		s.State, s.Cause, s.Code, s.DeferS, s.HostVersion = schemas.StateFailed, schemas.CauseInternal, 0, 0, ""
		s.Detail = schemas.Detail(err.Error())
	}
	m.log.Info("update ended", "event", logevent.Execution(string(s.State)), "execution", s.Execution, "state", s.State, "cause", s.Cause, "detail", s.Detail)
	m.rec.remember(result{Status: s, Trace: m.rec.Open.Trace})
	m.repeat(s, m.rec.Open.Trace)
	m.close()
}

// drop ends the update without a word: the service knows.
func (m *Module) drop(why string) {
	m.log.Info("execution dropped", "event", logevent.ExecutionDropped, "execution", m.up.offer.Execution, "reason", why)
	m.forget(m.up.offer.Execution)
	m.close()
}

func (m *Module) close() {
	u := m.up
	m.keep(u)
	m.unfollow(u)
	u.cancel()
	m.up, m.rec.Open = nil, nil
	m.save()
	if u.next != nil {
		m.begin(u.next.Offer, u.next.Trace)
		return
	}
	m.hello()
}
