package afero

import (
	"encoding/binary"
	"time"

	"davit/bridge/dialect/session"
	"davit/schemas/afpro"
)

// What the bridge says of itself as the ASR (docs/afero-wire.md section 4).
const (
	asrProtocol = 2
	// asrApplication is newer than the last version without extended states, so
	// that afLib waits for ASRInitialized.
	asrApplication = 0x10000
)

// protocolWait is how long an MCU has to answer with its protocol version: one of
// version 1 does not know the question.
const protocolWait = 2 * time.Second

// startStep is how far the start-up is: which message is to be sent next, or
// what is waited for. afLib lets no traffic through before it has seen the
// application version and the state, and shuts up again when its protocol version is
// echoed, so the order is the protocol's.
type startStep byte

const (
	startProtocol    startStep = iota
	startAwait                 // for the MCU's protocol version
	startEcho                  // of it
	startApplication           // our application version
	startLinked                // the state that older afLibs wait for
	startInitialized           // the state that newer ones wait for
	startDone
)

// startup is the handshake after either side has restarted.
type startup struct {
	step     startStep
	sent     startStep // whose message is on its way
	due      time.Time // startAwait ends
	protocol uint16    // the MCU's, to be echoed
	value    [8]byte
}

// begin starts it, or starts it anew.
func (s *startup) begin() { s.step, s.due = startProtocol, time.Time{} }

func (s *startup) done() bool { return s.step == startDone }

// message is the next message of the start-up, if one is due. Its delivery says
// how to go on.
func (s *startup) message() (afpro.Message, bool) {
	u := afpro.Message{Type: afpro.Update, Reason: afpro.ReasonRebooted}
	s.sent = s.step
	switch s.step {
	case startProtocol:
		u.Attribute, u.Value = afpro.ASRProtocol, binary.LittleEndian.AppendUint16(s.value[:0], asrProtocol)
	case startEcho:
		u.Attribute, u.Value, u.Reason = afpro.MCUProtocol, binary.LittleEndian.AppendUint16(s.value[:0], s.protocol), afpro.ReasonMCUSet
	case startApplication:
		u.Attribute, u.Value = afpro.ApplicationVersion, binary.LittleEndian.AppendUint64(s.value[:0], asrApplication)
	case startLinked:
		u.Attribute, u.Value = afpro.ASRState, append(s.value[:0], afpro.ASRLinked)
	case startInitialized:
		u.Attribute, u.Value = afpro.ASRState, append(s.value[:0], afpro.ASRInitialized)
	default:
		return afpro.Message{}, false
	}
	return u, true
}

// delivered takes note that the MCU has the message. If the start-up is
// elsewhere by now, because the MCU spoke meanwhile, it means nothing.
func (s *startup) delivered(now time.Time) {
	if s.sent != s.step {
		return
	}
	switch s.step {
	case startProtocol:
		s.step, s.due = startAwait, now.Add(protocolWait)
	case startEcho, startApplication, startLinked, startInitialized:
		s.step++
	}
}

// answered takes the MCU's protocol version. One that comes late, or unasked,
// makes what follows it necessary once more.
func (s *startup) answered(version uint16) {
	if s.step == startProtocol {
		return // our question is on its way once more
	}
	s.protocol, s.step, s.due = version, startEcho, time.Time{}
}

// tick goes on without an answer when its time is over.
func (s *startup) tick(now time.Time) {
	if s.step == startAwait && session.Passed(s.due, now) {
		s.step, s.due = startApplication, time.Time{}
	}
}

func (s *startup) wake() time.Time { return s.due }
