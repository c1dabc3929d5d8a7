package afero

import (
	"strconv"
	"time"

	"davit/bridge/dialect"
	"davit/bridge/dialect/session"
	"davit/schemas"
	"davit/schemas/afpro"
)

// info takes what the MCU says of the update.
func (m *machine) info(i afpro.Info) {
	u := m.u
	switch i.State {
	case afpro.InfoBegin:
		m.accepted(i)
	case afpro.InfoIdle:
		m.idle()
	case afpro.InfoVerify:
		switch {
		case u.phase == phaseLoad || u.phase == phaseVerify:
			m.verified(i.SHA256)
		case u.phase == phaseBoot && !u.Obeyed && i.SHA256 == u.SHA256:
			m.applyAgain()
		}
	case afpro.InfoFail:
		m.failed()
	}
}

// failed takes FAIL, which in the description only the ASR says. It differs from
// IDLE and APPLY in one bit or two, and so it counts when it is said twice.
func (m *machine) failed() {
	u := m.u
	m.noise()
	u.fails++
	last := u.fails >= fails
	switch {
	case u.phase == phaseOffer && u.offered, u.phase == phaseLoad, u.phase == phaseVerify:
		if last {
			m.end(session.Failed(schemas.CauseFlash, "The host MCU reported FAIL at byte %d of %d, and that was not the first time.", u.high, u.size))
			return
		}
		m.again("the host MCU reported FAIL at byte " + strconv.FormatUint(u.high, 10))
	case u.phase == phaseAccepted:
		u.GoAt = time.Time{} // it is asked again when the image is there
	case u.phase == phaseBoot && last:
		m.end(session.Failed(schemas.CauseBoot, "The host MCU reported FAIL when it was told to apply the image, and again when it was told so again."))
	case u.phase == phaseBoot:
		m.applyAgain()
		u.ProbeAt = m.now.Add(bootProbe)
	}
}

// idle takes IDLE: the MCU refuses, gives up, or has done what it was told.
func (m *machine) idle() {
	u := m.u
	switch {
	case u.phase == phaseOffer && u.offered:
		m.refusedOffer()
	case u.phase == phaseAccepted:
		u.GoAt = time.Time{} // it does not want it any more, or not now: it is asked again when the image is there
	case u.phase == phaseLoad || u.phase == phaseVerify:
		m.again("the host MCU gave up at byte " + strconv.FormatUint(u.high, 10))
	case u.phase == phaseBoot && !u.applyAt.IsZero() && !u.Obeyed:
		u.Obeyed = true
		u.ProbeAt = m.now.Add(bootProbe)
	}
}

// applyAgain repeats APPLY: nothing shows that it was heard as it was sent.
func (m *machine) applyAgain() {
	u := m.u
	if !u.applyAt.IsZero() && u.applies < maxApplies {
		u.apply, u.applyAt = true, time.Time{}
	}
}

// runs takes what the MCU says that it runs.
func (m *machine) runs(id string) {
	u := m.u
	if u.Heard(id, m.now) {
		m.succeed()
		return
	}
	match := id == u.Wanted
	switch u.phase {
	case phaseAsk:
		if match {
			m.succeed()
		} else {
			m.startOffer()
		}
	case phaseRefused:
		if match {
			m.succeed()
		} else {
			m.rejected()
		}
	case phaseOffer, phaseAccepted:
		if match && !u.Force {
			m.succeed()
		}
	case phaseBoot:
		if !u.Back && !u.Obeyed && session.Passed(u.applyAt, m.now.Add(-applyWait)) {
			m.applyAgain() // it runs on; the same version as before proves nothing until the MCU has taken the image
		}
	}
}

// same ends an update after which the MCU runs a version that may be the one of
// before: what is left to know is that it has applied the image.
func (m *machine) same() {
	switch {
	case m.u.Obeyed:
		m.succeed()
	case !m.applyAnew():
		m.end(session.Failed(schemas.CauseBoot,
			"The host MCU ran version id %s before, restarted without having said that it applied the image, and reports the same.", m.u.Wanted))
	}
}

