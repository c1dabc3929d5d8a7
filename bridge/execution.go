package bridge

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"sync/atomic"
	"time"

	"davit/bridge/dialect"
	"davit/bridge/spool"
	"davit/internal/logevent"
	"davit/schemas"
	"davit/trust"
)

// DefaultPortPatience is how long an execution waits for a port that is not
// there, unless the offer says how long an MCU may take to answer.
const DefaultPortPatience = 10 * time.Minute

// execution is the one under way on a device. It belongs to the device's
// goroutine, but for what a session reads of it.
type execution struct {
	offer  schemas.Offer
	state  schemas.State
	since  time.Time
	seq    uint64
	limit  uint64 // numbers below are reserved on disk
	out    *repeat
	dl     *download
	member *member
	image  *spool.Image
	source source
	// vouched says that the image may reach the MCU: its manifest, signed, was verified
	// in this attempt, or nothing is to be verified.
	vouched bool
	signed  *trust.Verified // nil if nothing is
	papers  *papers         // while the manifest is fetched
	ready   chan struct{}
	isDone  bool // ready is closed

	loaded    atomic.Uint64 // bytes that the MCU acknowledged
	loadSince time.Time
	reported  uint64 // bytes in the last report
	reportAt  time.Time
	pace      pace
}

// letGo gives the image back and leaves the download.
func (ex *execution) letGo() {
	if ex.papers != nil {
		ex.papers.letGo()
		ex.papers = nil
	}
	if ex.dl != nil {
		ex.dl.leave(ex.member)
		ex.dl = nil
	}
	if ex.image != nil {
		_ = ex.image.Release() // what it could not sync is fetched again
		ex.image = nil
	}
}

// offered takes a message on the offer topic.
func (d *device) offered(payload []byte) {
	if len(payload) == 0 {
		d.withdrawn()
		return
	}
	var o schemas.Offer
	if err := schemas.Decode(payload, &o); err != nil {
		d.b.refuse(d.id, schemas.KindOffer, err)
		return
	}
	d.take(o)
}

// take decides what an offer is to the device: nothing new, the next one, or one to be taken up.
func (d *device) take(o schemas.Offer) {
	if e := d.rec.ended(o.Execution, o.Attempt); e != nil {
		d.sayAgain(e)
		return
	}
	if d.rec.overtaken(o.Execution, o.Attempt) {
		return // delivered late
	}
	if !o.Expires.IsZero() && !time.Now().Before(o.Expires) {
		d.log.Info("offer has expired", "event", logevent.OfferExpired, "execution", o.Execution)
		return
	}
	if ex := d.ex; ex != nil {
		if ex.offer.Execution == o.Execution && o.Attempt <= ex.offer.Attempt {
			if d.rec.Open.Trace == nil {
				d.rec.Open.Trace = d.arrived // saved with the next state
			}
			return // delivered once more
		}
		if ex.state == schemas.StateBooting {
			d.rec.NextTrace = d.arrived
			d.rec.Next = &o // what the MCU boots is decided; then comes the next
			_ = d.save()
			return
		}
		d.drop("replaced by execution "+o.Execution, nil)
	}
	if d.drain.on {
		d.log.Info("offer is left for the next start", "event", logevent.OfferLeft, "execution", o.Execution)
		return // it is retained
	}
	d.begin(o)
}

// sayAgain repeats the result of an execution that is offered once more.
func (d *device) sayAgain(e *endedRecord) {
	if e.Status == nil || d.outbox[e.Execution] != nil {
		return
	}
	e.Acked = false
	d.outbox[e.Execution] = &repeat{status: *e.Status, wait: firstRepeat, trace: e.Trace}
}

// withdrawn takes an empty offer. An MCU that was told to boot is watched to
// the end.
func (d *device) withdrawn() {
	d.plan.offer = nil
	if d.rec.Next != nil {
		d.rec.Next, d.rec.NextTrace = nil, nil
		_ = d.save()
	}
	if d.ex != nil && d.ex.state != schemas.StateBooting {
		d.drop("withdrawn by the service", nil)
	}
}

