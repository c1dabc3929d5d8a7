package sim

import (
	"crypto/sha256"
	"encoding/binary"
	"time"

	"davit/schemas/afpro"
)

// applyTimeout is how long an MCU waits for the module to take its last word
// before it starts the new image.
const applyTimeout = 5 * time.Second

// infoSize is afLib's struct of OTA info, tunnelled attribute included.
const infoSize = 2 + 33

// kept is what the flash says of an image that is not complete yet. It survives
// resets.
type kept struct {
	begin afpro.Info
	pages int // programmed so far
	ok    bool
}

// resume goes on with what the flash holds of an image.
func (m *AferoMCU) resume() {
	m.app.ota = load{}
	if !m.kept.ok || m.cfg.LosesOffset {
		return
	}
	k := m.kept
	o := &m.app.ota
	*o = load{
		phase: otaLoading, version: idText(k.begin.Version), size: k.begin.Size, pages: k.pages,
		next: min(uint32(k.pages*m.cfg.PageSize), k.begin.Size),
	}
	if o.next == o.size {
		o.phase = otaLoaded
		m.spare().size = int(o.size)
	}
}

// drop forgets the image on its way.
func (m *AferoMCU) drop() {
	m.app.ota, m.kept = load{}, kept{}
	m.stopTimer("ota")
}

// onTunnel obeys a tunnelled attribute (docs/afero-wire.md section 5).
func (m *AferoMCU) onTunnel(value []byte, now time.Time) {
	a, value, err := afpro.ParseTunnel(value)
	if err != nil {
		m.stats.MessagesBad++
		return
	}
	switch a {
	case afpro.OTAInfo:
		var i afpro.Info
		if i, err = afpro.ParseInfo(value); err == nil {
			m.onInfo(i, value, now)
		}
	case afpro.OTATransfer:
		if len(value) > m.cfg.AttributeSize {
			m.stats.TooLong++
			return
		}
		var offset uint32
		var data []byte
		if offset, data, err = afpro.ParseTransfer(value); err == nil {
			m.onTransfer(offset, data, now)
		}
	}
	if err != nil {
		m.stats.MessagesBad++
	}
}

func (m *AferoMCU) onInfo(i afpro.Info, value []byte, now time.Time) {
	switch i.State {
	case afpro.InfoBegin:
		m.onBegin(i, value, now)
	case afpro.InfoApply:
		m.onApply(i, value, now)
	case afpro.InfoFail:
		m.vacate()
		m.drop()
	}
}

// info answers with the bytes that the module sent, in another state.
func (m *AferoMCU) info(state afpro.InfoState, value []byte, now time.Time, then func(now time.Time)) {
	v := binary.LittleEndian.AppendUint16(nil, uint16(afpro.OTAInfo))
	v = append(append(v, byte(state)), value[1:]...)
	if m.cfg.FullStruct {
		v = append(v, make([]byte, infoSize-len(v))...)
	}
	m.tunnel(v, now, then)
}

// tunnel sends the value of a channel: a tunnelled attribute and its value.
func (m *AferoMCU) tunnel(value []byte, now time.Time, then func(now time.Time)) {
	m.send(afpro.Message{
		Type: afpro.Update, Request: m.nextRequest(), Attribute: afpro.ChannelToASR, Reason: afpro.ReasonUnsolicited, Value: value,
	}, now, then)
}

// next asks for the image from an offset.
func (m *AferoMCU) next(offset uint32, now time.Time) {
	v := binary.LittleEndian.AppendUint16(nil, uint16(afpro.OTATransfer))
	m.tunnel(binary.LittleEndian.AppendUint32(v, offset), now, nil)
}

func (m *AferoMCU) refuse(value []byte, now time.Time) {
	m.event(Event{Kind: EventRefused})
	m.info(afpro.InfoIdle, value, now, nil)
}

func (m *AferoMCU) onBegin(i afpro.Info, value []byte, now time.Time) {
	m.stats.Offers++
	m.event(Event{Kind: EventOffer, Version: idText(i.Version), Size: i.Size})
	if m.cfg.Fault.Silent {
		return
	}
	if !m.wanted(i) {
		m.refuse(value, now)
		return
	}
	m.stopTimer("ota")
	goAhead := func(now time.Time) {
		m.kept.begin, m.kept.ok = i, true
		m.event(Event{Kind: EventAccepted, Version: idText(i.Version), Size: i.Size})
		m.info(i.State, value, now, nil)
	}
	if m.kept.ok && m.kept.begin == i && !m.cfg.LosesOffset {
		goAhead(now) // and on from where it is
		return
	}
	m.vacate()
	m.kept = kept{}
	m.app.ota = load{phase: otaErasing, version: idText(i.Version), size: i.Size}
	m.eraseAll(i.Size, true, now, func(now time.Time) {
		m.app.ota.phase = otaLoading
		goAhead(now)
	})
}

