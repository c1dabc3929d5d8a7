package ayla

import (
	"fmt"
	"time"

	"davit/schemas"
	"davit/schemas/tlv"
)

// status takes a STAT of the MCU.
func (s *session) status(code tlv.Code) {
	u := s.u
	if u == nil {
		return
	}
	switch u.phase {
	case phaseCheck, phaseBoot:
		switch {
		case code == tlv.CodeOK && !u.sameAt.IsZero():
			s.same() // it is content, so no complaint will follow
		case code != tlv.CodeOK && !s.bootAgain(code):
			s.failed(code, "instead of booting the image")
		}
	case phaseOffer:
		if u.offered && code != tlv.CodeOK {
			s.refused(code)
		}
	case phaseAccepted:
		if code != tlv.CodeOK {
			s.failed(code, "after it had accepted the offer")
		}
	case phaseLoad, phaseVerdict:
		s.loadStatus(code)
	}
}

// bootAgain begins the leg anew if an MCU that has restarted may never have
// heard BOOT, because another reset came first. CodeBoot says that it has.
func (s *session) bootAgain(code tlv.Code) bool {
	u := s.u
	if u.phase != phaseBoot || !u.back || u.bootSure || code == tlv.CodeBoot || u.reboots >= maxReboots {
		return false
	}
	u.reboots++
	s.again(code, "the host MCU restarted when it was told to boot")
	return true
}

func (s *session) loadStatus(code tlv.Code) {
	u := s.u
	switch code {
	case tlv.CodeOK:
		if u.phase == phaseVerdict {
			s.startBoot()
			return
		}
		u.verdict = u.sent == u.Size // it may overtake the ack of the last LOAD
	case tlv.CodeInvalidOffset, tlv.CodeInvalidReq, tlv.CodeBusyRetry:
		// The MCU has lost its place, as after a restart that we did not see.
		s.again(code, fmt.Sprintf("the host MCU answered %s at byte %d", code, u.acked))
	default:
		s.failed(code, fmt.Sprintf("at byte %d of %d", u.acked, u.Size))
	}
}

// refused takes a non-zero answer to the offer.
func (s *session) refused(code tlv.Code) {
	u := s.u
	switch {
	case code == tlv.CodeBoot && u.reboots > 0:
		s.failed(code, "instead of booting the image") // meant for the leg before, and true
		return
	case u.doubt:
		u.doubt, u.nextOffer = false, s.now.Add(doubtPause)
		return
	}
	switch code {
	case tlv.CodeInternal, tlv.CodeBusyRetry:
		u.refusal = code
		pause := busyPause
		if u.busy++; u.busy > busyQuick {
			pause <<= min(u.busy-busyQuick, 16)
		}
		u.nextOffer = s.now.Add(min(pause, s.cfg.OfferInterval))
	case tlv.CodeAlready:
		u.phase, u.refusal = phaseAlready, code
		u.deadline = s.now.Add(min(u.VersionTimeout, alreadyWait))
		s.property(u.VersionProperty).want = true
	default:
		s.rejected(code)
	}
}

// refusedPacket takes a NAK of the MCU to one of our control packets.
func (s *session) refusedPacket(req uint16, code tlv.Code) {
	u := s.u
	if u == nil {
		return
	}
	switch {
	case u.phase == phaseOffer && u.offered && req == u.offerReq:
		s.rejected(code)
	case u.phase == phaseLoad || u.phase == phaseVerdict:
		s.failed(code, fmt.Sprintf("at byte %d of %d", u.acked, u.Size))
	case u.phase == phaseBoot && req == u.bootReq:
		s.failed(code, "instead of booting the image")
	}
}

// runs takes what the MCU says that it runs.
func (s *session) runs(version string) {
	u := s.u
	u.version = version
	match := version == u.Version
	switch u.phase {
	case phaseCheck:
		switch {
		case match && u.tells():
			s.succeed()
		case u.oldAt.IsZero():
			u.oldAt = s.now
		}
	case phaseAsk:
		if match {
			s.succeed()
		} else {
			s.startOffer()
		}
	case phaseOffer, phaseAccepted:
		if match && !u.Force {
			s.succeed()
		}
	case phaseAlready:
		if match {
			s.succeed()
			return
		}
		s.already()
	case phaseBoot:
		s.booted(match)
	}
}

