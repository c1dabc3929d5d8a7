package sim

import (
	"encoding/binary"
	"math"
	"time"

	"davit/schemas/afpro"
)

const (
	aferoQueue = 8 // messages that may wait
	// answerTimeout is how long afLib waits for the answer to a SET or GET before
	// it sends anything else.
	answerTimeout = 10 * time.Second
	// The attributes of the product itself.
	firstOwn, lastOwn afpro.Attribute = 1, 1023
)

// begin is the application's beginning: it waits for the module to start up.
func (m *AferoMCU) begin(now time.Time, cause startCause) {
	m.app.closed, m.app.cause, m.app.protocol = true, cause, 1
	m.app.link.answer = now
	m.resume()
	if m.cfg.Traffic > 0 {
		m.after(now, m.cfg.Traffic, "traffic", m.chatter)
	}
}

// send queues a message, or drops it if the queue is full. then, if any, is
// called once the module has taken it.
func (m *AferoMCU) send(msg afpro.Message, now time.Time, then func(now time.Time)) {
	// Whoever called is not done yet: what it sets must stand before a byte goes out.
	m.after(now, 0, "pump", m.pump)
	if len(m.app.queue) >= aferoQueue {
		m.stats.Dropped++
		return
	}
	b, err := afpro.AppendMessage(nil, msg)
	if err != nil {
		panic("sim: the simulated MCU built a message that cannot be sent: " + err.Error())
	}
	o := outgoing{bytes: b, then: then}
	if msg.Type == afpro.Set || msg.Type == afpro.Get {
		o.wants = msg.Attribute
	}
	m.app.queue = append(m.app.queue, o)
}

// pick takes the next message from the queue, if one may go out.
func (m *AferoMCU) pick(now time.Time) bool {
	a := &m.app
	if a.closed || a.outstanding != 0 || len(a.queue) == 0 {
		return false
	}
	o := a.queue[0]
	a.queue = a.queue[1:]
	a.link.sending = &o
	if o.wants != 0 {
		a.outstanding = o.wants
		m.after(now, answerTimeout, "answer", func(now time.Time) {
			m.stats.Unanswered++
			a.outstanding = 0
			m.pump(now)
		})
	}
	return true
}

func (m *AferoMCU) nextRequest() byte {
	m.app.request++
	return m.app.request
}

// tell sends an attribute of the MCU's own accord.
func (m *AferoMCU) tell(a afpro.Attribute, value []byte, now time.Time) {
	m.send(afpro.Message{
		Type: afpro.Update, Request: m.nextRequest(), Attribute: a, Reason: afpro.ReasonUnsolicited, Value: value,
	}, now, nil)
}

// declare is tell for the attributes that some afLib versions SET.
func (m *AferoMCU) declare(a afpro.Attribute, value []byte, now time.Time) {
	if !m.cfg.SetVersion {
		m.tell(a, value, now)
		return
	}
	m.send(afpro.Message{Type: afpro.Set, Request: m.nextRequest(), Attribute: a, Value: value}, now, nil)
}

// answer answers a SET or GET of the module.
func (m *AferoMCU) answer(to afpro.Message, s afpro.State, r afpro.Reason, value []byte, now time.Time) {
	m.send(afpro.Message{
		Type: afpro.Update, Request: to.Request, Attribute: to.Attribute, State: s, Reason: r, Value: value,
	}, now, nil)
}

// onMessage obeys one message (docs/afero-wire.md section 3).
func (m *AferoMCU) onMessage(b []byte, now time.Time) {
	msg, err := afpro.ParseMessage(b)
	if err != nil {
		m.stats.MessagesBad++
		return
	}
	switch msg.Type {
	case afpro.Get:
		m.onGet(msg, now)
	case afpro.Set:
		m.onSet(msg, now)
	case afpro.Update:
		m.onUpdate(msg, now)
	case afpro.UpdateRejected:
		m.stats.Rejected++
	case afpro.SetDefault: // nothing that an update depends on
	}
}

func own(a afpro.Attribute) bool { return a >= firstOwn && a <= lastOwn }

func (m *AferoMCU) onGet(msg afpro.Message, now time.Time) {
	reason := afpro.ReasonGet
	if m.app.protocol < 2 {
		reason = afpro.ReasonUnsolicited // version 1 has no other
	}
	switch {
	case msg.Attribute == afpro.VersionAttribute(m.cfg.Type) && !m.cfg.NoGet:
		if !m.cfg.Fault.NoVersion {
			m.answer(msg, afpro.StateUpdated, reason, m.versionValue(), now)
		}
	case own(msg.Attribute):
		m.answer(msg, afpro.StateUpdated, reason, []byte{byte(msg.Attribute)}, now)
	default:
		m.answer(msg, afpro.StateUnknownAttribute, reason, nil, now)
	}
}

