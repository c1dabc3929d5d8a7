package sim

import (
	"time"

	"davit/schemas/afpro"
)

// aferoState is where the MCU stands in a transaction (docs/afero-wire.md
// section 2). It says what the next step is; each step is let go by a ready
// byte, the first one also by a message that waits.
type aferoState string

const (
	stateIdle     aferoState = ""
	stateSync     aferoState = "sync"     // a Sync Request is to be sent, or its Response is awaited
	stateAck      aferoState = "ack"      // the Sync Ack
	stateSend     aferoState = "send"     // the message
	stateReceive  aferoState = "receive"  // the message of the module
	stateComplete aferoState = "complete" // nothing but the last ready byte
)

const (
	syncAgainAfter = time.Second      // a Sync Request is sent again so long after the last one failed
	moduleIsDead   = 10 * time.Second // without an answer, before the reset line is pulled
	hugeCount      = 0xfff0           // of Fault.HugeCounts
)

// aferoLink is the MCU's end of the transport. afLib blocks while it reads; here
// a read under way is one with want above 0.
type aferoLink struct {
	state   aferoState
	heard   []byte // what the line brought and nobody has looked at
	due     bool   // the next step is let go
	late    bool   // and waits for Fault.AckDelay
	want    int    // bytes that the read under way is for
	got     []byte // and those it has
	sending *outgoing
	toSend  int
	toRead  int
	message []byte // read, to be obeyed when the transaction is complete
	tries   int    // Sync Requests that failed in this transaction
	answer  time.Time
}

// outgoing is a message on its way to the module.
type outgoing struct {
	bytes []byte
	wants afpro.Attribute // the answer that it wants, 0 for none
	then  func(now time.Time)
}

// hear takes what the line brought.
func (m *AferoMCU) hear(piece []byte, now time.Time) {
	if !m.up {
		return
	}
	m.app.link.heard = append(m.app.link.heard, piece...)
	m.pump(now)
}

// pump does what there is to do.
func (m *AferoMCU) pump(now time.Time) {
	for m.turn(now) {
	}
}

// turn does the next thing that there is to do and says whether there was one.
func (m *AferoMCU) turn(now time.Time) bool {
	l := &m.app.link
	switch {
	case !m.up || l.late || m.busyUntil.After(now):
		return false
	case m.cfg.Fault.Deaf:
		l.heard = nil
		return false
	case l.want > 0:
		return m.readOn(now)
	case l.due:
		m.letGo(now)
		return true
	case len(l.heard) > 0:
		m.listenForReady()
		return true
	case l.state == stateIdle && l.sending == nil && m.pick(now):
		l.due = true
		return true
	}
	return false
}

// listenForReady looks at one byte. Anything but a ready byte means nothing here.
func (m *AferoMCU) listenForReady() {
	l := &m.app.link
	b := l.heard[0]
	l.heard = l.heard[1:]
	switch p := m.cfg.Fault.LoseAcks; {
	case b != afpro.Ready:
		m.stats.Skipped++
	case p > 0 && m.rng.Float64() < p:
		m.stats.LostReadies++
	default:
		l.due = true
	}
}

// letGo takes the next step, as late as the faults want it.
func (m *AferoMCU) letGo(now time.Time) {
	l := &m.app.link
	l.due = false
	d := m.cfg.Fault.AckDelay
	if d <= 0 {
		m.step(now)
		return
	}
	l.late = true
	m.after(now, d, "step", func(now time.Time) {
		l.late = false
		m.step(now)
		m.pump(now)
	})
}

func (m *AferoMCU) step(now time.Time) {
	m.stats.Steps++
	if n := m.cfg.Fault.Afero.ResetAtStep; n > 0 && m.stats.Steps >= n && !m.resetDone {
		m.resetOnce(now)
		return
	}
	l := &m.app.link
	switch l.state {
	case stateIdle:
		l.state, l.toSend, l.message = stateSync, 0, nil
		if l.sending != nil {
			l.toSend = len(l.sending.bytes)
		}
		m.request(now)
	case stateSync:
		m.stats.SyncRetries++
		m.request(now)
	case stateAck:
		m.acknowledge()
	case stateSend:
		m.out = append(m.out, l.sending.bytes...)
		l.state = stateComplete
	case stateReceive:
		m.startReading(l.toRead, nil, now)
	case stateComplete:
		m.complete(now)
	}
}

