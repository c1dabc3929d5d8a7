package ayla

import (
	"fmt"
	"io"
	"time"

	"davit/bridge/dialect"
	"davit/schemas"
	"davit/schemas/tlv"
)

// Times and limits of an update that no configuration changes.
const (
	// probeEvery is how often the version is asked for after BOOT: an MCU may
	// say nothing by itself when it is back.
	probeEvery = 5 * time.Second
	// reofferPause is between offers that were not even acknowledged.
	reofferPause = 5 * time.Second
	// busyPause is between an offer answered INTERNAL or BUSY_RETRY and the
	// next: the reference application erases one flash sector per offer. After
	// busyQuick of them the pause doubles up to the offer interval.
	busyPause = 500 * time.Millisecond
	busyQuick = 256
	// goStale is how old a go may be when the image is ready: after that the
	// MCU is offered the image once more.
	goStale = 30 * time.Second
	// settle is how long the old version has to be reported after a restart
	// of the bridge before the image is offered again: an MCU that was told to
	// boot answers for a moment before it resets.
	settle = 10 * time.Second
	// grace is between a report of the old version after the boot and the
	// failure: the MCU's own code for it may follow, one ack timeout later if
	// a frame was lost.
	grace = ackCeiling + 2*time.Second
	// doubtPause is before the offer whose answer is believed in any case.
	doubtPause = time.Second
	// alreadyWait is how long to wait for the version after STAT(ALREADY).
	alreadyWait = 10 * time.Second
	// maxReboots is how often the MCU leg begins anew because the MCU restarted
	// before it could be sure to have heard BOOT.
	maxReboots = 2
	// maxRestarts is how often the MCU leg begins anew within one update.
	maxRestarts = 8
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
	dialect.Update
	phase    phase
	deadline time.Time // of the phase
	restarts int
	good     int // frames of the MCU since the offer
	bad      int

	offer     bool // MCU_OTA waits to be sent
	offered   bool // an offer of this leg has been sent
	offerReq  uint16
	nextOffer time.Time
	busy      int
	refusal   tlv.Code // the last INTERNAL or BUSY_RETRY
	doubt     bool     // a refusal may be meant for a LOAD of the leg before
	goAt      time.Time

	sent, acked uint64
	verdict     bool
	buf         [pieces * tlv.MaxLoad]byte
	bufAt       uint64
	bufLen      int

	boot     bool // BOOT waits to be sent
	bootReq  uint16
	bootSent bool // and was acknowledged, or given up
	bootSure bool // the first BOOT was acknowledged: the MCU has it
	bootLost bool
	reboots  int       // legs begun anew because BOOT may have been lost in a reset
	lastWord time.Time // of phaseBoot, however often the MCU restarts
	back     bool      // the MCU has restarted since
	probeAt  time.Time
	oldAt    time.Time // the old version was reported
	sameAt   time.Time // after a restart, the version was reported that may have run before
	version  string    // as reported in this update
	told     bool      // the MCU has been told to boot in this update
	before   string    // version at the time it was first told to, "" if unknown
}

// order carries out the newest wish of another goroutine.
func (s *session) order() {
	wish, ok := s.mail.take()
	if !ok {
		return
	}
	if s.u != nil {
		s.u = nil
		s.link.forgetNext() // a frame in flight stays: the MCU may have it already
	}
	if wish != nil {
		s.begin(*wish)
	}
}

func (s *session) begin(w dialect.Update) {
	orDefault(&w.AnswerTimeout, DefaultAnswerTimeout)
	orDefault(&w.VerdictTimeout, DefaultVerdictTimeout)
	orDefault(&w.BootTimeout, DefaultBootTimeout)
	orDefault(&w.VersionTimeout, DefaultVersionTimeout)
	if w.VersionProperty == "" {
		w.VersionProperty = DefaultVersionProperty
	}
	u := &update{Update: w}
	s.u = u
	_, errVersion := tlv.AppendOffer(nil, 0, w.Version, w.Size)
	_, errName := tlv.AppendSendProp(nil, 0, w.VersionProperty)
	for _, err := range []error{errVersion, errName} {
		if err != nil {
			s.end(schemas.StateFailed, schemas.CauseProtocol, 0, "The update cannot be put on the wire: "+err.Error()+".")
			return
		}
	}
	a := s.property(w.VersionProperty)
	switch {
	case w.ResumeAt == schemas.StateBooting:
		u.phase, u.deadline = phaseCheck, s.now.Add(w.BootTimeout+w.VersionTimeout)
		u.told, u.before = true, w.Before
		s.probe()
	case a.value == w.Version && !w.Force:
		// That was before this update. An MCU that says nothing by itself may have been exchanged since.
		u.phase, u.deadline = phaseAsk, s.now.Add(min(w.VersionTimeout, alreadyWait))
		a.want = true
	default:
		a.want = a.want || a.value == "" || w.Force
		s.startOffer()
	}
}

