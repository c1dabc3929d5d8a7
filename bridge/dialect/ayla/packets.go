package ayla

import (
	"davit/bridge/dialect"
	"davit/schemas"
	"davit/schemas/tlv"
)

// data takes a good data frame.
func (s *machine) data(f tlv.Frame) {
	a := s.link.data(f, s.now)
	if a.repeated {
		return
	}
	p, err := tlv.ParsePacket(f.Payload)
	if a.restarted && !s.restarted(p, a.again) {
		return
	}
	if err != nil {
		return // too short to say what it answers
	}
	switch p.Op.Protocol() {
	case tlv.ProtocolControl:
		s.control(p)
	case tlv.ProtocolData:
		s.propertyPacket(p)
	case tlv.ProtocolPing:
		if b, ok := s.replies.slot(); ok {
			s.replies.push(append(b, f.Payload...))
		}
	}
}

// restarted takes note that the MCU's sequence begins anew, with packet p, and
// says whether p still means something.
func (s *machine) restarted(p tlv.Packet, again bool) bool {
	if s.u != nil && again && p.Op == tlv.OpOTA && s.u.phase > phaseAlready {
		return false // our ack of the go was lost; seq 0 repeats without being a restart
	}
	s.events.Counted(dialect.MCUResets, 1)
	s.disbelieve()
	s.link.restarted()
	s.parts.Reset()
	s.features = 0
	s.greet()
	if s.u == nil {
		return true
	}
	return s.mcuRestarted(p)
}

func (s *machine) control(p tlv.Packet) {
	var err error
	switch p.Op {
	case tlv.OpOTA:
		if err = tlv.ParseEmpty(p); err == nil {
			s.goAhead()
		}
	case tlv.OpOTAStat:
		var code tlv.Code
		if code, err = tlv.ParseStat(p); err == nil {
			s.status(code)
		}
	case tlv.OpControlNAK:
		if n, err := tlv.ParseNAK(p); err == nil {
			s.refusedPacket(p.Req, n.Code)
		}
		return
	default:
		s.nak(tlv.OpControlNAK, p.Req, tlv.CodeInvalidOp)
		return
	}
	if err != nil {
		s.nak(tlv.OpControlNAK, p.Req, tlv.CodeOf(err))
	}
}

func (s *machine) propertyPacket(p tlv.Packet) {
	switch p.Op {
	case tlv.OpSendTLV:
		s.propertyReport(p)
	case tlv.OpListenEnable:
		// An MCU may send this in answer to CONNECT: answering that would go on for ever.
		if s.now.Sub(s.connectAt) >= connectAgain {
			s.connect = true
		}
	case tlv.OpNAK:
		// Features stand in here because no other answer has room for them; a code says that the MCU does not
		// know a property that we asked for, which its silence says as well.
		if n, err := tlv.ParseNAK(p); err == nil && n.HasFeatures {
			s.features = n.Features
		}
	default:
		s.nak(tlv.OpNAK, p.Req, tlv.CodeInvalidOp)
	}
}

func (s *machine) nak(op tlv.Op, req uint16, code tlv.Code) {
	if b, ok := s.replies.slot(); ok {
		s.replies.push(tlv.AppendNAK(b, op, req, code))
	}
}

// propertyReport takes a property or a part of one. Only version properties
// mean something to the bridge; the others are confirmed and dropped.
func (s *machine) propertyReport(p tlv.Packet) {
	part, err := tlv.ParseProp(p)
	if err != nil {
		s.nak(tlv.OpNAK, p.Req, tlv.CodeOf(err))
		return
	}
	whole, complete, err := s.parts.Add(p.Req, part)
	if err != nil && !s.asks.Has(part.Name) {
		// A product's property may be longer than the bridge cares to put together.
		whole, complete, err = part, part.Last, nil
	}
	if err != nil {
		s.nak(tlv.OpNAK, p.Req, tlv.CodeOf(err))
		return
	}
	if !complete {
		return
	}
	if s.features&tlv.FeatureConfirm != 0 {
		if b, ok := s.replies.slot(); ok {
			s.replies.push(tlv.AppendConfirm(b, p.Req))
		}
	}
	if !s.asks.Has(whole.Name) {
		return
	}
	version, err := whole.Text()
	if err != nil || schemas.ValidateVersion(version) != nil {
		return // an empty or unprintable version proves nothing
	}
	s.reported(whole.Name, version)
}

// reported takes a version of the MCU.
func (s *machine) reported(name, version string) {
	s.asks.Reported(name, version)
	s.events.Version(name, version)
	if s.u != nil && name == s.u.VersionProperty {
		s.runs(version)
	}
}