func (s *session) already() {
	u := s.u
	said := "it has not reported a version"
	if u.version != "" {
		said = fmt.Sprintf("it reports version %q", u.version)
	}
	s.end(schemas.StateRejected, schemas.CauseAlready, tlv.CodeAlready,
		fmt.Sprintf("The host MCU says that it runs version %q already, but %s.", u.Version, said))
}

// booted takes the version that is reported after BOOT.
func (s *session) booted(match bool) {
	u := s.u
	switch {
	case match && u.tells():
		s.succeed()
	case match && u.back:
		if u.sameAt.IsZero() {
			u.sameAt = s.now
		}
	case match:
		// The same version as before the update proves nothing until the MCU has restarted.
	case u.back:
		if u.oldAt.IsZero() {
			u.oldAt = s.now
		}
	case u.bootLost:
		// The line is there, the MCU runs on, and BOOT was never acknowledged.
		u.bootLost = false
		if u.restarts++; u.restarts <= maxRestarts {
			u.boot = true
		}
	}
}

// tells says whether a report of the image's version is proof by itself. For a
// forced update it is only if another version ran before.
func (u *update) tells() bool { return !u.Force || u.before != "" && u.before != u.Version }

// same ends an update after which the MCU restarted and runs a version that may
// be the one of before. No complaint came with it; what is left to know is that
// BOOT was heard, or else the restart had another reason.
func (s *session) same() {
	switch {
	case s.u.bootSure:
		s.succeed()
	case !s.bootAgain(tlv.CodeOK):
		s.end(schemas.StateFailed, schemas.CauseBoot, 0,
			fmt.Sprintf("The host MCU ran version %q before, restarted without having acknowledged that it should boot the image, and reports the same version.", s.u.Version))
	}
}

// mcuRestarted takes note that the MCU has restarted during an update, with
// packet p as its first word, and says whether p is still to be handled.
func (s *session) mcuRestarted(p tlv.Packet) bool {
	u := s.u
	switch u.phase {
	case phaseCheck:
		u.oldAt = time.Time{}
	case phaseOffer:
		if p.Op != tlv.OpOTA && p.Op != tlv.OpOTAStat {
			u.offer = true // what was offered to the MCU before is forgotten
		}
	case phaseAccepted:
		if p.Op != tlv.OpOTA {
			u.goAt = time.Time{}
		}
	case phaseLoad, phaseVerdict:
		s.again(tlv.CodeOK, fmt.Sprintf("the host MCU restarted at byte %d", u.acked))
		// A go or a status in its first frame speaks of the leg that just ended.
		return p.Op != tlv.OpOTA && p.Op != tlv.OpOTAStat
	case phaseBoot:
		s.bootRestart()
	}
	return true
}

// bootRestart takes note that the MCU restarted after it was told to boot.
func (s *session) bootRestart() {
	u := s.u
	u.back, u.boot, u.bootSent, u.oldAt, u.sameAt = true, false, true, time.Time{}, time.Time{}
	if u.deadline = s.now.Add(u.VersionTimeout); u.deadline.After(u.lastWord) {
		u.deadline = u.lastWord // an image that starts over and over and says no version
	}
	u.probeAt = s.now.Add(probeEvery)
	s.property(u.VersionProperty).want = true
}

// probe asks for the version now, and again after a while.
func (s *session) probe() {
	s.property(s.u.VersionProperty).want = true
	s.u.probeAt = s.now.Add(probeEvery)
}

// wakeAt is when due has something to do, the zero time for never.
func (s *session) wakeAt() time.Time {
	u := s.u
	if u == nil || u.phase == phaseLoad || u.phase == phaseAccepted {
		return time.Time{}
	}
	at := u.deadline
	for _, t := range []time.Time{u.nextOfferAt(), u.nextProbe(), u.verdictOnOld(), u.verdictOnSame()} {
		if !t.IsZero() && t.Before(at) {
			at = t
		}
	}
	return at
}

