package sim

import (
	"cmp"
	"strconv"
	"strings"
	"time"

	"davit/schemas/tlv"
)

// otaPhase is where the MCU stands in an update (docs/wire.md section 5).
type otaPhase string

const (
	otaIdle    otaPhase = ""
	otaErasing otaPhase = "erasing" // an offer is taken, its go is owed
	otaLoading otaPhase = "loading"
	otaLoaded  otaPhase = "loaded" // complete and checked
)

type ota struct {
	phase   otaPhase
	version string
	size    uint32
	next    uint32 // offset of the next piece
	page    []byte // bytes of the page that is not full yet
	pages   int    // pages programmed
}

// spare is the slot that does not run.
func (m *MCU) spare() *slot { return &m.slots[1-m.active] }

// stat sends a STAT. A code other than OK ends the update.
func (m *MCU) stat(code tlv.Code, now time.Time) {
	if code != tlv.CodeOK {
		m.app.ota = ota{}
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
	spare := m.spare()
	spare.state, spare.size, spare.version = slotEmpty, 0, ""
	m.stopTimer("ota")
	m.app.ota = ota{phase: otaErasing, version: o.Version, size: o.Size}
	if m.cfg.EraseByOffer {
		m.eraseByOffer(now)
		return
	}
	m.eraseNext(now)
}

// judge says whether the MCU wants what is offered.
func (m *MCU) judge(o tlv.Offer) tlv.Code {
	running := m.slots[m.active].version
	switch f := m.cfg.Fault; {
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

// dirtySector is the first sector that the image needs and that is not erased,
// or -1.
func (m *MCU) dirtySector() int {
	flash := m.spare().flash
	for i := range flash.Sectors(int(m.app.ota.size)) {
		if !flash.Erased(i) {
			return i
		}
	}
	return -1
}

func (m *MCU) erase(sector int) {
	if err := m.spare().flash.Erase(sector); err != nil {
		panic("sim: " + err.Error())
	}
	m.stats.SectorsErased++
}

// eraseNext erases what has to be, sector by sector, and then says go. Frames
// are still answered meanwhile.
func (m *MCU) eraseNext(now time.Time) {
	sector := m.dirtySector()
	if sector < 0 {
		m.goAhead(now)
		return
	}
	m.after(now, m.cfg.EraseTime, "ota", func(now time.Time) {
		m.erase(sector)
		m.eraseNext(now)
	})
}

// eraseByOffer erases one sector; the next offer continues.
func (m *MCU) eraseByOffer(now time.Time) {
	sector := m.dirtySector()
	if sector < 0 {
		m.goAhead(now)
		return
	}
	m.after(now, m.cfg.EraseTime, "ota", func(now time.Time) {
		m.erase(sector)
		if m.dirtySector() < 0 {
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
	o.next += uint32(len(l.Data))
	o.page = append(o.page, l.Data...)
	last := o.next == o.size
	for len(o.page) >= m.cfg.PageSize || last && len(o.page) > 0 {
		if !m.program(now) {
			m.stat(tlv.CodeInternal, now)
			return
		}
	}
	m.event(Event{Kind: EventLoad, Version: o.version, Done: o.next, Size: o.size})
	if n := m.cfg.Fault.ResetAtByte; n > 0 && int64(o.next) >= int64(n) && !m.resetDone {
		m.resetDone = true
		m.reset(now)
		return
	}
	if last {
		m.after(now, m.app.busyUntil.Sub(now)+m.cfg.VerifyTime, "ota", m.verdict)
	}
}

// program writes the next page, or what there is of it, and says whether the
// flash took it.
func (m *MCU) program(now time.Time) bool {
	o := &m.app.ota
	n := min(len(o.page), m.cfg.PageSize)
	m.app.busyUntil = later(m.app.busyUntil, now).Add(m.cfg.WriteTime)
	o.pages++
	if o.pages == m.cfg.Fault.FlashErrorAt {
		return false
	}
	if err := m.spare().flash.Program((o.pages-1)*m.cfg.PageSize, o.page[:n]); err != nil {
		return false
	}
	m.stats.PagesWritten++
	o.page = o.page[n:]
	return true
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
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

// sound checks the spare slot's image as far as it can be checked.
func (m *MCU) sound() bool {
	return !m.cfg.Fault.BadChecksum && CheckDemoImage(m.spare().image()) == nil
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

// reset is one that nobody asked for over the wire.
func (m *MCU) reset(now time.Time) {
	m.resets++
	m.event(Event{Kind: EventReset, Version: m.slots[m.active].version})
	m.restart(now)
}

// restart forgets everything volatile and starts the boot loader after a
// silence. What is about to be written still goes out, as from a UART's FIFO.
func (m *MCU) restart(now time.Time) {
	m.app = app{}
	if m.cfg.Fault.NeverReturns {
		return
	}
	m.after(now, m.cfg.BootTime, "", m.bootLoader)
}

// bootLoader chooses the image to start: one on trial gets one chance, one
// that had it and did not confirm itself is given up.
func (m *MCU) bootLoader(now time.Time) {
	m.app = app{}
	active, spare := &m.slots[m.active], m.spare()
	switch {
	case spare.state == slotTrial:
		spare.state = slotTried
		if m.cfg.Fault.NoBoot {
			// It hangs until the watchdog bites; then the old image is started.
			m.event(Event{Kind: EventFallback, Version: active.version})
			spare.state, m.fallbackStat = slotEmpty, true
			m.after(now, m.cfg.BootTime, "", m.bootLoader)
			return
		}
		m.active = 1 - m.active
		m.bootStat = m.cfg.BootStat
	case active.state == slotTried:
		active.state = slotEmpty
		m.active = 1 - m.active
		m.fallbackStat = true
		m.event(Event{Kind: EventFallback, Version: m.slots[m.active].version})
	}
	m.start(now)
}