// begin takes up an offer.
func (d *device) begin(o schemas.Offer) {
	if d.plan.leaving {
		d.plan.offer = &o // in case the configuration has the device again before it is gone
		return
	}
	d.log.Info("offer", "event", logevent.OfferReceived, "execution", o.Execution, "attempt", o.Attempt, "version", o.Version, "bytes", o.Size)
	problem := ""
	if o.Host.Dialect != "" { // before anything goes down the line
		problem = d.adopt(o.Host.Dialect)
	}
	d.rec.name(o.Host.VersionProperty)
	d.rec.Open = &openRecord{Offer: o, State: schemas.StateOffered, Trace: d.arrived, PhaseAt: time.Now()}
	err := d.save()
	d.open()
	switch {
	case err != nil:
		d.finish(dialect.Result{State: schemas.StateFailed, Cause: schemas.CauseStorage, Detail: err.Error()})
		return
	case problem != "":
		d.finish(dialect.Result{State: schemas.StateFailed, Cause: schemas.CauseProtocol, Detail: problem})
		return
	}
	d.resume()
	if d.ex != nil {
		d.hello()
	}
}

// open makes an execution of the record's open one.
func (d *device) open() {
	r := d.rec.Open
	d.ex = &execution{offer: r.Offer, state: r.State, since: time.Now(), seq: r.SeqLimit, limit: r.SeqLimit, ready: make(chan struct{})}
}

// resume goes on with the execution where the record has it, once its image is vouched for.
// What the MCU was told to boot is beyond that: it is asked what it runs.
func (d *device) resume() {
	if d.rec.Open.State == schemas.StateBooting {
		d.goOn()
		return
	}
	d.vouch(d.goOn)
}

func (d *device) goOn() {
	if d.ex.fetchesOnly() {
		d.fetchOnly()
		return
	}
	r := d.rec.Open
	if r.State.Rank() >= schemas.StateAccepted.Rank() && r.State != schemas.StateBooting {
		d.fetch()
	}
	if d.ex != nil {
		d.startLeg()
	}
}

// startLeg has the session carry out the MCU leg, if the port is there.
func (d *device) startLeg() {
	ex := d.ex
	if ex == nil || ex.fetchesOnly() || d.session == nil || !ex.vouched && ex.state != schemas.StateBooting {
		return
	}
	h := ex.offer.Host
	d.session.Start(dialect.Update{
		Version: ex.offer.Version, VersionID: ex.offer.VersionID, NumericType: h.NumericType, AttributeSize: h.AttributeSize,
		Size: ex.offer.Size, SHA256: sumOf(ex.offer.SHA256), Reporter: &leg{d, ex}, Image: &ex.source, Ready: ex.ready, Arrives: ex.source.arrives,
		Force: ex.offer.Force, ResumeAt: ex.state, Loaded: ex.loaded.Load(), Before: d.rec.Open.Before, VersionProperty: d.property(ex),
		AnswerTimeout: milliseconds(h.AnswerTimeoutMS), VerdictTimeout: milliseconds(h.VerdictTimeoutMS),
		BootTimeout: milliseconds(h.BootTimeoutMS), VersionTimeout: milliseconds(h.VersionTimeoutMS),
	})
}

// sumOf is a SHA-256 in hex, which the offer's validation has seen, as bytes.
func sumOf(text string) (sum [sha256.Size]byte) {
	_, _ = hex.Decode(sum[:], []byte(text))
	return sum
}

// property is the version property whose report is the proof, "" for the
// dialect's usual one.
func (d *device) property(ex *execution) string {
	if p := ex.offer.Host.VersionProperty; p != "" {
		return p
	}
	return d.port.VersionProperty
}

func milliseconds(n int64) time.Duration { return time.Duration(n) * time.Millisecond }

