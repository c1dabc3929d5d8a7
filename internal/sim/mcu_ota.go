package sim

import (
	"cmp"
	"strconv"
	"strings"
	"time"

	"davit/schemas/tlv"
)

// stat sends a STAT. A code other than OK ends the update.
func (m *MCU) stat(code tlv.Code, now time.Time) {
	if code != tlv.CodeOK {
		m.app.ota = load{}
		m.stopTimer("ota")
	}
	m.event(Event{Kind: EventStat, Code: code})
	m.send(tlv.AppendStat(nil, m.req(), code), now)
}

// req is a request id of the MCU's own.
func (m *MCU) req() uint16 {
	m.app.nextReq++
	return m.app.nextReq
}

func (m *MCU) onOffer(o tlv.Offer, now time.Time) {
	m.stats.Offers++
	m.event(Event{Kind: EventOffer, Version: o.Version, Size: o.Size})
	if m.cfg.Fault.Silent {
		return
	}
	if code := m.judge(o); code != tlv.CodeOK {
		m.stat(code, now)
		return
	}
	same := m.app.ota.version == o.Version && m.app.ota.size == o.Size
	if m.app.ota.phase == otaErasing && same {
		return // the answer is on its way
	}
	m.vacate()
	m.stopTimer("ota")
	m.app.ota = load{phase: otaErasing, version: o.Version, size: o.Size}
	if m.cfg.EraseByOffer {
		m.eraseByOffer(now)
		return
	}
	m.eraseAll(o.Size, false, now, m.goAhead)
}

// judge says whether the MCU wants what is offered.
func (m *MCU) judge(o tlv.Offer) tlv.Code {
	running := m.slots[m.active].version
	switch f := m.cfg.Fault; {
	case m.stats.Offers <= f.Busy:
		return cmp.Or(f.BusyCode, tlv.CodeBusyRetry)
	case f.RejectTooLarge, int64(o.Size) > int64(m.cfg.SlotSize):
		return tlv.CodeLength
	case f.RejectAlready, o.Version == running && !m.cfg.AcceptSame:
		return tlv.CodeAlready
	case o.Size == 0:
		return tlv.CodeLength
	case m.cfg.RejectOlder && compareVersions(o.Version, running) < 0:
		return tlv.CodeInvalidReq
	}
	return tlv.CodeOK
}

// compareVersions orders dotted versions number by number; what is not a
// number is compared as text.
func compareVersions(a, b string) int {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for i := range min(len(as), len(bs)) {
		x, errX := strconv.Atoi(as[i])
		y, errY := strconv.Atoi(bs[i])
		c := cmp.Compare(x, y)
		if errX != nil || errY != nil {
			c = cmp.Compare(as[i], bs[i])
		}
		if c != 0 {
			return c
		}
	}
	return cmp.Compare(len(as), len(bs))
}

// eraseByOffer erases one sector; the next offer continues.
func (m *MCU) eraseByOffer(now time.Time) {
	sector := m.dirtySector(m.app.ota.size)
	if sector < 0 {
		m.goAhead(now)
		return
	}
	m.after(now, m.cfg.EraseTime, "ota", func(now time.Time) {
		m.erase(sector)
		if m.dirtySector(m.app.ota.size) < 0 {
			m.goAhead(now)
			return
		}
		m.stat(tlv.CodeInternal, now)
	})
}

func (m *MCU) goAhead(now time.Time) {
	o := &m.app.ota
	o.phase, o.next, o.page, o.pages = otaLoading, 0, nil, 0
	m.app.strayLoad = false
	m.event(Event{Kind: EventAccepted, Version: o.version, Size: o.size})
	m.send(tlv.AppendGo(nil, m.req()), now)
}

func (m *MCU) onLoad(l tlv.Load, now time.Time) {
	m.stats.Loads++
	o := &m.app.ota
	switch {
	case o.phase != otaLoading:
		// Said once: a module that has not noticed a reset may send several.
		if !m.app.strayLoad {
			m.app.strayLoad = true
			m.stat(tlv.CodeInvalidReq, now)
		}
		return
	case l.Offset != o.next:
		m.stat(tlv.CodeInvalidOffset, now)
		return
	case uint64(l.Offset)+uint64(len(l.Data)) > uint64(o.size):
		m.stat(tlv.CodeLength, now)
		return
	}
	if !m.store(o, l.Data, now) {
		m.stat(tlv.CodeInternal, now)
		return
	}
	m.event(Event{Kind: EventLoad, Version: o.version, Done: o.next, Size: o.size})
	if m.dueResetAtByte(o) {
		m.resetOnce(now)
		return
	}
	if o.next == o.size {
		m.after(now, m.busyUntil.Sub(now)+m.cfg.VerifyTime, "ota", m.verdict)
	}
}

// verdict checks the complete image and says so.
func (m *MCU) verdict(now time.Time) {
	o := &m.app.ota
	spare := m.spare()
	spare.size = int(o.size)
	if !m.sound() {
		m.stat(tlv.CodeChecksum, now)
		return
	}
	spare.setVersion(o.version)
	o.phase = otaLoaded
	if !m.cfg.NoVerdict {
		m.stat(tlv.CodeOK, now)
	}
}

func (m *MCU) onBoot(version string, now time.Time) {
	o := &m.app.ota
	switch {
	case o.phase != otaLoaded || !m.sound():
		m.stat(tlv.CodeChecksum, now)
		return
	case version != "" && version != o.version:
		m.stat(tlv.CodeInvalidReq, now)
		return
	}
	m.event(Event{Kind: EventBoot, Version: o.version, Size: o.size})
	m.spare().state = slotTrial
	m.restart(now)
}
