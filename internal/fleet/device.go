package fleet

import (
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"davit/internal/fleet/mqtt"
	"davit/schemas"
)

const (
	// helloEvery is after how long hellos are repeated, give or take a tenth.
	helloEvery = 10 * time.Minute
	// firstWait is the longest wait after a first failure to connect, lastWait after many.
	firstWait = time.Second
	lastWait  = time.Minute
	// rebootTime is how long a module is away when it reboots.
	rebootTime = 2 * time.Second
)

// device is a module and its host MCU.
type device struct {
	fleet    *Fleet
	id       string
	password string
	kind     *kind

	// The clock's own.
	alarm instant
	place int32 // in the clock's queue, -1 if it is not there

	mu      sync.Mutex
	rng     rand.PCG
	conn    *mqtt.Conn // nil without a connection
	link    link
	phase   phase
	tries   uint8 // attempts to connect since the last success
	waits   uint8 // repetitions since the last answer
	era     int32 // of the fleet, in which it was online last
	cutOff  bool  // the fleet has ended its connection
	fell    bool  // its host MCU has returned to the version before
	counted bool  // its update has come to its end, and is counted
	version string
	before  string // what ran before version
	kept    string // SHA-256 of an image that is to be installed later
	update  *update
	pending *schemas.Status // the last report, until it is acknowledged
	later   []delayed       // what leaves when its latency is over

	// When something is to be done; 0 is never.
	connectAt, helloAt, repeatAt, fetchAt, stepAt, rebootAt, pingAt, fallAt instant

	began  instant // when the connection was begun
	asked  instant // when the last hello was said that no offer has answered yet
	lineAt instant // when what was read has come through a narrow line; the read goroutine's own
}

// update is the attempt that a device works on.
type update struct {
	offer schemas.Offer
	image *image
	dl    loader // nil until the offer is accepted, and when the image is whole
	seq   uint64
	ended bool
	fails uint64 // the byte of the image at which the drawn fault shows
	told  instant
	wrong int // chunks
	// follow says that the image's shared stream is subscribed to, by the SUBSCRIBE with
	// the id. alone has the next fetch be answered to this device alone, because the
	// stream did not bring what it asked for.
	follow, alone bool
	followID      uint16
	heard         instant // when something was asked for, or came
}

// delayed is a message that has not left yet.
type delayed struct {
	at      instant
	kind    schemas.Kind
	payload []byte
}

func (f *Fleet) newDevice(n int, l Login, k *kind) *device {
	return &device{
		fleet: f, id: l.ID, password: l.Password, kind: k, place: -1,
		rng: *rand.NewPCG(f.cfg.Seed, uint64(n)+1), version: f.cfg.Version,
	}
}

// draw is a number from 0 to 1.
func (d *device) draw() float64 { return rand.New(&d.rng).Float64() }

func (d *device) setLink(l link) {
	d.fleet.count.links[d.link].Add(-1)
	d.fleet.count.links[l].Add(1)
	d.link = l
	d.fleet.changed()
}

func (d *device) setPhase(p phase) {
	d.fleet.count.phases[d.phase].Add(-1)
	d.fleet.count.phases[p].Add(1)
	d.phase = p
	d.fleet.changed()
}

// wake sets when a device is to be looked at again, besides what it waits for already.
func (d *device) wake(t instant) { d.fleet.clock.set(d, t) }

// tick does what is due, and returns when there is something to do next.
func (d *device) tick(now instant) instant {
	d.mu.Lock()
	defer d.mu.Unlock()
	due := func(t *instant) bool {
		if *t == 0 || *t > now {
			return false
		}
		*t = 0
		return true
	}
	if d.link == linkOff && due(&d.connectAt) {
		d.begin(now)
	}
	if due(&d.stepAt) {
		d.step(now)
	}
	if due(&d.fallAt) {
		d.fallBack(now)
	}
	if d.link == linkOnline {
		d.release(now)
		if due(&d.rebootAt) {
			d.fleet.count.reboots.Add(1)
			_ = d.conn.Close() // never fails
			return 0           // the end of the connection goes on
		}
		if due(&d.helloAt) {
			d.hello(now)
		}
		if due(&d.repeatAt) {
			d.repeat(now)
		}
		if due(&d.fetchAt) && d.fetching() {
			d.fetch(now)
		}
		if d.pingAt != 0 && d.pingAt <= now {
			d.ping(now)
		}
	}
	return d.next()
}

