package afero

import (
	"math"
	"strconv"
	"time"

	"davit/bridge/dialect"
	"davit/bridge/dialect/session"
	"davit/schemas"
	"davit/schemas/afpro"
)

// Times and limits of an update that no configuration changes.
const (
	// reofferPause is before the offer after one that the MCU did not take.
	reofferPause = 5 * time.Second
	// refusals is how often in a row an MCU has to refuse: BEGIN and IDLE differ
	// in one bit.
	refusals = 2
	// fails is how often an MCU has to report FAIL in an update, for the same
	// reason.
	fails = 2
	// applyWait is how long after APPLY the MCU has to answer, or is told again,
	// maxApplies times in all.
	applyWait  = 5 * time.Second
	maxApplies = 3
	// bootProbe is how long after the MCU's last word before it boots it is asked
	// what it runs.
	bootProbe = time.Second
	// maxUnsaid is how many loads in a row may come to their end without a word of
	// the MCU about them: one that could not write the last piece wants no more data,
	// as one that has all of it does, and then has nothing to say.
	maxUnsaid = 3
	// maxMismatches is how often the MCU may say another SHA-256 on a line on
	// which nothing was seen to go wrong.
	maxMismatches = 3
	// maxOversized is how many messages longer than any attribute a leg may have.
	maxOversized = 3
	// largestAttribute is the size of the transfer attribute of the largest
	// modules.
	largestAttribute = 2046
)

// phase is how far an update has come.
type phase byte

const (
	phaseCheck    phase = iota // an earlier session told the MCU to apply the image: what does it run?
	phaseAsk                   // it reported the version some time ago: does it still run it?
	phaseOffer                 // BEGIN, no answer yet
	phaseRefused               // IDLE, which has no reason: does it run the image already?
	phaseAccepted              // accepted; the image is not ready yet
	phaseLoad                  // chunk by chunk
	phaseVerify                // all loaded, or so the MCU says; its SHA-256 is to come
	phaseBoot                  // told to apply; the version is awaited
)

// update is the update under way.
type update struct {
	session.Leg
	load
	phase phase
	begin afpro.Info
	doubt bool // something came damaged since the offer

	offer     bool // BEGIN waits to be sent
	offered   bool // the MCU has an offer of this leg
	nextOffer time.Time
	idles     int // refusals in a row
	fails     int // FAIL, in all legs

	oversized  int
	mismatches int
	unsaid     int  // loads to the end, in a row, of which the MCU said no SHA-256
	stopped    bool // the MCU wanted no more before the end

	apply   bool // APPLY waits to be sent
	applies int
	applyAt time.Time // the MCU has it
	reboots int       // legs begun anew because APPLY may not have been heard as it was meant
}

// busy says whether the update wants the line for itself: questions wait.
func (u *update) busy() bool {
	switch u.phase {
	case phaseOffer:
		return u.offer
	case phaseLoad, phaseVerify:
		return true
	case phaseBoot:
		return u.apply
	}
	return false
}

// Order implements session.Machine.
func (m *machine) Order(w *dialect.Update, now time.Time) {
	m.now = now
	if u := m.u; u != nil {
		m.u = nil
		m.forget()
		m.fail = u.phase == phaseAccepted || u.phase == phaseLoad || u.phase == phaseVerify
	}
	if w != nil {
		m.beginUpdate(*w)
	}
}

// forget takes back a message of an update.
func (m *machine) forget() {
	if m.kind >= kindOffer {
		m.void()
	}
}

func (m *machine) beginUpdate(w dialect.Update) {
	u := &update{Leg: session.NewLeg(w, session.Limits{
		Answer: DefaultAnswerTimeout, Verdict: DefaultVerdictTimeout, Boot: DefaultBootTimeout, Version: DefaultVersionTimeout,
	})}
	m.u = u
	switch {
	case w.VersionID == 0:
		m.end(session.Failed(schemas.CauseProtocol, "The update cannot be put on the wire: version %q has no numeric id.", w.Version))
		return
	case w.NumericType < afpro.MinType || w.NumericType > afpro.MaxType:
		m.end(session.Failed(schemas.CauseProtocol, "The update cannot be put on the wire: its image type has the number %d, allowed are %d to %d.",
			w.NumericType, afpro.MinType, afpro.MaxType))
		return
	case w.Size < 1 || w.Size >= math.MaxUint32:
		m.end(session.Failed(schemas.CauseProtocol, "The update cannot be put on the wire: it has %d bytes.", w.Size))
		return
	}
	u.VersionProperty = strconv.Itoa(int(afpro.VersionAttribute(uint16(w.NumericType))))
	u.Wanted = strconv.FormatUint(w.VersionID, 10)
	u.begin = afpro.Info{State: afpro.InfoBegin, Type: uint16(w.NumericType), Size: uint32(w.Size), Version: w.VersionID}
	u.load = newLoad(m.attributeSize(), w.Size, w.Loaded)
	switch u.Begin(m.asks.Of(u.VersionProperty), m.now) {
	case session.FirstCheck:
		u.phase = phaseCheck
		m.probe()
	case session.FirstAsk:
		u.phase = phaseAsk
	default:
		m.startOffer()
	}
}

// attributeSize is the size of the attribute that carries the image: the
// port's, the update's, or the documentation's.
func (m *machine) attributeSize() int {
	for _, n := range []int{m.cfg.AttributeSize, m.u.AttributeSize} {
		if n >= afpro.MinAttributeSize {
			return min(n, largestAttribute)
		}
	}
	return afpro.DefaultAttributeSize
}

