package ayla

import (
	"fmt"
	"time"

	"davit/bridge/dialect"
	"davit/bridge/dialect/session"
	"davit/schemas"
	"davit/schemas/tlv"
)

// Times and limits of an update that no configuration changes.
const (
	// reofferPause is between offers that were not even acknowledged.
	reofferPause = 5 * time.Second
	// busyPause is between an offer answered INTERNAL or BUSY_RETRY and the
	// next: the reference application erases one flash sector per offer. After
	// busyQuick of them the pause doubles up to the offer interval.
	busyPause = 500 * time.Millisecond
	busyQuick = 256
	// doubtPause is before the offer whose answer is believed in any case.
	doubtPause = time.Second
	// staleFor is how long after the beginning of a leg an MCU may still have to
	// say that LOADs of before were too long.
	staleFor = time.Minute
)

// phase is how far an update has come.
type phase byte

const (
	phaseCheck    phase = iota // an earlier session told the MCU to boot: what does it run?
	phaseAsk                   // it reported the version some time ago: does it still run it?
	phaseOffer                 // offered, no answer yet
	phaseAlready               // STAT(ALREADY): what does it run?
	phaseAccepted              // go; the image is not ready yet
	phaseLoad                  // LOAD by LOAD
	phaseVerdict               // all loaded; STAT(0) may come
	phaseBoot                  // told to boot; the version is awaited
)

// pieces is how many LOADs are read from the image at once.
const pieces = 16

// update is the update under way.
type update struct {
	session.Leg
	phase phase

	offer     bool // MCU_OTA waits to be sent
	offered   bool // an offer of this leg has been sent
	offerReq  uint16
	nextOffer time.Time
	busy      int
	refusal   tlv.Code // the last INTERNAL or BUSY_RETRY
	doubt     bool     // a refusal may be meant for a LOAD of the leg before
	doubted   bool     // one came: the next offer's answer is believed
	stale     bool     // more than one may come: LOADs were too long, or may have been in the update before this one
	fellBack  bool     // the MCU has said BOOT of an image of before this update

	sent, acked uint64
	verdict     bool
	loads       loads
	buf         [pieces * tlv.MaxLoad]byte
	bufAt       uint64
	bufLen      int

	boot     bool // BOOT waits to be sent
	bootReq  uint16
	bootSure bool // the first BOOT was acknowledged: the MCU has it
	bootLost bool
	reboots  int // legs begun anew because BOOT may have been lost in a reset
}

// Order implements session.Machine.
func (s *machine) Order(u *dialect.Update, now time.Time) {
	s.now = now
	old := s.u
	if old != nil {
		s.u = nil
		s.link.forgetNext() // a frame in flight stays: the MCU may have it already
	}
	if u == nil {
		return
	}
	s.begin(*u)
	if s.u != nil && old != nil && (old.phase == phaseLoad || old.phase == phaseVerdict || old.stale) {
		s.u.doubt, s.u.stale = true, old.stale || old.Bad > 0
	}
}

func (s *machine) begin(w dialect.Update) {
	u := &update{Leg: session.NewLeg(w, session.Limits{
		Answer: DefaultAnswerTimeout, Verdict: DefaultVerdictTimeout, Boot: DefaultBootTimeout, Version: DefaultVersionTimeout,
		VersionProperty: DefaultVersionProperty,
	})}
	u.loads.size = s.loadSize
	s.u = u
	_, errVersion := tlv.AppendOffer(nil, 0, u.Version, u.Size)
	_, errName := tlv.AppendSendProp(nil, 0, u.VersionProperty)
	for _, err := range []error{errVersion, errName} {
		if err != nil {
			s.end(session.Failed(schemas.CauseProtocol, "The update cannot be put on the wire: %v.", err))
			return
		}
	}
	switch u.Begin(s.asks.Of(u.VersionProperty), s.now) {
	case session.FirstCheck:
		u.phase = phaseCheck
		s.probe()
	case session.FirstAsk:
		u.phase = phaseAsk
	default:
		s.startOffer()
	}
}

// end reports the end of the update and forgets it.
func (s *machine) end(r dialect.Result) {
	u := s.u
	s.u = nil
	s.link.forgetNext()
	u.End(r)
}

// report tells how far the update is. If that cannot be recorded the update
// ends, and report says false.
func (s *machine) report(state schemas.State, bytes uint64) bool {
	r, err := s.u.Record(state, bytes)
	if err != nil {
		s.end(r)
	}
	return err == nil
}

func (s *machine) succeed() { s.end(session.Succeeded()) }

// failed ends the update with the MCU's code.
func (s *machine) failed(code tlv.Code, when string) {
	_, cause := causeOf(code)
	r := session.Failed(cause, "The host MCU reported %s %s: %s.", code, when, code.Sentence())
	r.Code = int(code)
	s.end(r)
}

func (s *machine) rejected(code tlv.Code) {
	cause, _ := causeOf(code)
	r := session.Rejected(cause, "The host MCU refused the offer with %s: %s.", code, code.Sentence())
	r.Code, r.Busy = int(code), code == tlv.CodeBusyRetry || code == tlv.CodeServiceBusy
	s.end(r)
}

// startOffer begins the MCU leg, or begins it anew: the MCU starts at offset 0.
func (s *machine) startOffer() {
	u := s.u
	u.phase = phaseOffer
	u.Enter(u.AnswerTimeout, s.now)
	u.offer, u.offered, u.nextOffer = true, false, time.Time{}
	u.busy, u.refusal, u.doubt, u.doubted, u.Good, u.Bad = 0, 0, false, false, 0, 0
	u.boot, u.verdict, u.sent, u.acked = false, false, 0, 0
	s.link.forgetNext()
}

