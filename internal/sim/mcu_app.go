package sim

import (
	"slices"
	"strings"
	"time"

	"davit/schemas/tlv"
)

// firstRequest is the request id before the MCU's first own one.
const firstRequest = 0x0f

// begin is the application's beginning: its first frame has sequence number 0.
func (m *MCU) begin(now time.Time, cause startCause) {
	m.app.nextReq = firstRequest
	if m.reportsAtStart(cause) {
		m.reportVersion(m.req(), now)
	}
	switch {
	case cause == startFallback:
		m.stat(tlv.CodeBoot, now)
	case cause == startNew && m.cfg.BootStat:
		m.stat(tlv.CodeOK, now)
	}
	if m.cfg.Traffic > 0 {
		m.after(now, m.cfg.Traffic, "traffic", m.chatter)
	}
	if m.cfg.Ping > 0 {
		m.after(now, m.cfg.Ping, "ping", m.ping)
	}
}

// ping asks the module for an echo.
func (m *MCU) ping(now time.Time) {
	if len(m.app.link.queue) < maxBacklog {
		m.app.pings++
		m.send(append(tlv.AppendPing(nil, m.req()), byte(m.app.pings), flagByte), now)
	}
	m.after(now, m.cfg.Ping, "ping", m.ping)
}

// echoed counts the module's answers to pings.
func (m *MCU) echoed(p tlv.Packet) {
	if len(p.TLVs) == 2 && p.TLVs[1] == flagByte {
		m.stats.PingsEchoed++
	}
}

// reportVersion sends the version property.
func (m *MCU) reportVersion(req uint16, now time.Time) {
	if m.cfg.Fault.NoVersion {
		return
	}
	v := m.slots[m.active].version
	if w := m.cfg.Fault.WrongVersion; w != "" && m.active != 0 {
		v = w
	}
	m.sendText(req, m.cfg.VersionProperty, v, now)
}

// sendText sends a string property, in several packets if it is long.
func (m *MCU) sendText(req uint16, name, text string, now time.Time) {
	for off := 0; ; {
		packet, next, err := tlv.AppendSendText(nil, req, name, text, off)
		if err != nil {
			panic("sim: property " + name + " cannot be sent: " + err.Error())
		}
		m.send(packet, now)
		if off = next; off == len(text) {
			return
		}
	}
}

// maxBacklog is how many packets may wait before chatter pauses.
const maxBacklog = 4

// chatter sends properties of all kinds of the MCU's own accord.
func (m *MCU) chatter(now time.Time) {
	if len(m.app.link.queue) < maxBacklog {
		n := m.app.traffic
		m.app.traffic++
		switch req := m.req(); n % 4 {
		case 0:
			m.sendProp(now)(tlv.AppendSendInt(nil, req, "temperature", m.rng.Int64N(100_000)-50_000))
		case 1:
			m.sendProp(now)(tlv.AppendSendBool(nil, req, "door_open", n%8 < 4))
		case 2:
			m.sendText(req, "status", "all is well ~}", now) // flag and escape bytes in it
		case 3:
			m.sendText(req, "log", strings.Repeat("line of a log; ", 40), now)
		}
	}
	m.after(now, m.cfg.Traffic, "traffic", m.chatter)
}

// sendProp returns a function that takes what the codec returns.
func (m *MCU) sendProp(now time.Time) func([]byte, error) {
	return func(packet []byte, err error) {
		if err != nil {
			panic("sim: " + err.Error())
		}
		m.send(packet, now)
	}
}

// onPacket obeys one packet (docs/wire.md section 4).
func (m *MCU) onPacket(payload []byte, now time.Time) {
	p, err := tlv.ParsePacket(payload)
	if err != nil {
		m.stats.FramesBad++
		return
	}
	if p.Op.Protocol() == tlv.ProtocolPing {
		if m.cfg.Ping > 0 {
			m.echoed(p) // an echo of an echo would go on for ever
			return
		}
		m.send(slices.Clone(payload), now)
		return
	}
	switch p.Op {
	case tlv.OpOTA:
		var o tlv.Offer
		if o, err = tlv.ParseOffer(p); err == nil {
			m.onOffer(o, now)
		}
	case tlv.OpOTALoad:
		var l tlv.Load
		if l, err = tlv.ParseLoad(p); err == nil {
			m.onLoad(l, now)
		}
	case tlv.OpOTABoot:
		var v string
		if v, err = tlv.ParseBoot(p); err == nil {
			m.onBoot(v, now)
		}
	case tlv.OpSendProp:
		m.onSendProp(p, now)
	case tlv.OpConnect:
		var n tlv.Nodes
		if n, err = tlv.ParseConnect(p); err == nil {
			m.onConnect(n, now)
		}
	case tlv.OpConfirm:
		m.stats.Confirms++
	case tlv.OpNAK, tlv.OpControlNAK:
		m.stats.NAKs++
	default:
		m.nak(p, tlv.CodeInvalidOp, now)
	}
	if err != nil {
		m.nak(p, tlv.CodeOf(err), now)
	}
}

func (m *MCU) nak(p tlv.Packet, code tlv.Code, now time.Time) {
	op := tlv.OpControlNAK
	if p.Op.Protocol() == tlv.ProtocolData {
		op = tlv.OpNAK
	}
	m.send(tlv.AppendNAK(nil, op, p.Req, code), now)
}

// onSendProp answers with a property. A request without a name asks for the
// features, which come as a NAK.
func (m *MCU) onSendProp(p tlv.Packet, now time.Time) {
	if len(p.TLVs) == 0 {
		m.tellFeatures(p.Req, now)
		return
	}
	name, err := tlv.ParseSendProp(p)
	if err != nil {
		m.nak(p, tlv.CodeOf(err), now)
		return
	}
	if name == m.cfg.VersionProperty {
		m.reportVersion(p.Req, now)
		return
	}
	if text, ok := m.cfg.Properties[name]; ok {
		m.sendText(p.Req, name, text, now)
		return
	}
	m.nak(p, tlv.CodeInvalidName, now)
}

// tellFeatures sends the NAK that says what the MCU can do.
func (m *MCU) tellFeatures(req uint16, now time.Time) {
	b := tlv.AppendFeatures(nil, req, m.cfg.Features)
	if m.cfg.NoFeatures {
		b = tlv.AppendHeader(nil, tlv.OpNAK, req)
	}
	if code := m.cfg.FeaturesCode; code != tlv.CodeOK {
		b = append(b, byte(tlv.TypeErr), 1, byte(code))
	}
	m.send(b, now)
}

// onConnect hears which destinations the module can reach.
func (m *MCU) onConnect(n tlv.Nodes, now time.Time) {
	if n&tlv.NodeCloud == 0 {
		return
	}
	m.send(tlv.AppendListenEnable(nil, m.req()), now)
	if m.cfg.Report == ReportOnConnect {
		m.reportVersion(m.req(), now)
	}
}
