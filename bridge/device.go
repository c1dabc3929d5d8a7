package bridge

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"davit/bridge/dialect"
	"davit/internal/durable"
	"davit/internal/logevent"
	"davit/schemas"
)

// Times of a device's reports.
const (
	// progressEvery is the least time between two reports of progress, which
	// have to differ by progressShare of the image as well, unless
	// progressIdle has passed.
	progressEvery = 500 * time.Millisecond
	progressShare = 100
	progressIdle  = 10 * time.Second
	// A status is repeated until its ack arrives, less and less often.
	firstRepeat = 5 * time.Second
	lastRepeat  = time.Minute
	// announceAgain is after how long a hello that failed is sent again.
	announceAgain = 5 * time.Second
	// helloEvery is how often a hello is repeated, give or take a fifth: nobody
	// acknowledges one, and the service may not have been there to hear it.
	helloEvery = 10 * time.Minute
	// versionsEvery is how often at most a changed version is recorded and
	// told: an MCU may change its mind at the speed of its line. While it goes on
	// doing so the time doubles, up to versionsRarely.
	versionsEvery  = 2 * time.Second
	versionsRarely = 30 * time.Second
	// versionPause is how long a restarted MCU has to report its version
	// before the service is told that it is unknown.
	versionPause = 15 * time.Second
	// saveAgain is after how long a record that could not be written is tried again.
	saveAgain = 30 * time.Second
)

// device is one port's session with the service. Its goroutine (run) owns all
// fields below; others send it work through do and the mailbox.
type device struct {
	b    *Bridge
	line *line
	id   string
	port PortConfig
	log  *slog.Logger

	mail  mailbox
	calls chan call
	gone  chan struct{} // closed when run has ended

	rec       record
	kind      dialect.Dialect // how the MCU is spoken to; nil while that is not known
	over      chan struct{}   // closed when that changes
	session   dialect.Session // nil while the port is down
	upSince   time.Time
	downSince time.Time
	held      holdUp
	connected bool
	// believed are the version properties that the MCU reported since it was last seen to start: what it said
	// before, or another MCU on the port, is remembered and told to nobody.
	believed    map[string]bool
	told        map[string]string // what the last hello said
	newsAt      time.Time         // versions were recorded and told
	newsDue     time.Time         // when they are again, or zero
	newsWait    time.Duration     // at least between the two
	announceDue time.Time         // an announcement failed: when it is tried again, or zero
	helloDue    time.Time         // when the next hello is due; it stands while there is a connection
	saveDue     time.Time         // when the record is to be written, or zero
	ex          *execution
	arrived     *schemas.TraceHeader // what came with the offer that arrived last
	plan        plan                 // what a reload asked for
	outbox      map[string]*repeat   // results that are not acknowledged, by execution
	raising     map[string]uint64    // security counters that are not on disk yet, by image type
	drain       draining
}

// call is work for the device's goroutine.
type call struct {
	f    func()
	done chan struct{}
}

// repeat is a status that is sent until it is acknowledged.
type repeat struct {
	status  schemas.Status
	due     time.Time
	wait    time.Duration
	awaited bool // a drain waits for its ack
	trace   *schemas.TraceHeader
}

// mailbox holds what the service said, in bounded space: of offers and profiles
// only the newest counts.
type mailbox struct {
	mu         sync.Mutex
	offer      []byte
	hasOffer   bool
	offerTrace *schemas.TraceHeader
	profile    []byte
	hasProfile bool
	acks       []schemas.Ack
	connected  bool
	changed    bool
	failed     bool // an announcement was not taken
	wake       chan struct{}
}

// maxAcks is how many acks may wait; a status whose ack is lost is sent again.
const maxAcks = 32