// putSync encodes a sync message to be written, as well as the faults let it.
func (m *AferoMCU) putSync(s afpro.Sync) {
	f := m.cfg.Fault
	if f.Afero.HugeCounts && s.MCU > 0 {
		s.MCU = hugeCount
	}
	b := afpro.AppendSync(nil, s)
	if f.Afero.BadSyncs {
		b[len(b)-1] ^= 0x55
	}
	m.out = append(m.out, b...)
	if f.DoubleAcks {
		m.out = append(m.out, b...)
	}
}

func (m *AferoMCU) request(now time.Time) {
	m.stopTimer("again")
	m.putSync(afpro.Sync{Type: afpro.SyncCounts, MCU: uint16(m.app.link.toSend)})
	m.startReading(afpro.SyncSize, nil, now)
}

func (m *AferoMCU) acknowledge() {
	l := &m.app.link
	if m.cfg.Fault.Afero.NeverAcks {
		return
	}
	m.putSync(afpro.Sync{Type: afpro.SyncAck, MCU: uint16(l.toSend), ASR: uint16(l.toRead)})
	switch {
	case l.toSend > 0:
		l.state = stateSend
	case l.toRead > 0:
		l.state = stateReceive
	default:
		l.state = stateComplete
	}
}

// startReading begins a read of n bytes, or goes on with one that has got some
// of them. It fails when the next byte takes too long.
func (m *AferoMCU) startReading(n int, got []byte, now time.Time) {
	l := &m.app.link
	l.want, l.got = n, got
	m.after(now, m.cfg.AckTimeout, "read", func(now time.Time) {
		m.stats.Timeouts++
		l.want, l.got = 0, nil
		if l.state == stateSync {
			m.unanswered(now)
		} else {
			l.state = stateIdle
		}
		m.pump(now)
	})
}

// readOn gives the read under way what was heard. Ready bytes before a Sync
// Response are skipped; in a message a byte is a byte.
func (m *AferoMCU) readOn(now time.Time) bool {
	l := &m.app.link
	if len(l.heard) == 0 {
		return false
	}
	if l.state == stateSync && len(l.got) == 0 && l.heard[0] == afpro.Ready {
		l.heard = l.heard[1:]
		m.startReading(l.want, nil, now)
		return true
	}
	n := min(l.want-len(l.got), len(l.heard))
	got := append(l.got, l.heard[:n]...)
	l.heard = l.heard[n:]
	if len(got) < l.want {
		m.startReading(l.want, got, now)
		return true
	}
	m.stopTimer("read")
	l.want, l.got = 0, nil
	if l.state == stateReceive {
		l.message, l.state = got, stateComplete
		return true
	}
	m.response(got, now)
	return true
}

// response takes a Sync Response.
func (m *AferoMCU) response(b []byte, now time.Time) {
	l := &m.app.link
	s, err := afpro.ParseSync(b)
	if err != nil {
		m.stats.BadSyncs++
		m.unanswered(now)
		return
	}
	l.answer = now
	if l.toSend > 0 && s.ASR > 0 {
		m.stats.Collisions++
		m.unanswered(now)
		return
	}
	l.state, l.tries, l.toRead = stateAck, 0, int(s.ASR)
}

// unanswered stays in sync: the next ready byte, or some time, lets the Request
// go again, but not for ever.
func (m *AferoMCU) unanswered(now time.Time) {
	l := &m.app.link
	l.tries++
	if l.tries < m.cfg.Retries {
		m.after(now, syncAgainAfter, "again", func(now time.Time) {
			l.due = true
			m.pump(now)
		})
		return
	}
	// As in afLib, what could not be sent stays and goes out at the next ready byte.
	m.stats.GivenUp++
	l.tries, l.state = 0, stateIdle
	if now.Sub(l.answer) >= moduleIsDead && !m.cfg.KeepsModule {
		m.resetModule(now)
	}
}

// complete ends a transaction.
func (m *AferoMCU) complete(now time.Time) {
	l := &m.app.link
	m.stats.Transactions++
	l.state = stateIdle
	sent, message := l.sending, l.message
	l.sending, l.message = nil, nil
	if sent != nil {
		m.stats.MessagesOut++
	}
	if message != nil {
		m.stats.MessagesIn++
	}
	if n := m.cfg.Fault.ResetAtFrame; n > 0 && m.stats.MessagesIn+m.stats.MessagesOut >= n && !m.resetDone {
		m.resetOnce(now)
		return
	}
	if sent != nil && sent.then != nil {
		sent.then(now)
	}
	if message != nil {
		m.onMessage(message, now)
	}
}