// wanted says whether the MCU wants what is offered.
func (m *AferoMCU) wanted(i afpro.Info) bool {
	running := m.slots[m.active].id
	switch f := m.cfg.Fault; {
	case m.stats.Offers <= f.Busy,
		f.RejectTooLarge || f.RejectAlready,
		i.Type != m.cfg.Type,
		i.Size == 0 || int64(i.Size) > int64(m.cfg.SlotSize),
		i.Version == running && !m.cfg.AcceptSame,
		i.Version < running && m.cfg.RejectOlder:
		return false
	}
	return true
}

func (m *AferoMCU) onTransfer(offset uint32, data []byte, now time.Time) {
	m.stats.Loads++
	o := &m.app.ota
	switch f := m.cfg.Fault; {
	case f.Silent:
		return
	case o.phase != otaLoading && o.phase != otaLoaded:
		m.next(afpro.StopOffset, now)
	case f.Afero.OffsetBeyond:
		m.next(o.size+1000, now)
	case f.Afero.Backwards && offset > 0:
		m.next(offset/2, now)
	case f.Afero.Backwards:
		m.next(uint32(len(data)), now)
	case o.phase == otaLoaded:
		m.transferred(now)
	case offset != o.next, int64(len(data)) > int64(o.size-o.next):
		m.stats.OutOfPlace++
		m.next(o.next, now)
	default:
		m.load(data, now)
	}
}

// load takes the next chunk. The MCU is deaf while it writes.
func (m *AferoMCU) load(data []byte, now time.Time) {
	o := &m.app.ota
	ok := m.store(o, data, now)
	m.wakeAfterWork(now)
	if !ok {
		m.vacate()
		m.drop()
		m.next(afpro.StopOffset, now)
		return
	}
	m.kept.pages = o.pages
	m.event(Event{Kind: EventLoad, Version: o.version, Done: o.next, Size: o.size})
	if m.dueResetAtByte(o) {
		m.resetOnce(now)
		return
	}
	if o.next < o.size {
		m.next(o.next, now)
		return
	}
	o.phase = otaLoaded
	m.spare().size = int(o.size)
	m.transferred(now)
}

// wakeAfterWork goes on when the flash is ready.
func (m *AferoMCU) wakeAfterWork(now time.Time) {
	if m.busyUntil.After(now) {
		m.after(now, m.busyUntil.Sub(now), "work", m.pump)
	}
}

// transferred wants no more data and says what has come.
func (m *AferoMCU) transferred(now time.Time) {
	m.next(afpro.StopOffset, now)
	m.after(now, max(m.busyUntil.Sub(now), 0)+m.cfg.VerifyTime, "ota", m.verify)
}

func (m *AferoMCU) verify(now time.Time) {
	sum := sha256.Sum256(m.spare().image())
	if m.cfg.Fault.BadChecksum {
		sum[0] ^= 0xff
	}
	m.info(afpro.InfoVerify, append([]byte{0}, sum[:]...), now, nil)
}

// onApply looks at the image as the boot loader will, and has it booted when
// the module has the answer.
func (m *AferoMCU) onApply(i afpro.Info, value []byte, now time.Time) {
	o := &m.app.ota
	if m.cfg.Fault.Silent {
		return
	}
	if o.phase != otaLoaded || i.Version != m.kept.begin.Version || !m.sound() {
		m.refuse(value, now)
		return
	}
	spare := m.spare()
	spare.setVersion(o.version)
	spare.id, spare.state = i.Version, slotTrial
	m.event(Event{Kind: EventBoot, Version: spare.version, Size: o.size})
	m.drop()
	boot := func(now time.Time) {
		if spare.state == slotTrial { // unless another image was offered since
			m.restart(now)
		}
	}
	m.after(now, applyTimeout, "", boot)
	m.info(afpro.InfoIdle, value, now, boot)
}