func (m *mailbox) update(f func()) {
	m.mu.Lock()
	f()
	m.mu.Unlock()
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// connect says whether the connection to the broker stands.
func (m *mailbox) connect(up bool) { m.update(func() { m.connected, m.changed = up, true }) }

func newDevice(b *Bridge, port PortConfig, rec record) *device {
	d := &device{
		b: b, id: port.Device, port: port, log: b.log.With("part", "ports", "device", port.Device), rec: rec, over: make(chan struct{}),
		calls: make(chan call), gone: make(chan struct{}), outbox: map[string]*repeat{}, raising: map[string]uint64{}, believed: map[string]bool{},
		drain: draining{over: make(chan struct{})},
	}
	d.kind = d.configured()
	d.mail.wake = make(chan struct{}, 1)
	return d
}

// do runs f on the device's goroutine and waits for it. It returns false if
// the device has stopped.
func (d *device) do(f func()) bool {
	c := call{f, make(chan struct{})}
	select {
	case d.calls <- c:
		<-c.done
		return true
	case <-d.gone:
		return false
	}
}

// configured is the dialect that the port is configured for, or else the one that the service has said before.
func (d *device) configured() dialect.Dialect {
	if d.port.Dialect != "" {
		return d.b.cfg.Dialects[d.port.Dialect]
	}
	return d.b.cfg.Dialects[d.rec.Dialect]
}

// run owns the device until ctx ends.
func (d *device) run(ctx context.Context) {
	defer close(d.gone)
	d.downSince = time.Now()
	d.restore()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		d.drained()
		timer.Reset(d.tick(time.Now()))
		select {
		case <-ctx.Done():
			d.stop()
			return
		case c := <-d.calls:
			c.f()
			close(c.done)
		case <-d.mail.wake:
			d.read()
		case <-timer.C:
		}
	}
}

// restore takes up what was under way when the bridge stopped.
func (d *device) restore() {
	for _, e := range d.rec.Ended {
		if e.Status != nil && !e.Acked {
			d.outbox[e.Execution] = &repeat{status: *e.Status, wait: firstRepeat, trace: e.Trace}
		}
	}
	if d.rec.Open != nil {
		d.log.Info("taking up an execution", "event", logevent.ExecutionResumed, "execution", d.rec.Open.Offer.Execution, "state", d.rec.Open.State)
		d.open()
		d.resume()
	}
}

// stop lets go of the image; the record has what the next run needs.
func (d *device) stop() {
	if d.ex != nil {
		if d.drain.on {
			d.log.Warn("update is stopped at the limit of the drain; it goes on after the next start", "event", logevent.ExecutionLeft, "execution", d.ex.offer.Execution, "state", d.ex.state)
		}
		d.ex.letGo()
	}
	if !d.saveDue.IsZero() || !d.newsDue.IsZero() {
		_ = d.save() // logged
	}
}

// read takes what the service said.
func (d *device) read() {
	d.mail.mu.Lock()
	offer, hasOffer, offerTrace, acks := d.mail.offer, d.mail.hasOffer, d.mail.offerTrace, d.mail.acks
	profile, hasProfile := d.mail.profile, d.mail.hasProfile
	connected, changed, failed := d.mail.connected, d.mail.changed, d.mail.failed
	d.mail.offer, d.mail.hasOffer, d.mail.acks, d.mail.changed, d.mail.failed = nil, false, nil, false, false
	d.mail.profile, d.mail.hasProfile = nil, false
	d.mail.mu.Unlock()
	now := time.Now()
	if changed {
		d.connected = connected
		if connected {
			d.announce(now)
		}
	}
	if failed && d.connected {
		d.announceDue = now.Add(announceAgain)
	}
	for _, a := range acks {
		d.acked(a)
	}
	if hasProfile {
		d.profiled(profile)
	}
	if hasOffer {
		d.arrived = offerTrace
		d.offered(offer)
	}
}

// announce says everything that the service may have missed.
func (d *device) announce(now time.Time) {
	d.announceDue = time.Time{}
	d.b.publish(d, &schemas.Presence{V: schemas.Version, Online: true}, nil)
	d.hello()
	for _, r := range d.outbox {
		r.due, r.wait = now, firstRepeat
	}
	if d.ex != nil && d.ex.out != nil {
		d.ex.out.due, d.ex.out.wait = now, firstRepeat
	}
}

