package afero

import (
	"strconv"
	"time"

	"davit/bridge/dialect"
	"davit/bridge/dialect/session"
	"davit/schemas/afpro"
)

// kind says what the message that the transport holds is, so that its delivery
// or its loss means something. Those from kindOffer on belong to an update.
type kind byte

const (
	kindVoid  kind = iota // what it belonged to is over
	kindReply             // an answer to the MCU
	kindStart             // a part of the start-up
	kindAsk               // GET of a version
	kindFail              // FAIL: what the MCU has received is to be dropped
	kindOffer             // BEGIN
	kindChunk             // a piece of the image
	kindApply             // APPLY
)

// Times of the questions for versions.
const (
	// askWait is how long an MCU that answers GETs has to do so. One that does
	// not any more has restarted and waits for the start-up.
	askWait = time.Second
	// talkLimit is how many times as long it has if it says something else
	// meanwhile, one thing after the other.
	talkLimit = 4
	// claimWait is how long a reported version waits to be said once more.
	claimWait = 3 * time.Second
	// restateWait is claimWait for an MCU that has to be led through the start-up
	// to say it again.
	restateWait = 10 * time.Second
)

// longestProduct is the longest value that a product's own attribute may have on
// its way to the ASR; the bytes of a longer message are passed over.
const longestProduct = 255

// machine is the state machine of one line.
type machine struct {
	cfg    dialect.Config
	events dialect.Events

	now     time.Time
	t       *transport
	kind    kind
	replies replies
	start   startup
	request byte // id of the last GET of ours
	lost    bool // the MCU does not react: the start-up begins when it does

	asks    session.Asks // the version properties: attribute numbers in decimal
	asking  string       // the one whose GET is not answered, "" for none
	askedAt time.Time    // the MCU has the GET
	askDue  time.Time
	answers bool // the MCU has answered a GET in this session
	untold  bool // and does not tell its version that way
	claims  []claim

	greetedAt time.Time // the start-up began

	fail bool // FAIL waits to be sent
	u    *update
}

// claim is a version that the MCU has reported once. Nothing on this wire shows
// that a bit was wrong, so it counts when it was said twice, or was not
// contradicted for a while.
type claim struct {
	name, value string
	due         time.Time
	restated    bool // the start-up was begun to hear it again
}

func newMachine(cfg dialect.Config, events dialect.Events) *machine {
	m := &machine{cfg: cfg, events: events}
	m.t = newTransport(cfg.Baud, afpro.MaxMessage(max(longestProduct, cfg.AttributeSize, largestAttribute)), events.Counted)
	for _, name := range cfg.VersionProperties {
		m.asks.Of(name)
	}
	return m
}

// Begin implements session.Machine.
func (m *machine) Begin(now time.Time) {
	m.now = now
	m.greet()
}

// Step implements session.Machine.
func (m *machine) Step(now time.Time) session.Next {
	m.now = now
	if m.u != nil {
		m.u.Arrived()
	}
	m.tick()
	m.fill()
	next := session.Next{Write: m.t.write(now)}
	next.Wake = session.Earliest(m.asks.PollAt(), m.t.wake(), m.start.wake(), m.askDue, m.claimAt(), m.wakeAt())
	if m.u != nil && m.u.phase == phaseAccepted {
		next.Image = m.u.Ready
	}
	if m.u != nil && m.u.phase == phaseLoad {
		next.Image = m.u.Arrival()
	}
	return next
}

// Sent implements session.Machine.
func (m *machine) Sent(now time.Time) {
	m.now = now
	if m.t.sent(now) == delivered {
		m.delivered()
	}
}

// Receive implements session.Machine.
func (m *machine) Receive(b []byte, now time.Time) {
	m.now = now
	m.t.feed(b, now)
	for {
		h, message, more := m.t.next(now)
		if !more {
			return
		}
		m.happened(h, message)
	}
}

// happened takes what the transport tells, with the message if one was received.
func (m *machine) happened(h happening, message []byte) {
	switch h {
	case received:
		m.alive()
		m.message(message)
	case zeroSync:
		m.alive()
	case refused:
		m.oversized()
	case mangled:
		m.noise()
	}
}

// tick does what is due.
func (m *machine) tick() {
	h, lost := m.t.tick(m.now)
	m.happened(h, nil)
	if lost {
		m.silent()
	}
	m.asks.Poll(m.now, m.u != nil)
	m.start.tick(m.now)
	if session.Passed(m.askDue, m.now) {
		m.unanswered()
	}
	m.believe()
	if m.u != nil {
		m.due()
	}
	m.t.expect = m.asking != "" || m.u != nil && m.u.phase == phaseLoad && m.u.owed > 0
}