// applyAnew begins the leg anew if the MCU may have understood something else
// than APPLY.
func (m *machine) applyAnew() bool {
	u := m.u
	if u.reboots >= session.MaxReboots || !u.doubt && u.Obeyed {
		return false
	}
	u.reboots++
	m.again("the host MCU was told to apply the image and runs another version")
	return true
}

// mcuRestarted takes note that the MCU has restarted during an update.
func (m *machine) mcuRestarted() {
	u := m.u
	switch u.phase {
	case phaseCheck:
		u.Restarted(m.now)
	case phaseOffer:
		u.offer, u.offered, u.nextOffer = true, false, time.Time{}
	case phaseAccepted:
		u.GoAt = time.Time{}
	case phaseLoad, phaseVerify:
		m.again("the host MCU restarted at byte " + strconv.FormatUint(u.high, 10))
	case phaseBoot:
		u.apply = false
		u.Restarted(m.now)
		m.asks.Of(u.VersionProperty).Want = true
	}
}

// probe asks for the version now, and again after a while. An MCU that does not
// tell it when it is asked is led through the start-up now and then: it may report
// it after that.
func (m *machine) probe() {
	u := m.u
	u.ProbeAt = m.now.Add(session.ProbeEvery)
	m.asks.Of(u.VersionProperty).Want = true
	if (!m.answers || m.untold) && m.start.done() && m.now.Sub(m.greetedAt) >= restateWait {
		m.greet()
	}
}

// wakeAt is when due has something to do, the zero time for never.
func (m *machine) wakeAt() time.Time {
	u := m.u
	switch {
	case u == nil || u.phase == phaseAccepted:
		return time.Time{}
	case u.phase == phaseLoad:
		return u.answerDue
	}
	return session.Earliest(u.Wake(), u.nextOfferAt())
}

func (u *update) nextOfferAt() time.Time {
	if u.phase != phaseOffer {
		return time.Time{}
	}
	return u.nextOffer
}

// due does what the clock asks for in the update.
func (m *machine) due() {
	u := m.u
	switch u.phase {
	case phaseLoad:
		if session.Passed(u.answerDue, m.now) {
			m.unansweredChunk()
		}
		return
	case phaseAccepted: // the bridge's patience with the image limits it
		if u.HasImage() {
			m.ready()
		}
		return
	}
	if session.Passed(u.nextOfferAt(), m.now) {
		u.nextOffer, u.offer = time.Time{}, true
		m.greet() // it may have restarted, and would let no answer out
	}
	switch u.Due(m.now) {
	case session.DueProbe:
		m.probe()
	case session.DueOld:
		m.oldForGood()
	case session.DueSame:
		m.same()
	case session.DueLate:
		m.late()
	}
}

// unansweredChunk sends a chunk again whose answer does not come.
func (m *machine) unansweredChunk() {
	u := m.u
	if due := session.Earliest(m.t.talks(m.now, u.wait), u.sentAt.Add(talkLimit*u.wait)); m.now.Before(due) {
		u.answerDue = due // it is about to say something, if not this
		return
	}
	u.answerDue = time.Time{}
	if u.tries >= maxTries {
		m.again("the host MCU stopped answering at byte " + strconv.FormatUint(u.high, 10))
		return
	}
	m.events.Counted(dialect.FramesRetried, 1)
	u.doubt, u.send = true, true
}

func (m *machine) oldForGood() {
	switch {
	case m.u.phase == phaseCheck:
		m.startOffer()
	case !m.applyAnew():
		m.end(m.u.FellBack())
	}
}

// late ends the phase whose time is over.
func (m *machine) late() {
	u := m.u
	switch u.phase {
	case phaseCheck:
		if u.Good > 0 {
			m.startOffer() // it is there and does not say what it runs
			return
		}
		m.end(session.Silent("since the bridge restarted, after it had been told to boot"))
	case phaseAsk:
		m.startOffer() // its answer to that will tell
	case phaseRefused:
		m.rejected()
	case phaseOffer:
		m.end(u.Unanswered("speed and wiring"))
	case phaseVerify:
		m.unstopped()
	case phaseBoot:
		if !u.RunsOn(m.lost) || !m.applyAnew() {
			m.end(u.NoProof(m.lost))
		}
	}
}