// leg takes the reports of one execution's MCU leg from the session's
// goroutine to the device's.
type leg struct {
	d  *device
	ex *execution
}

// State implements dialect.Reporter.
func (l *leg) State(s schemas.State, n uint64) error {
	if s == schemas.StateInstalling && n > 0 {
		l.ex.loaded.Store(n) // one for each frame: the device looks now and then
		return nil
	}
	err := errors.New("the bridge is stopping")
	l.d.do(func() { err = l.d.legState(l.ex, s) })
	return err
}

// Ended implements dialect.Reporter.
func (l *leg) Ended(r dialect.Result) {
	l.d.do(func() {
		if l.d.ex == l.ex {
			l.d.finish(r)
		}
	})
}

// errDropped ends a leg whose execution was replaced or withdrawn. Without it
// the session could tell the MCU to boot before it hears of that.
var errDropped = errors.New("the execution is not carried out any more")

func (d *device) legState(ex *execution, s schemas.State) error {
	if d.ex != ex {
		return errDropped
	}
	switch s {
	case schemas.StateAccepted:
		err := d.advance(s)
		if err == nil {
			d.fetch()
		}
		return err
	case schemas.StateInstalling:
		ex.loaded.Store(0)
		ex.loadSince = time.Now()
	case schemas.StateBooting:
		if took := time.Since(ex.loadSince).Seconds(); took > 0 && !ex.loadSince.IsZero() {
			d.line.port.loaded(float64(ex.offer.Size) / took)
		}
	}
	return d.advance(s)
}

// advance moves the execution on to s, on disk first. A state that it has had
// already changes nothing: the MCU leg may begin anew.
func (d *device) advance(s schemas.State) error {
	ex := d.ex
	if s.Rank() <= ex.state.Rank() {
		return nil
	}
	old := *d.rec.Open
	d.rec.Open.State = s
	now := time.Now()
	if phase(s) != phase(old.State) {
		d.rec.Open.PhaseAt = now
	}
	if property := d.property(ex); s == schemas.StateBooting && d.believed[property] {
		d.rec.Open.Before = d.rec.Versions[property]
	}
	if err := d.save(); err != nil {
		*d.rec.Open = old
		return err
	}
	if phase(s) != phase(old.State) {
		d.phaseEnded(old, now, "")
	}
	ex.state, d.held = s, holdUp{}
	d.log.Info("update", "event", logevent.Execution(string(s)), "execution", ex.offer.Execution, "state", s)
	d.report()
	return nil
}

// report says where the execution stands. The status takes the place of the one
// before, acknowledged or not: the service needs the newest only.
func (d *device) report() {
	ex := d.ex
	ex.reported, ex.reportAt = ex.bytes(), time.Now()
	ex.out = &repeat{wait: firstRepeat, trace: carriedIn(d.rec.Open.Trace, phase(ex.state)), status: schemas.Status{
		V: schemas.Version, Execution: ex.offer.Execution, Attempt: ex.offer.Attempt, Seq: d.nextSeq(), State: ex.state, BytesDone: ex.reported,
	}}
	if d.connected {
		d.send(ex.out, ex.reportAt)
	}
}

// bytes is what the present state counts.
func (ex *execution) bytes() uint64 {
	switch ex.state {
	case schemas.StateDownloading:
		if ex.dl != nil {
			return ex.dl.held.Load()
		}
	case schemas.StateDownloaded, schemas.StateBooting:
		return ex.offer.Size
	case schemas.StateInstalling:
		return ex.loaded.Load()
	}
	return 0
}

// nextSeq is the number of a new status. It grows over restarts.
func (d *device) nextSeq() uint64 {
	ex := d.ex
	ex.seq++
	if ex.seq > ex.limit {
		d.rec.Open.SeqLimit = ex.seq + seqBlock
		_ = d.save() // logged; without it a restart repeats numbers, which the service then ignores
		ex.limit = d.rec.Open.SeqLimit
	}
	return ex.seq
}