// end reports the end of the update and forgets it.
func (m *machine) end(r dialect.Result) {
	u := m.u
	m.u = nil
	m.forget()
	u.End(r)
}

// report tells how far the update is. If that cannot be recorded the update
// ends, and report says false.
func (m *machine) report(state schemas.State, bytes uint64) bool {
	r, err := m.u.Record(state, bytes)
	if err != nil {
		m.end(r)
	}
	return err == nil
}

func (m *machine) succeed() { m.end(session.Succeeded()) }

// startOffer begins the MCU leg, or begins it anew.
func (m *machine) startOffer() {
	u := m.u
	u.phase = phaseOffer
	u.Enter(u.AnswerTimeout, m.now)
	u.offer, u.offered, u.nextOffer = true, false, time.Time{}
	u.idles, u.doubt, u.oversized, u.Good, u.Bad = 0, false, 0, 0, 0
	u.apply, u.stopped = false, false
	m.forget()
}

// again begins the leg anew, from the start-up on, but not for ever.
func (m *machine) again(why string) {
	if !m.u.Again() {
		m.end(m.u.TooOften(why))
		return
	}
	m.forget()
	m.greet()
	m.startOffer()
}

// fillUpdate appends the update's next message, if it has one.
func (m *machine) fillUpdate(b []byte) ([]byte, kind) {
	u := m.u
	switch {
	case u.phase == phaseOffer && u.offer:
		u.offer, u.nextOffer = false, time.Time{}
		return info(b, u.begin, kindOffer)
	case u.phase == phaseLoad && u.send:
		return m.fillChunk(b)
	case u.phase == phaseBoot && u.apply:
		u.apply = false
		return info(b, afpro.Info{State: afpro.InfoApply, Version: u.VersionID}, kindApply)
	}
	return b, kindVoid
}

// taken takes note that the MCU has a message of the update.
func (m *machine) taken(k kind) {
	u := m.u
	switch {
	case k == kindOffer && u.phase == phaseOffer:
		u.offered, u.nextOffer = true, m.now.Add(m.cfg.OfferInterval)
	case k == kindChunk && u.phase == phaseLoad:
		u.taken(later(m.now, m.t.free), m.now.Sub(m.t.began), &m.t.turn)
	case k == kindApply && u.phase == phaseBoot:
		u.applyAt = m.now
		u.applies++
		u.ProbeAt = m.now.Add(applyWait)
	}
}

// undelivered takes note that the MCU did not take a message for as long as it
// has for that.
func (m *machine) undelivered(k kind) {
	u := m.u
	switch u.phase {
	case phaseOffer:
		u.offer, u.nextOffer = false, m.now.Add(reofferPause)
	case phaseLoad, phaseVerify:
		m.again("the host MCU fell silent at byte " + strconv.FormatUint(u.high, 10))
	case phaseBoot:
		if k == kindApply {
			u.apply = true // for when it is heard again; it may have taken it all the same
		}
		u.ProbeAt = m.now.Add(bootProbe)
	case phaseCheck:
		u.ProbeAt = m.now.Add(bootProbe)
	}
}

// accepted takes the MCU's answer to BEGIN: what it was sent, and nothing else.
func (m *machine) accepted(i afpro.Info) {
	u := m.u
	switch {
	case u.phase == phaseAccepted && i == u.begin:
		u.GoAt = m.now
	case u.phase != phaseOffer || !u.offered:
		// The answer to an offer of before.
	case i != u.begin:
		m.noise()
		u.offer = true
	default:
		u.phase, u.GoAt = phaseAccepted, m.now
		m.report(schemas.StateAccepted, 0)
	}
}

// refusedOffer takes IDLE in the place of BEGIN.
func (m *machine) refusedOffer() {
	u := m.u
	if u.idles++; u.idles < refusals {
		u.offer = true
		return
	}
	if u.Force {
		m.rejected()
		return
	}
	// It may have booted the image in an update that ended before it said so.
	u.phase = phaseRefused
	u.Enter(min(u.VersionTimeout, session.AlreadyWait), m.now)
	m.probe()
}

// rejected ends an update that the MCU refuses, and that is not done already.
func (m *machine) rejected() {
	r := session.Rejected(schemas.CauseRejected,
		"The host MCU answered the offer with IDLE, which says no; this protocol has no code for the reason (no room, an older or the same version, or it is busy).")
	r.Unexplained = true
	m.end(r)
}

// ready goes on when the image is there.
func (m *machine) ready() {
	switch {
	case m.u.GoStands(m.now):
		m.startLoad()
	case m.u.Again():
		m.startOffer()
	default:
		m.end(m.u.TooOften("it restarted after it had accepted the image"))
	}
}

// startApply tells the MCU to use what it has received.
func (m *machine) startApply() {
	u := m.u
	m.forget()
	u.phase = phaseBoot
	u.Boot(m.now)
	u.applies, u.applyAt = 0, time.Time{}
	u.apply = m.report(schemas.StateBooting, u.Size)
}

// oversized takes note that the MCU announced a message longer than any that it
// could have to say.
func (m *machine) oversized() {
	u := m.u
	if u == nil {
		return
	}
	if u.oversized++; u.oversized >= maxOversized {
		m.end(session.Failed(schemas.CauseProtocol, "The host MCU announced %d messages longer than the %d bytes that its attributes have.", u.oversized, m.t.limit))
	}
}