// tick does what is due and returns how long nothing will be.
func (d *device) tick(now time.Time) time.Duration {
	if !d.saveDue.IsZero() && !now.Before(d.saveDue) {
		_ = d.save() // logged, and tried again
	}
	if !d.newsDue.IsZero() && !now.Before(d.newsDue) {
		d.tellNews(now)
	}
	next := time.Hour
	soonest := func(at time.Time) {
		if !at.IsZero() {
			next = min(next, max(0, at.Sub(now)))
		}
	}
	soonest(d.saveDue)
	soonest(d.newsDue)
	soonest(d.settle(now))
	if d.connected {
		switch {
		case !d.announceDue.IsZero() && !now.Before(d.announceDue):
			d.announce(now)
		case !now.Before(d.helloDue):
			d.hello()
		}
		soonest(d.announceDue)
		soonest(d.helloDue)
		for _, r := range d.outbox {
			soonest(d.send(r, now))
		}
	}
	if d.ex != nil {
		soonest(d.portLimit(now))
	}
	if d.ex != nil {
		soonest(d.progress(now))
		if d.ex.out != nil && d.connected {
			soonest(d.send(d.ex.out, now))
		}
	}
	return next
}

// send publishes a status if it is due, and returns when it will be again.
func (d *device) send(r *repeat, now time.Time) time.Time {
	if !now.Before(r.due) {
		s := r.status
		d.b.publish(d, &s, r.trace)
		r.due = now.Add(r.wait)
		r.wait = min(2*r.wait, lastRepeat)
	}
	return r.due
}

// acked takes the service's word that a status is recorded.
func (d *device) acked(a schemas.Ack) {
	if r := d.outbox[a.Execution]; r != nil && r.status.Attempt == a.Attempt && a.Seq >= r.status.Seq {
		delete(d.outbox, a.Execution)
		if e := d.rec.ended(a.Execution, a.Attempt); e != nil {
			e.Acked = true
			d.save()
		}
		return
	}
	ex := d.ex
	if ex == nil || ex.offer.Execution != a.Execution || ex.offer.Attempt != a.Attempt {
		return
	}
	switch {
	case ex.fetchesOnly() && ex.state == schemas.StateDownloaded && ex.out != nil && a.Seq >= ex.out.status.Seq:
		d.handedIn() // whatever the service has made of the execution since
	case a.Superseded:
		d.drop("the service has superseded it", nil)
	case a.State.Final():
		d.drop("the service has recorded it as "+string(a.State), &endedRecord{Execution: a.Execution, Attempt: a.Attempt, Acked: true})
	case ex.out != nil && a.Seq >= ex.out.status.Seq:
		ex.out = nil
	}
}

// save writes the record. A failure is logged and told to the caller, for whom
// it may matter; the record is tried again until it is on disk.
func (d *device) save() error {
	d.saveDue = time.Time{}
	d.raise()
	err := d.b.records.save(d.rec)
	if durable.IsNoSpace(err) && d.b.spool.Spare() {
		err = d.b.records.save(d.rec) // an image that nobody uses is worth less
	}
	if err != nil {
		d.saveDue = time.Now().Add(saveAgain)
		d.log.Error("the device's record could not be written; a restart may repeat work", "event", logevent.RecordNotWritten, "error", err)
	}
	if len(d.raising) > 0 {
		d.saveDue = time.Now().Add(saveAgain)
	}
	return err
}

// lineUp takes a session on a port that was just opened.
func (d *device) lineUp(s dialect.Session) {
	d.session, d.upSince = s, time.Now()
	d.startLeg()
}

func (d *device) lineDown() {
	if d.session != nil {
		d.session, d.downSince = nil, time.Now()
		d.disbelieve() // another MCU may be there when the port is back
	}
}
