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
		case u.phase == phaseBoot && !u.applied && i.SHA256 == u.SHA256:
			m.applyAgain()
		}
	case afpro.InfoFail:
		switch u.phase {
		case phaseAccepted, phaseLoad, phaseVerify:
			m.end(session.Failed(schemas.CauseFlash, "The host MCU reported FAIL at byte %d of %d.", u.high, u.size))
		case phaseBoot:
			m.end(session.Failed(schemas.CauseBoot, "The host MCU reported FAIL instead of applying the image."))
		}
	}
}

// idle takes IDLE: the MCU refuses, gives up, or has done what it was told.
func (m *machine) idle() {
	u := m.u
	switch {
	case u.phase == phaseOffer && u.offered:
		m.refusedOffer()
	case u.phase == phaseLoad || u.phase == phaseVerify:
		m.again("the host MCU gave up at byte " + strconv.FormatUint(u.high, 10))
	case u.phase == phaseBoot && !u.applyAt.IsZero() && !u.applied:
		u.applied = true
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
	u.HostVersion = id
	match := id == u.wanted
	switch u.phase {
	case phaseCheck:
		if match && u.Tells(u.wanted) {
			m.succeed()
		} else {
			u.SawOld(m.now)
		}
	case phaseAsk:
		if match {
			m.succeed()
		} else {
			m.startOffer()
		}
	case phaseOffer, phaseAccepted:
		if match && !u.Force {
			m.succeed()
		}
	case phaseBoot:
		m.booted(match)
	}
}

// booted takes the version that is reported after APPLY.
func (m *machine) booted(match bool) {
	u := m.u
	switch {
	case match && u.Tells(u.wanted):
		m.succeed()
	case match && (u.Back || u.applied):
		u.SawSame(m.now)
	case u.Back:
		u.SawOld(m.now)
	case !u.applied && !u.applyAt.IsZero() && m.now.Sub(u.applyAt) >= applyWait:
		// It runs on. The same version as before proves nothing until the MCU has taken the image.
		m.applyAgain()
	}
}

// same ends an update after which the MCU runs a version that may be the one of
// before: what is left to know is that it has applied the image.
func (m *machine) same() {
	switch {
	case m.u.applied:
		m.succeed()
	case !m.applyAnew():
		m.end(session.Failed(schemas.CauseBoot,
			"The host MCU ran version id %s before, restarted without having said that it applied the image, and reports the same.", m.u.wanted))
	}
}

// applyAnew begins the leg anew if the MCU may have understood something else
// than APPLY.
func (m *machine) applyAnew() bool {
	u := m.u
	if u.reboots >= session.MaxReboots || !u.doubt && u.applied {
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
		u.Clear()
	case phaseOffer:
		u.offer, u.offered, u.nextOffer = true, false, time.Time{}
	case phaseAccepted:
		u.GoAt = time.Time{}
	case phaseLoad, phaseVerify:
		m.again("the host MCU restarted at byte " + strconv.FormatUint(u.high, 10))
	case phaseBoot:
		u.Restart(m.now)
		// An image that starts over and over and says no version has no more than the boot's last word.
		u.Deadline = session.Earliest(u.LastWord, m.now.Add(u.VersionTimeout))
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
	return session.Earliest(u.Deadline, u.nextOfferAt(), u.nextProbe(), u.verdictOnOld(), u.verdictOnSame())
}

func (u *update) nextOfferAt() time.Time {
	if u.phase != phaseOffer {
		return time.Time{}
	}
	return u.nextOffer
}

func (u *update) nextProbe() time.Time {
	if u.phase == phaseCheck || u.phase == phaseBoot {
		return u.ProbeAt
	}
	return time.Time{}
}

// verdictOnOld is when a report of another version is taken for good.
func (u *update) verdictOnOld() time.Time {
	switch u.phase {
	case phaseCheck:
		return u.OldAfter(session.Settle)
	case phaseBoot:
		return u.OldAfter(session.Grace)
	}
	return time.Time{}
}

// verdictOnSame is when a report of a version that may have run before is taken
// for good.
func (u *update) verdictOnSame() time.Time {
	if u.phase != phaseBoot {
		return time.Time{}
	}
	return u.SameAfter(session.Grace)
}

// due does what the clock asks for in the update.
func (m *machine) due() {
	u := m.u
	passed := func(at time.Time) bool { return session.Passed(at, m.now) }
	switch u.phase {
	case phaseLoad:
		if passed(u.answerDue) {
			m.unansweredChunk()
		}
		return
	case phaseAccepted: // the bridge's patience with the image limits it
		if u.HasImage() {
			m.ready()
		}
		return
	}
	if passed(u.nextProbe()) {
		m.probe()
	}
	if passed(u.nextOfferAt()) {
		u.nextOffer, u.offer = time.Time{}, true
		m.greet() // it may have restarted, and would let no answer out
	}
	switch {
	case passed(u.verdictOnOld()):
		m.oldForGood()
	case passed(u.verdictOnSame()):
		m.same()
	case passed(u.Deadline):
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
	u := m.u
	switch {
	case u.phase == phaseCheck:
		m.startOffer()
	case !m.applyAnew():
		m.end(u.FellBack(u.wanted))
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
		m.end(session.Silent("since the bridge restarted, after it had been told to apply the image"))
	case phaseAsk:
		m.startOffer() // its answer to that will tell
	case phaseOffer:
		m.end(u.Unanswered("speed and wiring"))
	case phaseVerify:
		m.unstopped()
	case phaseBoot:
		m.bootLate()
	}
}

// bootLate ends the wait for the new version.
func (m *machine) bootLate() {
	u := m.u
	switch {
	case u.Same():
		m.same()
	case u.Old():
		m.oldForGood()
	case u.Back:
		m.end(session.Silent("about its version after it restarted"))
	case u.HostVersion != "" && u.Good > 0 && !m.lost:
		if !m.applyAnew() {
			m.end(session.Failed(schemas.CauseBoot, "The host MCU was told to apply version id %s, did not restart and still runs id %s.", u.wanted, u.HostVersion))
		}
	default:
		m.end(session.Silent("since it was told to apply the image"))
	}
}