// next is the first time at which there is something to do.
func (d *device) next() (t instant) {
	all := [...]instant{d.connectAt, d.stepAt, d.fallAt, d.rebootAt, d.helloAt, d.repeatAt, d.pingAt, d.fetchAt, 0}
	if d.link != linkOnline {
		all[3], all[4], all[5], all[6], all[7] = 0, 0, 0, 0, 0
	} else if len(d.later) > 0 {
		all[8] = d.later[0].at
	}
	for _, at := range all {
		if at != 0 && (t == 0 || at < t) {
			t = at
		}
	}
	return t
}

func (d *device) ping(now instant) {
	if d.kind.neverRead {
		// It would never see the answer, and is alive all the same.
		_, _ = d.conn.Write(mqtt.AppendPingreq(nil)) // an error shows in reading as well
		d.pingAt = now + instant(d.fleet.cfg.KeepAlive/2)
		return
	}
	next, err := d.conn.KeepAlive(d.fleet.clock.time(now))
	if err != nil {
		d.pingAt = 0 // the connection has ended
		return
	}
	d.pingAt = now + instant(next.Sub(d.fleet.clock.time(now)))
}

// begin starts to connect.
func (d *device) begin(now instant) {
	if d.fleet.ending.Load() {
		return
	}
	if d.fleet.full() {
		d.connectAt = now + instant(float64(100*time.Millisecond)*(0.5+d.draw()))
		return
	}
	d.setLink(linkConnecting)
	d.began = now
	d.fleet.count.attempts.Add(1)
	first(&d.fleet.count.firstAttempt, now)
	d.fleet.tasks.Add(1)
	go d.connect()
}

// connect makes the connection and hands it to another goroutine, whose stack has not
// grown by it.
func (d *device) connect() {
	conn, err := mqtt.Dial(d.fleet.ctx, d.options())
	if err != nil {
		d.failed(err)
		d.fleet.tasks.Done()
		return
	}
	d.mu.Lock()
	d.conn = conn
	d.mu.Unlock()
	if p := d.kind.profile; p.Bandwidth > 0 || d.kind.neverRead {
		conn.Pace(paceSize(p.Bandwidth), d.pace)
	}
	_, err = conn.Subscribe(
		mqtt.Subscription{Filter: d.topic(schemas.KindOffer), QoS: 1},
		mqtt.Subscription{Filter: d.topic(schemas.KindAck), QoS: 1},
		mqtt.Subscription{Filter: d.topic(schemas.KindChunk)},
		mqtt.Subscription{Filter: d.topic(schemas.KindProfile), QoS: 1},
	)
	if err != nil {
		_ = conn.Close() // never fails; Serve says why the connection has ended
	}
	go d.serve(conn)
}

func (d *device) options() mqtt.Options {
	o := mqtt.Options{
		Addr: d.fleet.cfg.Broker, Version: mqtt.V5, ClientID: d.id, Username: d.id, Password: d.password,
		KeepAlive: d.fleet.cfg.KeepAlive, ReceiveMaximum: 32, MaxPacket: maxPacket, Timeout: connectTimeout,
		Will: &mqtt.Message{Topic: []byte(d.topic(schemas.KindPresence)), Payload: d.fleet.offline, QoS: 1, Retain: true},
	}
	if d.kind.v311 {
		o.Version = mqtt.V311
	}
	return o
}

const (
	// maxPacket is a chunk of the largest size with all that stands around it.
	maxPacket = schemas.MaxChunkSize + schemas.ChunkHeaderSize + 1024
	// connectTimeout is long: in a storm everybody waits for everybody.
	connectTimeout = time.Minute
)

func (d *device) topic(k schemas.Kind) string { return schemas.Topic{Device: d.id, Kind: k}.String() }

// paceSize is how much is read at a time: what comes in a fiftieth of a second.
func paceSize(bandwidth float64) int {
	if bandwidth == 0 {
		return 64 << 10
	}
	return min(max(int(bandwidth/50), 256), 64<<10)
}

// pace lets no more be read than the device's line carries. It is called by the goroutine
// that reads.
func (d *device) pace(n int) bool {
	d.mu.Lock()
	conn, stalled := d.conn, d.kind.neverRead && d.phase == phaseDownloading
	d.mu.Unlock()
	if stalled {
		<-conn.Done()
		return false
	}
	if d.kind.profile.Bandwidth == 0 {
		return true
	}
	now := d.fleet.clock.now()
	d.lineAt = max(d.lineAt, now) + instant(float64(n)/d.kind.profile.Bandwidth*float64(time.Second))
	timer := time.NewTimer(time.Duration(d.lineAt - now))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-conn.Done():
		return false
	}
}