// fill gives the transport the next message if it has room for one.
func (m *machine) fill() {
	if !m.t.room() {
		return
	}
	b, k := m.next(m.t.buffer())
	if k != kindVoid {
		m.kind = k
		m.t.send(b, m.now)
	}
}

// next appends the next message that is due, or says kindVoid. Before an MCU is
// through with the start-up, it hears nothing else but answers.
func (m *machine) next(b []byte) ([]byte, kind) {
	if r, ok := m.replies.pop(); ok {
		return encode(b, r.message(), kindReply)
	}
	if message, ok := m.start.message(); ok {
		return encode(b, message, kindStart)
	}
	switch {
	case !m.start.done() || m.lost:
		return b, kindVoid
	case m.fail:
		m.fail = false
		return info(b, afpro.Info{State: afpro.InfoFail}, kindFail)
	case m.asking != "":
		return b, kindVoid // the answer would have to wait behind a long message
	case m.u != nil && m.u.busy():
		return m.fillUpdate(b)
	}
	if name, ok := m.asks.Next(); ok {
		return m.ask(b, name)
	}
	return b, kindVoid
}

// encode appends a message that fits the wire by what it is made of.
func encode(b []byte, message afpro.Message, k kind) ([]byte, kind) {
	b, err := afpro.AppendMessage(b, message)
	if err != nil {
		return b, kindVoid
	}
	return b, k
}

func info(b []byte, i afpro.Info, k kind) ([]byte, kind) {
	b, err := afpro.AppendInfo(b, afpro.ChannelToMCU, i)
	if err != nil {
		return b, kindVoid
	}
	return b, k
}

// ask appends the GET of a version. A property that is no attribute's number is
// never asked for.
func (m *machine) ask(b []byte, name string) ([]byte, kind) {
	n, err := strconv.ParseUint(name, 10, 16)
	if err != nil {
		return b, kindVoid
	}
	if m.request++; m.request == 0 {
		m.request = 1
	}
	m.asking = name
	return encode(b, afpro.Message{Type: afpro.Get, Request: m.request, Attribute: afpro.Attribute(n)}, kindAsk)
}

// delivered takes note that the MCU has the message.
func (m *machine) delivered() {
	k := m.kind
	m.kind = kindVoid
	m.alive()
	switch k {
	case kindStart:
		m.start.delivered(m.now)
	case kindAsk:
		m.askedAt, m.askDue = m.now, m.now.Add(askWait)
	case kindOffer, kindChunk, kindApply:
		if m.u != nil {
			m.taken(k)
		}
	}
}

// void makes the message that the transport holds one that belongs to nothing.
func (m *machine) void() {
	m.t.drop()
	m.kind = kindVoid
}

// alive takes note that the MCU completed a transaction.
func (m *machine) alive() {
	if m.lost {
		m.greet()
	}
	if m.u != nil {
		m.u.Good++
	}
}

// noise takes note of bytes that mean nothing.
func (m *machine) noise() {
	if m.u != nil {
		m.u.Bad++
		m.u.doubt = true
	}
}

// silent takes note that the MCU did not go on with a transaction for as long as
// it has for that.
func (m *machine) silent() {
	k := m.kind
	m.kind = kindVoid
	m.lost = true
	m.disbelieve()
	m.asks.None()
	m.t.begin()
	m.start.begin() // the next attempt is the start-up's first message
	if m.u != nil {
		m.undelivered(k)
	}
}

// greet begins the start-up: when the session begins, and whenever the MCU may
// have restarted, since it then lets no traffic through.
func (m *machine) greet() {
	m.lost, m.greetedAt = false, m.now
	m.t.begin()
	m.start.begin()
	m.asking, m.askDue = "", time.Time{}
	m.asks.All(m.now)
}

// restarted takes note that the MCU has restarted.
func (m *machine) restarted() {
	m.events.Counted(dialect.MCUResets, 1)
	m.disbelieve()
	m.void()
	m.greet()
	if m.u != nil {
		m.mcuRestarted()
	}
}

// disbelieve forgets what the MCU reported: it has restarted, or may have, and
// may run something else now, or be another one.
func (m *machine) disbelieve() {
	m.asks.Forget()
	m.claims = m.claims[:0]
	m.asking, m.askDue = "", time.Time{}
	m.events.Restarted()
}

// unanswered takes note that a GET was not answered. An MCU that answers GETs
// has restarted; another may not know them.
func (m *machine) unanswered() {
	if due := session.Earliest(m.t.talks(m.now, askWait), m.askedAt.Add(talkLimit*askWait)); m.now.Before(due) {
		m.askDue = due // it is about to say something, if not this
		return
	}
	m.asking, m.askDue = "", time.Time{}
	if m.answers && m.start.done() {
		m.restarted()
	}
}