func orDefault(d *time.Duration, v time.Duration) {
	if *d <= 0 {
		*d = v
	}
}

// end reports the end of the update and forgets it.
func (s *session) end(state schemas.State, cause schemas.Cause, code tlv.Code, detail string) {
	u := s.u
	s.u = nil
	s.link.forgetNext()
	u.Reporter.Ended(dialect.Result{State: state, Cause: cause, Code: int(code), Detail: detail, HostVersion: u.version})
}

// report tells how far the update is. If that cannot be recorded the update
// ends, and report says false.
func (s *session) report(state schemas.State, bytes uint64) bool {
	if err := s.u.Reporter.State(state, bytes); err != nil {
		s.end(schemas.StateFailed, schemas.CauseStorage, 0, fmt.Sprintf("The bridge could not record that the update is %s: %v.", state, err))
		return false
	}
	return true
}

func (s *session) succeed() { s.end(schemas.StateSucceeded, schemas.CauseNone, 0, "") }

// failed ends the update with the MCU's code.
func (s *session) failed(code tlv.Code, when string) {
	_, cause := causeOf(code)
	s.end(schemas.StateFailed, cause, code, fmt.Sprintf("The host MCU reported %s %s: %s.", code, when, code.Sentence()))
}

func (s *session) rejected(code tlv.Code) {
	cause, _ := causeOf(code)
	s.end(schemas.StateRejected, cause, code, fmt.Sprintf("The host MCU refused the offer with %s: %s.", code, code.Sentence()))
}

// startOffer begins the MCU leg, or begins it anew: the MCU starts at offset 0.
func (s *session) startOffer() {
	u := s.u
	u.phase, u.deadline = phaseOffer, s.now.Add(u.AnswerTimeout)
	u.offer, u.offered, u.nextOffer = true, false, time.Time{}
	u.busy, u.refusal, u.doubt, u.good, u.bad = 0, 0, false, 0, 0
	u.boot, u.verdict, u.sent, u.acked = false, false, 0, 0
	s.link.forgetNext()
}

// again begins the leg anew, but not for ever. code is what the MCU said, if
// it said anything.
func (s *session) again(code tlv.Code, why string) {
	if s.oneMore(code, why) {
		s.startOffer()
		s.u.doubt = true
	}
}

// oneMore counts that the leg begins anew or goes back to offset 0. After too
// many times the update ends, and oneMore says false.
func (s *session) oneMore(code tlv.Code, why string) bool {
	u := s.u
	u.restarts++
	switch {
	case u.restarts <= maxRestarts:
		return true
	case code != tlv.CodeOK:
		s.failed(code, fmt.Sprintf("in each of %d attempts", u.restarts))
	default:
		s.end(schemas.StateFailed, schemas.CauseSerial, 0,
			fmt.Sprintf("The update was begun %d times and did not get through; the last time %s.", u.restarts, why))
	}
	return false
}

// fillUpdate encodes the update's next packet, if it has one.
func (s *session) fillUpdate() {
	u := s.u
	switch {
	case u.phase == phaseOffer && u.offer:
		u.offer, u.offered, u.nextOffer = false, true, time.Time{}
		u.offerReq = s.nextReq()
		b, err := tlv.AppendOffer(s.scratch[:0], u.offerReq, u.Version, u.Size)
		s.encode(kindOffer, 0, b, err)
	case u.phase == phaseLoad && u.sent < u.Size:
		s.fillLoad()
	}
}

