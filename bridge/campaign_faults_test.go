package bridge

import (
	"time"

	"davit/bridge/dialect/afero"
	"davit/internal/sim"
	"davit/schemas"
)

// faultKind is something that can go wrong in a scenario.
type faultKind struct {
	name string
	// breaks: no attempt can succeed until it is repaired. Every other kind passes,
	// or is one that bridge and service have to overcome as it is.
	breaks bool
	// causes with which an attempt may end for this kind.
	causes []schemas.Cause
	// draw puts it into a scenario, on product p if it is one of a product.
	draw func(s *scenario, p *product)
}

// faultKinds are all kinds, in the order of the table.
func faultKinds() []faultKind {
	return append(append(lineKinds(), deviceKinds()...), serviceKinds()...)
}

// noisy caps what a byte's fault may cost on a wire whose messages have no
// checksum: where a byte of the image is wrong, all of it is sent again.
func noisy(s *scenario, p *product, low, high float64) float64 {
	if p.dialect == afero.Name {
		high = min(high, 0.4/float64(s.size))
	}
	return s.rate(min(low, high), high)
}

// lineKinds are what goes wrong between the two.
func lineKinds() []faultKind {
	// An Afero MCU that hears APPLY otherwise than it was sent refuses it by IDLE, which also says that it obeys.
	noise := []schemas.Cause{schemas.CauseSerial, schemas.CauseTimeout, schemas.CauseChecksum, schemas.CauseBoot}
	gone := []schemas.Cause{schemas.CauseSerial, schemas.CauseTimeout}
	return []faultKind{
		{name: "bit errors", causes: noise, draw: func(s *scenario, p *product) {
			rate := noisy(s, p, 8e-5, 2.4e-3) / 8
			p.either(s, func(f *sim.LineFaults) { f.BitErrorRate = rate })
		}},
		{name: "bytes lost", causes: noise, draw: func(s *scenario, p *product) {
			rate := noisy(s, p, 1e-5, 1e-3)
			p.either(s, func(f *sim.LineFaults) { f.DropRate = rate })
		}},
		{name: "bytes twice", causes: noise, draw: func(s *scenario, p *product) {
			rate := noisy(s, p, 1e-5, 1e-3)
			p.either(s, func(f *sim.LineFaults) { f.DoubleRate = rate })
		}},
		{name: "bursts", causes: noise, draw: func(s *scenario, p *product) {
			rate, length := noisy(s, p, 1e-5, 1e-3), 2+s.IntN(80)
			p.either(s, func(f *sim.LineFaults) { f.BurstRate, f.BurstBytes = rate, length })
		}},
		{name: "garbage between frames", causes: noise, draw: func(s *scenario, p *product) {
			rate, length := s.rate(1e-3, 0.2), 1+s.IntN(40)
			if p.dialect == afero.Name {
				rate /= 8 // it takes so many more writes
			}
			p.either(s, func(f *sim.LineFaults) { f.GarbageRate, f.GarbageBytes = rate, length })
		}},
		{name: "line stuck", causes: gone, draw: func(s *scenario, p *product) {
			d := s.between(time.Second, 2*time.Minute)
			s.at(p, func(c *course) { c.stick(p, d) })
		}},
		{name: "RTS low", causes: gone, draw: func(s *scenario, p *product) {
			d := s.between(20*time.Second, time.Minute)
			s.at(p, func(c *course) { c.stall(p, d) })
		}},
		{name: "adapter unplugged", causes: gone, draw: func(s *scenario, p *product) {
			d := s.between(0, 2*time.Minute)
			s.at(p, func(c *course) { c.unplug(p, d) })
		}},
		{name: "adapter renamed", causes: gone, draw: func(s *scenario, p *product) {
			p.renamed = true
			d := s.between(0, 2*time.Minute)
			s.at(p, func(c *course) { c.unplug(p, d) })
		}},
	}
}