func (m *AferoMCU) onSet(msg afpro.Message, now time.Time) {
	if own(msg.Attribute) {
		m.answer(msg, afpro.StateUpdated, afpro.ReasonServiceSet, msg.Value, now)
		return
	}
	m.answer(msg, afpro.StateUnknownAttribute, afpro.ReasonServiceSet, nil, now)
}

func (m *AferoMCU) onUpdate(msg afpro.Message, now time.Time) {
	a := &m.app
	if msg.Attribute == a.outstanding {
		a.outstanding = 0
		m.stopTimer("answer")
	}
	switch msg.Attribute {
	case afpro.ASRProtocol:
		m.onProtocol(msg.Value, now)
	case afpro.MCUProtocol:
		if m.cfg.Protocol > 1 {
			a.closed = true // the exchange is over, the start-up goes on
		}
	case afpro.ApplicationVersion:
		if v, err := afpro.ParseUint64(msg.Value); err == nil {
			a.version = v
			m.startedUp(now)
		}
	case afpro.ASRState:
		if len(msg.Value) == 1 && msg.Value[0] < 64 {
			a.states |= 1 << msg.Value[0]
			m.startedUp(now)
		}
	case afpro.ChannelToMCU:
		m.onTunnel(msg.Value, now)
	}
}

// onProtocol opens the gate for as long as the exchange of versions lasts; what
// waits in the queue already goes out with it, as from afLib.
func (m *AferoMCU) onProtocol(value []byte, now time.Time) {
	v, err := afpro.ParseUint16(value)
	if err != nil || m.cfg.Protocol < 2 {
		return
	}
	m.app.protocol, m.app.closed = v, false
	m.declare(afpro.MCUProtocol, binary.LittleEndian.AppendUint16(nil, uint16(m.cfg.Protocol)), now)
}

// startedUp opens the gate once the module has said its version and reached the
// state that goes with it (docs/afero-wire.md section 4).
func (m *AferoMCU) startedUp(now time.Time) {
	a := &m.app
	wanted := afpro.ASRLinked
	if a.version > afpro.ExtendedStates {
		wanted = afpro.ASRInitialized
	}
	if a.version == 0 || a.states&(1<<wanted) == 0 {
		return
	}
	a.closed, a.version, a.states = false, 0, 0
	m.declare(afpro.MCUCapabilities, []byte{0}, now)
	m.send(afpro.Message{Type: afpro.Get, Request: m.nextRequest(), Attribute: afpro.ASRCapabilities}, now, nil)
	if m.reportsAtStart(a.cause) || m.cfg.Report == ReportOnConnect {
		m.reportVersion(now)
	}
	a.cause = startPlain
}

// resetModule pulls the module's reset line and waits for it to start up.
func (m *AferoMCU) resetModule(now time.Time) {
	m.stats.ModuleResets++
	a := &m.app
	a.closed, a.protocol, a.version, a.states, a.outstanding = true, 1, 0, 0, 0
	m.stopTimer("answer")
	a.link.sending, a.link.answer = nil, now
}

func (m *AferoMCU) reportVersion(now time.Time) {
	if !m.cfg.Fault.NoVersion {
		m.declare(afpro.VersionAttribute(m.cfg.Type), m.versionValue(), now)
	}
}

func (m *AferoMCU) versionValue() []byte {
	id := m.slots[m.active].id
	if w := m.cfg.Fault.Afero.WrongVersionID; w != 0 && m.active != 0 {
		id = w
	}
	return binary.LittleEndian.AppendUint64(nil, id)
}

// chatter sends attributes of all sizes of the MCU's own accord.
func (m *AferoMCU) chatter(now time.Time) {
	if len(m.app.queue) < maxBacklog {
		n := m.app.traffic
		m.app.traffic++
		a := firstOwn + afpro.Attribute(m.rng.IntN(int(lastOwn)))
		switch n % 4 {
		case 0:
			m.tell(a, []byte{byte(n)}, now)
		case 1:
			m.tell(a, binary.LittleEndian.AppendUint64(nil, math.Float64bits(m.rng.Float64())), now)
		case 2:
			m.tell(a, []byte("20120212"), now) // what a ready byte and sync messages look like
		case 3:
			m.tell(a, make([]byte, m.cfg.AttributeSize), now)
		}
	}
	m.after(now, m.cfg.Traffic, "traffic", m.chatter)
}