func (s *session) fillLoad() {
	u := s.u
	if u.sent >= u.bufAt+uint64(u.bufLen) || u.sent < u.bufAt {
		n := min(uint64(len(u.buf)), u.Size-u.sent)
		if _, err := u.Image.ReadAt(u.buf[:n], int64(u.sent)); err != nil && err != io.EOF {
			s.end(schemas.StateFailed, schemas.CauseStorage, 0, fmt.Sprintf("The image cannot be read at byte %d: %v.", u.sent, err))
			return
		}
		u.bufAt, u.bufLen = u.sent, int(n)
	}
	at := int(u.sent - u.bufAt)
	data := u.buf[at:min(at+tlv.MaxLoad, u.bufLen)]
	b, err := tlv.AppendLoad(s.scratch[:0], s.nextReq(), u.sent, data)
	u.sent += uint64(len(data))
	s.encode(kindLoad, u.sent, b, err)
}

func (s *session) fillBoot() {
	u := s.u
	u.boot = false
	u.bootReq = s.nextReq()
	b, err := tlv.AppendBoot(s.scratch[:0], u.bootReq, u.Version)
	s.encode(kindBoot, 0, b, err)
}

// delivered takes note that the MCU acknowledged f.
func (s *session) delivered(f flight) {
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
		s.events.Counted(dialect.BytesLoaded, int(f.end-u.acked))
		u.acked = f.end
		if s.report(schemas.StateInstalling, u.acked) && u.acked == u.Size {
			s.loaded()
		}
	case f.kind == kindBoot && u.phase == phaseBoot:
		u.bootSent, u.bootSure, u.bootLost = true, f.tries == 1, false
		u.probeAt = s.now.Add(probeEvery)
	}
}

// undelivered takes note that f was given up.
func (s *session) undelivered(f flight) {
	u := s.u
	switch {
	case f.kind == kindOffer && u.phase == phaseOffer:
		u.nextOffer = s.now.Add(reofferPause)
	case f.kind == kindLoad && u.phase == phaseLoad:
		s.again(tlv.CodeOK, fmt.Sprintf("the host MCU stopped acknowledging at byte %d", u.acked))
	case f.kind == kindBoot && u.phase == phaseBoot:
		// It may have been carried out all the same: the version will tell.
		u.bootSent, u.bootLost = true, true
		u.probeAt = s.now
	}
}

// goAhead takes the MCU's acceptance.
func (s *session) goAhead() {
	u := s.u
	if u == nil {
		return
	}
	switch u.phase {
	case phaseOffer:
		if !u.offered {
			return // the answer to an offer of before
		}
		u.phase, u.goAt = phaseAccepted, s.now
		s.report(schemas.StateAccepted, 0)
	case phaseAccepted:
		u.goAt = s.now
	case phaseLoad, phaseVerdict:
		// The answer to an offer that was repeated: the MCU begins at offset 0 again.
		if s.oneMore(tlv.CodeOK, fmt.Sprintf("the host MCU wanted to begin anew at byte %d", u.acked)) {
			s.link.forget()
			s.startLoad()
		}
	}
}

// ready goes on when the image is there.
func (s *session) ready() {
	switch u := s.u; {
	case !u.goAt.IsZero() && s.now.Sub(u.goAt) <= goStale:
		s.startLoad()
	case s.oneMore(tlv.CodeOK, "it restarted after it had accepted the image"):
		s.startOffer()
	}
}

func (s *session) startLoad() {
	u := s.u
	u.phase, u.sent, u.acked, u.verdict = phaseLoad, 0, 0, false
	s.report(schemas.StateInstalling, 0)
}

// loaded goes on when the MCU has acknowledged the last LOAD.
func (s *session) loaded() {
	u := s.u
	if u.verdict {
		s.startBoot()
		return
	}
	u.phase, u.deadline = phaseVerdict, s.now.Add(u.VerdictTimeout)
}

func (s *session) startBoot() {
	u := s.u
	u.phase, u.deadline = phaseBoot, s.now.Add(u.BootTimeout)
	u.lastWord = u.deadline.Add(u.VersionTimeout)
	u.bootSent, u.bootSure, u.bootLost, u.back, u.oldAt, u.sameAt = false, false, false, false, time.Time{}, time.Time{}
	if !u.told {
		u.told, u.before = true, u.version
	}
	u.boot = s.report(schemas.StateBooting, u.Size)
}
