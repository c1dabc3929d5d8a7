package ayla

import (
	"fmt"
	"time"

	"davit/bridge/dialect/session"
	"davit/schemas"
	"davit/schemas/tlv"
)

// status takes a STAT of the MCU.
func (s *machine) status(code tlv.Code) {
	u := s.u
	if u == nil {
		return
	}
	switch u.phase {
	case phaseCheck, phaseBoot:
		switch {
		case code == tlv.CodeOK && u.Same():
			s.same() // it is content, so no complaint will follow
		case u.phase == phaseBoot && !u.Back && u.Bad > 0 && ofLoad(code):
			s.loadStatus(code) // a word about the load that the line lost at first
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

// ofLoad says whether a code may be the MCU's word about a LOAD that it did not
// take, after which the leg begins anew.
func ofLoad(code tlv.Code) bool {
	switch code {
	case tlv.CodeInvalidOffset, tlv.CodeInvalidReq, tlv.CodeBusyRetry, tlv.CodeLength, tlv.CodeOverflow:
		return true
	}
	return false
}

// bootAgain begins the leg anew if an MCU that has restarted may never have
// heard BOOT, because another reset came first. CodeBoot says that it has.
func (s *machine) bootAgain(code tlv.Code) bool {
	u := s.u
	if u.phase != phaseBoot || !u.Back || u.bootSure || code == tlv.CodeBoot || u.reboots >= session.MaxReboots {
		return false
	}
	u.reboots++
	s.again(code, "the host MCU restarted when it was told to boot")
	return true
}

func (s *machine) loadStatus(code tlv.Code) {
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
	case tlv.CodeLength, tlv.CodeOverflow:
		s.loadTooLong(code)
	default:
		s.failed(code, fmt.Sprintf("at byte %d of %d", u.acked, u.Size))
	}
}

// refused takes a non-zero answer to the offer.
func (s *machine) refused(code tlv.Code) {
	u := s.u
	switch {
	case code == tlv.CodeBoot && u.reboots > 0:
		s.failed(code, "instead of booting the image") // meant for the leg before, and true
		return
	case u.doubt && u.doubted:
		return // there was more than one LOAD to refuse
	case u.stale && (code == tlv.CodeLength || code == tlv.CodeOverflow) && s.now.Before(u.Deadline.Add(staleFor-u.AnswerTimeout)):
		// It still speaks of LOADs that were too long: each of its words waits for the ack of the one before, which a
		// noisy line loses now and then. The answer comes behind them.
		u.nextOffer = s.now.Add(session.AckCeiling + doubtPause)
		return
	case code == tlv.CodeBoot && !u.fellBack:
		// It speaks of an image that it was told to boot before this update, and has forgotten the offer since.
		u.fellBack, u.nextOffer = true, s.now.Add(doubtPause)
		return
	case u.doubt:
		u.doubted, u.nextOffer = true, s.now.Add(doubtPause)
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
		u.Enter(min(u.VersionTimeout, session.AlreadyWait), s.now)
		s.asks.Of(u.VersionProperty).Want = true
	default:
		s.rejected(code)
	}
}

// refusedPacket takes a NAK of the MCU to one of our control packets.
func (s *machine) refusedPacket(req uint16, code tlv.Code) {
	u := s.u
	if u == nil {
		return
	}
	switch {
	case u.phase == phaseOffer && u.offered && req == u.offerReq:
		s.rejected(code)
	case (u.phase == phaseLoad || u.phase == phaseVerdict) && (code == tlv.CodeLength || code == tlv.CodeOverflow):
		s.loadTooLong(code)
	case u.phase == phaseLoad || u.phase == phaseVerdict:
		s.failed(code, fmt.Sprintf("at byte %d of %d", u.acked, u.Size))
	case u.phase == phaseBoot && req == u.bootReq:
		s.failed(code, "instead of booting the image")
	}
}

// runs takes what the MCU says that it runs.
func (s *machine) runs(version string) {
	u := s.u
	if u.Heard(version, s.now) {
		s.succeed()
		return
	}
	match := version == u.Version
	switch u.phase {
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
		if !match && !u.Back && u.bootLost {
			// The line is there, the MCU runs on, and BOOT was never acknowledged.
			u.bootLost = false
			u.boot = u.Again()
		}
	}
}

func (s *machine) already() {
	u := s.u
	said := "it has not reported a version"
	if u.HostVersion != "" {
		said = fmt.Sprintf("it reports version %q", u.HostVersion)
	}
	r := session.Rejected(schemas.CauseAlready, "The host MCU says that it runs version %q already, but %s.", u.Version, said)
	r.Code = int(tlv.CodeAlready)
	s.end(r)
}

// same ends an update after which the MCU restarted and runs a version that may
// be the one of before. No complaint came with it; what is left to know is that
// BOOT was heard, or else the restart had another reason.
func (s *machine) same() {
	switch {
	case s.u.bootSure:
		s.succeed()
	case !s.bootAgain(tlv.CodeOK):
		s.end(session.Failed(schemas.CauseBoot,
			"The host MCU ran version %q before, restarted without having acknowledged that it should boot the image, and reports the same version.", s.u.Version))
	}
}

// mcuRestarted takes note that the MCU has restarted during an update, with
// packet p as its first word, and says whether p is still to be handled.
func (s *machine) mcuRestarted(p tlv.Packet) bool {
	u := s.u
	switch u.phase {
	case phaseCheck:
		u.Restarted(s.now)
	case phaseOffer:
		if p.Op != tlv.OpOTA && p.Op != tlv.OpOTAStat {
			u.offer = true // what was offered to the MCU before is forgotten
		}
	case phaseAccepted:
		if p.Op != tlv.OpOTA {
			u.GoAt = time.Time{}
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
func (s *machine) bootRestart() {
	s.u.boot = false
	s.u.Restarted(s.now)
	s.asks.Of(s.u.VersionProperty).Want = true
}

// probe asks for the version now, and again after a while.
func (s *machine) probe() {
	s.asks.Of(s.u.VersionProperty).Want = true
	s.u.ProbeAt = s.now.Add(session.ProbeEvery)
}

// wakeAt is when due has something to do, the zero time for never.
func (s *machine) wakeAt() time.Time {
	u := s.u
	if u == nil || u.phase == phaseLoad || u.phase == phaseAccepted {
		return time.Time{}
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
func (s *machine) due() {
	u := s.u
	switch u.phase {
	case phaseLoad:
		return // the frame layer's patience limits it
	case phaseAccepted: // the bridge's patience with the image limits it
		if u.HasImage() {
			s.ready()
		}
		return
	}
	if session.Passed(u.nextOfferAt(), s.now) {
		u.nextOffer, u.offer = time.Time{}, true
	}
	switch u.Due(s.now) {
	case session.DueProbe:
		s.probe()
	case session.DueOld:
		s.oldForGood()
	case session.DueSame:
		s.same()
	case session.DueLate:
		s.late()
	}
}

func (s *machine) oldForGood() {
	switch {
	case s.u.phase == phaseCheck:
		s.startOffer()
	case !s.bootAgain(tlv.CodeOK):
		s.end(s.u.FellBack())
	}
}

// late ends the phase whose time is over.
func (s *machine) late() {
	u := s.u
	switch u.phase {
	case phaseCheck:
		if u.Good > 0 {
			s.startOffer() // it is there and does not say what it runs: its answer to the offer will
			return
		}
		s.end(session.Silent("since the bridge restarted, after it had been told to boot"))
	case phaseAsk:
		s.startOffer() // its answer to that will tell
	case phaseOffer:
		if u.refusal != tlv.CodeOK {
			s.rejected(u.refusal)
			return
		}
		s.end(u.Unanswered("speed, parity and wiring"))
	case phaseAlready:
		if u.HostVersion == u.Version {
			s.succeed()
			return
		}
		s.already()
	case phaseVerdict:
		s.startBoot() // the flow chart's MCU, which says nothing
	case phaseBoot:
		s.end(u.NoProof(s.lost))
	}
}