// progress reports bytes now and then, and returns when to look again.
func (d *device) progress(now time.Time) time.Time {
	ex := d.ex
	if ex.state != schemas.StateDownloading && ex.state != schemas.StateInstalling {
		return time.Time{}
	}
	due := ex.reportAt.Add(progressEvery)
	if now.Before(due) {
		return due
	}
	n := ex.bytes()
	ex.pace.note(ex.state, n, now)
	step := max(n, ex.reported) - min(n, ex.reported)
	if step > 0 && (step >= ex.offer.Size/progressShare || now.Sub(ex.reportAt) >= progressIdle) {
		d.report()
		return now.Add(progressEvery)
	}
	return now.Add(progressEvery)
}

// drop ends the execution without a report of our own.
func (d *device) drop(why string, e *endedRecord) {
	ex := d.ex
	d.log.Info("execution dropped", "event", logevent.ExecutionDropped, "execution", ex.offer.Execution, "reason", why)
	if e != nil {
		d.rec.remember(*e)
	}
	if d.session != nil {
		d.session.Cancel()
	}
	d.close()
}

// finish records the end of the execution and reports it until it is
// acknowledged.
func (d *device) finish(r dialect.Result) {
	ex := d.ex
	s := schemas.Status{
		V: schemas.Version, Execution: ex.offer.Execution, Attempt: ex.offer.Attempt, Seq: d.nextSeq(), State: r.State, Cause: r.Cause,
		Code: r.Code, Detail: schemas.Detail(r.Detail), HostVersion: r.HostVersion, BytesDone: min(ex.bytes(), ex.offer.Size),
	}
	if s.State == schemas.StateSucceeded {
		s.BytesDone = ex.offer.Size
		d.installed(ex.offer.SHA256)
		d.ran()
	}
	if off := d.deferral(ex.offer.Action, r); off > 0 {
		putOff(&s, off)
	}
	if err := s.Validate(); err != nil {
		d.log.Error("result outside the contract", "event", logevent.ResultInvalid, "error", err)
		s.State, s.Cause, s.Detail, s.HostVersion = schemas.StateFailed, schemas.CauseInternal, schemas.Detail(err.Error()), ""
		s.DeferS = 0
	}
	d.log.Info("update ended", "event", logevent.Execution(string(s.State)), "execution", s.Execution, "state", s.State, "cause", s.Cause, "code", s.Code, "detail", s.Detail, "version", s.HostVersion)
	d.b.metrics.ended(s.State, s.Cause)
	now, told := time.Now(), carriedIn(d.rec.Open.Trace, phase(ex.state))
	failed := ""
	if s.State != schemas.StateSucceeded {
		failed = string(s.Cause) + ": " + s.Detail
	}
	d.phaseEnded(*d.rec.Open, now, failed)
	d.rec.remember(endedRecord{Execution: s.Execution, Attempt: s.Attempt, Status: &s, At: now, Trace: told})
	d.outbox[s.Execution] = &repeat{status: s, wait: firstRepeat, awaited: d.drain.on, trace: told}
	if d.session != nil {
		d.session.Cancel() // nothing, if the session itself said so
	}
	d.close()
}

// close forgets the execution, has what a reload asked for carried out, and takes up
// the offer that waited for its end, unless that is left for the next start, when it
// is delivered again.
func (d *device) close() {
	d.route(nil)
	d.ex.letGo()
	d.ex = nil
	next, header := d.rec.Next, d.rec.NextTrace
	d.rec.Open, d.rec.Next, d.rec.NextTrace = nil, nil, nil
	_ = d.save() // logged; the result is repeated from memory, and after a restart the MCU is asked again
	d.settle(time.Now())
	if next != nil && !d.drain.on {
		d.arrived = header
		d.begin(*next)
		return
	}
	d.hello()
}