func (u *update) nextOfferAt() time.Time {
	if u.phase != phaseOffer {
		return time.Time{}
	}
	return u.nextOffer
}

func (u *update) nextProbe() time.Time {
	if u.phase == phaseCheck || u.phase == phaseBoot && u.bootSent {
		return u.probeAt
	}
	return time.Time{}
}

// verdictOnOld is when a report of the old version is taken for good.
func (u *update) verdictOnOld() time.Time {
	switch {
	case u.oldAt.IsZero():
		return time.Time{}
	case u.phase == phaseCheck:
		return u.oldAt.Add(settle)
	case u.phase == phaseBoot:
		return u.oldAt.Add(grace)
	}
	return time.Time{}
}

// verdictOnSame is when a report of a version that may have run before is
// taken for good: an MCU that fell back says so after it.
func (u *update) verdictOnSame() time.Time {
	if u.phase != phaseBoot || u.sameAt.IsZero() {
		return time.Time{}
	}
	return u.sameAt.Add(grace)
}

// passed says whether at is set and not in the future.
func (s *session) passed(at time.Time) bool { return !at.IsZero() && !s.now.Before(at) }

// due does what the clock asks for in the update.
func (s *session) due() {
	u := s.u
	if u.phase == phaseLoad || u.phase == phaseAccepted {
		return // the frame layer's patience and the bridge's image limit these
	}
	if s.passed(u.nextProbe()) {
		s.probe()
	}
	if s.passed(u.nextOfferAt()) {
		u.nextOffer, u.offer = time.Time{}, true
	}
	switch {
	case s.passed(u.verdictOnOld()):
		s.oldForGood()
	case s.passed(u.verdictOnSame()):
		s.same()
	case s.passed(u.deadline):
		s.late()
	}
}

func (s *session) oldForGood() {
	u := s.u
	if u.phase == phaseCheck {
		s.startOffer()
		return
	}
	if s.bootAgain(tlv.CodeOK) {
		return
	}
	s.end(schemas.StateFailed, schemas.CauseBoot, 0,
		fmt.Sprintf("The host MCU restarted and runs version %q, not %q: it refused the image or fell back.", u.version, u.Version))
}

// late ends the phase whose time is over.
func (s *session) late() {
	u := s.u
	switch u.phase {
	case phaseCheck:
		if u.good > 0 {
			s.startOffer() // it is there and does not say what it runs: its answer to the offer will
			return
		}
		s.silence("since the bridge restarted, after it had been told to boot")
	case phaseAsk:
		s.startOffer() // its answer to that will tell
	case phaseOffer:
		s.unanswered()
	case phaseAlready:
		if u.version == u.Version {
			s.succeed()
			return
		}
		s.already()
	case phaseVerdict:
		s.startBoot() // the flow chart's MCU, which says nothing
	case phaseBoot:
		switch {
		case !u.sameAt.IsZero():
			s.same()
		case !u.oldAt.IsZero():
			s.oldForGood()
		case u.back:
			s.silence("about its version after it restarted")
		case u.version != "" && u.version != u.Version && u.good > 0 && !s.lost:
			s.end(schemas.StateFailed, schemas.CauseBoot, 0,
				fmt.Sprintf("The host MCU was told to boot version %q, did not restart and still runs %q.", u.Version, u.version))
		default:
			s.silence("since it was told to boot")
		}
	}
}

func (s *session) silence(since string) {
	s.end(schemas.StateTimedOut, schemas.CauseTimeout, 0, "The host MCU was silent "+since+".")
}

func (s *session) unanswered() {
	u := s.u
	switch {
	case u.refusal != tlv.CodeOK:
		s.rejected(u.refusal)
	case u.good == 0:
		s.end(schemas.StateFailed, schemas.CauseSerial, 0,
			fmt.Sprintf("The host MCU acknowledged nothing for %v (%d frames came in damaged); check its power and the line's speed, parity and wiring.", u.AnswerTimeout, u.bad))
	default:
		s.end(schemas.StateTimedOut, schemas.CauseTimeout, 0,
			fmt.Sprintf("The host MCU did not answer the offer within %v.", u.AnswerTimeout))
	}
}