// deviceKinds are what the host MCU does.
func deviceKinds() []faultKind {
	// An Ayla MCU that resets once it has the last piece, and says nothing when it is back, answers BOOT by CHECKSUM.
	reset := []schemas.Cause{schemas.CauseSerial, schemas.CauseTimeout, schemas.CauseBoot, schemas.CauseChecksum}
	acks := []schemas.Cause{schemas.CauseSerial, schemas.CauseTimeout}
	broken := func(p *product, set, unset func(f *sim.Fault)) {
		set(&p.mcu.Fault)
		p.broken = append(p.broken, unset)
	}
	return []faultKind{
		{name: "MCU reset at a frame", causes: reset, draw: func(s *scenario, p *product) {
			if p.dialect == afero.Name {
				p.mcu.Fault.Afero.ResetAtStep = 1 + s.IntN(p.writes(s.size))
			} else {
				p.mcu.Fault.ResetAtFrame = 1 + s.IntN(p.writes(s.size)-4)
			}
		}},
		{name: "MCU reset at a byte", causes: reset, draw: func(s *scenario, p *product) {
			if s.sometimes(2) {
				p.mcu.Fault.ResetAtByte = 1 + s.IntN(s.size)
				return
			}
			s.at(p, func(c *course) { c.runs[p].host.Reset() })
		}},
		{name: "acks late", causes: acks, draw: func(s *scenario, p *product) {
			limit := 4 * time.Second
			if p.dialect == afero.Name {
				limit = 950 * time.Millisecond // of each step: a ready byte is repeated after a second
			}
			p.mcu.Fault.AckDelay = s.between(0, limit)
		}},
		{name: "acks twice", causes: acks, draw: func(_ *scenario, p *product) { p.mcu.Fault.DoubleAcks = true }},
		{name: "acks lost", causes: acks, draw: func(s *scenario, p *product) {
			p.mcu.Fault.LoseAcks = s.rate(0.01, 0.2)
			if p.dialect == afero.Name {
				p.mcu.Fault.LoseAcks /= 4
			}
		}},
		{name: "flash error", breaks: true, causes: []schemas.Cause{schemas.CauseFlash}, draw: func(s *scenario, p *product) {
			page := 1 + s.IntN(s.size/sim.DefaultPageSize)
			broken(p, func(f *sim.Fault) { f.FlashErrorAt = page }, func(f *sim.Fault) { f.FlashErrorAt = 0 })
		}},
		{name: "bad checksum", breaks: true, causes: []schemas.Cause{schemas.CauseChecksum}, draw: func(_ *scenario, p *product) {
			broken(p, func(f *sim.Fault) { f.BadChecksum = true }, func(f *sim.Fault) { f.BadChecksum = false })
		}},
		{name: "old image boots", breaks: true, causes: []schemas.Cause{schemas.CauseBoot}, draw: func(_ *scenario, p *product) {
			broken(p, func(f *sim.Fault) { f.NoBoot = true }, func(f *sim.Fault) { f.NoBoot = false })
		}},
		{name: "MCU never returns", breaks: true, causes: acks, draw: func(_ *scenario, p *product) {
			broken(p, func(f *sim.Fault) { f.NeverReturns = true }, func(f *sim.Fault) { f.NeverReturns = false })
		}},
		{name: "MCU boots for 60 s", causes: acks, draw: func(s *scenario, p *product) { p.mcu.BootTime = time.Minute }},
		{name: "peer's manners", draw: func(s *scenario, p *product) { manners(s, p) }},
		{name: "report modes", draw: func(s *scenario, p *product) {
			p.mcu.Report = []sim.ReportMode{sim.ReportAtStart, sim.ReportOnConnect, sim.ReportOnRequest, sim.ReportAfterUpdate}[s.IntN(4)]
			p.mcu.NoGet = p.dialect == afero.Name && p.mcu.Report != sim.ReportOnRequest && p.mcu.Report != sim.ReportAfterUpdate && s.sometimes(3)
		}},
		{name: "erases by offer or slowly", draw: func(s *scenario, p *product) {
			p.mcu.EraseByOffer, p.mcu.EraseTime = true, s.between(20*time.Millisecond, 2*time.Second)
			p.mcu.WriteTime = s.between(0, 30*time.Millisecond)
		}},
		{name: "property traffic", draw: func(s *scenario, p *product) {
			p.mcu.Traffic = s.between(300*time.Millisecond, 3*time.Second)
			if p.line.Baud == 9600 {
				p.mcu.Traffic += 2 * time.Second // or it would fill the line by itself
			}
		}},
	}
}

// manners draws what differs between MCUs of one wire.
func manners(s *scenario, p *product) {
	m := &p.mcu
	m.NoVerdict, m.BootStat, m.DoubleFlags = s.sometimes(2), s.sometimes(2), s.sometimes(2)
	if p.dialect != afero.Name {
		return
	}
	m.Protocol, m.LosesOffset, m.SetVersion = 1+s.IntN(2), s.sometimes(2), s.sometimes(2)
	m.FullStruct, m.KeepsModule = s.sometimes(2), s.sometimes(2)
}

// serviceKinds are what happens to the bridge and on its other side.
func serviceKinds() []faultKind {
	gone := []schemas.Cause{schemas.CauseSerial, schemas.CauseTimeout}
	return []faultKind{
		{name: "bridge killed", causes: gone, draw: func(s *scenario, p *product) {
			for range 1 + s.IntN(2) {
				d := s.between(0, 30*time.Second)
				s.at(p, func(c *course) { c.killFor(d) })
			}
		}},
		{name: "broker lost", draw: func(s *scenario, p *product) {
			d := s.between(time.Second, 10*time.Minute)
			s.at(p, func(c *course) { c.loseBroker(d) })
		}},
		{name: "offer repeated", draw: func(s *scenario, p *product) {
			s.late = true
			for range 1 + s.IntN(3) {
				s.at(p, func(c *course) { c.service.deliver(topicOf(p.id, schemas.KindOffer)) })
			}
			if s.sometimes(2) {
				d := s.between(0, time.Minute)
				s.at(p, func(c *course) { c.unheard(d) })
			}
		}},
		{name: "offer withdrawn, new attempt", draw: func(s *scenario, p *product) {
			for range 1 + s.IntN(2) {
				d := s.between(0, time.Minute)
				s.at(p, func(c *course) { c.retract(p, d) })
			}
		}},
	}
}