// again begins the leg anew, but not for ever. code is what the MCU said, if
// it said anything.
func (s *machine) again(code tlv.Code, why string) {
	if s.oneMore(code, why) {
		s.startOffer()
		s.u.doubt = true
	}
}

// oneMore counts that the leg begins anew or goes back to offset 0. After too
// many times the update ends, and oneMore says false.
func (s *machine) oneMore(code tlv.Code, why string) bool {
	switch {
	case s.u.Again():
		return true
	case code != tlv.CodeOK:
		s.failed(code, fmt.Sprintf("in each of %d attempts", s.u.Restarts()))
	default:
		s.end(s.u.TooOften(why))
	}
	return false
}

// fillUpdate encodes the update's next packet, if it has one.
func (s *machine) fillUpdate() {
	u := s.u
	switch {
	case u.phase == phaseOffer && u.offer:
		u.offer, u.offered, u.nextOffer = false, true, time.Time{}
		u.doubt = u.doubt && !u.doubted
		u.offerReq = s.nextReq()
		b, err := tlv.AppendOffer(s.scratch[:0], u.offerReq, u.Version, u.Size)
		s.encode(kindOffer, 0, b, err)
	case u.phase == phaseLoad && u.sent < u.Size:
		s.fillLoad()
	}
}

func (s *machine) fillLoad() {
	u := s.u
	piece := uint64(s.link.noise.choose(u.loads.size, &s.link.timer))
	if end := u.bufAt + uint64(u.bufLen); u.sent < u.bufAt || u.sent >= end || u.sent+piece > end && end < u.Size {
		n := min(uint64(pieces)*piece, u.Size-u.sent)
		if u.Awaits(u.sent, n) {
			return
		}
		if r, err := u.Load(u.buf[:n], u.sent); err != nil {
			s.end(r)
			return
		}
		u.bufAt, u.bufLen = u.sent, int(n)
	}
	at := int(u.sent - u.bufAt)
	data := u.buf[at:min(at+int(piece), u.bufLen)]
	b, err := tlv.AppendLoad(s.scratch[:0], s.nextReq(), u.sent, data)
	u.sent += uint64(len(data))
	s.encode(kindLoad, u.sent, b, err)
}

func (s *machine) fillBoot() {
	u := s.u
	u.boot = false
	u.bootReq = s.nextReq()
	b, err := tlv.AppendBoot(s.scratch[:0], u.bootReq, u.Version)
	s.encode(kindBoot, 0, b, err)
}

// delivered takes note that the MCU acknowledged f.
func (s *machine) delivered(f flight) {
	u := s.u
	if u == nil {
		return
	}
	switch {
	case f.kind == kindOffer && u.phase == phaseOffer && f.req == u.offerReq:
		if u.nextOffer.IsZero() {
			u.nextOffer = s.now.Add(s.cfg.OfferInterval)
		}
	case f.kind == kindLoad && u.phase == phaseLoad && f.end > u.acked && f.end <= u.sent:
		u.loads.taken(len(f.frame), f.tries)
		s.events.Counted(dialect.BytesLoaded, int(f.end-u.acked))
		u.acked = f.end
		if s.report(schemas.StateInstalling, u.acked) && u.acked == u.Size {
			s.loaded()
		}
	case f.kind == kindBoot && u.phase == phaseBoot:
		u.bootSure, u.bootLost = f.tries == 1, false
		u.ProbeAt = s.now.Add(session.ProbeEvery)
	}
}

// undelivered takes note that f was given up.
func (s *machine) undelivered(f flight) {
	u := s.u
	switch {
	case f.kind == kindOffer && u.phase == phaseOffer:
		u.nextOffer = s.now.Add(reofferPause)
	case f.kind == kindLoad && u.phase == phaseLoad:
		s.loadLost(f)
	case f.kind == kindBoot && u.phase == phaseBoot:
		// It may have been carried out all the same: the version will tell.
		u.bootLost = true
		u.ProbeAt = s.now
	}
}

// goAhead takes the MCU's acceptance.
func (s *machine) goAhead() {
	u := s.u
	if u == nil {
		return
	}
	switch u.phase {
	case phaseOffer:
		if !u.offered {
			return // the answer to an offer of before
		}
		u.phase, u.GoAt = phaseAccepted, s.now
		s.report(schemas.StateAccepted, 0)
	case phaseAccepted:
		u.GoAt = s.now
	case phaseLoad, phaseVerdict:
		// The answer to an offer that was repeated: the MCU begins at offset 0 again.
		if s.oneMore(tlv.CodeOK, fmt.Sprintf("the host MCU wanted to begin anew at byte %d", u.acked)) {
			s.link.forget()
			s.startLoad()
		}
	}
}

// ready goes on when the image is there.
func (s *machine) ready() {
	switch {
	case s.u.GoStands(s.now):
		s.startLoad()
	case s.oneMore(tlv.CodeOK, "it restarted after it had accepted the image"):
		s.startOffer()
	}
}

func (s *machine) startLoad() {
	u := s.u
	u.phase, u.sent, u.acked, u.verdict, u.bufLen = phaseLoad, 0, 0, false, 0
	u.loads.begin()
	s.report(schemas.StateInstalling, 0)
}

// loaded goes on when the MCU has acknowledged the last LOAD.
func (s *machine) loaded() {
	u := s.u
	if u.verdict {
		s.startBoot()
		return
	}
	u.phase = phaseVerdict
	u.Enter(u.VerdictTimeout, s.now)
}

func (s *machine) startBoot() {
	u := s.u
	u.phase = phaseBoot
	s.loadSize = u.loads.worked(s.loadSize)
	u.Boot(s.now)
	u.bootSure, u.bootLost = false, false
	u.boot = s.report(schemas.StateBooting, u.Size)
}