func (d *device) serve(conn *mqtt.Conn) {
	defer d.fleet.tasks.Done()
	err := conn.Serve(d)
	d.ended(err)
}

// failed takes that a connection could not be made.
func (d *device) failed(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fleet.ending.Load() {
		d.setLink(linkOff)
		return
	}
	c := &d.fleet.count
	var refused *mqtt.RefusedError
	switch {
	case !errors.As(err, &refused):
		c.unreachable.Add(1)
		c.mark(kindOf(err))
		d.retry(0)
	case refused.Busy():
		c.busy.Add(1)
		c.mark(kindOf(&mqtt.RefusedError{Version: refused.Version, Code: refused.Code})) // without what differs
		d.retry(refused.RetryAfter)
	default:
		c.refused.Add(1)
		c.mark(kindOf(err))
		d.setLink(linkRefused)
	}
}

// ended takes that a connection has ended.
func (d *device) ended(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.conn, d.later, d.asked = nil, nil, 0
	if u := d.update; u != nil && u.dl != nil {
		u.dl.expire()
	}
	wasOnline := d.link == linkOnline
	if d.fleet.ending.Load() {
		d.setLink(linkOff)
		return
	}
	now := d.fleet.clock.now()
	if wasOnline {
		first(&d.fleet.count.lossBegan, now)
	}
	if errors.Is(err, net.ErrClosed) && !d.cutOff {
		d.again(now + instant(rebootTime))
		return
	}
	d.fleet.count.lost.Add(1)
	if d.cutOff {
		d.cutOff = false
		d.again(now) // all at once
		return
	}
	d.fleet.count.mark(kindOf(err))
	var told *mqtt.DisconnectedError
	switch {
	case errors.As(err, &told) && told.RetryAfter > 0:
		d.retry(told.RetryAfter)
	case wasOnline && d.fleet.cfg.Storm != NoStorm:
		d.again(now)
	default:
		d.retry(0)
	}
}

// retry tries again after what the broker advises and up to half of that more, or else
// after a time that is drawn from a range that doubles with each attempt.
func (d *device) retry(advice time.Duration) {
	wait := time.Duration(float64(advice) * (1 + d.draw()/2))
	if advice == 0 {
		wait = time.Duration(d.draw() * float64(min(firstWait<<min(d.tries, 10), lastWait)))
	}
	d.tries = min(d.tries+1, 100)
	d.again(d.fleet.clock.now() + instant(wait))
}

func (d *device) again(at instant) {
	d.setLink(linkOff)
	d.connectAt = at
	d.wake(at)
}

// up is called when the subscriptions are there.
func (d *device) up() {
	now := d.fleet.clock.now()
	c := &d.fleet.count
	c.accepted.Add(1)
	c.connectTime.add(time.Duration(now - d.began))
	d.tries, d.waits = 0, 0
	d.setLink(linkOnline)
	if era := d.fleet.era.Load(); d.era != era {
		d.era = era
		if c.met.Add(1) == int64(len(d.fleet.devices)) {
			last(&c.allOnline, now)
		}
		d.fleet.changed()
	}
	d.publish(schemas.KindPresence, d.fleet.online, now)
	d.hello(now)
	if p := d.kind.profile; p.RebootEvery > 0 {
		d.rebootAt = now + instant(rand.New(&d.rng).ExpFloat64()*float64(p.RebootEvery))
	}
	d.subscribe()
	d.repeat(now)
	d.pingAt = now + instant(d.fleet.cfg.KeepAlive*3/4)
	d.wake(d.next())
}

// close says goodbye. Its will is not published then, so it says itself that it is away.
func (d *device) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conn == nil {
		return
	}
	if d.link == linkOnline {
		d.send(schemas.KindPresence, d.fleet.offline)
	}
	_ = d.conn.Disconnect() // it ends in any case
}

// cut ends the connection without a word.
func (d *device) cut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conn != nil && d.link == linkOnline {
		d.cutOff = true
		_ = d.conn.Close() // never fails
	}
}

// errContract is wrapped by errors about what the service may not send.
var errContract = errors.New("outside the contract")
