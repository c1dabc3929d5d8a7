package afero

import (
	"slices"
	"strconv"
	"time"

	"davit/bridge/dialect/session"
	"davit/schemas/afpro"
)

// message takes a message of the MCU.
func (m *machine) message(b []byte) {
	message, err := afpro.ParseMessage(b)
	if err != nil {
		m.noise()
		return
	}
	switch message.Type {
	case afpro.Get:
		m.replies.push(reply{attribute: message.Attribute, request: message.Request, get: true})
	case afpro.Set:
		m.replies.push(setReply(message))
		m.attribute(message)
	case afpro.Update:
		m.attribute(message)
	default:
		m.noise() // an ASR's to say
	}
}

// attribute takes an attribute that the MCU reports or sets.
func (m *machine) attribute(message afpro.Message) {
	if _, ok := message.Attribute.FirmwareType(); ok {
		m.version(message)
		return
	}
	switch message.Attribute {
	case afpro.ChannelToASR:
		m.tunnelled(message.Value)
	case afpro.MCUProtocol:
		if v, err := afpro.ParseUint16(message.Value); err != nil {
			m.noise()
		} else {
			m.start.answered(v)
		}
	case afpro.SystemCommand:
		if len(message.Value) > 0 && message.Value[0] == afpro.CommandReboot {
			m.restarted() // what it asks of an ASR when it starts and has no reset line
		}
	}
}

// tunnelled takes an attribute that came through the channel.
func (m *machine) tunnelled(value []byte) {
	attribute, value, err := afpro.ParseTunnel(value)
	if err != nil {
		m.noise()
		return
	}
	switch attribute {
	case afpro.OTAInfo:
		i, err := afpro.ParseInfo(value)
		if err != nil {
			m.noise()
		} else if m.u != nil {
			m.info(i)
		}
	case afpro.OTATransfer:
		next, err := afpro.ParseNext(value)
		if err != nil {
			m.noise()
		} else if m.u != nil {
			m.wants(next)
		}
	default:
		m.noise()
	}
}

// version takes a report of what runs, or the answer that the attribute is not
// known.
func (m *machine) version(message afpro.Message) {
	name := strconv.Itoa(int(message.Attribute))
	if name == m.asking && m.answersGet(message) {
		m.asking, m.askDue, m.answers = "", time.Time{}, true
	}
	if message.Type == afpro.Update && message.State != afpro.StateUpdated {
		m.cannotTell(name)
		return
	}
	id, err := afpro.ParseUint64(message.Value)
	if err != nil {
		m.noise()
		return
	}
	m.claim(name, strconv.FormatUint(id, 10))
}

// answersGet says whether a message is the answer to the GET that the MCU has: it
// carries its request id, or says so. A report of the MCU's own accord is none.
func (m *machine) answersGet(message afpro.Message) bool {
	return !m.askDue.IsZero() && message.Type == afpro.Update && (message.Request == m.request || message.Reason == afpro.ReasonGet)
}

// claim takes a version that the MCU reports. It counts if it was said before.
func (m *machine) claim(name, value string) {
	ask := m.asks.Of(name)
	i := slices.IndexFunc(m.claims, func(c claim) bool { return c.name == name })
	if ask.Value == value || i >= 0 && m.claims[i].value == value {
		m.reported(name, value)
		return
	}
	c := claim{name: name, value: value, due: m.now.Add(claimWait)}
	if i >= 0 {
		m.claims[i] = c
	} else {
		m.claims = append(m.claims, c)
	}
	ask.Want = true
}

// cannotTell takes note that the MCU does not answer GETs of the attribute. Led
// through the start-up it may report once more what it has reported by itself.
func (m *machine) cannotTell(name string) {
	m.asks.Of(name).Want, m.untold = false, true
	i := slices.IndexFunc(m.claims, func(c claim) bool { return c.name == name })
	if i >= 0 && !m.claims[i].restated {
		m.claims[i].restated, m.claims[i].due = true, m.now.Add(restateWait)
		m.greet()
	}
}

// believe takes the claims that nothing contradicted for as long as they wait.
func (m *machine) believe() {
	for _, c := range m.claims {
		if session.Passed(c.due, m.now) {
			m.reported(c.name, c.value)
			return // the others' turn is the next step, which comes at once
		}
	}
}

// claimAt is when believe has something to do.
func (m *machine) claimAt() time.Time {
	var at time.Time
	for _, c := range m.claims {
		if at.IsZero() || c.due.Before(at) {
			at = c.due
		}
	}
	return at
}

// reported takes a version that counts.
func (m *machine) reported(name, value string) {
	m.claims = slices.DeleteFunc(m.claims, func(c claim) bool { return c.name == name })
	m.asks.Reported(name, value)
	m.events.Version(name, value)
	if m.u != nil && name == m.u.VersionProperty {
		m.runs(value)
	}
}

// reply is an answer that the MCU is owed: to a GET, or to a SET, whose value it
// gets back.
type reply struct {
	attribute afpro.Attribute
	request   byte
	get       bool
	state     afpro.State
	value     [8]byte
	length    int
}

// setReply is the answer to a SET. Attributes that mean nothing here are not
// known.
func setReply(message afpro.Message) reply {
	r := reply{attribute: message.Attribute, request: message.Request}
	_, version := message.Attribute.FirmwareType()
	switch {
	case len(message.Value) > len(r.value):
		r.state = afpro.StateLengthExceeded
	case version, message.Attribute == afpro.MCUProtocol, message.Attribute == afpro.MCUCapabilities, message.Attribute == afpro.SystemCommand:
		r.length = copy(r.value[:], message.Value)
	default:
		r.state = afpro.StateUnknownAttribute
	}
	return r
}

// message is the UPDATE that answers.
func (r *reply) message() afpro.Message {
	u := afpro.Message{Type: afpro.Update, Request: r.request, Attribute: r.attribute, State: r.state, Reason: afpro.ReasonMCUSet}
	if !r.get {
		u.Value = r.value[:r.length]
		return u
	}
	u.Reason = afpro.ReasonGet
	switch r.attribute {
	case afpro.ASRCapabilities:
		u.Value = append(r.value[:0], afpro.CapabilityOTA)
	case afpro.ASRProtocol:
		u.Value = append(r.value[:0], asrProtocol, 0)
	case afpro.ASRState:
		u.Value = append(r.value[:0], afpro.ASRInitialized)
	default:
		u.State = afpro.StateUnknownAttribute
	}
	return u
}

// replies holds the answers that the MCU is owed. An MCU that asks faster than
// it listens loses the newest.
type replies struct {
	list    [8]reply
	head, n int
}

func (r *replies) push(a reply) {
	if r.n < len(r.list) {
		r.list[(r.head+r.n)%len(r.list)] = a
		r.n++
	}
}

func (r *replies) pop() (*reply, bool) {
	if r.n == 0 {
		return nil, false
	}
	a := &r.list[r.head]
	r.head, r.n = (r.head+1)%len(r.list), r.n-1
	return a, true
}
